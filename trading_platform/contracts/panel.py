"""Panel: bars of many instruments on one time axis, as arrays. The only shape in which bars reach features and engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

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

    def check(self, where: str = "panel") -> Panel:
        """Return self if every promise of the class holds; otherwise raise InputError naming the first broken one."""
        if self.timeframe not in TIMEFRAME_NS:
            raise InputError(f"unknown timeframe {self.timeframe!r}", where, f"use one of {', '.join(TIMEFRAME_NS)}")
        rows, width = self.shape
        if len(self.instrument_ids) != width:
            raise InputError(f"{len(self.instrument_ids)} instrument ids for {width} columns", where, "give one id per column")
        if any(a >= b for a, b in zip(self.instrument_ids, self.instrument_ids[1:], strict=False)):
            raise InputError("instrument ids are not strictly ascending", where, "sort the columns by instrument id and drop duplicates")
        for name, axis in (("timestamp", self.timestamp), ("known_at", self.known_at), ("session", self.session)):
            if axis.shape != (rows,) or axis.dtype != np.int64:
                raise InputError(
                    f"{name} is {axis.dtype} {axis.shape}, expected int64 ({rows},)", where, "build the panel with market_data.panel"
                )
        if rows > 1 and not bool(np.all(np.diff(self.timestamp) > 0)):
            bad = int(np.argmax(np.diff(self.timestamp) <= 0)) + 1
            raise InputError(
                f"timestamps are not strictly ascending at row {bad} ({self.timestamp[bad]})",
                where,
                "sort by timestamp and drop duplicates",
            )
        if self.member.shape != (rows, width):
            raise InputError(f"member is {self.member.shape}, expected {(rows, width)}", where, "one flag per cell")
        for name, values in self.fields.items():
            if values.shape != (rows, width) or values.dtype != np.float64:
                raise InputError(
                    f"field {name} is {values.dtype} {values.shape}, expected float64 {(rows, width)}", where, "one array per field"
                )
        return self
