"""What is wrong with a table of bars: one function per question, each answer a `Finding` or nothing. Reads, never repairs.

`error` findings describe rows no market produces; `warning` findings describe rows that are rare but real often enough (a zero-volume
day, a missing session, a jump that reverts): 2008-09 is full of genuine ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.panel import PRICE_FIELDS
from trading_platform.market_data.bars import BAR_SCHEMA

SPIKE_SCALE = 8.0  # robust standard deviations of a symbol's own log returns
SPIKE_SIZE = 0.15  # and at least this fraction
SIMPLE_RATIOS = (1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0)
SPLIT_TOLERANCE = 0.025  # of a log price: how far a simple ratio may be off overnight
IMPOSSIBLE_SIZE = float(np.log(4.0))  # up or down to a quarter and back in one bar: a decimal slip or another instrument's print


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """One question answered badly.

    column: the offending column. rows: positions of all bad rows in the frame as it was given, int64 ascending; for gaps the row after
    each gap. count: bad rows, for gaps missing bars. symbol, timestamp, value: of the first bad row, as text.
    """

    check: str
    severity: Literal["error", "warning"]
    column: str
    count: int
    rows: NDArray[np.int64]
    symbol: str
    timestamp: str
    value: str

    def __str__(self) -> str:
        first = f"first {self.symbol} at {self.timestamp}: {self.column} is {self.value}" if self.symbol else self.value
        return f"{self.check} ({self.severity}): {self.count} in {self.column}, {first}"


def _finding(
    frame: pl.DataFrame,
    check: str,
    column: str,
    bad: pl.Expr,
    severity: Literal["error", "warning"] = "error",
    value: pl.Expr | None = None,
) -> Finding | None:
    shown = (pl.col(column) if value is None else value).cast(pl.String).alias("_value")
    marked = frame.with_columns(bad.fill_null(True).alias("_bad"), shown).with_row_index("_row").filter("_bad")
    if marked.height == 0:
        return None
    first = marked.row(0, named=True)
    rows = marked["_row"].cast(pl.Int64).to_numpy()
    return Finding(check, severity, column, marked.height, rows, str(first["symbol"]), str(first["timestamp"]), str(first["_value"]))


def check_schema(frame: pl.DataFrame) -> Finding | None:
    """Columns and types of the bar frame (market_data.bars). A frame that fails this is judged by no other check."""
    wrong = [name for name, dtype in BAR_SCHEMA.items() if frame.schema.get(name) != dtype]
    if not wrong:
        return None
    told = ", ".join(f"{name} is {frame.schema.get(name, 'missing')}, expected {BAR_SCHEMA[name]}" for name in wrong)
    return Finding("schema", "error", wrong[0], len(wrong), np.empty(0, dtype=np.int64), "", "", told)


def check_duplicates(frame: pl.DataFrame) -> Finding | None:
    """(instrument_id, timestamp) more than once; every row after the first counts."""
    return _finding(frame, "duplicates", "timestamp", ~pl.struct("instrument_id", "timestamp").is_first_distinct())


def check_order(frame: pl.DataFrame) -> Finding | None:
    """Time running backwards within an instrument."""
    return _finding(frame, "order", "timestamp", (pl.col("timestamp").diff().over("instrument_id") < pl.duration()).fill_null(False))


def check_prices(frame: pl.DataFrame) -> Finding | None:
    """A price that is absent, NaN, infinite, zero or negative; the finding names the column of the first one."""
    findings = [_finding(frame, "prices", name, ~(pl.col(name).is_finite() & (pl.col(name) > 0))) for name in PRICE_FIELDS]
    found = [finding for finding in findings if finding is not None]
    if not found:
        return None
    first = min(found, key=lambda finding: int(finding.rows[0]))
    rows = np.unique(np.concatenate([finding.rows for finding in found]))
    return Finding("prices", "error", first.column, len(rows), rows, first.symbol, first.timestamp, first.value)


def check_ohlc(frame: pl.DataFrame) -> Finding | None:
    """High below, or low above, any of open, high, low, close."""
    broken = (pl.col("high") < pl.max_horizontal("open", "low", "close")) | (pl.col("low") > pl.min_horizontal("open", "high", "close"))
    told = pl.format("{} {} {} {}", *(pl.col(name) for name in PRICE_FIELDS))
    return _finding(frame, "ohlc", "high", broken.fill_null(False), value=told)


def check_volume(frame: pl.DataFrame) -> Finding | None:
    """A volume that is absent, NaN, infinite or negative."""
    return _finding(frame, "volume", "volume", ~(pl.col("volume").is_finite() & (pl.col("volume") >= 0)))


def check_zero_volume(frame: pl.DataFrame) -> Finding | None:
    """A bar without volume: a halt, an index, or a vendor's fill. Warning."""
    return _finding(frame, "zero_volume", "volume", (pl.col("volume") == 0).fill_null(False), "warning")


def check_calendar(frame: pl.DataFrame, calendar: MarketCalendar) -> Finding | None:
    """A bar on a day that does not trade: weekend, holiday, or outside the calendar's span."""
    stamps = frame["timestamp"].to_physical().to_numpy()
    bad = pl.lit(pl.Series("_off", calendar.sessions_of(stamps) < 0))
    return _finding(frame, "calendar", "timestamp", bad) if len(stamps) else None


def check_gaps(frame: pl.DataFrame, calendar: MarketCalendar) -> Finding | None:
    """Sessions without a bar between an instrument's first and last one. Warning.

    Any timeframe is judged by sessions: a minute without a trade has no bar, and that is no defect (T3).
    """
    session = calendar.sessions_of(frame["timestamp"].to_physical().to_numpy())
    good = (
        frame.select("symbol", "instrument_id", "timestamp")
        .with_row_index("_row")
        .with_columns(pl.Series("_session", session))
        .filter(pl.col("_session") >= 0)
    )
    if good.height == 0:
        return None
    placed = good.with_columns(pl.Series("_at", calendar.positions(good["_session"].to_numpy()))).sort("instrument_id", "_at")
    gaps = placed.with_columns((pl.col("_at").diff().over("instrument_id") - 1).alias("_missing")).filter(pl.col("_missing") > 0)
    if gaps.height == 0:
        return None
    first = gaps.sort("_row").row(0, named=True)
    rows = np.sort(gaps["_row"].cast(pl.Int64).to_numpy())
    told = f"{first['_missing']} sessions missing before it"
    return Finding("gaps", "warning", "timestamp", int(gaps["_missing"].sum()), rows, str(first["symbol"]), str(first["timestamp"]), told)


def _reverting_moves(frame: pl.DataFrame) -> pl.DataFrame:
    """Adds _move: the smaller of a bar's log move in and out where they oppose each other (0 elsewhere), and _scale of the instrument."""
    log_close = pl.when(pl.col("close") > 0).then(pl.col("close").log())
    move_in = log_close.diff().over("instrument_id")
    table = frame.with_columns(move_in.alias("_in")).with_columns(pl.col("_in").shift(-1).over("instrument_id").alias("_out"))
    opposed = pl.col("_in").sign() * pl.col("_out").sign() < 0
    size = pl.min_horizontal(pl.col("_in").abs(), pl.col("_out").abs())
    scale = 1.4826 * (pl.col("_in") - pl.col("_in").median()).abs().median()
    return table.with_columns(
        pl.when(opposed).then(size).otherwise(0.0).fill_null(0.0).alias("_move"), scale.over("instrument_id").alias("_scale")
    )


def check_spikes(frame: pl.DataFrame) -> Finding | None:
    """A close that jumps and comes back: over 15 % and over 8 robust deviations of its own returns. Warning: most are genuine (2008-09)."""
    odd = (pl.col("_move") > SPIKE_SIZE) & (pl.col("_move") > SPIKE_SCALE * pl.col("_scale"))
    return _finding(_reverting_moves(frame), "spikes", "close", odd.fill_null(False), "warning")


def check_impossible_moves(frame: pl.DataFrame) -> Finding | None:
    """A close that goes to four times or a quarter and comes back in one bar: a decimal slip, or another instrument's print."""
    return _finding(_reverting_moves(frame), "impossible_moves", "close", pl.col("_move") > IMPOSSIBLE_SIZE)


def check_splits(frame: pl.DataFrame, actions: pl.DataFrame) -> Finding | None:
    """Prices and stated splits that contradict each other. Warning.

    From one bar to the next (open over the last close), freed of the splits stated for that day, a price should move little. Found: a
    move of a simple ratio nobody stated (an unrecorded split, ANTM 2005-06-02), and a stated split the price did not follow. Some are
    genuine news.
    actions: a corporate-actions frame. A split on a day without a bar counts for the next bar.
    """
    splits = actions.filter(pl.col("split_ratio") != 1.0).select("instrument_id", pl.col("ex_date").alias("session"), "split_ratio")
    stated = splits.with_columns(pl.col("split_ratio").log().alias("_log")).sort("session")
    bars = frame.with_row_index("_row").sort("session")
    known = (
        bars.join_asof(
            stated.with_columns(pl.col("_log").cum_sum().over("instrument_id")), on="session", by="instrument_id", check_sortedness=False
        )
        .sort("_row")
        .drop("_row")
    )
    split = pl.col("_log").fill_null(0.0).diff().over("instrument_id").fill_null(0.0)
    move = (pl.col("open") / pl.col("close").shift(1).over("instrument_id")).log()
    table = known.with_columns(split.alias("_split"), (move + split).fill_null(0.0).alias("_jump"))
    size = pl.col("_jump").abs()
    simple = pl.any_horizontal([(size - float(np.log(ratio))).abs() < SPLIT_TOLERANCE for ratio in SIMPLE_RATIOS])
    contradicted = (pl.col("_split") != 0.0) & (size > float(np.log(SIMPLE_RATIOS[0])) - SPLIT_TOLERANCE)
    told = pl.format("{} of the last close after a stated split of {}", pl.col("_jump").exp().round(4), pl.col("_split").exp().round(4))
    return _finding(table, "splits", "open", ((pl.col("_split") == 0.0) & simple) | contradicted, "warning", told)


FRAME_CHECKS: dict[str, Callable[[pl.DataFrame], Finding | None]] = {
    "duplicates": check_duplicates,
    "order": check_order,
    "prices": check_prices,
    "ohlc": check_ohlc,
    "volume": check_volume,
    "zero_volume": check_zero_volume,
    "spikes": check_spikes,
    "impossible_moves": check_impossible_moves,
}
CALENDAR_CHECKS: dict[str, Callable[[pl.DataFrame, MarketCalendar], Finding | None]] = {"calendar": check_calendar, "gaps": check_gaps}
CHECKS = ("schema", *FRAME_CHECKS, *CALENDAR_CHECKS, "splits")


def run_check(name: str, frame: pl.DataFrame, calendar: MarketCalendar, actions: pl.DataFrame) -> Finding | None:
    """One check by its name in CHECKS; a frame of the wrong schema answers every check with the schema finding.

    actions: the corporate actions stated beside the bars (`sources.protocol.ACTION_SCHEMA`).
    """
    schema = check_schema(frame)
    if name == "schema" or schema is not None:
        return schema
    if name == "splits":
        return check_splits(frame, actions)
    return FRAME_CHECKS[name](frame) if name in FRAME_CHECKS else CALENDAR_CHECKS[name](frame, calendar)
