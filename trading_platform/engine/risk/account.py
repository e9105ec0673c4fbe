"""Checks of the account, the kill level and the model's age. Each returns (limit, value, allowed)."""

from __future__ import annotations

from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.engine.risk.position import NO_EQUITY

MAINTENANCE_RATE = 0.30  # of gross value: the house rate of the venue for ordinary shares, the stricter of long 25 % and 30 %


@njit(cache=True, nogil=True)
def kill_switch(level: int) -> tuple[float, float, bool]:
    """KILL_SWITCH (T17): any latched level refuses new risk."""
    return 0.0, float(level), level == 0


@njit(cache=True, nogil=True)
def buying_power(buys: float, cash: float, equity: float, max_leverage: float) -> tuple[float, float, bool]:
    """BUYING_POWER (T13): cost of all open and approved buys against cash plus what the leverage limit lets the account borrow.

    Sales of this row do not count before they have filled.
    """
    limit = max(cash + (max_leverage - 1.0) * max(equity, 0.0), 0.0)
    return limit, buys, buys <= limit


@njit(cache=True, nogil=True)
def maintenance_excess(gross: float, equity: float, minimum: float) -> tuple[float, float, bool]:
    """MAINTENANCE_EXCESS (T13): (equity - requirement) / equity after the order, requirement = MAINTENANCE_RATE x gross."""
    value = 1.0 - MAINTENANCE_RATE * gross / equity if equity > 0.0 else -NO_EQUITY
    return minimum, value, value >= minimum


@njit(cache=True, nogil=True)
def daily_drawdown(equity: float, session_high: float, maximum: float) -> tuple[float, float, bool]:
    """DAILY_DRAWDOWN: loss from the session's highest equity."""
    value = max(1.0 - equity / session_high, 0.0) if session_high > 0.0 else NO_EQUITY
    return maximum, value, value < maximum


@njit(cache=True, nogil=True)
def consecutive_losses(pause_left: int) -> tuple[float, float, bool]:
    """CONSECUTIVE_LOSSES (T19): rows left of the pause that a run of losing round trips began."""
    return 0.0, float(pause_left), pause_left == 0


@njit(cache=True, nogil=True)
def max_trades(orders_after: int, maximum: int) -> tuple[float, float, bool]:
    """MAX_TRADES: orders of this session, this one included."""
    return float(maximum), float(orders_after), orders_after <= maximum


@njit(cache=True, nogil=True)
def model_age(sessions: int, maximum: int) -> tuple[float, float, bool]:
    """MODEL_AGE (T25): sessions since the bundle's last training row."""
    return float(maximum), float(sessions), sessions <= maximum


@njit(cache=True, nogil=True)
def account_flags(trading_blocked: bool) -> tuple[float, float, bool]:
    """ACCOUNT_FLAGS (T13): the venue lets this account open nothing."""
    return 0.0, 1.0 if trading_blocked else 0.0, not trading_blocked
