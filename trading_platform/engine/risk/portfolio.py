"""Checks of the whole portfolio after the order, in the worst case (T13). Each returns (limit, value, allowed); fractions of equity."""

from __future__ import annotations

from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.engine.risk.position import fraction


@njit(cache=True, nogil=True)
def gross_exposure(gross: float, equity: float, maximum: float) -> tuple[float, float, bool]:
    """GROSS_EXPOSURE: the sum of |position value|."""
    value = fraction(gross, equity)
    return maximum, value, value <= maximum


@njit(cache=True, nogil=True)
def short_exposure(short: float, gross: float, opens_short: bool, shortable: bool, maximum: float) -> tuple[float, float, bool]:
    """SHORT_EXPOSURE: short value as a share of gross; an instrument that cannot be borrowed is never sold short."""
    value = short / gross if gross > 0.0 else 0.0
    return maximum, value, value <= maximum and (shortable or not opens_short)


@njit(cache=True, nogil=True)
def max_positions(count: int, maximum: int) -> tuple[float, float, bool]:
    """MAX_POSITIONS: instruments held or possibly held."""
    return float(maximum), float(count), count <= maximum


@njit(cache=True, nogil=True)
def sector_exposure(sector_gross: float, equity: float, maximum: float) -> tuple[float, float, bool]:
    """SECTOR_EXPOSURE: gross value of one sector; unknown sectors count as one."""
    value = fraction(sector_gross, equity)
    return maximum, value, value <= maximum


@njit(cache=True, nogil=True)
def leverage(gross: float, equity: float, maximum: float) -> tuple[float, float, bool]:
    """LEVERAGE: gross value over equity against the account's leverage, whatever the strategy's own gross limit says."""
    value = fraction(gross, equity)
    return maximum, value, value <= maximum


@njit(cache=True, nogil=True)
def naked_limit(naked: float, equity: float, maximum: float) -> tuple[float, float, bool]:
    """NAKED_LIMIT (T16): value the venue does not cover with a stop now."""
    value = fraction(naked, equity)
    return maximum, value, value <= maximum
