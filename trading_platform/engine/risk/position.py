"""Checks of one instrument's position and orders. Each returns (limit, value, allowed); amounts in quote currency, fractions of equity."""

from __future__ import annotations

from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)

NO_EQUITY = 1e9  # the fraction reported when there is no equity to divide by: over every limit


@njit(cache=True, nogil=True)
def fraction(amount: float, equity: float) -> float:
    """amount / equity, NO_EQUITY for a positive amount on an account without equity."""
    if amount <= 0.0:
        return 0.0
    return amount / equity if equity > 0.0 else NO_EQUITY


@njit(cache=True, nogil=True)
def position_limit(worst_value: float, equity: float, maximum: float) -> tuple[float, float, bool]:
    """POSITION_LIMIT: the position's value with every open order and this one filled, as a fraction of equity."""
    value = fraction(worst_value, equity)
    return maximum, value, value <= maximum


@njit(cache=True, nogil=True)
def per_trade_risk(worst_value: float, atr: float, stop_atr: float, equity: float, maximum: float) -> tuple[float, float, bool]:
    """PER_TRADE_RISK: what the position loses when its catastrophe stop fills at its price. Without an atr there is no stop: all of it."""
    distance = min(stop_atr * atr, 1.0) if atr > 0.0 else 1.0
    value = fraction(worst_value * distance, equity)
    return maximum, value, value <= maximum


@njit(cache=True, nogil=True)
def participation(lots: int, adv_lots: float, maximum: float) -> tuple[float, float, bool]:
    """PARTICIPATION: lots of the order against a share of the average volume; an unknown average allows none."""
    limit = maximum * adv_lots if adv_lots > 0.0 else 0.0
    return limit, float(lots), lots <= limit


@njit(cache=True, nogil=True)
def crosses_zero(lots: int, position: int, working_reductions: int) -> tuple[float, float, bool]:
    """CROSSES_ZERO (T14): a reduction is at most |position| less the reductions that may still fill."""
    limit = float(max(abs(position) - working_reductions, 0))
    return limit, float(lots), lots <= limit


@njit(cache=True, nogil=True)
def unknown_order(unknown: bool) -> tuple[float, float, bool]:
    """UNKNOWN_ORDER (I6): no new risk while nobody can say what became of an order of this instrument."""
    return 0.0, 1.0 if unknown else 0.0, not unknown


@njit(cache=True, nogil=True)
def hands_off(flagged: bool) -> tuple[float, float, bool]:
    """HANDS_OFF (T10, T18): someone else trades it, or it is exit-only."""
    return 0.0, 1.0 if flagged else 0.0, not flagged


@njit(cache=True, nogil=True)
def not_member(member: bool) -> tuple[float, float, bool]:
    """NOT_MEMBER (T3): only members of the point-in-time universe are entered."""
    return 1.0, 1.0 if member else 0.0, member
