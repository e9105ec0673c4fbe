"""The currency rule: what is skipped, what runs again, and why."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import polars as pl
import pytest
from world import World

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.currency import currency
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import CorruptionError
from trading_platform.contracts.manifest import Manifest

DAILY_ASSETS = ("bars_daily", "universe", "features_daily", "labels_daily", "session_inputs", "alpha_lightgbm", "walk_forward_report")


def why(world: World, asset: str, place: Workplace | None = None) -> str:
    return currency(world.instance, place or world.place, world.graph.nodes[asset].recipe).why


def test_nothing_is_done_twice(world: World) -> None:
    before = len(world.instance.get_runs())
    steps = bring_current(world.definitions, world.graph, world.place, world.instance, assets=DAILY_ASSETS)
    assert [(step.asset, step.ran) for step in steps] == [(name, False) for name in DAILY_ASSETS]
    assert len(world.instance.get_runs()) == before


def test_a_setting_makes_stale_what_depends_on_it_and_names_it(world: World) -> None:
    place = Workplace(load_settings(**{**world.overrides, "max_folds": 2}))
    assert "setting max_folds" in why(world, "alpha_lightgbm", place)
    assert why(world, "features_daily", place) == ""


def test_another_profile_number_makes_the_report_stale_and_not_the_features(world: World) -> None:
    place = Workplace(load_settings(**{**world.overrides, "profile": "equity_conservative"}))
    assert "setting profile" in why(world, "walk_forward_report", place)
    assert why(world, "labels_daily", place) == ""


def test_changed_source_bytes_make_the_bars_stale(world: World, tmp_path) -> None:  # type: ignore[no-untyped-def]
    import shutil

    assert world.settings.data is not None
    shutil.copytree(world.settings.data, tmp_path / "data")
    bars = tmp_path / "data" / "1Day" / "bars.parquet"
    pl.read_parquet(bars).with_columns(pl.col("volume") + 1.0).write_parquet(bars)
    place = Workplace(load_settings(**{**world.overrides, "data": str(tmp_path / "data")}))
    assert "source 1Day/bars.parquet" in why(world, "bars_daily", place)


def test_a_changed_line_of_code_makes_exactly_its_assets_stale(world: World) -> None:
    recipe = world.graph.nodes["labels_daily"].recipe
    assert "its code changed" in currency(world.instance, world.place, replace(recipe, code=("calendar",))).why
    assert currency(world.instance, world.place, recipe).current


def test_a_lost_file_makes_its_asset_stale(world: World) -> None:
    output = world.manifest("labels_daily").outputs[0]
    (world.place.lake.root / output.uri).unlink()
    assert output.uri in why(world, "labels_daily")
    steps = bring_current(world.definitions, world.graph, world.place, world.instance, assets=["labels_daily"])
    assert steps[0].ran and world.manifest("labels_daily").data_version


def test_a_change_dies_out_where_it_stops_to_matter(world: World) -> None:
    """The features run again after a loss, give the same data version, and so nothing below them runs."""
    before = world.manifest("features_daily").data_version
    output = world.manifest("features_daily").outputs[0]
    (world.place.lake.root / output.uri).unlink()
    steps = bring_current(world.definitions, world.graph, world.place, world.instance, assets=DAILY_ASSETS)
    assert {step.asset for step in steps if step.ran} == {"features_daily"}
    assert world.manifest("features_daily").data_version == before


def test_the_data_version_is_the_formula_of_the_design(shared_world: World) -> None:
    manifest = shared_world.manifest("labels_daily")
    schema = {name: dtype for output in manifest.outputs for name, dtype in output.schema.items()}
    formula = {
        "asset": "labels_daily",
        "partition": "all",
        "code_version": shared_world.graph.nodes["labels_daily"].recipe.code_version,
        "schema": schema,
        "files": [output.sha256 for output in manifest.outputs],
    }
    assert manifest.data_version == content_hash(formula)


def test_an_input_manifest_names_every_file_read_and_where_it_came_from(shared_world: World) -> None:
    labels, bars = shared_world.manifest("labels_daily"), shared_world.manifest("bars_daily")
    read = {(record.asset, record.partition): record.sha256 for record in labels.inputs}
    assert all(read[output.asset, output.partition] == output.sha256 for output in bars.outputs)
    assert {item.asset for item in labels.provenance} == {"bars_daily", "universe"}
    event = shared_world.instance.get_latest_materialization_event(dg.AssetKey("bars_daily"))
    assert event is not None and event.run_id in {item.run_id for item in labels.provenance}
    assert {record.partition for record in bars.inputs if record.asset == "source"} == {"1Day/bars.parquet", "sectors.parquet"}


def test_a_manifest_whose_inputs_were_edited_is_refused(shared_world: World) -> None:
    manifest = shared_world.manifest("labels_daily")
    forged = replace(manifest, inputs=manifest.inputs[1:])
    with pytest.raises(CorruptionError, match="inputs_hash"):
        Manifest.from_bytes(forged.to_bytes())


def test_a_damaged_file_is_never_read(world: World) -> None:
    from trading_platform.assets.reading import reader

    output = world.manifest("universe").outputs[0]
    (world.place.lake.root / output.uri).write_bytes(b"not the universe")
    with pytest.raises(CorruptionError, match="sha256"):
        reader(world.instance, world.place, "universe").read("universe")
