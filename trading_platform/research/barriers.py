"""Walks from an entry to the first barrier: stop, target, a signal's exit, the end of the horizon. Arrays in, arrays out.

Entries, exits by signal and exits at the horizon trade at the bar's reference price (`matching.price.attainable_prices`); a stop and a
target trade as `matching.bar` serves a protective stop and a resting limit order of the same prices (a test holds the two together).
The entry bar meets no barrier: at its attainable price one is in only when it ends, as the backtest's stops work from the next bar on.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.matching.bar import GRID_NOISE

Array = NDArray[np.float64]
NOTHING, REACHED, STOPPED, LEFT, EXPIRED, SETTLED = range(6)  # how a walk ended; NOTHING: it has no end in the panel


class Prices(NamedTuple):
    """Prices that a walk sees, all adjusted (raw x return_factor), f8 (T, S), NaN where the bar is absent.

    reference: what somebody who traded through the bar could have paid. tick: one tick on that scale. last i8 (S,): row of each name's
    last bar; behind it a position settles at final f8 (S,).
    """

    open: Array
    high: Array
    low: Array
    reference: Array
    tick: Array
    last: NDArray[np.int64]
    final: Array


class Plan(NamedTuple):
    """What is entered and when it is left, decided in row t, entered in row t + 1.

    side: i1 (T, S), 1 long, -1 short, 0 nothing. stop, target: f8 (T, S), fractions of the entry price, inf for none, NaN where undefined
    (no walk). until: i8 (T,), last row in which the position may be held, -1 where the panel ends before. leave_long, leave_short:
    bool (T, S), the signal seen at a row's end by which a position leaves in the next bar. trailing: the stop follows the best price of
    the completed bars at its first distance.
    """

    side: NDArray[np.int8]
    stop: Array
    target: Array
    until: NDArray[np.int64]
    leave_long: NDArray[np.bool_]
    leave_short: NDArray[np.bool_]
    trailing: bool


class Walks(NamedTuple):
    """How each cell's walk ended.

    how: i1 (T, S), one of NOTHING .. SETTLED. row: i8 (T, S), where it ended; for an entered position without an outcome the row in which
    its horizon had passed, -1 where nothing was entered. returned: f8 (T, S), the fraction of the entry price that the side earned before
    costs, NaN for none.
    """

    how: NDArray[np.int8]
    row: NDArray[np.int64]
    returned: Array


@njit(cache=True, nogil=True)
def stop_price(side: int, level: float, open_: float, high: float, low: float, tick: float) -> float:
    """What a stop at `level` that closes a position of `side` gets in a bar: the level, after a gap the open, NaN for no fill."""
    noise = GRID_NOISE * tick
    reached = low <= level + noise if side > 0 else high >= level - noise
    if not reached:
        return math.nan
    beyond = open_ < level if side > 0 else open_ > level
    return open_ if beyond else level


@njit(cache=True, nogil=True)
def limit_price(side: int, level: float, open_: float, high: float, low: float, reference: float, tick: float) -> float:
    """What a limit order at `level` that closes a position of `side` gets in a bar, NaN for no fill.

    Marketable at the open: the worse of open and reference, never beyond the limit. Otherwise the limit, where the bar goes a tick through.
    """
    if (open_ - level) * side >= 0.0:
        return max(min(open_, reference), level) if side > 0 else min(max(open_, reference), level)
    beyond = tick - GRID_NOISE * tick
    through = high >= level + beyond if side > 0 else low <= level - beyond
    return level if through else math.nan


@njit(cache=True, nogil=True)
def _walk_cell(
    prices: Prices, t: int, s: int, side: int, stop: float, target: float, until: int, leave: np.ndarray, trailing: bool
) -> tuple[int, int, float]:
    """(how, row, price) of one cell; in one bar the stop comes first, then the signal's order, then the target (T7)."""
    entry = prices.reference[t + 1, s]
    level, goal = entry * (1.0 - side * stop), entry * (1.0 + side * target)
    best = prices.high[t + 1, s] if side > 0 else prices.low[t + 1, s]
    leaving = leave[t + 1, s]
    for k in range(t + 2, until + 1):
        if k > prices.last[s]:
            return SETTLED, until, prices.final[s]
        reference = prices.reference[k, s]
        if not math.isfinite(reference):
            continue
        open_, high, low = prices.open[k, s], prices.high[k, s], prices.low[k, s]
        if trailing:
            level = max(level, best - stop * entry) if side > 0 else min(level, best + stop * entry)
            best = max(best, high) if side > 0 else min(best, low)
        price = stop_price(side, level, open_, high, low, prices.tick[k, s])
        if math.isfinite(price):
            return STOPPED, k, price
        if leaving:
            return LEFT, k, reference
        price = limit_price(side, goal, open_, high, low, reference, prices.tick[k, s])
        if math.isfinite(price):
            return REACHED, k, price
        if k == until:
            return EXPIRED, k, reference
        leaving = leave[k, s]
    return NOTHING, until, math.nan


@njit(cache=True, nogil=True)
def _walk(prices: Prices, plan: Plan, how: np.ndarray, row: np.ndarray, returned: np.ndarray) -> None:
    for t in range(how.shape[0]):
        until = plan.until[t]
        if until < t + 2:
            continue
        for s in range(how.shape[1]):
            side = plan.side[t, s]
            entry = prices.reference[t + 1, s]
            stop, target = plan.stop[t, s], plan.target[t, s]
            if side == 0 or not math.isfinite(entry) or math.isnan(stop) or math.isnan(target):
                continue
            leave = plan.leave_long if side > 0 else plan.leave_short
            how[t, s], row[t, s], price = _walk_cell(prices, t, s, side, stop, target, until, leave, plan.trailing)
            returned[t, s] = side * (price / entry - 1.0)


def walk(prices: Prices, plan: Plan) -> Walks:
    """Every planned position from its entry to its end. A name without a bar in the row in which its horizon ends has no outcome."""
    shape = plan.side.shape
    found = Walks(np.zeros(shape, np.int8), np.full(shape, -1, np.int64), np.full(shape, np.nan))
    _walk(prices, plan, *found)
    return found
