"""The limit planner: when an order may trade and at what price (T9)."""

from __future__ import annotations

import math

from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.engine.price_grid import price_ticks
from trading_platform.engine.rows import Numbers, Row

EXIT_BEFORE_CLOSE_NS = 15 * 60_000_000_000  # T9: a sleeve that must be flat overnight starts to leave 15 minutes before the close
SESSION_NS = 86_400_000_000_000


@njit(cache=True, nogil=True)
def limit_ticks(mid: float, side: int, offset_bps: float, ticks_per_unit: int) -> int:
    """Limit price in ticks: mid x (1 + side x offset), positive offset = through the mid; 0 without a usable mid."""
    return price_ticks(mid * (1.0 + side * offset_bps * 1e-4), side, ticks_per_unit)


@njit(cache=True, nogil=True)
def validity(row: Row, numbers: Numbers) -> tuple[int, int]:
    """(valid_from, expires_at) of this row's orders, UTC ns.

    Session bars: from the next open plus the opening toxic window, until the venue ends the day (0). Intraday: at once, until the timeout.
    """
    if numbers.session_bars:
        return row.next_open + numbers.opening_toxic_ns, 0
    return row.known_at, row.known_at + numbers.order_timeout_ns


@njit(cache=True, nogil=True)
def entry_bounds(row: Row, numbers: Numbers) -> tuple[int, int]:
    """[first, last) in which an entry may become valid: the session less its opening and closing windows; any time for session bars."""
    if numbers.session_bars:
        first = row.next_open + numbers.opening_toxic_ns
        return first, first + SESSION_NS
    return row.session_open + numbers.opening_toxic_ns, row.session_close - numbers.entry_cutoff_ns


@njit(cache=True, nogil=True)
def market_is_over(row: Row, numbers: Numbers) -> bool:
    """An intraday row that closes with the session: nothing sent now could trade in it."""
    return not numbers.session_bars and row.known_at >= row.session_close


@njit(cache=True, nogil=True)
def must_leave(row: Row, numbers: Numbers) -> bool:
    """The sleeve is flat overnight and the session's last minutes have begun."""
    return numbers.flat_at_end_of_day and not numbers.session_bars and row.known_at >= row.session_close - EXIT_BEFORE_CLOSE_NS


@njit(cache=True, nogil=True)
def planning_price(mid: float, mark: float) -> float:
    """The price orders are planned at: the quote's mid, else the last good mark, else NaN."""
    if math.isfinite(mid) and mid > 0.0:
        return mid
    return mark
