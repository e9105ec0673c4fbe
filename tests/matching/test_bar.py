"""Matching against one bar (T7): hand-made cases, and properties against an independent, slow reading of the same rules."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.matching.bar import LIMIT, MARKET, STOP, match_instrument
from trading_platform.matching.price import attainable_price, attainable_prices

FREE = (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Order:
    side: int
    kind: int
    lots: int
    limit: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Bar:
    open: float
    high: float
    low: float
    close: float
    volume: float = 1_000_000.0
    vwap: float = math.nan


def match(orders: list[Order], bar: Bar, costs: tuple[float, float, float] = FREE) -> list[tuple[int, int]]:
    columns = [np.array([getattr(order, name) for order in orders], dtype) for name, dtype in (("side", np.int8), ("kind", np.int8))]
    columns += [np.array([getattr(order, name) for order in orders], np.int64) for name in ("limit", "stop", "lots")]
    lots, ticks = np.empty(len(orders), np.int64), np.empty(len(orders), np.int64)
    price = (bar.open, bar.high, bar.low, bar.close, bar.vwap, bar.volume)
    match_instrument(*columns, *price, np.array(costs), 100, lots, ticks)
    return list(zip(lots.tolist(), ticks.tolist(), strict=True))


def test_the_stop_trades_before_the_target_when_one_bar_reaches_both() -> None:
    # a long of 100: stop at 95.00, target at 105.00, and a volume that allows 100 lots in all
    stop, target = Order(-1, STOP, 100, stop=9_500), Order(-1, LIMIT, 100, limit=10_500)
    bar = Bar(100.0, 106.0, 94.0, 100.0, volume=100.0)
    assert match([target, stop], bar) == [(0, 0), (100, 9_500)]


def test_a_gap_through_a_stop_fills_at_the_open() -> None:
    assert match([Order(-1, STOP, 10, stop=9_500)], Bar(90.0, 91.0, 89.0, 90.5)) == [(10, 9_000)]
    assert match([Order(1, STOP, 10, stop=10_500)], Bar(110.0, 111.0, 109.0, 110.0)) == [(10, 11_000)]


def test_a_touched_stop_fills_at_its_price_and_an_untouched_one_does_not() -> None:
    assert match([Order(-1, STOP, 10, stop=9_500)], Bar(100.0, 101.0, 95.0, 99.0)) == [(10, 9_500)]
    assert match([Order(-1, STOP, 10, stop=9_500)], Bar(100.0, 101.0, 95.01, 99.0)) == [(0, 0)]


def test_a_passive_limit_needs_the_bar_to_trade_through_it() -> None:
    touched, through = Bar(100.0, 101.0, 99.0, 100.0), Bar(100.0, 101.0, 98.99, 100.0)
    assert match([Order(1, LIMIT, 10, limit=9_900)], touched) == [(0, 0)]
    assert match([Order(1, LIMIT, 10, limit=9_900)], through) == [(10, 9_900)]
    assert match([Order(-1, LIMIT, 10, limit=10_100)], touched) == [(0, 0)]
    assert match([Order(-1, LIMIT, 10, limit=10_100)], Bar(100.0, 101.01, 99.0, 100.0)) == [(10, 10_100)]


def test_a_marketable_limit_pays_the_price_and_its_costs_rounded_against_it() -> None:
    bar = Bar(100.0, 101.0, 99.0, 100.0, volume=400.0, vwap=100.003)
    # half spread 2 bps + 10 bps x sqrt(100 / 400) = 7 bps: 100.003 x 1.0007 = 100.0730...; a buy rounds up, a sell down
    assert match([Order(1, LIMIT, 100, limit=10_100)], bar, (2.0, 10.0, 1.0)) == [(100, 10_008)]
    assert match([Order(-1, LIMIT, 100, limit=9_900)], bar, (2.0, 10.0, 1.0)) == [(100, 9_993)]


def test_a_marketable_limit_never_gets_a_better_price_than_the_open() -> None:
    falls, rises = Bar(100.0, 100.0, 94.0, 94.0), Bar(100.0, 106.0, 100.0, 106.0)
    assert match([Order(1, LIMIT, 10, limit=10_050)], falls) == [(10, 10_000)]
    assert match([Order(1, LIMIT, 10, limit=10_050)], rises) == [(10, 10_050)]
    assert match([Order(-1, LIMIT, 10, limit=9_950)], rises) == [(10, 10_000)]
    assert match([Order(-1, LIMIT, 10, limit=9_950)], falls) == [(10, 9_950)]


def test_an_order_that_rests_at_the_open_trades_at_its_limit_and_not_below() -> None:
    assert match([Order(1, LIMIT, 10, limit=9_900)], Bar(100.0, 100.0, 90.0, 90.0)) == [(10, 9_900)]


def test_limit_orders_of_a_coin_earn_nothing_on_bars_without_drift() -> None:
    rng = np.random.default_rng(11)
    gains = []
    for _ in range(4_000):
        path = 100.0 * np.exp(np.cumsum(rng.standard_normal(60) * 0.0025))
        bar = Bar(*(round(float(v), 2) for v in (path[0], path.max(), path.min(), path[-1])))
        for side in (1, -1):
            ((lots, ticks),) = match([Order(side, LIMIT, 1, limit=10_000 + 5 * side)], bar)
            gains.append(side * (bar.close * 100 - ticks) * lots)
    assert np.mean(gains) < 3.0 * np.std(gains) / math.sqrt(len(gains))


def test_fills_share_the_participation_cap_in_order_of_arrival() -> None:
    bar = Bar(100.0, 101.0, 99.0, 100.0, volume=1_000.0)
    orders = [Order(1, MARKET, 30), Order(1, LIMIT, 30, limit=10_500), Order(-1, MARKET, 30)]
    assert [lots for lots, _ in match(orders, bar, (0.0, 0.0, 0.05))] == [30, 20, 0]


def test_a_bar_without_volume_fills_only_stops_and_one_without_prices_nothing() -> None:
    orders = [Order(1, MARKET, 10), Order(-1, STOP, 10, stop=9_950)]
    assert [lots for lots, _ in match(orders, Bar(99.0, 100.0, 98.0, 99.0, volume=0.0))] == [0, 10]
    assert match(orders, Bar(math.nan, math.nan, math.nan, math.nan)) == [(0, 0), (0, 0)]


def slow_match(orders: list[Order], bar: Bar, costs: tuple[float, float, float]) -> list[tuple[int, int]]:
    """The rules of T7 once more, in exact arithmetic and written apart."""
    cents = {name: Fraction(round(getattr(bar, name) * 100)) for name in ("open", "high", "low", "close")}
    taken: dict[int, tuple[int, int]] = {}
    room = math.floor(Fraction(costs[2]).limit_denominator(1000) * Fraction(bar.volume))

    def paid(cent: Fraction, side: int, lots: int) -> int:
        share = min(lots / bar.volume, 1.0) if bar.volume else 1.0
        exact = float(cent) * (1.0 + side * (costs[0] + costs[1] * math.sqrt(share)) / 1e4)
        nearest = round(exact)
        if abs(exact - nearest) < 1e-6:
            return max(nearest, 1)
        return max(math.ceil(exact) if side > 0 else math.floor(exact), 1)

    for n, order in enumerate(orders):
        if order.kind == STOP:
            hit = cents["low"] <= order.stop if order.side < 0 else cents["high"] >= order.stop
            base = min(cents["open"], Fraction(order.stop)) if order.side < 0 else max(cents["open"], Fraction(order.stop))
            taken[n] = (order.lots, paid(base, order.side, order.lots)) if hit else (0, 0)
            room -= taken[n][0]
    for n, order in enumerate(orders):
        if order.kind == STOP:
            continue
        lots = max(min(order.lots, room), 0)
        typical = (cents["high"] + cents["low"] + cents["close"]) / 3
        price = paid(typical, order.side, max(lots, 1))
        if order.kind == LIMIT and (paid(cents["open"], order.side, max(lots, 1)) - order.limit) * order.side > 0:
            crossed = cents["low"] <= order.limit - 1 if order.side > 0 else cents["high"] >= order.limit + 1
            price = order.limit if crossed else 0
        elif order.kind == LIMIT:
            worse = max(typical, cents["open"]) if order.side > 0 else min(typical, cents["open"])
            price = min(paid(worse, order.side, max(lots, 1)) * order.side, order.limit * order.side) * order.side
        taken[n] = (lots, price) if lots and price else (0, 0)
        room -= taken[n][0]
    return [taken[n] for n in range(len(orders))]


bars = st.builds(
    lambda low, span, at_open, at_close, volume: Bar(
        (low + at_open % (span + 1)) / 100, (low + span) / 100, low / 100, (low + at_close % (span + 1)) / 100, float(volume)
    ),
    st.integers(9_000, 10_500),
    st.integers(0, 600),
    st.integers(0, 600),
    st.integers(0, 600),
    st.integers(0, 5_000),
)
orders = st.lists(
    st.builds(
        Order,
        st.sampled_from([1, -1]),
        st.sampled_from([LIMIT, MARKET, STOP]),
        st.integers(1, 300),
        st.integers(9_000, 11_000),
        st.integers(9_000, 11_000),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=400, deadline=None)
@given(orders, bars, st.sampled_from([FREE, (2.0, 10.0, 0.05), (5.0, 0.0, 0.2)]))
def test_matching_equals_the_slow_reading_of_the_rules(book: list[Order], bar: Bar, costs: tuple[float, float, float]) -> None:
    assert match(book, bar, costs) == slow_match(book, bar, costs)


@settings(max_examples=300, deadline=None)
@given(orders, bars)
def test_no_fill_is_better_than_its_limit_or_larger_than_asked(book: list[Order], bar: Bar) -> None:
    fills = match(book, bar, (2.0, 10.0, 0.05))
    for order, (lots, ticks) in zip(book, fills, strict=True):
        assert 0 <= lots <= order.lots
        if lots and order.kind == LIMIT:
            assert (order.limit - ticks) * order.side >= 0
    others = sum(lots for order, (lots, _) in zip(book, fills, strict=True) if order.kind != STOP)
    assert others <= bar.volume * 0.05


def test_labels_and_fills_read_one_price() -> None:
    fields = {name: np.array([[v, np.nan]]) for name, v in (("open", 1.0), ("high", 4.0), ("low", 1.0), ("close", 2.5), ("volume", 9.0))}
    one = np.array([1], np.int64)
    panel = Panel("1Day", ("us:A", "us:B"), one, one, one, fields, np.array([[True, False]]), np.ones((1, 2), np.bool_))
    assert attainable_prices(panel)[0, 0] == attainable_price(1.0, 4.0, 1.0, 2.5, math.nan) == 2.5
    assert math.isnan(attainable_prices(panel)[0, 1])
    assert attainable_price(1.0, 4.0, 1.0, 2.5, 3.1) == 3.1
    with pytest.raises(InputError, match="has no field high"):
        attainable_prices(Panel("1Day", ("us:A",), one, one, one, {"open": np.ones((1, 1))}, np.ones((1, 1), bool), np.ones((1, 1), bool)))
