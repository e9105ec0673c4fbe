"""From tables to arrays: the one place where bar frames become a `Panel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar, day_of
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import BAR_FIELDS, TIMEFRAME_NS, Panel
from trading_platform.market_data.corporate_actions import ActionTable, CorporateAction, FactorState, factors

MAX_AGE_SESSIONS = 3  # DESIGN 3: an older value of a slower series is NaN


def action_table(frame: pl.DataFrame) -> ActionTable:
    """The events of a corporate-actions frame (sources.protocol.ACTION_SCHEMA)."""
    columns = frame.select("instrument_id", "ex_date", "split_ratio", "cash_dividend").rows()
    return ActionTable(CorporateAction(day_of(day), name, ratio, dividend) for name, day, ratio, dividend in columns)


def build_panel(
    bars: pl.DataFrame,
    actions: ActionTable,
    timeframe: str,
    calendar: MarketCalendar,
    universe: pl.DataFrame | None = None,
    fields: Sequence[str] = (),
    field_series: pl.DataFrame | None = None,
    instrument_ids: Sequence[str] | None = None,
    vendor_delay_ns: int = 0,
    factor_state: FactorState | None = None,
) -> Panel:
    """Bars of one timeframe as a Panel of raw fields, split_factor and return_factor (T1), checked.

    bars: a bar frame. universe: frame (instrument_id, session Date, member bool); a session or instrument it does not name is not a member;
    without one every instrument is a member of every row. fields: optional bar columns to carry beside OHLCV, such as vwap. field_series:
    market-wide fields (`BarSource.field_series`), each joined to the latest value known at the row's known_at and NaN once older than 3
    sessions. instrument_ids: the columns, by default those of the bars; an id without bars is an empty column.
    known_at: bar end for intraday bars, the session's official close + vendor_delay_ns for 1Day (T6).
    factor_state: the factors as they were before the first row, on the same axis and table; it is advanced over the rows. Without it the
    first row is the series' first.
    Every field is NaN where the bar is absent, the factors included. InputError for a row outside the calendar, a duplicate, an unknown id.
    """
    _check_bars(bars, timeframe, fields)
    ids = tuple(sorted(set(bars["instrument_id"].unique().to_list()) if instrument_ids is None else set(instrument_ids)))
    stamps = _stamps(bars)
    timestamp = np.unique(stamps)
    row, column = np.searchsorted(timestamp, stamps), _columns(bars, ids)
    present = np.zeros((len(timestamp), len(ids)), dtype=np.bool_)
    present[row, column] = True
    if int(present.sum()) != bars.height:
        raise InputError(f"the bars hold {_first_duplicate(bars)} twice", "build_panel", "keep one of the two rows")
    session = _sessions(timestamp, calendar)
    if timeframe != "1Day":
        _refuse_session_bars(timestamp, session, timeframe, calendar)
    known_at = calendar.closes_ns(session) + vendor_delay_ns if timeframe == "1Day" else timestamp + TIMEFRAME_NS[timeframe]
    arrays = {name: _scatter(bars[name], row, column, present.shape) for name in (*BAR_FIELDS, *fields)}
    if factor_state is None:
        split_factor, return_factor = factors(actions, ids, session, arrays["close"], present)
    else:
        split_factor, return_factor = scan_factors(factor_state, ids, session, arrays["close"], present)
    arrays["split_factor"] = np.where(present, split_factor, np.nan)
    arrays["return_factor"] = np.where(present, return_factor, np.nan)
    if field_series is not None:
        for name, values in join_fields(field_series, known_at, session, calendar).items():
            arrays[name] = np.where(present, values[:, np.newaxis], np.nan)
    member = np.ones(present.shape, dtype=np.bool_) if universe is None else _members(universe, session, ids)
    return Panel(timeframe, ids, timestamp, known_at.astype(np.int64), session, arrays, present, member).check("build_panel")


def scan_factors(
    state: FactorState, ids: Sequence[str], session: NDArray[np.int64], close: NDArray[np.float64], present: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(split_factor, return_factor), each float64 (T, S), of rows that follow those `state` has seen; `state` is advanced over them.

    The bits are those of `factors` over the whole series: within a session the factors do not change, so the scan goes session by session.
    """
    if state.instrument_ids != tuple(ids):
        raise InputError("the factors' instruments are not the panel's", "scan_factors", "make one for this axis and load the state")
    split_factor, return_factor = np.empty(present.shape), np.empty(present.shape)
    starts = np.flatnonzero(np.diff(session, prepend=-1)) if len(session) else np.zeros(0, np.int64)
    for start, stop in pairwise([*starts.tolist(), len(session)]):
        split_factor[start:stop], return_factor[start:stop] = state.open_row(int(session[start]))
        there = present[start:stop]
        last = stop - 1 - np.argmax(there[::-1], axis=0)  # of the columns with a bar in this session
        state.close_row(close[last, np.arange(len(last))], there.any(axis=0))
    return split_factor, return_factor


def join_fields(
    field_series: pl.DataFrame,
    known_at: NDArray[np.int64],
    session: NDArray[np.int64],
    calendar: MarketCalendar,
    max_age: int = MAX_AGE_SESSIONS,
) -> Mapping[str, NDArray[np.float64]]:
    """Each field's latest value with known_at <= the row's, (T,) float64; NaN before the first and once over `max_age` sessions old."""
    joined = {}
    for (name,), series in field_series.sort("field", "known_at").group_by("field", maintain_order=True):
        known = series["known_at"].to_physical().to_numpy()
        values = series["value"].to_numpy()
        origin = calendar.positions(_sessions(series["timestamp"].to_physical().to_numpy(), calendar))
        at = np.searchsorted(known, known_at, side="right") - 1
        taken = np.maximum(at, 0)
        fresh = (at >= 0) & (calendar.positions(session) - origin[taken] <= max_age)
        joined[str(name)] = np.where(fresh, values[taken], np.nan)
    return joined


def _check_bars(bars: pl.DataFrame, timeframe: str, fields: Sequence[str]) -> None:
    """Refuse a frame that lacks a column of a panel, or holds one of a type that is none of its."""
    if timeframe not in TIMEFRAME_NS:
        raise InputError(f"unknown timeframe {timeframe!r}", "build_panel", f"use one of {', '.join(TIMEFRAME_NS)}")
    missing = [name for name in ("instrument_id", "timestamp", *BAR_FIELDS, *fields) if name not in bars.columns]
    if missing:
        fix = "drop the features that need it, or use a source that has it"
        raise InputError(f"the bars have no column {', '.join(missing)}", "build_panel", fix)
    stamp = bars.schema["timestamp"]
    if not isinstance(stamp, pl.Datetime) or stamp.time_zone != "UTC":
        raise InputError(f"timestamp is {stamp}, expected a Datetime in UTC", "build_panel", "say the bars' starts in UTC")
    for name in (*BAR_FIELDS, *fields):
        if not bars.schema[name].is_numeric():
            raise InputError(f"{name} is {bars.schema[name]}, expected numbers", "build_panel", "cast the column where it is read")
    for name in ("instrument_id", "timestamp"):
        if bars[name].null_count():
            row = int(bars[name].is_null().arg_max() or 0)
            raise InputError(f"row {row} of the bars has no {name}", "build_panel", "correct or drop the row")


def _first_duplicate(bars: pl.DataFrame) -> str:
    name, at = bars.filter(pl.struct("instrument_id", "timestamp").is_first_distinct().not_()).select("instrument_id", "timestamp").row(0)
    return f"the bar of {name} at {at}"


def _refuse_session_bars(timestamp: NDArray[np.int64], session: NDArray[np.int64], timeframe: str, calendar: MarketCalendar) -> None:
    """A bar from local midnight, hours before its market opens, is the whole session's."""
    daily = (timestamp == calendar.midnights_ns(session)) & (timestamp < calendar.opens_ns(session))
    if daily.any():
        when = np.datetime64(int(timestamp[np.argmax(daily)]), "ns")
        what = f"a bar at {when}Z begins with its session's date: a 1Day bar among {timeframe} bars"
        raise InputError(what, "build_panel", "make one panel per timeframe")


def _stamps(bars: pl.DataFrame) -> NDArray[np.int64]:
    return bars["timestamp"].cast(pl.Datetime("ns", "UTC")).to_physical().to_numpy()


def _sessions(timestamp: NDArray[np.int64], calendar: MarketCalendar) -> NDArray[np.int64]:
    session = calendar.sessions_of(timestamp)
    if len(session) and int(session.min()) < 0:
        when = np.datetime64(int(timestamp[np.argmin(session)]), "ns")
        raise InputError(
            f"a bar at {when}Z falls on no session of {calendar.name}",
            "build_panel",
            "drop weekend and holiday rows, or widen the calendar",
        )
    return session


def _columns(frame: pl.DataFrame, ids: tuple[str, ...]) -> NDArray[np.int64]:
    order = pl.DataFrame({"instrument_id": ids, "column": np.arange(len(ids))}, schema={"instrument_id": pl.String, "column": pl.Int64})
    column = frame.select("instrument_id").join(order, on="instrument_id", how="left", maintain_order="left")["column"]
    if column.null_count():
        unknown = frame["instrument_id"][int(column.is_null().arg_max() or 0)]
        raise InputError(f"unknown instrument {unknown!r}", "build_panel", "select the bars of the panel's instruments, or add it to them")
    return column.to_numpy()


def _scatter(values: pl.Series, row: NDArray[np.int64], column: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.float64]:
    array = np.full(shape, np.nan)
    array[row, column] = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return array


def _members(universe: pl.DataFrame, session: NDArray[np.int64], ids: tuple[str, ...]) -> NDArray[np.bool_]:
    days, row = np.unique(session, return_inverse=True)
    return membership(universe, days, ids)[row]


def membership(universe: pl.DataFrame, days: NDArray[np.int64], ids: tuple[str, ...]) -> NDArray[np.bool_]:
    """Who is a member in each of some sessions (ascending days), bool (len(days), len(ids)); False where the universe does not say."""
    missing = [name for name in ("instrument_id", "session", "member") if name not in universe.columns]
    if missing:
        raise InputError(
            f"the universe has no column {', '.join(missing)}", "build_panel", "give instrument_id, session (Date), member (bool)"
        )
    here = universe.filter(pl.col("member") & pl.col("instrument_id").is_in(ids))
    day = here["session"].to_physical().to_numpy().astype(np.int64)
    inside = np.isin(day, days)
    by_day = np.zeros((len(days), len(ids)), dtype=np.bool_)
    by_day[np.searchsorted(days, day[inside]), _columns(here.filter(pl.Series(inside)), ids)] = True
    return by_day
