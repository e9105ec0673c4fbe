"""From the wish to hold to a fraction of the sleeve's capital: equal risk per name, volatility target, caps."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.engine.rows import Numbers

BELOW = 1.0 - 1e-12  # binary noise must not lift a capped position over its own limit


@njit(cache=True, nogil=True)
def equal_risk(wanted: np.ndarray, volatility: np.ndarray, atr: np.ndarray, numbers: Numbers, exposure: np.ndarray) -> None:
    """Write exposure f8 (S,), fractions of capital: 0 where not wanted, NaN wanted without a volatility or atr.

    wanted: bool (S,). volatility, atr: f8 (S,) fractions per bar. Each of n sized names gets k / volatility, so all carry the same risk.
    k is the largest that keeps the sum within `target_gross` and the volatility within its target with all correlations taken as 1 (no
    diversification is measured yet, so none is counted on). Each name is then cut to `max_position` and to the size whose catastrophe
    stop loses `max_risk_per_trade`; what is cut is not given to others.
    """
    count = 0
    inverse = 0.0
    for s in range(len(wanted)):
        exposure[s] = 0.0
        if wanted[s]:
            if volatility[s] > 0.0 and math.isfinite(volatility[s]) and atr[s] > 0.0 and math.isfinite(atr[s]):
                count += 1
                inverse += 1.0 / volatility[s]
            else:
                exposure[s] = np.nan
    if count == 0:
        return
    k = min(numbers.target_gross / inverse, numbers.volatility_per_row / count)
    for s in range(len(wanted)):
        if wanted[s] and exposure[s] == 0.0:
            share = min(k / volatility[s], numbers.max_position / numbers.capital)
            exposure[s] = min(share, numbers.max_risk_per_trade / (min(numbers.stop_atr * atr[s], 1.0) * numbers.capital))


@njit(cache=True, nogil=True)
def target_lots(exposure: float, capital: float, price: float, lots_per_unit: int) -> int:
    """Lots that `exposure` of `capital` (quote currency) buys at `price`, toward zero; a value equal to a cap stays below it."""
    return int(exposure * capital / price * lots_per_unit * BELOW)


@njit(cache=True, nogil=True)
def inside_band(target: int, position: int, band: float) -> bool:
    """True where moving a held position to its target is dust: the change is below `band` of the target (T21). Exits are never dust."""
    return position != 0 and target != 0 and abs(target - position) < band * abs(target)
