"""Panel: bars of many instruments on one time axis, as arrays. The only shape in which bars reach features and engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from operator import ge
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError

TIMEFRAME_NS: dict[str, int] = {
    "1Sec": 1_000_000_000,
    "1Min": 60_000_000_000,
    "5Min": 300_000_000_000,
    "15Min": 900_000_000_000,
    "1Hour": 3_600_000_000_000,
    "1Day": 86_400_000_000_000,
}
PRICE_FIELDS = ("open", "high", "low", "close")
BAR_FIELDS = (*PRICE_FIELDS, "volume")
FACTOR_FIELDS = ("split_factor", "return_factor")


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars of S instruments over T rows.

    timeframe: one of TIMEFRAME_NS. instrument_ids: S strings, strictly ascending. timestamp: (T,) int64 UTC ns, bar start, strictly
    ascending. known_at: (T,) int64 UTC ns, when the row may first be used. session: (T,) int64, the exchange session date as days since
    1970-01-01. fields: name -> C-contiguous float64 (T, S); cells of an absent bar are NaN. present: bool (T, S), the bar exists.
    member: bool (T, S), the instrument belongs to the point-in-time universe.
    """

    timeframe: str
    instrument_ids: tuple[str, ...]
    timestamp: NDArray[np.int64]
    known_at: NDArray[np.int64]
    session: NDArray[np.int64]
    fields: Mapping[str, NDArray[np.float64]]
    present: NDArray[np.bool_]
    member: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """(T, S)."""
        return self.present.shape[0], self.present.shape[1]

    def rows(self, start: int, stop: int) -> Panel:
        """Rows start..stop-1 as a view (no copy)."""
        cut = slice(start, stop)
        return replace(
            self,
            timestamp=self.timestamp[cut],
            known_at=self.known_at[cut],
            session=self.session[cut],
            fields={name: values[cut] for name, values in self.fields.items()},
            present=self.present[cut],
            member=self.member[cut],
        )

    def check(self, where: str = "panel", known_ids: tuple[str, ...] = ()) -> Panel:
        """Return self if every promise of the class holds; otherwise raise InputError naming the first broken one.

        known_ids: an axis that was found ascending before; the same tuple is not looked through again in every live row.

        Infinite values and columns without a single number pass: the program makes the first undefined and counts them, the second stay
        undefined. Which fields must be there is the reader's to say.
        """
        if self.timeframe not in TIMEFRAME_NS:
            raise InputError(f"unknown timeframe {self.timeframe!r}", where, f"use one of {', '.join(TIMEFRAME_NS)}")
        for name, flags in (("present", self.present), ("member", self.member)):
            _check_array(name, flags, np.dtype(np.bool_), self.present.shape if self.present.ndim == 2 else ("T", "S"), where)
        rows, width = self.shape
        if len(self.instrument_ids) != width:
            raise InputError(f"{len(self.instrument_ids)} instrument ids for {width} columns", where, "give one id per column")
        if self.instrument_ids is not known_ids and any(map(ge, self.instrument_ids, self.instrument_ids[1:])):
            a, b = next((a, b) for a, b in pairwise(self.instrument_ids) if a >= b)
            fix = "sort the columns by instrument id and drop duplicates"
            raise InputError(f"instrument ids are not strictly ascending: {b!r} comes after {a!r}", where, fix)
        for name, axis in (("timestamp", self.timestamp), ("known_at", self.known_at), ("session", self.session)):
            _check_array(name, axis, np.dtype(np.int64), (rows,), where)
        for name, values in self.fields.items():
            _check_array(f"field {name}", values, np.dtype(np.float64), (rows, width), where)
        early = self.known_at <= self.timestamp
        if early.any():
            row = int(np.argmax(early))
            what = f"row {row}, a bar from {_instant(self.timestamp[row])}, is known at {_instant(self.known_at[row])}"
            raise InputError(what, where, "known_at is the bar's end, or the session's close and the vendor's delay")
        if rows > 1:
            self._check_order(where)
        return self

    def _check_order(self, where: str) -> None:
        """Rows ascend in time, and no two of them lie within one bar of the timeframe."""
        _check_ascending("timestamp", self.timestamp, 1, where)
        _check_ascending("session", self.session, 0, where)
        if self.timeframe == "1Day":
            within = self.session[1:] == self.session[:-1]
        else:
            within = self.timestamp[1:] - self.timestamp[:-1] < TIMEFRAME_NS[self.timeframe]
        if within.any():
            row = int(np.argmax(within)) + 1
            what = f"rows {row - 1} and {row} lie within one {self.timeframe} bar ({_instant(self.timestamp[row])})"
            raise InputError(what, where, "bars of several timeframes are mixed: make one panel per timeframe")
        _check_ascending("known_at", self.known_at, 1, where)


def _check_ascending(name: str, axis: NDArray[np.int64], least: int, where: str) -> None:
    """Refuse a time axis with a step smaller than `least`."""
    wrong = axis[1:] - axis[:-1] < least
    if wrong.any():
        row = int(np.argmax(wrong)) + 1
        order = "is in the row before, too" if axis[row] == axis[row - 1] else f"comes after {_instant(axis[row - 1])}"
        what = f"{name} is not ascending: at row {row}, {_instant(axis[row])} {order}"
        raise InputError(what, where, "sort the rows by timestamp and drop duplicates")


def _check_array(name: str, values: NDArray[Any], dtype: np.dtype[Any], shape: tuple[int | str, ...], where: str) -> None:
    """Refuse an array of another type, shape or layout: the kernels read C-contiguous memory."""
    if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != shape:
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
        raise InputError(f"{name} is {found}, expected {dtype} {shape}", where, "build the panel with market_data.panel")
    if not values.flags.c_contiguous:
        raise InputError(f"{name} is not C-contiguous", where, "copy it with numpy.ascontiguousarray: one row after another in memory")


def _instant(value: np.int64) -> str:
    """UTC ns, or a session day, as people read it."""
    return f"{np.datetime64(int(value), 'ns')}Z" if abs(int(value)) > 10**9 else str(np.datetime64(int(value), "D"))
