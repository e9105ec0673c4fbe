"""Limit and stop prices on the tick grid, compiled: the same rounding as `contracts.instruments.price_ticks` (a test holds them equal)."""

from __future__ import annotations

import math

from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)

GRID_NOISE = 1e-6  # of a tick


@njit(cache=True, nogil=True)
def price_ticks(price: float, side: int, ticks_per_unit: int) -> int:
    """Ticks of an order's price: buys (+1) round down, sells (-1) up, at least one tick; 0 where the price is not a positive number."""
    if not (math.isfinite(price) and price > 0.0):
        return 0
    exact = price * ticks_per_unit
    nearest = math.floor(exact + 0.5)
    if abs(exact - nearest) < GRID_NOISE:
        return max(nearest, 1)
    return max(math.floor(exact) if side > 0 else math.ceil(exact), 1)


@njit(cache=True, nogil=True)
def catastrophe_stop_ticks(entry_price: float, position: int, atr: float, stop_atr: float, ticks_per_unit: int) -> int:
    """Ticks of the protective stop of a position (T16): entry_price x (1 -+ stop_atr x atr), atr a fraction per bar; 0 = no stop possible.

    A long's stop is a sell and rounds up, a short's rounds down: both toward the entry. A stop below one tick sits at one tick.
    """
    if position == 0 or not (math.isfinite(atr) and atr > 0.0):
        return 0
    if position > 0:
        return max(price_ticks(max(entry_price * (1.0 - stop_atr * atr), 1.0 / ticks_per_unit), -1, ticks_per_unit), 1)
    return price_ticks(entry_price * (1.0 + stop_atr * atr), 1, ticks_per_unit)
