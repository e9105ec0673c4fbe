"""Matching of one instrument's open orders against one bar, shared by the backtest and the simulator (T7). Arrays in, arrays out.

The bar does not say in which order its prices came, so what is unknown goes against the order: protective stops trade first, a gap
through a stop trades at the open, a resting limit trades only where the bar went through it by a tick, and prices round against the taker.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.matching.price import attainable_price

LIMIT = 0
MARKET = 1
STOP = 2
GRID_NOISE = 1e-6  # of a tick: binary noise of a decimal price


@njit(cache=True, nogil=True)
def taker_ticks(price: float, side: int, ticks_per_unit: int) -> int:
    """Ticks of a price paid by a taker: a buy (+1) rounds up, a sell (-1) down, never below one tick."""
    exact = price * ticks_per_unit
    nearest = math.floor(exact + 0.5)
    if abs(exact - nearest) < GRID_NOISE:
        return max(nearest, 1)
    return max(math.ceil(exact) if side > 0 else math.floor(exact), 1)


@njit(cache=True, nogil=True)
def taken_price(price: float, side: int, lots: int, volume_lots: float, half_spread_bps: float, impact_bps: float) -> float:
    """Price after half the spread and square-root impact, impact_bps x sqrt(share of the bar's volume), the share at most 1."""
    share = 1.0 if volume_lots < lots else lots / volume_lots
    return price * (1.0 + side * (half_spread_bps + impact_bps * math.sqrt(share)) * 1e-4)


@njit(cache=True, nogil=True)
def _stop_ticks(
    side: int, stop: int, lots: int, open_: float, high: float, low: float, volume_lots: float, costs: np.ndarray, tpu: int
) -> int:
    """Fill price of a stop in ticks, 0 if the bar did not reach it."""
    reached = low * tpu <= stop + GRID_NOISE if side < 0 else high * tpu >= stop - GRID_NOISE
    if not reached:
        return 0
    beyond = open_ * tpu < stop if side < 0 else open_ * tpu > stop
    base = open_ if beyond else stop / tpu
    return taker_ticks(taken_price(base, side, lots, volume_lots, costs[0], costs[1]), side, tpu)


@njit(cache=True, nogil=True)
def _limit_ticks(
    side: int, limit: int, lots: int, open_: float, high: float, low: float, reference: float, volume: float, costs: np.ndarray, tpu: int
) -> int:
    """Fill price of a limit order in ticks, 0 for none.

    The open decides. Marketable there: the worse of the open and the bar's attainable price, with costs, and never beyond the limit. Not
    marketable: it rests, and trades at its limit if the bar goes through it. Taking the attainable price wherever the limit allows it would
    be an option for nothing: cheap on bars that fall, at the limit on bars that rise.
    """
    at_open = taker_ticks(taken_price(open_, side, lots, volume, costs[0], costs[1]), side, tpu)
    if (at_open - limit) * side > 0:
        through = low * tpu <= limit - 1 + GRID_NOISE if side > 0 else high * tpu >= limit + 1 - GRID_NOISE
        return limit if through else 0
    worse = max(open_, reference) if side > 0 else min(open_, reference)
    taken = taker_ticks(taken_price(worse, side, lots, volume, costs[0], costs[1]), side, tpu)
    return min(taken, limit) if side > 0 else max(taken, limit)


@njit(cache=True, nogil=True)
def match_instrument(
    side: np.ndarray,
    kind: np.ndarray,
    limit_ticks: np.ndarray,
    stop_ticks: np.ndarray,
    lots: np.ndarray,
    open_: float,
    high: float,
    low: float,
    close: float,
    vwap: float,
    volume_lots: float,
    costs: np.ndarray,
    ticks_per_unit: int,
    out_lots: np.ndarray,
    out_ticks: np.ndarray,
) -> None:
    """Fill N open orders of one instrument against one bar; orders come in the sequence in which the venue would serve them.

    side: int8 (N,), +1 buy, -1 sell. kind: int8 (N,), LIMIT, MARKET or STOP. limit_ticks, stop_ticks: int64 (N,). lots: int64 (N,), what is
    left of each order. Prices in quote currency, volume_lots in lots. costs: float64 (3,) = half_spread_bps, impact_bps, participation.
    out_lots, out_ticks: int64 (N,), written: lots filled (0 for none) and their price.

    Stops are served before all others and are always filled whole; the fills of the others together stay within
    floor(participation x volume) less what stops took. A bar without finite prices fills nothing.
    """
    out_lots[:] = 0
    out_ticks[:] = 0
    reference = attainable_price(open_, high, low, close, vwap)
    if not (math.isfinite(reference) and math.isfinite(open_) and math.isfinite(high) and math.isfinite(low)):
        return
    volume = volume_lots if math.isfinite(volume_lots) and volume_lots > 0.0 else 0.0
    capacity = math.floor(costs[2] * volume + 1e-9)
    for n in range(len(side)):
        if kind[n] == STOP and lots[n] > 0:
            ticks = _stop_ticks(side[n], stop_ticks[n], lots[n], open_, high, low, volume, costs, ticks_per_unit)
            if ticks > 0:
                out_lots[n] = lots[n]
                out_ticks[n] = ticks
                capacity -= lots[n]
    for n in range(len(side)):
        if kind[n] == STOP or lots[n] <= 0:
            continue
        filled = min(lots[n], capacity)
        if filled <= 0:
            continue
        if kind[n] == LIMIT:
            ticks = _limit_ticks(side[n], limit_ticks[n], filled, open_, high, low, reference, volume, costs, ticks_per_unit)
        else:
            ticks = taker_ticks(taken_price(reference, side[n], filled, volume, costs[0], costs[1]), side[n], ticks_per_unit)
        if ticks > 0:
            out_lots[n] = filled
            out_ticks[n] = ticks
            capacity -= filled
