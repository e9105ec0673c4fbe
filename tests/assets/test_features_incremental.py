"""The features asset computes what is new and takes over the rest, and what it publishes is a full rebuild to the last byte."""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from feature_runs import FeatureRuns, Frames, Run, assert_is_the_whole_panel
from world import SESSIONS, open_world, synthetic_bars

from trading_platform.assets import feature_periods
from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.feature_periods import kept_ends
from trading_platform.assets.inputs import latest
from trading_platform.assets.pipelines import DAILY, INTRADAY, Pipeline
from trading_platform.calendar import MarketCalendar, date_of, day_of
from trading_platform.contracts import names
from trading_platform.market_data.bars import to_bar_frame
from trading_platform.market_data.sources.files import FileSource
from trading_platform.market_data.sources.protocol import ACTION_SCHEMA, FIELD_SCHEMA

LAST = date(2014, 4, 30)
JOINED, LEFT, SPLIT, DIVIDEND = date(2013, 5, 15), date(2013, 9, 30), date(2013, 3, 5), date(2014, 2, 11)


@pytest.fixture(scope="module")
def calendar() -> MarketCalendar:
    return MarketCalendar()


def random_bars(seed: int, stamps: np.ndarray, symbols: list[str]) -> pl.DataFrame:
    """A bar frame of random walks with 2 % of the bars missing."""
    rng = np.random.default_rng(seed)
    parts = []
    for symbol in symbols:
        close = 30.0 * np.exp(np.cumsum(rng.normal(0.0, 0.012, len(stamps))))
        open_ = close * np.exp(rng.normal(0.0, 0.004, len(stamps)))
        part = {"timestamp": stamps, "open": open_, "high": np.maximum(open_, close) * 1.004, "low": np.minimum(open_, close) * 0.996}
        table = pl.DataFrame({**part, "close": close, "volume": rng.uniform(1e5, 1e6, len(stamps)).round()})
        parts.append(table.with_columns(pl.lit(symbol).alias("symbol")).filter(pl.Series(rng.random(len(stamps)) > 0.02)))
    table = pl.concat(parts).with_columns(pl.col("timestamp").cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"))
    return to_bar_frame(table, "America/New_York")


@pytest.fixture(scope="module")
def daily(calendar: MarketCalendar) -> Frames:
    """Ten names over 28 months: one joins, one leaves, one splits, one pays."""
    stamps = calendar.midnights_ns(calendar.sessions(date(2012, 1, 3), LAST))
    table = random_bars(1, stamps, [f"S{number}" for number in range(10)])
    name, day = pl.col("instrument_id"), pl.col("session")
    alive = ((name != "us:S4") | (day >= JOINED)) & ((name != "us:S6") | (day <= LEFT))
    halved = pl.when((name == "us:S2") & (day >= SPLIT)).then(0.5).otherwise(1.0)
    table = table.filter(alive).with_columns((pl.col(c) * halved).alias(c) for c in ("open", "high", "low", "close"))
    events = [("us:S2", SPLIT, 2.0, 0.0), ("us:S5", DIVIDEND, 1.0, 0.9), ("us:S4", date(2012, 6, 1), 3.0, 0.0)]  # the last: before its bars
    return Frames(table, pl.DataFrame(events, schema=ACTION_SCHEMA, orient="row"))


@pytest.fixture(scope="module")
def minutes(calendar: MarketCalendar) -> Frames:
    """Four names over eleven sessions of two months, and the VIX of each minute."""
    days = calendar.sessions(date(2019, 3, 22), date(2019, 4, 5))
    stamps = np.concatenate([calendar.bar_starts(int(day), "1Min") for day in days])
    vix = pl.DataFrame({"field": ["vix"] * len(stamps), "timestamp": stamps, "known_at": stamps + 60 * 10**9, "value": stamps % 977 / 50.0})
    utc = [pl.col(name).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC") for name in ("timestamp", "known_at")]
    return Frames(random_bars(2, stamps, ["AA", "BB", "CC", "DD"]), fields=vix.with_columns(utc).cast(dict(FIELD_SCHEMA)))


@pytest.fixture
def runs(tmp_path: Path, calendar: MarketCalendar) -> FeatureRuns:
    return FeatureRuns(tmp_path / "home", DAILY, calendar)


@pytest.fixture
def rebuilt(tmp_path: Path, calendar: MarketCalendar) -> Iterator[Callable[..., Run]]:
    """A full rebuild in a home that holds nothing."""
    homes = (tmp_path / f"rebuilt-{number}" for number in range(100))

    def rebuild(frames: Frames, pipeline: Pipeline = DAILY, **options: object) -> Run:
        return FeatureRuns(next(homes), pipeline, calendar, int(options.pop("stretch_rows", 70))).run(frames, full=True, **options)  # type: ignore[arg-type,call-overload]

    yield rebuild


def assert_same(found: Run, expected: Run) -> None:
    """File for file the same bytes and the same data version, and the same said about them."""
    assert found.files == expected.files
    assert found.manifest.data_version == expected.manifest.data_version
    assert found.manifest.facts == expected.manifest.facts
    assert {o.sha256 for o in found.manifest.outputs} == {sha(found, o.uri) for o in found.manifest.outputs}


def sha(run: Run, uri: str) -> str:
    return hashlib.sha256((run.reader.place.lake.root / uri).read_bytes()).hexdigest()


def changed(frames: Frames, name: str, day: date, column: str = "close") -> Frames:
    """One bar's value moved by 2 %."""
    there = (pl.col("instrument_id") == name) & (pl.col("session") == day)
    assert frames.table.filter(there).height == 1
    moved = pl.when(there).then(pl.col(column) * 1.02).otherwise(pl.col(column))
    return replace(frames, table=frames.table.with_columns(moved.alias(column)))


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


# --- what cannot be reused ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["flipped", "gone"])
def test_a_damaged_table_is_computed_again(damage: str, runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames) -> None:
    before = runs.run(daily)
    table = next(output for output in before.manifest.outputs if output.partition == "year=2013")
    path = before.reader.place.lake.root / table.uri
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.unlink()
    if damage == "flipped":
        path.write_bytes(data)
    found = runs.run(daily)
    assert found.said("periods_reused") == 1
    assert_same(found, rebuilt(daily))


def test_a_damaged_state_is_replaced_from_an_older_one(runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames) -> None:
    before = runs.run(daily.until(date(2013, 12, 31)))
    newest = [output for output in before.manifest.outputs if output.partition.endswith("/program")][-1]
    (before.reader.place.lake.root / newest.uri).write_bytes(b"PK")
    found = runs.run(daily)
    assert found.said("periods_reused") == 2
    assert_same(found, rebuilt(daily))


def test_other_code_or_another_version_reuses_nothing(runs: FeatureRuns, daily: Frames) -> None:
    first = runs.run(daily)
    for manifest in (
        replace(first.manifest, code_version="other"),
        replace(first.manifest, facts={**first.manifest.facts, "feature_hash": "f" * 64}),
    ):
        runs.last = replace(first.last, manifest=manifest)
        assert runs.run(daily).said("periods_reused") == 0


def test_another_stretch_takes_over_every_table_and_makes_its_states(
    runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames, tmp_path: Path, calendar: MarketCalendar
) -> None:
    runs.run(daily)
    longer = FeatureRuns(tmp_path / "home", DAILY, calendar, stretch_rows=300)
    longer.last = runs.last
    found = longer.run(daily)
    assert found.said("periods_reused") == 3
    assert_same(found, rebuilt(daily, stretch_rows=300))


# --- minutes, parts, memory -----------------------------------------------------------------------------------------------------------


def test_minutes_go_by_months_and_their_fields_count(
    tmp_path: Path, calendar: MarketCalendar, rebuilt: Callable[..., Run], minutes: Frames
) -> None:
    runs = FeatureRuns(tmp_path / "minutes", INTRADAY, calendar)
    for day in (date(2019, 3, 28), date(2019, 4, 1), date(2019, 4, 5)):
        found = runs.run(minutes.until(day))
        assert_same(found, rebuilt(minutes.until(day), INTRADAY))
    assert found.manifest.facts["feature_set"] == INTRADAY.feature_set and found.said("periods_reused") == 1
    assert_is_the_whole_panel(found)
    late = pl.col("timestamp").dt.date() == date(2019, 4, 4)
    corrected = replace(
        minutes, fields=minutes.fields.with_columns(pl.when(late).then(pl.col("value") + 1.0).otherwise("value").alias("value"))
    )
    again = runs.run(corrected)
    assert again.said("periods_reused") == 1 and again.files != found.files
    assert_same(again, rebuilt(corrected, INTRADAY))


def test_a_large_period_is_written_in_parts_with_the_same_rows(
    runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames, calendar: MarketCalendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = rebuilt(daily)
    monkeypatch.setattr(feature_periods, "PART_CELLS", 600)  # of nine names in 2012
    runs.run(daily.until(date(2013, 11, 5)))
    found = runs.run(daily)
    assert found.said("periods_reused") == 1
    starts = calendar.sessions(date(2012, 1, 3), date(2012, 12, 31))[:: 600 // 9].astype("datetime64[D]")
    assert [name for name, _, _ in found.files if name.startswith("year=2012/")] == [f"year=2012/from={day}" for day in starts]
    assert_same(found, rebuilt(daily))
    assert found.manifest.facts["state_sessions"] == whole.manifest.facts["state_sessions"]
    keys = ["instrument_id", "timestamp"]
    assert found.reader.read("features_daily", "year=").sort(keys).equals(whole.reader.read("features_daily", "year=").sort(keys))
    assert_is_the_whole_panel(found)


def test_memory_does_not_grow_with_the_number_of_periods(tmp_path: Path, calendar: MarketCalendar) -> None:
    def peak(last: date, home: str) -> int:
        stamps = calendar.midnights_ns(calendar.sessions(date(2004, 1, 2), last))
        frames = Frames(random_bars(3, stamps, [f"S{number:02d}" for number in range(40)]))
        runs = FeatureRuns(tmp_path / home, DAILY, calendar)
        tracemalloc.start()
        found = runs.run(frames)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert found.said("periods_computed") == last.year - 2003
        return size

    peak(date(2004, 12, 31), "warm")
    assert peak(date(2012, 12, 31), "long") < 1.5 * peak(date(2005, 12, 31), "short")


def test_the_ends_kept_grow_with_the_logarithm_and_none_comes_back() -> None:
    kept: set[int] = set()
    for count in range(1, 400):
        now = set(kept_ends(count))
        assert now - kept <= {count - 1} and set(range(max(count - 4, 0), count)) <= now
        assert len(now) <= 2 * count.bit_length()
        for change in range(count):
            start = max((number for number in now if number < change), default=-1) + 1
            assert 3 * (count - start) <= 5 * (count - change)
        kept = now


# --- in Dagster -----------------------------------------------------------------------------------------------------------------------


def test_a_materialization_goes_on_from_the_newest_and_says_so(tmp_path: Path) -> None:
    synthetic_bars(tmp_path / "data")
    table = tmp_path / "data" / "1Day" / "bars.parquet"
    bars = pl.read_parquet(table)
    assets = ["bars_daily", "universe", "features_daily"]

    def materialise(keep: int) -> list[str]:
        bars.filter(pl.int_range(pl.len()).over("symbol") < keep).write_parquet(table)
        world = open_world(tmp_path / "home", tmp_path / "data")
        with world.instance:
            steps = bring_current(world.definitions, world.graph, world.place, world.instance, assets=assets)
            found = latest(world.instance, world.place, "features_daily")
            run_id = next(step.run_id for step in steps if step.asset == "features_daily")
            lines = [entry.user_message for entry in world.instance.all_logs(run_id)]
            job = world.definitions.resolve_implicit_global_asset_job_def()
            config = {"ops": {"features_daily": {"config": {"full": True}}}}
            job.execute_in_process(run_config=config, asset_selection=[dg.AssetKey("features_daily")], instance=world.instance)
            again = latest(world.instance, world.place, "features_daily")
            assert found is not None and again is not None and again.run_id != found.run_id
            assert (again.manifest.data_version, again.manifest.outputs) == (found.manifest.data_version, found.manifest.outputs)
            return [line[:9] for line in lines if line.startswith("year=")]

    assert materialise(SESSIONS - 60) == ["year=2012", "year=2013"]
    assert materialise(SESSIONS) == ["year=2013"]


# --- real data ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real(calendar: MarketCalendar) -> Frames:
    """45 names of us_daily_sp500 with their splits and dividends, AAPL (7:1 on 2014-06-09) among them; holdouts stay closed (T34)."""
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[3] / "shared" / "data" / "open"))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}: set {names.ENV_TEST_DATA}")
    source = FileSource(root, calendar, daily_last=date(2014, 12, 31))
    table = source.bars("1Day")
    ids = table["instrument_id"].unique().sort()[:45]
    assert "us:AAPL" in ids
    return Frames(table.filter(pl.col("instrument_id").is_in(ids.implode())), source.corporate_actions())


def test_real_bars_day_by_day_across_a_split_and_a_dividend(runs: FeatureRuns, rebuilt: Callable[..., Run], real: Frames) -> None:
    events = real.actions.filter((pl.col("instrument_id") == "us:AAPL") & (pl.col("ex_date").dt.year() == 2014)).sort("ex_date")
    split = events.filter(pl.col("split_ratio") != 1.0)["ex_date"].to_list()
    paid = events.filter(pl.col("cash_dividend") > 0.0)["ex_date"].to_list()
    assert split == [date(2014, 6, 9)] and len(paid) >= 3
    for day in (date(2014, 6, 6), *split, date(2014, 6, 10), date(2014, 8, 6), *(d for d in paid if d.month == 8), date(2014, 8, 11)):
        found = runs.run(real.until(day))
        assert_same(found, rebuilt(real.until(day)))
    assert found.said("periods_reused") == 9
    assert_is_the_whole_panel(found)


def test_real_bars_at_random_days_and_period_by_period(
    runs: FeatureRuns, rebuilt: Callable[..., Run], real: Frames, calendar: MarketCalendar, tmp_path: Path
) -> None:
    by_year = FeatureRuns(tmp_path / "by_year", DAILY, calendar)
    for year in range(2006, 2015):
        last = by_year.run(real.until(date(year, 12, 31)))
        assert last.said("periods_computed") == (2 if year == 2006 else 1)
    whole = rebuilt(real)
    assert_same(last, whole)
    days = calendar.sessions(date(2006, 1, 3), date(2014, 12, 30))
    for day in sorted(np.random.default_rng(20141231).choice(days, 5, replace=False).tolist()):
        runs.run(real.until(date_of(day)))
    assert_same(runs.run(real), whole)
    assert_is_the_whole_panel(last)


def test_real_bars_corrected_in_the_past(runs: FeatureRuns, rebuilt: Callable[..., Run], real: Frames) -> None:
    runs.run(real)
    corrected = changed(real, "us:AAPL", date(2013, 8, 8))
    found = runs.run(corrected)
    assert found.said("periods_reused") == 8
    assert_same(found, rebuilt(corrected))
    first = real.actions.filter((pl.col("instrument_id") == "us:AAPL") & (pl.col("ex_date") == date(2014, 6, 9)))
    other = real.actions.join(first, on=["instrument_id", "ex_date"], how="anti").vstack(
        first.with_columns(pl.lit(7.5).alias("split_ratio"))
    )
    told = replace(corrected, actions=other.sort("instrument_id", "ex_date"))
    found = runs.run(told)
    assert found.said("periods_reused") == 9
    assert_same(found, rebuilt(told))
