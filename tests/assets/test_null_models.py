"""Nulls in the graph: blocks of shuffled refits are kept, counted while they belong to the model, and the table stands beside it."""

from __future__ import annotations

import dagster as dg
from world import World

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.definitions import build_definitions
from trading_platform.registry.approvals import record_thresholds
from trading_platform.research.thresholds import Thresholds, thresholds_of


def metadata(world: World, asset: str) -> dict[str, dg.MetadataValue]:
    event = world.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None and event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)


def materialize(world: World, assets: list[str], *blocks: str, **settings: object) -> list[tuple[str, bool]]:
    """Bring assets up to date, under other settings if any are given."""
    overrides = {**world.overrides, **settings}
    definitions, place = build_definitions(tracking=False, **overrides), Workplace(load_settings(**overrides))
    steps = bring_current(definitions, world.graph, place, world.instance, {"shuffled_labels": blocks}, assets)
    return [(step.asset, step.ran) for step in steps]


def complete(world: World) -> bool:
    found = world.instance.get_latest_asset_check_evaluation_record(dg.AssetCheckKey(dg.AssetKey("null_models"), "complete"))
    assert found is not None
    return bool(found.event.dagster_event.asset_check_evaluation_data.passed)


def test_without_a_block_the_table_holds_random_signals_and_rules_and_says_it_is_incomplete(shared_world: World) -> None:
    facts, said = shared_world.manifest("null_models").facts, metadata(shared_world, "null_models")
    assert facts["comparison"]["random_runs"] == 100 and facts["comparison"]["shuffled_runs"] == 0
    assert "shuffled_95" not in facts["comparison"] and "random_sharpe_95" in facts["comparison"]
    table = str(said["nulls"].value)
    assert all(f"| {name} |" in table for name in ("random signal", "1-day reversal", "buy and hold", "12-1 momentum"))
    plot = str(said["null_distribution"].value)
    assert plot.startswith("![") and len(plot) < 110_000
    assert not complete(shared_world)


def test_a_block_of_refits_is_made_once_counted_and_left_out_when_the_model_is_made_of_something_else(world: World) -> None:
    assert materialize(world, ["shuffled_labels", "null_models"], "00") == [("shuffled_labels", True), ("null_models", True)]
    first = world.manifest("null_models").facts["comparison"]
    assert first["shuffled_runs"] == 10 and -0.3 < first["shuffled_95"] < 0.3
    assert world.manifest("shuffled_labels", "00").parameters["deals"] == list(range(10))
    assert materialize(world, ["shuffled_labels", "null_models"], "00") == [("shuffled_labels", False), ("null_models", False)]
    assert materialize(world, ["walk_forward_report"]) == [("walk_forward_report", True)]
    assert "null_models" in {record.asset for record in world.manifest("walk_forward_report").inputs}
    assert materialize(world, ["alpha_lightgbm", "null_models"], max_folds=2) == [("alpha_lightgbm", True), ("null_models", True)]
    assert world.manifest("null_models").facts["comparison"]["shuffled_runs"] == 0


def test_the_report_is_judged_under_the_thresholds_in_force_and_a_ledger_entry_moves_them(world: World) -> None:
    def judged() -> str:
        return str(world.manifest("walk_forward_report").facts["gates"]["thresholds"]["text"])

    assert judged() == Thresholds().hash
    path, strict = world.settings.ledger_path, thresholds_of({"dsr": 0.99})
    reader = LedgerReader(path)
    record_thresholds(path, expected_head=reader.head(), thresholds=strict, at=1, people=["ann", "bob"], reason="more trials a year")
    assert materialize(world, ["walk_forward_report"]) == [("walk_forward_report", True)] and judged() == strict.hash
    assert world.manifest("walk_forward_report").facts["gates"]["seed_trades"]["threshold"] == 100
