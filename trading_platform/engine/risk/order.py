"""Checks of the order as it would be sent. Each returns (limit, value, allowed)."""

from __future__ import annotations

from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)

NO_REFERENCE = 1e9  # basis points reported where there is no mark


@njit(cache=True, nogil=True)
def order_budget(orders_after: int, maximum: int) -> tuple[float, float, bool]:
    """ORDER_BUDGET (T21): orders of this row, this one included; the rest is planned again at the next row."""
    return float(maximum), float(orders_after), orders_after <= maximum


@njit(cache=True, nogil=True)
def price_collar(price: float, reference: float, collar_bps: float) -> tuple[float, float, bool]:
    """PRICE_COLLAR: distance of the order's price from the last mark, in basis points; without a mark it is denied."""
    value = abs(price / reference - 1.0) * 1e4 if reference > 0.0 else NO_REFERENCE
    return collar_bps, value, value <= collar_bps
