"""Which orders trade in a bar, and at what price: the backtest's own matcher, with what a bar still says to who came after its start.

An order that is there when a bar begins trades against the whole bar. One that arrives within the allowance after the start, because a
runner needs its grace and its latency to decide the row before, trades in that bar too, but is given nothing that may have happened before
it came (I4, T7): it pays the worse of the open and the bar's attainable price, and a limit that rests trades only if the bar's end is
beyond it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from live_runner.simulator.orders import VenueOrder
from live_runner.simulator.tape import Bars
from trading_platform.matching.bar import LIMIT, MARKET, STOP, match_instrument
from trading_platform.matching.price import attainable_price

KIND_CODES = {"limit": LIMIT, "market": MARKET, "stop": STOP}
TICKS_PER_UNIT = 100


@dataclass(frozen=True, slots=True)
class _Bar:
    """What an order can trade against. Prices in quote currency, volume in lots."""

    open: float
    high: float
    low: float
    close: float
    vwap: float
    volume: float


@dataclass(frozen=True, slots=True)
class Execution:
    """Lots of an order at a price in ticks."""

    order: VenueOrder
    lots: int
    ticks: int


def executions(queue: list[VenueOrder], bars: Bars, index: int, there_by: int, costs: NDArray[np.float64]) -> list[Execution]:
    """What one symbol's orders, in the sequence in which the venue serves them, trade in its bar.

    there_by: UTC ns; orders created later came after the bar's start. costs: as in matching.bar.
    """
    bar = _Bar(*(float(values[index]) for values in (bars.open, bars.high, bars.low, bars.close, bars.vwap, bars.volume)))
    found = _match([order for order in queue if order.created_at <= there_by], bar, costs)
    capacity = math.floor(costs[2] * bar.volume + 1e-9) - sum(one.lots for one in found)
    for order in queue:
        if order.created_at > there_by:
            share = max(capacity, 0) / bar.volume if bar.volume > 0.0 else 0.0
            late = _match([order], _left_for(order, bar), np.array([costs[0], costs[1], share]))
            capacity -= sum(one.lots for one in late)
            found += late
    return found


def _left_for(order: VenueOrder, bar: _Bar) -> _Bar:
    """The bar as one who came after its start may count on it. A stop sees all of it, which goes against it, and gaps to what was left."""
    reference = float(attainable_price(bar.open, bar.high, bar.low, bar.close, bar.vwap))
    first = max(bar.open, reference) if order.sign > 0 else min(bar.open, reference)
    if order.kind == "stop":
        gap = (bar.open * TICKS_PER_UNIT - order.stop_ticks) * order.sign > 0.0
        return _Bar(first if gap else bar.open, bar.high, bar.low, bar.close, reference, bar.volume)
    return _Bar(first, bar.close, bar.close, bar.close, reference, bar.volume)


def _match(queue: list[VenueOrder], bar: _Bar, costs: NDArray[np.float64]) -> list[Execution]:
    out_lots, out_ticks = np.zeros(len(queue), np.int64), np.zeros(len(queue), np.int64)
    match_instrument(
        np.array([o.sign for o in queue], np.int8),
        np.array([KIND_CODES[o.kind] for o in queue], np.int8),
        np.array([o.limit_ticks for o in queue], np.int64),
        np.array([o.stop_ticks for o in queue], np.int64),
        np.array([o.left for o in queue], np.int64),
        bar.open,
        bar.high,
        bar.low,
        bar.close,
        bar.vwap,
        bar.volume,
        costs,
        TICKS_PER_UNIT,
        out_lots,
        out_ticks,
    )
    return [Execution(o, int(lots), int(ticks)) for o, lots, ticks in zip(queue, out_lots, out_ticks, strict=True) if lots]
