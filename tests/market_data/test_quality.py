"""Every labelled defect is found, genuine extremes are no errors, and each check can fail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.panel import PRICE_FIELDS
from trading_platform.market_data.bars import to_bar_frame
from trading_platform.market_data.quality import CHECKS, Finding, check_gaps, check_spikes, check_splits, run_check
from trading_platform.market_data.sources.boxed import BoxedSource
from trading_platform.market_data.sources.files import FileSource
from trading_platform.market_data.sources.protocol import ACTION_SCHEMA

LABELS = {
    "high_below_open_close_or_low": "ohlc",
    "low_above_open_close_or_high": "ohlc",
    "non_positive_price": "prices",
    "weekend_date": "calendar",
}


NO_ACTIONS = pl.DataFrame(schema=ACTION_SCHEMA)


def findings_of(frame: pl.DataFrame, calendar: MarketCalendar, actions: pl.DataFrame) -> list[Finding]:
    answers = [run_check(name, frame, calendar, actions) for name in CHECKS]
    return [answer for answer in answers if answer is not None]


@pytest.fixture(scope="module")
def dirty(shared_data: Path) -> pl.DataFrame:
    return to_bar_frame(pl.read_parquet(shared_data / "dirty_daily/1Day/bars_defective_names.parquet"), "America/New_York")


@pytest.mark.parametrize("label", LABELS)
def test_every_labelled_defect_is_found(shared_data: Path, dirty: pl.DataFrame, calendar: MarketCalendar, label: str) -> None:
    known = pl.read_parquet(shared_data / "dirty_daily/known_defects.parquet").filter(
        (pl.col("defect") == label) & (pl.col("date") >= date(2004, 1, 1))
    )
    finding = run_check(LABELS[label], dirty, calendar, NO_ACTIONS)
    assert finding is not None and finding.severity == "error"
    found = dirty[finding.rows].select("symbol", pl.col("session").alias("date"))
    assert known.height > 0
    assert known.join(found, on=["symbol", "date"], how="anti").height == 0


def test_nothing_but_the_labelled_rows_is_an_error_of_these_kinds(shared_data: Path, dirty: pl.DataFrame, calendar: MarketCalendar) -> None:
    known = pl.read_parquet(shared_data / "dirty_daily/known_defects.parquet").filter(pl.col("date") >= date(2004, 1, 1))
    for check in sorted(set(LABELS.values())):
        labels = [label for label, name in LABELS.items() if name == check]
        expected = known.filter(pl.col("defect").is_in(labels)).select("symbol", "date").unique()
        finding = run_check(check, dirty, calendar, NO_ACTIONS)
        assert finding is not None and finding.count == expected.height


def test_the_crash_of_2008_is_no_error(
    shared_data: Path, shared_source: FileSource, shared_daily: pl.DataFrame, calendar: MarketCalendar
) -> None:
    findings = {finding.check: finding for finding in findings_of(shared_daily, calendar, shared_source.corporate_actions())}
    assert [finding.check for finding in findings.values() if finding.severity == "error"] == []
    known = pl.read_parquet(shared_data / "us_daily_sp500/known_defects.parquet").filter(pl.col("date") <= date(2014, 12, 31))
    gaps = known.filter(pl.col("kind").str.starts_with("missing_sessions"))
    assert findings["gaps"].count >= gaps.height > 0
    assert findings["zero_volume"].count == known.filter(pl.col("kind") == "zero_volume").height
    genuine = known.filter((pl.col("kind") == "spike_and_revert") & (pl.col("verdict") == "likely_genuine_market_move"))
    spikes = shared_daily[check_spikes(shared_daily).rows]  # type: ignore[union-attr]
    assert genuine.height > 0 and spikes.filter(pl.col("session").is_between(date(2008, 9, 1), date(2009, 4, 30))).height > 0


def test_the_boxed_data_is_sound(boxed: BoxedSource, boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    assert findings_of(boxed_bars, calendar, boxed.corporate_actions()) == []


def at(column: str, value: object, row: int = 3000) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value, dtype=frame.schema[column])).otherwise(pl.col(column)).alias(column)
    )


def halved_for_good(frame: pl.DataFrame) -> pl.DataFrame:
    late = (pl.col("symbol") == "IBM") & (pl.col("session") >= date(2012, 2, 2))
    return frame.with_columns(pl.when(late).then(pl.col(name) / 2).otherwise(name).alias(name) for name in PRICE_FIELDS)


PLANTED: dict[str, tuple[str, Callable[[pl.DataFrame], pl.DataFrame], str, str]] = {
    "schema": ("schema", lambda frame: frame.drop("high"), "high", "high is missing"),
    "type": ("schema", lambda frame: frame.with_columns(pl.col("volume").cast(pl.Int64)), "volume", "volume is Int64, expected Float64"),
    "duplicates": ("duplicates", lambda frame: pl.concat([frame, frame[3000:3001]]), "timestamp", "2012-02-02 05:00:00"),
    "order": (
        "order",
        lambda frame: pl.concat([frame[:3000], frame[3001:3002], frame[3000:3001], frame[3002:]]),
        "timestamp",
        "2012-02-02 05:00:00",
    ),
    "prices": ("prices", at("close", -1.5), "close", "-1.5"),
    "nan": ("prices", at("low", float("nan")), "low", "NaN"),
    "ohlc": ("ohlc", at("high", 1.0), "high", "455.9 1.0"),
    "volume": ("volume", at("volume", None), "volume", "None"),
    "zero_volume": ("zero_volume", at("volume", 0.0), "volume", "0.0"),
    "calendar": (
        "calendar",
        lambda frame: frame.with_columns((pl.col("timestamp") + pl.duration(days=1)).cast(frame.schema["timestamp"])),
        "timestamp",
        "2000-03-04",
    ),
    "gaps": ("gaps", lambda frame: pl.concat([frame[:3000], frame[3002:]]), "timestamp", "2 sessions missing"),
    "impossible_moves": ("impossible_moves", at("close", 4590.0), "close", "4590.0"),
    "spikes": ("spikes", at("close", 300.0), "close", "300.0"),
    "splits": ("splits", halved_for_good, "open", "0.5003 of the last close after a stated split of 1.0"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_defect_is_found_with_column_row_and_value(
    boxed: BoxedSource, boxed_bars: pl.DataFrame, calendar: MarketCalendar, name: str
) -> None:
    check, plant, column, value = PLANTED[name]
    finding = run_check(check, plant(boxed_bars), calendar, boxed.corporate_actions())
    assert isinstance(finding, Finding)
    assert (finding.check, finding.column) == (check, column)
    assert value in finding.value and value in str(finding)
    assert check in CHECKS


def test_a_gap_counts_sessions_not_days(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    around_christmas = pl.col("session").is_between(date(2012, 12, 24), date(2012, 12, 26)) & (pl.col("symbol") == "IBM")
    finding = check_gaps(boxed_bars.filter(~around_christmas), calendar)
    assert finding is not None and (finding.count, len(finding.rows), finding.symbol) == (2, 1, "IBM")
    assert check_gaps(boxed_bars.clear(), calendar) is None


def test_every_known_split_error_is_found(shared_data: Path, shared_source: FileSource, shared_daily: pl.DataFrame) -> None:
    known = pl.read_parquet(shared_data / "us_daily_sp500/known_defects.parquet").filter(
        pl.col("kind").str.contains("unrecorded_split|split_recorded_but") & (pl.col("date") <= date(2014, 12, 31))
    )
    finding = check_splits(shared_daily, shared_source.corporate_actions())
    assert finding is not None and finding.severity == "warning"
    found = shared_daily[finding.rows].select("symbol", pl.col("session").alias("date"))
    assert known.height == 6 and known.join(found, on=["symbol", "date"], how="anti").height == 0
    assert found.height < 20  # among 283 names in ten years, spin-offs without a stated event included


def test_a_removed_and_an_invented_split_are_both_found(boxed: BoxedSource, boxed_bars: pl.DataFrame) -> None:
    actions = boxed.corporate_actions()
    assert check_splits(boxed_bars, actions) is None
    removed = check_splits(boxed_bars, actions.filter(pl.col("ex_date") != date(2005, 2, 28)))
    assert removed is not None and (removed.count, removed.symbol, removed.timestamp[:10]) == (1, "AAPL", "2005-02-28")
    dividend = (pl.col("ex_date") == date(2012, 8, 9)) & (pl.col("instrument_id") == "us:AAPL")
    invented = check_splits(boxed_bars, actions.with_columns(pl.when(dividend).then(7.0).otherwise("split_ratio").alias("split_ratio")))
    assert invented is not None and (invented.count, invented.timestamp[:10]) == (1, "2012-08-09")


def test_the_manual_lists_every_check() -> None:
    text = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    assert [name for name in CHECKS if f"| `{name}` |" not in text] == []
