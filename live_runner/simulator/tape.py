"""The recorded market: bars, indexes and corporate actions read from Parquet, checked, and indexed by symbol and by bar start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import symbol_of
from trading_platform.contracts.panel import PRICE_FIELDS, TIMEFRAME_NS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
TIMEFRAMES = ("1Day", "1Min")
OPTIONAL_FIELDS = ("vwap", "trade_count")


@dataclass(frozen=True, slots=True)
class Bars:
    """One symbol's bars, ascending. start, end: UTC ns, `end` the instant the bar is complete (a session bar's: the close)."""

    start: Ints
    end: Ints
    session: Ints
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vwap: Floats
    trade_count: Floats


@dataclass(frozen=True, slots=True)
class Action:
    """A split and/or cash dividend, effective at the first open on or after `ex_date`; the dividend is per share after the split."""

    ex_date: int
    symbol: str
    split_ratio: float
    cash_dividend: float


class Tape:
    """All bars of one timeframe, and the actions. `at(start)` lists (symbol, index) of the bars that begin at an instant, by symbol.

    bars: of what is traded. indexes: of what is only published, such as VIX: bars like the others, no orders, no positions, no quotes.
    """

    def __init__(
        self, timeframe: str, bars: dict[str, Bars], actions: Sequence[Action] = (), indexes: Mapping[str, Bars] | None = None
    ) -> None:
        self.timeframe = timeframe
        self.bars = dict(sorted(bars.items()))
        self.indexes = dict(sorted((indexes or {}).items()))
        self.published = dict(sorted({**self.bars, **self.indexes}.items()))
        self.actions = tuple(sorted(actions, key=lambda a: (a.ex_date, a.symbol, a.split_ratio, a.cash_dividend)))
        self._newest: tuple[int, list[tuple[str, int]]] = (-1, [])

    def at(self, start: int) -> list[tuple[str, int]]:
        """(symbol, index) of every bar that begins at `start`, ascending by symbol."""
        if self._newest[0] != start:  # an instant is asked for twice: by the matching and by the stream
            self._newest = (start, _beginning(self.bars, start))
        return self._newest[1]

    def published_at(self, start: int) -> list[tuple[str, int]]:
        """As `at`, the indexes among them."""
        return sorted([*self.at(start), *_beginning(self.indexes, start)])

    def starts(self, session: int, opens: int, closes: int) -> list[int]:
        """Starts of this session's published bars inside regular hours, ascending; for 1Day the one start of the day."""
        found: set[int] = set()
        for series in self.published.values():
            low, high = np.searchsorted(series.session, (session, session + 1))
            found.update(series.start[low:high].tolist())
        return sorted(s for s in found if self.timeframe == "1Day" or opens <= s < closes)

    def actions_between(self, after: int, until: int) -> tuple[Action, ...]:
        """Actions with after < ex_date <= until, in order."""
        return tuple(a for a in self.actions if after < a.ex_date <= until)


def _beginning(table: Mapping[str, Bars], start: int) -> list[tuple[str, int]]:
    places = ((symbol, series.start, int(np.searchsorted(series.start, start))) for symbol, series in table.items())
    return [(symbol, i) for symbol, starts, i in places if i < len(starts) and starts[i] == start]


def load_tape(bars: Path, timeframe: str, calendar: MarketCalendar, actions: Path | None = None, indexes: Path | None = None) -> Tape:
    """Read the files. InputError names the file and the first wrong row; nothing is repaired.

    bars, indexes: columns symbol (or instrument_id), timestamp (UTC), open, high, low, close, volume [vwap, trade_count]; other columns
    are ignored. actions: symbol (or instrument_id), ex_date (date or days), split_ratio, cash_dividend.
    """
    if timeframe not in TIMEFRAMES:
        raise InputError(f"timeframe {timeframe!r}", "simulator", f"use one of {', '.join(TIMEFRAMES)}")
    traded, published = load_bars(bars, timeframe, calendar), load_bars(indexes, timeframe, calendar) if indexes is not None else {}
    both = sorted(traded.keys() & published.keys())
    if both:
        raise InputError(f"{both[0]} is both a share and an index", str(indexes), "name it in one of the two files")
    return Tape(timeframe, traded, load_actions(actions) if actions is not None else (), published)


def load_bars(bars: Path, timeframe: str, calendar: MarketCalendar) -> dict[str, Bars]:
    """Bars of one file by symbol."""
    table = _read(bars, (*PRICE_FIELDS, "timestamp", "volume"))
    names = _symbols(table, bars)
    starts = _instants(table, bars)
    order = np.argsort(names.codes, kind="stable")
    codes, starts = names.codes[order], starts[order]
    columns = {name: _floats(table, name, bars)[order] for name in (*PRICE_FIELDS, "volume", *OPTIONAL_FIELDS)}
    _check(codes, names.values, starts, columns, bars)
    sessions, starts, ends = _times(starts, timeframe, calendar, bars)
    cuts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1], True])
    return {
        names.values[codes[low]]: Bars(
            starts[low:high], ends[low:high], sessions[low:high], *(columns[f][low:high] for f in Bars.__slots__[3:])
        )
        for low, high in pairwise(cuts.tolist())
    }


def load_actions(path: Path) -> tuple[Action, ...]:
    """Read corporate actions; rows that do nothing (ratio 1, no dividend) are dropped."""
    table = _read(path, ("ex_date", "split_ratio", "cash_dividend"))
    symbols = _symbols(table, path)
    days = table["ex_date"]
    dates = days.cast(pa.int32()) if pa.types.is_date32(days.type) else days
    if not pa.types.is_integer(dates.type):
        raise InputError(f"ex_date is {days.type}", str(path), "store it as date32 or as whole days since 1970-01-01")
    ratio, dividend = _floats(table, "split_ratio", path), _floats(table, "cash_dividend", path)
    bad = np.flatnonzero(~(np.isfinite(ratio) & (ratio > 0.0) & np.isfinite(dividend) & (dividend >= 0.0)))
    if len(bad):
        i = int(bad[0])
        raise InputError(f"row {i}: split_ratio {ratio[i]}, cash_dividend {dividend[i]}", str(path), "correct the corporate action")
    rows = zip(dates.to_pylist(), (symbols.values[code] for code in symbols.codes), ratio.tolist(), dividend.tolist(), strict=True)
    return tuple(Action(int(d), str(s), r, c) for d, s, r, c in rows if r != 1.0 or c != 0.0)


def _read(path: Path, needed: tuple[str, ...]) -> pa.Table:
    if not path.is_file():
        raise InputError(f"no file {path.name}", str(path), "give a Parquet file")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"not a readable Parquet file: {str(error).splitlines()[0]}", str(path), "write the file again") from error
    absent = [name for name in needed if name not in table.column_names]
    if "symbol" not in table.column_names and "instrument_id" not in table.column_names:
        absent.append("symbol")
    if absent:
        raise InputError(f"missing column {', '.join(absent)}; it has {', '.join(table.column_names)}", str(path), "add the column")
    if table.num_rows == 0 and "timestamp" in needed:
        raise InputError("no rows", str(path), "give bars of the sessions to be simulated")
    return table


@dataclass(frozen=True, slots=True)
class Names:
    """A column of symbols: row i holds `values[codes[i]]`; values ascend."""

    values: tuple[str, ...]
    codes: Ints


def _symbols(table: pa.Table, path: Path) -> Names:
    named = "symbol" in table.column_names
    column = table["symbol" if named else "instrument_id"]
    if column.null_count or not (
        pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type)
    ):
        raise InputError(f"the symbols are {column.type} with {column.null_count} nulls", str(path), "name every row's symbol")
    encoded = column.combine_chunks().cast(pa.string()).dictionary_encode()
    found = [value if named else symbol_of(value) for value in encoded.dictionary.to_pylist()]
    if "" in found:
        raise InputError("a row without a symbol", str(path), "name every row's symbol")
    values = tuple(sorted(set(found)))
    place = {value: code for code, value in enumerate(values)}
    return Names(values, np.array([place[value] for value in found], dtype=np.int64)[encoded.indices.to_numpy()])


def _floats(table: pa.Table, name: str, path: Path) -> Floats:
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan)
    try:
        return np.asarray(table[name].cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)
    except pa.ArrowException as error:
        raise InputError(f"column {name} is {table[name].type}, not numbers", str(path), "store it as float64") from error


def _instants(table: pa.Table, path: Path) -> Ints:
    column = table["timestamp"]
    if pa.types.is_timestamp(column.type):
        try:
            column = column.cast(pa.timestamp("ns", column.type.tz)).cast(pa.int64())
        except pa.ArrowException as error:
            what = f"a timestamp is beyond every calendar: {str(error).splitlines()[0]}"
            raise InputError(what, str(path), "the file is damaged: write it again") from error
    if not pa.types.is_integer(column.type) or column.null_count:
        raise InputError(f"timestamp is {column.type} with {column.null_count} nulls", str(path), "store UTC timestamps, or int64 ns")
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)


def _check(codes: Ints, values: tuple[str, ...], starts: Ints, columns: dict[str, Floats], path: Path) -> None:
    o, h, low, c, volume = (columns[name] for name in (*PRICE_FIELDS, "volume"))
    prices = np.isfinite(o) & np.isfinite(h) & np.isfinite(low) & np.isfinite(c) & (low > 0.0)
    sound = prices & (h >= np.maximum(o, c)) & (low <= np.minimum(o, c)) & np.isfinite(volume) & (volume >= 0.0)
    twice = np.r_[False, (codes[1:] == codes[:-1]) & (starts[1:] == starts[:-1])]
    back = np.r_[False, (codes[1:] == codes[:-1]) & (starts[1:] < starts[:-1])]
    wrongs = ((~sound, "prices or volume out of order"), (twice, "the same bar twice"), (back, "timestamps run backwards"))
    for wrong, what in wrongs:
        if wrong.any():
            i = int(np.argmax(wrong))
            when = f"{values[codes[i]]} at {np.datetime64(int(starts[i]), 'ns')}Z"
            row = f"{when}: open {o[i]}, high {h[i]}, low {low[i]}, close {c[i]}, volume {volume[i]}"
            raise InputError(f"{what}: {row}", str(path), "correct or drop the row")


def _times(starts: Ints, timeframe: str, calendar: MarketCalendar, path: Path) -> tuple[Ints, Ints, Ints]:
    """Session, start and end of each bar. Daily bars may be stamped with New York's midnight or, all of them, with UTC's."""
    day = TIMEFRAME_NS["1Day"]
    sessions = starts // day if timeframe == "1Day" and bool(np.all(starts % day == 0)) else calendar.sessions_of(starts)
    unknown = np.flatnonzero(sessions < 0)
    if len(unknown):
        when = np.datetime64(int(starts[unknown[0]]), "ns")
        raise InputError(f"a bar at {when}Z, no session of {calendar.name}", str(path), "drop the row")
    if timeframe == "1Day":
        return sessions, calendar.midnights_ns(sessions), calendar.closes_ns(sessions)
    return sessions, starts, starts + TIMEFRAME_NS[timeframe]
