"""From tables to arrays: the one place where bar frames become a `Panel`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar, day_of
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import BAR_FIELDS, TIMEFRAME_NS, Panel
from trading_platform.market_data.corporate_actions import ActionTable, CorporateAction, factors

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
) -> Panel:
    """Bars of one timeframe as a Panel of raw fields, split_factor and return_factor (T1), checked.

    bars: a bar frame. universe: frame (instrument_id, session Date, member bool); a session or instrument it does not name is not a member;
    without one every instrument is a member of every row. fields: optional bar columns to carry beside OHLCV, such as vwap. field_series:
    market-wide fields (`BarSource.field_series`), each joined to the latest value known at the row's known_at and NaN once older than 3
    sessions. instrument_ids: the columns, by default those of the bars; an id without bars is an empty column.
    known_at: bar end for intraday bars, the session's official close + vendor_delay_ns for 1Day (T6).
    Every field is NaN where the bar is absent, the factors included. InputError for a row outside the calendar, a duplicate, an unknown id.
    """
    if timeframe not in TIMEFRAME_NS:
        raise InputError(f"unknown timeframe {timeframe!r}", "build_panel", f"use one of {', '.join(TIMEFRAME_NS)}")
    missing = [name for name in (*BAR_FIELDS, *fields) if name not in bars.columns]
    if missing:
        raise InputError(
            f"the bars have no column {', '.join(missing)}", "build_panel", "drop the features that need it, or use a source that has it"
        )
    ids = tuple(sorted(set(bars["instrument_id"].unique().to_list()) if instrument_ids is None else set(instrument_ids)))
    stamps = _stamps(bars)
    timestamp = np.unique(stamps)
    row, column = np.searchsorted(timestamp, stamps), _columns(bars, ids)
    present = np.zeros((len(timestamp), len(ids)), dtype=np.bool_)
    present[row, column] = True
    if int(present.sum()) != bars.height:
        raise InputError("the bars hold an (instrument_id, timestamp) twice", "build_panel", "keep one of the two rows")
    session = _sessions(timestamp, calendar)
    known_at = calendar.closes_ns(session) + vendor_delay_ns if timeframe == "1Day" else timestamp + TIMEFRAME_NS[timeframe]
    arrays = {name: _scatter(bars[name], row, column, present.shape) for name in (*BAR_FIELDS, *fields)}
    split_factor, return_factor = factors(actions, ids, session, arrays["close"], present)
    arrays["split_factor"] = np.where(present, split_factor, np.nan)
    arrays["return_factor"] = np.where(present, return_factor, np.nan)
    if field_series is not None:
        for name, values in join_fields(field_series, known_at, session, calendar).items():
            arrays[name] = np.where(present, values[:, np.newaxis], np.nan)
    member = np.ones(present.shape, dtype=np.bool_) if universe is None else _members(universe, session, ids)
    return Panel(timeframe, ids, timestamp, known_at.astype(np.int64), session, arrays, present, member).check("build_panel")


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
    here = universe.filter(pl.col("member") & pl.col("instrument_id").is_in(ids))
    days = np.unique(session)
    day = here["session"].to_physical().to_numpy().astype(np.int64)
    inside = np.isin(day, days)
    by_day = np.zeros((len(days), len(ids)), dtype=np.bool_)
    by_day[np.searchsorted(days, day[inside]), _columns(here.filter(pl.Series(inside)), ids)] = True
    return by_day[np.searchsorted(days, session)]
