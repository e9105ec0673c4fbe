"""What a run may not reuse, how large periods and minutes are written, the same in Dagster, and all of it on real bars."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from feature_runs import FeatureRuns, Frames, Run, assert_is_the_whole_panel, assert_same, changed, random_bars
from world import SESSIONS, open_world, synthetic_bars

from trading_platform.assets import feature_periods
from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.feature_periods import kept_ends
from trading_platform.assets.inputs import latest
from trading_platform.assets.pipelines import DAILY, INTRADAY
from trading_platform.assets.workplace import Workplace
from trading_platform.calendar import MarketCalendar, date_of
from trading_platform.contracts import names
from trading_platform.market_data.sources.files import FileSource

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


def test_another_vendor_delay_reuses_nothing(
    runs: FeatureRuns, rebuilt: Callable[..., Run], daily: Frames, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.run(daily)
    profile = Workplace.profile
    monkeypatch.setattr(Workplace, "profile", lambda place, pipeline: replace(profile(place, pipeline), vendor_delay_s=7200.0))
    found = runs.run(daily)
    assert found.said("periods_reused") == 0
    assert_same(found, rebuilt(daily))


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
