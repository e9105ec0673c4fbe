"""The features asset computes what is new or changed and takes over the rest: what it publishes is a full rebuild to the last byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest
from feature_runs import DIVIDEND, JOINED, LAST, LEFT, SPLIT, FeatureRuns, Frames, Run, assert_is_the_whole_panel, assert_same, changed

from trading_platform.calendar import MarketCalendar, date_of, day_of
from trading_platform.market_data.sources.protocol import ACTION_SCHEMA

# --- what is new ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_runs_at_random_days_end_where_a_full_rebuild_ends(
    seed: int, runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames, calendar: MarketCalendar
) -> None:
    days = calendar.sessions(date(2012, 9, 4), LAST)
    for day in sorted(np.random.default_rng(seed).choice(days, 4, replace=False).tolist()):
        found = runs.run(daily.until(date_of(day)))
    assert_same(found, rebuilt(daily.until(date_of(day))))
    found = runs.run(daily)
    assert found.said("periods_reused") >= 1
    assert_same(found, rebuilt(daily))


def test_period_by_period_each_run_computes_one(runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames) -> None:
    for number, day in enumerate((date(2012, 12, 31), date(2013, 12, 31), LAST)):
        found = runs.run(daily.until(day))
        assert (found.said("periods_reused"), found.said("periods_computed"), len(found.computed)) == (number, 1, 1)
        assert_same(found, rebuilt(daily.until(day)))
    assert_is_the_whole_panel(found)
    ends = [date(2012, 12, 31), date(2013, 12, 31), LAST]
    sessions = daily.table["session"].unique().sort().to_list()
    before = [sessions[sessions.index(date.fromisoformat(cutoff)) - 1] for cutoff in found.manifest.facts["cutoffs"]]
    assert found.manifest.facts["state_sessions"] == sorted(day_of(day) for day in ends + before) and len(before) == 2


def test_day_by_day_across_a_split_a_dividend_a_joiner_and_a_leaver(runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames) -> None:
    for event in (SPLIT, JOINED, LEFT, DIVIDEND):
        for day in (event.replace(day=event.day - 1), event, event.replace(day=min(event.day + 2, 30))):
            found = runs.run(daily.until(day))
        assert_same(found, rebuilt(daily.until(day)))


def test_a_run_on_the_same_inputs_takes_over_everything(runs: FeatureRuns, daily: Frames) -> None:
    first, second = runs.run(daily), runs.run(daily)
    assert (second.said("periods_reused"), second.said("periods_computed"), second.computed) == (3, 0, [])
    assert_same(second, first)
    schemas = [{column.name: column.type for column in run.said("dagster/column_schema").columns} for run in (first, second)]
    assert schemas[0] == schemas[1] and len(schemas[0]) == 4 + first.said("features")


def test_a_state_does_not_know_who_joins_later(rebuilt: Callable[..., Run], daily: Frames) -> None:
    """The end of 2012 is before S4 joins: with and without it the same bytes."""
    without = replace(daily, table=daily.table.filter(pl.col("instrument_id") != "us:S4"))
    found = [run.files[:3] for run in (rebuilt(daily), rebuilt(without))]
    assert found[0] == found[1] and [name.rpartition("/")[2] for name, _, _ in found[0]] == ["year=2012", "program", "factors"]


# --- what changed in the past ---------------------------------------------------------------------------------------------------------


def test_a_changed_bar_is_computed_again_from_its_period_on(runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames) -> None:
    before = runs.run(daily)
    corrected = changed(daily, "us:S3", date(2013, 7, 10))
    found = runs.run(corrected)
    assert found.said("periods_reused") == 1 and found.computed == ["year=2013", "year=2014"]
    assert_same(found, rebuilt(corrected))
    assert found.files != before.files and found.files[:3] == before.files[:3]
    keys = [[period["key"] for period in run.manifest.facts["periods"]] for run in (before, found)]
    assert [old == new for old, new in zip(*keys, strict=True)] == [True, False, False]


@pytest.mark.parametrize(
    ("event", "reused"),
    [
        (("us:S3", date(2013, 7, 10), 1.0, 0.7), 1),
        (("us:S3", date(2014, 4, 1), 4.0, 0.0), 2),
        (("us:S3", date(2011, 7, 1), 4.0, 0.0), 0),  # before its first bar: it changes nothing, which only computing tells
        (("us:S4", date(2013, 1, 7), 4.0, 0.0), 1),  # before its first bar, in a period in which it joins
        (("us:S4", date(2012, 7, 2), 4.0, 0.0), 3),  # in a period that did not know it
        (("us:S3", date(2014, 5, 1), 4.0, 0.0), 3),  # after the last bar
    ],
)
def test_a_late_corporate_action_is_computed_again_from_its_period_on(
    event: tuple[str, date, float, float], reused: int, runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames
) -> None:
    runs.run(daily)
    told = replace(daily, actions=pl.concat([daily.actions, pl.DataFrame([event], schema=ACTION_SCHEMA, orient="row")]))
    found = runs.run(told)
    assert found.said("periods_reused") == reused
    assert_same(found, rebuilt(told))


def test_a_corrected_dividend_moves_the_features_after_it_alone(runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames) -> None:
    before = runs.run(daily)
    corrected = replace(daily, actions=daily.actions.with_columns(pl.col("cash_dividend") * 1.5))
    found = runs.run(corrected)
    assert found.said("periods_reused") == 2 and found.files[-1] != before.files[-1]
    assert_same(found, rebuilt(corrected))


def test_a_changed_universe_is_computed_again_from_its_period_on(runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames) -> None:
    def dropped(members: pl.DataFrame) -> pl.DataFrame:
        out = (pl.col("instrument_id") == "us:S1") & (pl.col("session") == date(2014, 3, 3))
        return members.with_columns(pl.when(out).then(False).otherwise(pl.col("member")).alias("member"))

    before = runs.run(daily)
    found = runs.run(daily, members=dropped)
    assert found.said("periods_reused") == 2
    assert found.files != before.files
    assert_same(found, rebuilt(daily, members=dropped))


def test_a_name_added_with_its_past_is_computed_from_its_first_period(
    runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames
) -> None:
    known = (pl.col("instrument_id") != "us:S8") | (pl.col("session") < date(2013, 1, 1))
    runs.run(replace(daily, table=daily.table.filter(known)))
    found = runs.run(daily)
    assert found.said("periods_reused") == 1
    assert_same(found, rebuilt(daily))


def test_a_name_that_is_taken_out_of_the_past_is_gone(runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames) -> None:
    runs.run(daily)
    without = replace(daily, table=daily.table.filter(pl.col("instrument_id") != "us:S0"))
    found = runs.run(without)
    assert found.said("periods_reused") == 0
    assert_same(found, rebuilt(without))


def edited(frames: Frames, rng: np.random.Generator) -> Frames:
    """One of what happens to bars and corporate actions: a correction, a bar taken out, a new event, another ratio, a name gone."""
    table, actions = frames.table, frames.actions
    row = int(rng.integers(table.height))
    name, day = table["instrument_id"][row], table["session"][row]
    match rng.integers(5):
        case 0:
            return changed(frames, name, day, str(rng.choice(["open", "close", "volume"])))
        case 1:
            return replace(frames, table=table.filter(pl.int_range(pl.len()) != row))
        case 2:
            event = pl.DataFrame(
                [(name, day, float(rng.choice([0.5, 2.0, 3.0])), float(rng.choice([0.0, 0.4])))], ACTION_SCHEMA, orient="row"
            )
            return replace(frames, actions=actions.join(event, on=["instrument_id", "ex_date"], how="anti").vstack(event))
        case 3:
            return replace(frames, actions=actions.with_columns(pl.col("split_ratio") * 1.25))
        case _:
            return replace(frames, table=table.filter(pl.col("instrument_id") != name))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_any_history_of_edits_ends_where_a_full_rebuild_ends(
    seed: int, runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames, calendar: MarketCalendar
) -> None:
    rng, frames, reused = np.random.default_rng(seed), daily, 0
    days = calendar.sessions(date(2012, 10, 1), LAST)
    for _ in range(5):
        frames = edited(frames, rng)
        seen = frames.until(date_of(int(rng.choice(days)))) if rng.random() < 0.5 else frames
        if runs.last is not None and rng.random() < 0.5:
            output = runs.last.manifest.outputs[int(rng.integers(len(runs.last.manifest.outputs)))]
            (runs.settings.lake_dir / output.uri).write_bytes(b"")
        found = runs.run(seen)
        reused += found.said("periods_reused")
        assert_same(found, rebuilt(seen))
    assert reused > 0
