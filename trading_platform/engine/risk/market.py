"""Checks of the market's state: quotes, coverage, time of the session. Each returns (limit, value, allowed)."""

from __future__ import annotations

import math

from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)

NO_QUOTE_AGE = 1e9  # seconds reported where there is no quote at all


@njit(cache=True, nogil=True)
def stale_quote(mid: float, age_s: float, maximum: float) -> tuple[float, float, bool]:
    """STALE_QUOTE (T9): no fresh quote, no new risk."""
    value = age_s if math.isfinite(mid) and mid > 0.0 and math.isfinite(age_s) else NO_QUOTE_AGE
    return maximum, value, value <= maximum


@njit(cache=True, nogil=True)
def coverage(share: float, minimum: float) -> tuple[float, float, bool]:
    """COVERAGE (T3): share of the members that reported this row."""
    return minimum, share, share >= minimum


@njit(cache=True, nogil=True)
def entry_window(valid_from: int, first: int, last: int) -> tuple[float, float, bool]:
    """ENTRY_WINDOW (T9): an entry becomes valid in [first, last); value and limit in seconds, counted from `first`."""
    return (last - first) * 1e-9, (valid_from - first) * 1e-9, first <= valid_from < last
