"""Each check, against data that deserves it: bad data makes it fail, and the promotion refuses (technical gates: already to paper)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import dagster as dg
import numpy as np
import polars as pl
import pytest
from world import World

from trading_platform.assets.bars import BLOCKING_CHECKS, WARNING_CHECKS
from trading_platform.assets.bundles import CHECKS as BUNDLE_CHECKS
from trading_platform.assets.bundles import NO_DATA
from trading_platform.assets.evidence import verdict
from trading_platform.assets.inputs import latest
from trading_platform.assets.pipelines import INTRADAY
from trading_platform.contracts.manifest import UNPARTITIONED
from trading_platform.registry.bundle import load_bundle, write_bundle
from trading_platform.research.models import lightgbm

Change = Callable[[pl.DataFrame], pl.DataFrame]


def outcome(world: World, asset: str, check: str, partition: str = UNPARTITIONED) -> bool | None:
    """What the check says about the newest materialization."""
    found = latest(world.instance, world.place, asset, partition)
    assert found is not None
    return verdict(world.instance, dg.AssetCheckKey(dg.AssetKey(asset), check), partition, found.storage_id).passed


def first(column: str, value: pl.Expr) -> Change:
    """Replace one column in the tenth row."""
    tenth = pl.int_range(pl.len()) == 10
    return lambda frame: frame.with_columns(pl.when(tenth).then(value).otherwise(pl.col(column)).alias(column))


def weekend(frame: pl.DataFrame) -> pl.DataFrame:
    """The tenth row on a Saturday."""
    tenth = pl.int_range(pl.len()) == 10
    saturday = pl.col("timestamp") + pl.duration(days=6 - pl.col("timestamp").dt.weekday())
    return frame.with_columns(
        pl.when(tenth).then(saturday).otherwise(pl.col("timestamp")).cast(frame.schema["timestamp"]).alias("timestamp")
    )


def slip(frame: pl.DataFrame) -> pl.DataFrame:
    """A decimal slip for one bar."""
    tenth = pl.int_range(pl.len()) == 10
    return frame.with_columns(
        *(pl.when(tenth).then(pl.col(name) / 10).otherwise(pl.col(name)).alias(name) for name in ("open", "high", "low", "close"))
    )


def swapped(frame: pl.DataFrame) -> pl.DataFrame:
    """Two neighbouring rows of one instrument out of order."""
    order = np.arange(frame.height)
    order[[10, 11]] = [11, 10]
    return frame[order]


BAD_BARS: dict[str, Change] = {
    "schema": lambda frame: frame.rename({"volume": "size"}),
    "duplicates": lambda frame: pl.concat([frame, frame[10:11]]),
    "order": swapped,
    "prices": first("close", pl.lit(-1.0)),
    "ohlc": first("high", pl.col("low") * 0.5),
    "volume": first("volume", pl.lit(-5.0)),
    "calendar": weekend,
    "impossible_moves": slip,
    "gaps": lambda frame: frame.filter(pl.int_range(pl.len()) != 10),
    "zero_volume": first("volume", pl.lit(0.0)),
    "spikes": lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 10).then(pl.col("close") * 1.5).otherwise(pl.col("close")).alias("close")
    ),
    "splits": first("open", pl.col("close").shift(1) * 2.0),
}


def refused(world: World, said: str, cutoff: str) -> None:
    """The promotion of a cutoff fails, naming what it missed, and the ledger is as it was."""
    before = world.settings.ledger_path.read_bytes()
    job = world.definitions.resolve_implicit_global_asset_job_def()
    result = job.execute_in_process(
        asset_selection=[dg.AssetKey("promotion")], instance=world.instance, partition_key=cutoff, raise_on_error=False
    )
    failure = next(event.step_failure_data.error for event in result.all_events if event.is_step_failure)
    assert not result.success
    assert said in str(failure.cause.message if failure.cause else failure.message)
    assert world.settings.ledger_path.read_bytes() == before


def cutoff_of(world: World) -> str:
    """The training cutoff whose bundle was made."""
    return sorted(world.manifest("features_daily").facts["cutoffs"])[0]


def test_sound_data_passes_every_blocking_check(shared_world: World) -> None:
    for name, node in shared_world.graph.nodes.items():
        if latest(shared_world.instance, shared_world.place, name) is None or node.definition.partitions_def is not None:
            continue
        for spec in (spec for check in node.checks for spec in check.check_specs if spec.blocking):
            assert outcome(shared_world, name, spec.name) is True, (name, spec.name)


@pytest.mark.parametrize("check", [*BLOCKING_CHECKS, *WARNING_CHECKS])
def test_bad_bars_fail_their_check(world: World, check: str) -> None:
    world.replant("bars_daily", "year=", BAD_BARS[check])
    world.judge("bars_daily")
    assert outcome(world, "bars_daily", check) is False


def test_a_failed_check_of_the_bars_stops_a_promotion_to_paper(world: World) -> None:
    world.replant("bars_daily", "year=2012", BAD_BARS["prices"])
    world.judge("bars_daily")
    refused(world, "bars_daily:prices failed", cutoff_of(world))


def test_a_check_that_never_judged_this_materialization_stops_a_promotion(world: World) -> None:
    world.replant("features_daily", "year=", lambda frame: frame)
    refused(world, "features_daily:causal was not run", cutoff_of(world))


def test_a_universe_that_knew_the_future_fails(world: World) -> None:
    def clairvoyant(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            pl.when(pl.col("member") & pl.col("instrument_id").is_in(["us:S07"])).then(False).otherwise(pl.col("member")).alias("member")
        )

    world.replant("universe", "members", clairvoyant)
    world.judge("universe")
    assert outcome(world, "universe", "point_in_time") is False
    refused(world, "universe:point_in_time failed", cutoff_of(world))


def test_features_that_are_infinite_or_empty_fail(world: World) -> None:
    world.replant("features_daily", "year=2012", first("rsi_14", pl.lit(float("inf"), dtype=pl.Float32)))
    world.judge("features_daily")
    assert outcome(world, "features_daily", "finite") is False
    refused(world, "features_daily:finite failed", cutoff_of(world))


def test_features_shifted_by_one_row_fail_causality(world: World) -> None:
    names = world.manifest("features_daily").facts["names"]
    world.replant("features_daily", "year=2012", lambda f: f.with_columns(*(pl.col(n).shift(-1).over("instrument_id") for n in names)))
    world.judge("features_daily")
    assert outcome(world, "features_daily", "causal") is False
    refused(world, "features_daily:causal failed", cutoff_of(world))


def test_labels_without_their_full_horizon_fail(world: World) -> None:
    world.replant("labels_daily", "year=", lambda frame: frame.with_columns(pl.col("label").fill_nan(0.0)))
    world.judge("labels_daily")
    assert outcome(world, "labels_daily", "horizon") is False
    refused(world, "labels_daily:horizon failed", cutoff_of(world))


def test_session_inputs_whose_files_are_damaged_fail(world: World) -> None:
    universe = next(output for output in world.manifest("session_inputs").outputs if output.partition == "universe")
    (world.place.lake.root / universe.uri).write_bytes(b"{}")
    world.judge("session_inputs")
    assert outcome(world, "session_inputs", "readable") is False
    refused(world, "session_inputs:readable failed", cutoff_of(world))


def test_a_leaking_report_fails_and_stops_a_promotion(world: World) -> None:
    before = world.manifest("walk_forward_report")
    leaking = {"kind": "technical", "passed": False, "text": "label_in_features: planted"}
    world.publish(
        "walk_forward_report",
        UNPARTITIONED,
        before,
        before.outputs,
        {**before.facts, "gates": {**before.facts["gates"], "leakage": leaking}},
    )
    world.judge("walk_forward_report")
    assert outcome(world, "walk_forward_report", "leakage") is False
    refused(world, "walk_forward_report:leakage failed", cutoff_of(world))


def test_a_report_with_an_open_statistical_gate_warns_and_does_not_stop_paper(shared_world: World) -> None:
    assert outcome(shared_world, "walk_forward_report", "statistical_gates") is False
    assert shared_world.manifest("promotion", cutoff_of(shared_world)).facts["stage"] == "paper"


def judge_bundle(world: World) -> dict[str, bool | None]:
    """Run the bundle's checks on its partition, as Dagster would; check -> passed."""
    world.judge("model_bundle", cutoff_of(world))
    return {name: outcome(world, "model_bundle", name, cutoff_of(world)) for name in BUNDLE_CHECKS}


def refused_for(world: World, check: str) -> None:
    """A failed check of the bundle stops its promotion, by name."""
    refused(world, f"model_bundle[{cutoff_of(world)}]:{check} failed", cutoff_of(world))


def rebundle(world: World, onnx: Callable[[bytes], bytes] = lambda data: data, golden_off_by: float = 0.0) -> None:
    """Store the bundle again with another model file or other golden outputs, every sha256 right, and publish it as the cutoff's."""
    cutoff = cutoff_of(world)
    before = world.manifest("model_bundle", cutoff)
    model = load_bundle(world.place.store, str(before.facts["label"]), str(before.facts["bundle_id"]))
    config, data = replace(model.config, version=f"{model.config.version}.1"), onnx(model.onnx)
    told = {"created_at": 1, "lineage": {}}
    output = model.golden_output + golden_off_by
    bundle_id = write_bundle(world.place.store, config, data, model.golden_input, output, told, "# planted")
    facts = {**before.facts, "label": f"{config.name}_v{config.version}", "bundle_id": bundle_id}
    world.publish("model_bundle", cutoff, before, before.outputs, facts)


def with_neighbours(data: bytes) -> bytes:
    """The model with the mean over its batch taken off every output: each prediction depends on its neighbours."""
    import onnx
    from onnx import helper

    model = onnx.load_from_string(data)
    old = model.graph.output[0]
    model.graph.node.append(helper.make_node("ReduceMean", [old.name], ["the_mean"], axes=[0], keepdims=1))
    model.graph.node.append(helper.make_node("Sub", [old.name, "the_mean"], ["relative"]))
    new = helper.make_tensor_value_info("relative", old.type.tensor_type.elem_type, [None, 1])
    del model.graph.output[:]
    model.graph.output.append(new)
    return bytes(model.SerializeToString())


def test_the_stored_bundle_passes_every_technical_gate(shared_world: World) -> None:
    assert judge_bundle(shared_world) == dict.fromkeys(BUNDLE_CHECKS, True)


def test_a_bundle_whose_model_was_changed_fails_integrity(world: World) -> None:
    label = str(world.manifest("model_bundle", cutoff_of(world)).facts["label"])
    model, _, version = label.rpartition("_v")
    path = world.settings.home / "bundles" / "trading-models" / model / "versions" / f"v{version}" / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert judge_bundle(world)["integrity"] is False
    refused_for(world, "integrity")


def test_a_native_model_that_is_not_the_exported_one_fails_parity(world: World) -> None:
    cutoff = cutoff_of(world)
    before = world.manifest("model_bundle", cutoff)
    native = before.outputs[0]
    rng = np.random.default_rng(1)
    names = [str(name) for name in world.manifest("alpha_lightgbm").facts["names"]]
    other = lightgbm.train(
        rng.normal(size=(2000, len(names))).astype(np.float32), rng.normal(size=2000), names, lightgbm.Parameters(), seed=1
    )
    stored = world.place.lake.write_file(native.asset, native.partition, other, ".txt")
    world.publish("model_bundle", cutoff, before, (replace(native, uri=stored.uri, sha256=stored.sha256, size=stored.size),))
    assert judge_bundle(world) == {**dict.fromkeys(BUNDLE_CHECKS, True), "parity": False}
    refused_for(world, "parity")


def test_golden_rows_that_replay_to_something_else_fail(world: World) -> None:
    rebundle(world, golden_off_by=1e-9)
    assert judge_bundle(world) == {**dict.fromkeys(BUNDLE_CHECKS, True), "golden": False}
    refused_for(world, "golden")


def test_a_model_whose_predictions_depend_on_their_neighbours_fails_batch_invariance(world: World) -> None:
    rebundle(world, with_neighbours)
    assert judge_bundle(world)["batch_invariance"] is False
    refused_for(world, "batch_invariance")


def test_a_model_too_slow_for_its_budget_fails_latency(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    readings = count(0, 101_000_000)  # each reading of the timer is 101 ms behind the one before
    monkeypatch.setattr("trading_platform.assets.bundles.time", SimpleNamespace(perf_counter_ns=lambda: next(readings)))
    rebundle(world)
    assert judge_bundle(world) == {**dict.fromkeys(BUNDLE_CHECKS, True), "latency": False}
    refused_for(world, "latency")


def test_a_check_of_nothing_says_that_there_is_nothing_to_judge(shared_world: World) -> None:
    """With daily bars alone the intraday pipeline is empty: its checks are green, and no one may take that for evidence."""
    from trading_platform.assets.bundles import judge_bundle as judged
    from trading_platform.assets.walk_forward import judge_report

    place, instance = shared_world.place, shared_world.instance
    results = [*judged(instance, place, place.store, INTRADAY, NO_DATA), *judge_report(instance, place, INTRADAY)]
    assert len(results) == len(BUNDLE_CHECKS) + 2
    assert {str(result.metadata["verdict"].value) for result in results} == {"nothing to judge"}


def test_an_evaluation_counts_only_for_the_materialization_it_judged(shared_world: World) -> None:
    found = latest(shared_world.instance, shared_world.place, "bars_daily")
    assert found is not None
    key = dg.AssetCheckKey(dg.AssetKey("bars_daily"), "prices")
    assert verdict(shared_world.instance, key, UNPARTITIONED, found.storage_id).passed is True
    assert verdict(shared_world.instance, key, UNPARTITIONED, found.storage_id + 1).passed is None
