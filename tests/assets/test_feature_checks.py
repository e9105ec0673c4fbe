"""The checks of the features asset: green on sound data, and red with the feature, the bar and both values on what was planted."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import polars as pl
import pytest
from world import SESSIONS, SYMBOLS, World

from trading_platform.assets import feature_checks
from trading_platform.assets.feature_checks import CHECKS, OUTLIERS, judge_features
from trading_platform.assets.pipelines import DAILY
from trading_platform.calendar import date_of
from trading_platform.contracts.manifest import UNPARTITIONED, OutputFile
from trading_platform.features.operators.table import OPERATORS

ASSET = "features_daily"


def judged(world: World) -> dict[str, dg.AssetCheckResult]:
    return {str(result.check_name): result for result in judge_features(world.instance, world.place, DAILY)}


def failed(results: dict[str, dg.AssetCheckResult]) -> set[str]:
    return {name for name, result in results.items() if not result.passed}


def said(result: dg.AssetCheckResult) -> dict[str, object]:
    return {name: value.value for name, value in result.metadata.items()}


def test_sound_features_pass_every_check_and_say_on_what(shared_world: World) -> None:
    results = judged(shared_world)
    assert set(results) == {*CHECKS, OUTLIERS} and not failed(results)
    assert said(results["causal"])["judged_on"] == f"all {SESSIONS} rows of {SYMBOLS} instruments"
    assert said(results["chunks"])["judged_on"] == f"the newest {SESSIONS} rows of 32 instruments"


def test_a_large_panel_is_judged_on_a_sample_that_the_metadata_name(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_checks, "WHOLE_CELLS", 1000)
    monkeypatch.setattr(feature_checks, "SAMPLE_ROWS", 300)
    results = judged(shared_world)
    assert not failed(results) and str(said(results["causal"])["judged_on"]).startswith("the newest 300 rows of 32 instruments; ")


def test_a_published_cell_of_the_past_that_knew_more_is_named_with_both_values(world: World) -> None:
    def planted(frame: pl.DataFrame) -> pl.DataFrame:
        here = (pl.col("instrument_id") == "us:S03") & (pl.col("session") == pl.date(2012, 11, 13))
        return frame.with_columns(pl.when(here).then(pl.col("rsi_14") + 1.0).otherwise(pl.col("rsi_14")).cast(pl.Float32).alias("rsi_14"))

    world.replant(ASSET, "year=2012", planted)
    results = judged(world)
    assert failed(results) == {"causal"}
    found = said(results["causal"])
    assert (found["feature"], found["instrument"], found["timestamp"]) == ("rsi_14", "us:S03", "2012-11-13T05:00:00Z")
    assert float(str(found["expected"])) - float(str(found["got"])) == pytest.approx(1.0, abs=1e-4)
    assert "rsi_14" in str(found["findings"]) and "2012-11-13T05:00:00Z" in str(found["findings"])


def test_a_published_state_that_does_not_go_on_to_the_published_rows_is_found(world: World) -> None:
    before = world.manifest(ASSET)
    states = [output for output in before.outputs if output.partition.endswith("/program")]
    older, newer = states[0], states[1]

    def swapped(output: OutputFile) -> OutputFile:  # an older state's bytes under a newer one's name
        if output.partition != newer.partition:
            return output
        data = (world.place.lake.root / older.uri).read_bytes()
        written = world.place.lake.write_file(ASSET, newer.partition, data, ".npz", "planted")
        return replace(output, uri=written.uri, sha256=written.sha256, size=written.size, data_version=written.data_version)

    world.publish(ASSET, UNPARTITIONED, before, tuple(swapped(output) for output in before.outputs))
    results = judged(world)
    calendar, known_at = world.place.calendar, int(newer.partition.split("/")[-2])
    after = date_of(calendar.next_session(calendar.session_of(known_at)))
    assert failed(results) == {"restart"} and str(said(results["restart"])["timestamp"])[:10] == str(after)


def test_a_row_that_the_published_state_does_not_lead_to_is_found(world: World) -> None:
    cutoff = sorted(world.manifest(ASSET).facts["cutoffs"])[0]

    def planted(frame: pl.DataFrame) -> pl.DataFrame:
        here = (pl.col("instrument_id") == "us:S03") & (pl.col("session") == pl.lit(cutoff).str.to_date())
        return frame.with_columns(pl.when(here).then(0.5).otherwise(pl.col("returns_5d")).cast(pl.Float32).alias("returns_5d"))

    world.replant(ASSET, "year=", planted)
    results = judged(world)
    assert "restart" in failed(results)
    found = said(results["restart"])
    assert (found["feature"], found["instrument"], str(found["timestamp"])[:10], found["expected"]) == (
        "returns_5d",
        "us:S03",
        cutoff,
        "0.5",
    )


def test_a_warm_up_that_is_declared_too_short_fails(shared_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OPERATORS, "lag", replace(OPERATORS["lag"], warm_up=lambda params: 0))
    results = judged(shared_world)
    assert "warm_up" in failed(results) and said(results["warm_up"])["feature"]


def test_features_of_another_version_than_the_code_fail_every_check(world: World) -> None:
    before = world.manifest(ASSET)
    world.publish(ASSET, UNPARTITIONED, before, before.outputs, {**before.facts, "feature_hash": "0" * 64})
    results = judged(world)
    assert failed(results) == {*CHECKS, OUTLIERS} and "materialize features_daily again" in str(said(results["causal"])["verdict"])
