"""Rows of fixed length from book and trade events: what was known at each row's end, and what flowed within it. Fields of `microstructure`.

Of the book at the row's end (its last state received before the end, NaN once older than `max_age_ns`): bid_price, bid_size, ask_price,
ask_size, and bid_price_2 and so on. Of the row's events: book_updates (how many), order_flow (shares by which the best bid gained on the
best ask; Cont, Kukanov and Stoikov 2014). Of its trades: open, high, low, close, vwap (NaN without a trade), volume, trade_count,
buy_volume, sell_volume (by the aggressor), signed_ticks (rising less falling trades), effective_spread (twice the distance from the middle
in force before the trade, weighted by size, a fraction). An event at a row's end belongs to the next row: nothing later than known_at is
seen.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import TIMEFRAME_NS, Panel
from trading_platform.market_data.book_events import level_name, levels_of
from trading_platform.market_data.corporate_actions import ActionTable, factors

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MAX_AGE_NS = 60 * 1_000_000_000
_BOOK_FLOWS = ("order_flow", "book_updates")
_TRADE_FIELDS = (
    "open",
    "high",
    "low",
    "close",
    "vwap",
    "volume",
    "trade_count",
    "buy_volume",
    "sell_volume",
    "signed_ticks",
    "effective_spread",
)


def session_rows(calendar: MarketCalendar, first: date, last: date, timeframe: str) -> Ints:
    """Starts of the regular-hours rows of the sessions from `first` to `last`, UTC ns."""
    return np.concatenate([calendar.bar_starts(int(session), timeframe) for session in calendar.sessions(first, last)])


def all_hours(start_ns: int, stop_ns: int, timeframe: str) -> Ints:
    """Starts of the rows that lie whole within [start, stop), on the timeframe's grid, for markets that never close."""
    step = TIMEFRAME_NS[timeframe]
    return np.arange(-(-start_ns // step) * step, stop_ns - step + 1, step, dtype=np.int64)


def book_panel(
    books: pl.DataFrame,
    trades: pl.DataFrame | None,
    timeframe: str,
    starts: Ints,
    calendar: MarketCalendar | None = None,
    actions: ActionTable | None = None,
    max_age_ns: int = MAX_AGE_NS,
) -> Panel:
    """Book and trade tables (`market_data.book_events`) as a Panel of rows [start, start + timeframe), checked.

    starts: (T,) int64 UTC ns, ascending, a timeframe apart or more. calendar: sessions of the rows; without one a session is a UTC day.
    actions: splits and dividends for split_factor and return_factor (T1), 1.0 without. A cell is present where the book is known and no
    older than max_age_ns at the row's end; every instrument is a member of every row. InputError for overlapping rows or rows outside the
    calendar.
    """
    if timeframe not in TIMEFRAME_NS:
        raise InputError(f"unknown timeframe {timeframe!r}", "book_panel", f"use one of {', '.join(TIMEFRAME_NS)}")
    step = TIMEFRAME_NS[timeframe]
    if len(starts) > 1 and int(np.diff(starts).min()) < step:
        raise InputError("rows overlap", "book_panel", f"give starts at least a {timeframe} apart, ascending")
    ids = tuple(sorted(books["instrument_id"].unique().to_list()))
    bookless = [] if trades is None else sorted(set(trades["instrument_id"].unique().to_list()) - set(ids))
    if bookless:
        raise InputError(f"trades of {bookless[0]} and no book of it", "book_panel", "give its book, or leave its trades out")
    session = _sessions(starts, calendar)
    levels = levels_of(books.columns)
    state = [level_name(side, what, k) for k in range(1, levels + 1) for side in ("bid", "ask") for what in ("price", "size")]
    names = (*state, *_BOOK_FLOWS, *(_TRADE_FIELDS if trades is not None else ()))
    arrays = {name: np.full((len(starts), len(ids)), np.nan) for name in names}
    for s, instrument_id in enumerate(ids):
        book = books.filter(pl.col("instrument_id") == instrument_id)
        columns = _book_rows(book, state, starts, step, max_age_ns)
        if trades is not None:
            columns |= _trade_rows(trades.filter(pl.col("instrument_id") == instrument_id), book, starts, step)
        for name, values in columns.items():
            arrays[name][:, s] = values
    present = np.isfinite(arrays["bid_price"])
    middle = (arrays["bid_price"] + arrays["ask_price"]) / 2.0
    split_factor, return_factor = factors(actions or ActionTable(), ids, session, middle, present)
    arrays |= {"split_factor": split_factor, "return_factor": return_factor}
    fields = {name: np.where(present, values, np.nan) for name, values in arrays.items()}
    member = np.ones(present.shape, np.bool_)
    return Panel(timeframe, ids, starts.astype(np.int64), starts + step, session, fields, present, member).check("book_panel")


def _sessions(starts: Ints, calendar: MarketCalendar | None) -> Ints:
    if calendar is None:
        return starts // TIMEFRAME_NS["1Day"]
    session = calendar.sessions_of(starts)
    if len(session) and int(session.min()) < 0:
        when = np.datetime64(int(starts[np.argmin(session)]), "ns")
        raise InputError(f"a row at {when}Z falls on no session of {calendar.name}", "book_panel", "drop it, or use the market's calendar")
    return session


def _stamps(table: pl.DataFrame) -> Ints:
    return table["timestamp"].to_physical().to_numpy()


def _rows_of(stamps: Ints, starts: Ints, step: int) -> Ints:
    """Row of each event, -1 between and outside the rows."""
    row = np.searchsorted(starts, stamps, side="right") - 1
    inside = (row >= 0) & (stamps < starts[np.maximum(row, 0)] + step) if len(starts) else np.zeros(len(stamps), np.bool_)
    return np.where(inside, row, -1)


def _added(row: Ints, values: Floats, rows: int) -> Floats:
    """Sum per row, in the order of the events."""
    kept = row >= 0
    return np.bincount(row[kept], weights=values[kept], minlength=rows)


def _book_rows(book: pl.DataFrame, state: list[str], starts: Ints, step: int, max_age_ns: int) -> dict[str, Floats]:
    stamps, ends = _stamps(book), starts + step
    last = np.searchsorted(stamps, ends, side="left") - 1
    taken = np.maximum(last, 0)
    fresh = (last >= 0) & (ends - stamps[taken] <= max_age_ns)
    columns = {name: np.where(fresh, book[name].to_numpy()[taken], np.nan) for name in state}
    row = _rows_of(stamps, starts, step)
    flow = order_flow(book)
    flow[1:][np.diff(stamps) > max_age_ns] = 0.0  # what happened while nobody looked is no flow of this row
    return columns | {"order_flow": _added(row, flow, len(starts)), "book_updates": _added(row, np.ones(len(row)), len(starts))}


def order_flow(book: pl.DataFrame) -> Floats:
    """Order flow imbalance of each event of one instrument's book table, in shares, float64 (E,); 0 for the first.

    e = 1(bid >= before) bid_size - 1(bid <= before) bid_size before - 1(ask <= before) ask_size + 1(ask >= before) ask_size before.
    Source: Cont, Kukanov and Stoikov, The Price Impact of Order Book Events, J. Financial Econometrics 12 (2014), equation 4.
    """
    bid, bids, ask, asks = (book[name].to_numpy() for name in ("bid_price", "bid_size", "ask_price", "ask_size"))
    flow = np.zeros(len(bid))
    gained = np.where(bid[1:] >= bid[:-1], bids[1:], 0.0) - np.where(bid[1:] <= bid[:-1], bids[:-1], 0.0)
    flow[1:] = gained - np.where(ask[1:] <= ask[:-1], asks[1:], 0.0) + np.where(ask[1:] >= ask[:-1], asks[:-1], 0.0)
    return flow


def tick_signs(price: Floats) -> Floats:
    """1 after a rise, -1 after a fall, the last sign where the price did not change, 0 before it ever did (the tick rule)."""
    step = np.sign(np.diff(price, prepend=price[:1]))
    moved = np.maximum.accumulate(np.where(step != 0.0, np.arange(len(step)), 0))
    return step[moved] if len(step) else step


def aggressors(trades: pl.DataFrame, middle: Floats) -> Floats:
    """1 where the buyer was the aggressor, -1 where the seller was, 0 where nobody can say.

    As the table says; else above or below the middle in force before the trade; at it, or before any book, by the tick rule.
    Source: Lee and Ready, Inferring Trade Direction from Intraday Data, J. Finance 46 (1991), without their five-second delay.
    """
    price = trades["price"].to_numpy()
    by_quote = np.nan_to_num(np.sign(price - middle))
    guessed = np.where(by_quote != 0.0, by_quote, tick_signs(price))
    stated = trades["side"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return np.where(np.isnan(stated), guessed, stated)


def _trade_rows(trades: pl.DataFrame, book: pl.DataFrame, starts: Ints, step: int) -> dict[str, Floats]:
    rows = len(starts)
    stamps, price, size = _stamps(trades), trades["price"].to_numpy(), trades["size"].to_numpy()
    before = np.searchsorted(_stamps(book), stamps, side="left") - 1
    state = ((book["bid_price"] + book["ask_price"]) / 2.0).to_numpy()
    middle = np.where(before >= 0, state[np.maximum(before, 0)], np.nan)
    side, row = aggressors(trades, middle), _rows_of(stamps, starts, step)
    known = np.where(np.isnan(middle), -1, row)
    paid = _added(known, np.nan_to_num(2.0 * np.abs(price - middle) / middle) * size, rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        effective = paid / _added(known, size, rows)
        volume = _added(row, size, rows)
        vwap = _added(row, price * size, rows) / volume
    return _extremes(row, price, rows) | {
        "vwap": vwap,
        "volume": volume,
        "trade_count": _added(row, np.ones(len(row)), rows),
        "buy_volume": _added(row, np.where(side > 0.0, size, 0.0), rows),
        "sell_volume": _added(row, np.where(side < 0.0, size, 0.0), rows),
        "signed_ticks": _added(row, tick_signs(price), rows),
        "effective_spread": effective,
    }


def _extremes(row: Ints, price: Floats, rows: int) -> dict[str, Floats]:
    """First, highest, lowest and last price of each row, NaN without a trade."""
    bars = {name: np.full(rows, np.nan) for name in ("open", "high", "low", "close")}
    here = row >= 0
    if here.any():
        price = price[here]
        traded, begin = np.unique(row[here], return_index=True)
        bars["open"][traded], bars["close"][traded] = price[begin], price[np.append(begin[1:], len(price)) - 1]
        bars["high"][traded] = np.maximum.reduceat(price, begin)
        bars["low"][traded] = np.minimum.reduceat(price, begin)
    return bars
