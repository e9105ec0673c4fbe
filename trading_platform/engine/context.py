"""What a row's decision reads besides bars and signals: quotes, times of the session, the account's flags. Given by the caller.

`quotes_from_bars` makes quotes from bars alone; backtests and sessions against the simulator use it, so both give the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import TIMEFRAME_NS, Panel
from trading_platform.engine.rows import SECTORS

ADV_ROWS = 20


@dataclass(frozen=True, slots=True)
class RowContext:
    """Context of one row over S instruments.

    quote_mid: f8 (S,), NaN for none. quote_age_s: f8 (S,) seconds between the quote's own time and the row's known_at (never a wall clock
    reading), NaN for none. session_open_ns, session_close_ns: of the row's session; next_open_ns: of the next one, UTC ns. kill_level: the
    latched level (contracts.checks.KillLevel). model_age_sessions: sessions since the bundle's last training row. trading_blocked: the
    venue's flag. sector: i8 (S,), codes 0..63, -1 unknown. adv_lots: f8 (S,) average lots per session, NaN unknown (no entry).
    """

    quote_mid: NDArray[np.float64]
    quote_age_s: NDArray[np.float64]
    session_open_ns: int
    session_close_ns: int
    next_open_ns: int
    sector: NDArray[np.int64]
    adv_lots: NDArray[np.float64]
    kill_level: int = 0
    model_age_sessions: int = 0
    trading_blocked: bool = False

    def check(self, width: int) -> RowContext:
        """Return self if shapes and codes fit S = width, otherwise raise InputError."""
        for name in ("quote_mid", "quote_age_s", "sector", "adv_lots"):
            if getattr(self, name).shape != (width,):
                raise InputError(f"{name} has shape {getattr(self, name).shape}", "RowContext", f"give {width} values")
        check_sectors(self.sector)
        return self


def check_sectors(sector: NDArray[np.int64]) -> None:
    """InputError unless every code is -1 (unknown) or 0..63."""
    if sector.dtype != np.int64 or (len(sector) and (sector.min() < -1 or sector.max() >= SECTORS)):
        raise InputError(f"sector codes are {sector.dtype}, {sector}", "engine.context", f"use int64 codes -1..{SECTORS - 1}")


def quotes_from_bars(panel: Panel, session_close_ns: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(mid, age in seconds), float64 (T, S): the close of each bar that is there, stamped with the bar's end; NaN where it is not.

    A session bar (1Day) ends at its session's close. Age is counted to the row's known_at.
    """
    end = session_close_ns if panel.timeframe == "1Day" else panel.timestamp + TIMEFRAME_NS[panel.timeframe]
    age = (panel.known_at - end) / 1e9
    mid = np.where(panel.present, panel.fields["close"], np.nan)
    return mid, np.where(panel.present, age[:, None], np.nan)


@njit(cache=True, nogil=True)
def _average_volume(
    volume: np.ndarray, scale: np.ndarray, present: np.ndarray, lots_per_unit: np.ndarray, rows: int, out: np.ndarray
) -> None:
    """The newest `rows` volumes of a column lie in order at window[first:last]; summed oldest first, so bits depend on nothing older."""
    window = np.empty(volume.shape[0])
    for s in range(volume.shape[1]):
        first = last = 0
        factor, mean = 1.0, np.nan
        for t in range(volume.shape[0]):
            if present[t, s] and math.isfinite(volume[t, s]):
                factor = scale[t, s]
                window[last] = volume[t, s] / factor
                last += 1
                first = max(first, last - rows)
                total = 0.0
                for k in range(first, last):
                    total += window[k]
                mean = total / (last - first)
            out[t, s] = mean * factor * lots_per_unit[s]


def average_volume_lots(panel: Panel, lots_per_unit: NDArray[np.int64], rows: int = ADV_ROWS) -> NDArray[np.float64]:
    """Mean volume of the last `rows` present bars in lots of today's shares, float64 (T, S); NaN before the first bar. Causal.

    Per bar of the panel's timeframe: an intraday caller gives its own daily average, or multiplies by the bars of a session.
    """
    scale = panel.fields.get("split_factor")
    out = np.empty(panel.shape)
    _average_volume(panel.fields["volume"], np.ones(panel.shape) if scale is None else scale, panel.present, lots_per_unit, rows, out)
    return out


def row_hash(panel_row: Panel, context: RowContext) -> str:
    """Content hash of everything a row's decision reads from outside: the bars (T = 1) and the context. All NaNs are one NaN."""

    def plain(values: NDArray[Any]) -> NDArray[Any]:
        return np.where(np.isnan(values), np.nan, values) if values.dtype.kind == "f" else values

    return content_hash(
        {
            "timeframe": panel_row.timeframe,
            "instrument_ids": list(panel_row.instrument_ids),
            "timestamp": panel_row.timestamp,
            "known_at": panel_row.known_at,
            "session": panel_row.session,
            "fields": {name: plain(values) for name, values in panel_row.fields.items()},
            "present": panel_row.present,
            "member": panel_row.member,
            "context": {
                name: plain(value) if isinstance(value, np.ndarray) else value
                for name, value in ((field, getattr(context, field)) for field in RowContext.__dataclass_fields__)
            },
        }
    )
