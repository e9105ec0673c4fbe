"""Barrier labels against numbers worked out on paper, a slow textbook loop, and the matcher that fills the orders."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from panels import panel_of, random_closes

from trading_platform.contracts.panel import Panel
from trading_platform.matching.bar import LIMIT, STOP, match_instrument
from trading_platform.matching.price import attainable_price
from trading_platform.research import barriers
from trading_platform.research.barriers import (
    EXPIRED,
    LEFT,
    NOTHING,
    REACHED,
    SETTLED,
    STOPPED,
    Plan,
    Prices,
    limit_price,
    stop_price,
    walk,
)
from trading_platform.research.label_rules import MetaLabel, TripleBarrier
from trading_platform.research.labels import NEVER, make


def prices_of(bars: list[tuple[float, float, float, float]], tick: float = 0.01) -> Prices:
    """One name; bars of open, high, low, reference."""
    open_, high, low, reference = (np.array(column)[:, np.newaxis] for column in zip(*bars, strict=True))
    count = len(bars)
    return Prices(open_, high, low, reference, np.full((count, 1), tick), np.array([count - 1]), reference[-1])


def plan_of(
    count: int, until: int, side: int = 1, stop: float = 0.1, target: float = 0.1, trailing: bool = False, leave: tuple = ()
) -> Plan:
    """Entered in row 1, nothing afterwards."""
    sides, leaves = np.zeros((count, 1), np.int8), np.zeros((count, 1), np.bool_)
    sides[0] = side
    leaves[list(leave)] = True
    rows = np.where(np.arange(count) == 0, until, -1)
    return Plan(sides, np.full((count, 1), stop), np.full((count, 1), target), rows, leaves, leaves, trailing)


FLAT = (100.0, 100.0, 100.0, 100.0)


@pytest.mark.parametrize(
    ("said", "bar", "side", "how", "returned"),
    [
        ("the target trades at its level", (101.0, 111.0, 100.0, 105.0), 1, REACHED, 0.10),
        ("touched to the cent is not traded through", (101.0, 110.0, 100.0, 105.0), 1, NOTHING, math.nan),
        ("a cent beyond is", (101.0, 110.01, 100.0, 105.0), 1, REACHED, 0.10),
        ("the stop trades when touched", (99.0, 100.0, 90.0, 95.0), 1, STOPPED, -0.10),
        ("both in one bar: the stop", (100.0, 112.0, 89.0, 100.0), 1, STOPPED, -0.10),
        ("a gap through the stop trades at the open", (85.0, 95.0, 84.0, 90.0), 1, STOPPED, -0.15),
        ("a gap through the target gets the worse of open and reference", (115.0, 116.0, 111.0, 112.0), 1, REACHED, 0.12),
        ("and never less than its limit", (115.0, 116.0, 100.0, 105.0), 1, REACHED, 0.10),
        ("a short's target lies below", (99.0, 100.0, 89.0, 95.0), -1, REACHED, 0.10),
        ("a short's stop lies above", (101.0, 110.0, 100.0, 105.0), -1, STOPPED, -0.10),
        ("a short gapped through its stop pays the open", (120.0, 121.0, 115.0, 118.0), -1, STOPPED, -0.20),
    ],
)
def test_one_bar_on_paper(said: str, bar: tuple, side: int, how: int, returned: float) -> None:
    quiet = (100.0, 101.0, 99.0, math.nan)  # no trade in the last row: what did not end before has no end
    found = walk(prices_of([FLAT, FLAT, bar, quiet]), plan_of(4, 3, side))
    assert found.how[0, 0] == how, said
    np.testing.assert_allclose(found.returned[0, 0], returned, rtol=1e-12, err_msg=said)


def test_the_entry_bar_meets_no_barrier_and_the_horizon_ends_at_the_reference() -> None:
    found = walk(prices_of([FLAT, (100.0, 150.0, 50.0, 100.0), FLAT, (100.0, 104.0, 100.0, 103.0)]), plan_of(4, 3))
    assert (found.how[0, 0], found.row[0, 0]) == (EXPIRED, 3) and found.returned[0, 0] == pytest.approx(0.03)


def test_a_signal_seen_at_a_close_leaves_in_the_next_bar_and_a_stop_comes_before_it() -> None:
    later = (102.0, 103.0, 101.0, 102.5)
    found = walk(prices_of([FLAT, FLAT, FLAT, later, FLAT]), plan_of(5, 4, leave=(2,)))
    assert (found.how[0, 0], found.row[0, 0]) == (LEFT, 3) and found.returned[0, 0] == pytest.approx(0.025)
    stopped = walk(prices_of([FLAT, FLAT, FLAT, (95.0, 96.0, 89.0, 94.0), FLAT]), plan_of(5, 4, leave=(2,)))
    assert stopped.how[0, 0] == STOPPED and stopped.returned[0, 0] == pytest.approx(-0.10)


def test_a_trailing_stop_follows_completed_bars_only() -> None:
    rise = (100.0, 120.0, 100.0, 115.0)  # its low touches 110, the level that its own high will make
    found = walk(prices_of([FLAT, FLAT, rise, (115.0, 116.0, 109.0, 112.0), FLAT]), plan_of(5, 4, target=math.inf, trailing=True))
    assert (found.how[0, 0], found.row[0, 0]) == (STOPPED, 3) and found.returned[0, 0] == pytest.approx(0.10)
    never_lower = walk(
        prices_of([FLAT, FLAT, rise, (115.0, 115.0, 111.0, 112.0), (112.0, 112.0, 110.0, 111.0)]),
        plan_of(5, 4, target=math.inf, trailing=True),
    )
    assert never_lower.how[0, 0] == STOPPED and never_lower.returned[0, 0] == pytest.approx(0.10)


def test_a_name_that_left_settles_and_one_without_its_last_bar_has_no_outcome() -> None:
    gone = prices_of([FLAT, FLAT, FLAT, (math.nan,) * 4, (math.nan,) * 4])._replace(last=np.array([2]), final=np.array([70.0]))
    found = walk(gone, plan_of(5, 4))
    assert (found.how[0, 0], found.row[0, 0]) == (SETTLED, 4) and found.returned[0, 0] == pytest.approx(-0.30)
    silent = prices_of([FLAT, FLAT, FLAT, (math.nan,) * 4])
    assert walk(silent, plan_of(4, 3)).how[0, 0] == NOTHING


def test_stops_and_targets_trade_as_the_matcher_fills_the_same_orders() -> None:
    rng = np.random.default_rng(20)
    costs, out_lots, out_ticks = np.array([0.0, 0.0, 1.0]), np.zeros(1, np.int64), np.zeros(1, np.int64)
    filled = {STOP: 0, LIMIT: 0}
    for _ in range(3000):
        low, high = np.sort(rng.integers(9_500, 10_500, 2))
        open_, vwap = rng.integers(low, high + 1, 2)
        level, side, kind = int(rng.integers(9_500, 10_500)), int(rng.choice([-1, 1])), int(rng.choice([STOP, LIMIT]))
        bar = [open_ / 100.0, high / 100.0, low / 100.0, open_ / 100.0, vwap / 100.0]
        order = [np.array([x], np.int64) for x in (level, level, 1)]
        match_instrument(np.array([-side], np.int8), np.array([kind], np.int8), *order, *bar, 1e6, costs, 100, out_lots, out_ticks)
        if kind == STOP:
            ours = stop_price(side, level / 100.0, *bar[:3], 0.01)
        else:
            ours = limit_price(side, level / 100.0, *bar[:3], attainable_price(*bar), 0.01)
        theirs = out_ticks[0] / 100.0 if out_lots[0] else math.nan
        np.testing.assert_allclose(ours, theirs, atol=1e-9, err_msg=f"{kind} {side} {level} {bar}")
        filled[kind] += math.isfinite(theirs)
    assert min(filled.values()) > 300


def textbook(panel: Panel, rule: TripleBarrier, t: int, s: int) -> tuple[float, float, int]:
    """(value, return, exit row) of one cell as a person would do it: lists, one name, no shared code."""
    f, there = panel.fields, panel.present[:, s]
    close = [f["close"][k, s] * f["return_factor"][k, s] for k in range(t + 1) if there[k]]
    logs = [math.log(b / a) for a, b in pairwise(close)][-rule.volatility_rows :]
    end = t + 1 + rule.horizon
    if len(logs) < rule.volatility_rows or end >= panel.shape[0] or not there[t] or not there[t + 1]:
        return math.nan, math.nan, -1
    mean = sum(logs) / len(logs)
    width = math.sqrt(sum((x - mean) ** 2 for x in logs) / (len(logs) - 1)) * math.sqrt(rule.horizon)

    def paid(k: int) -> float:
        return (f["high"][k, s] + f["low"][k, s] + f["close"][k, s]) / 3.0 * f["return_factor"][k, s]

    entry = paid(t + 1)
    upper, lower = entry * (1 + rule.profit * width), entry * (1 - rule.stop * width)
    for k in range(t + 2, end + 1):
        if not there[k:].any():
            last = max(j for j in range(k) if there[j])
            gone = f["close"][last, s] * f["return_factor"][last, s] * (1.0 + rule.delisting_return)
            return float(gone >= upper) - float(gone <= lower), gone / entry - 1.0, end
        if not there[k]:
            continue
        factor = f["return_factor"][k, s]
        if f["low"][k, s] * factor <= lower:
            return -1.0, min(lower, f["open"][k, s] * factor) / entry - 1.0, k
        if f["open"][k, s] * factor >= upper:
            return 1.0, max(upper, min(paid(k), f["open"][k, s] * factor)) / entry - 1.0, k
        if f["high"][k, s] * factor >= upper + rule.tick * factor:
            return 1.0, upper / entry - 1.0, k
    return (0.0, paid(end) / entry - 1.0, end) if there[end] else (math.nan, math.nan, -1)


def real_bars(seed: int, count: int = 120, width: int = 6, holes: float = 0.0) -> Panel:
    """Synthetic bars with ranges, gaps and a dividend; a share of them missing, the second name gone after three quarters."""
    rng = np.random.default_rng(seed)
    close = random_closes(rng, count, width)
    close[rng.random(close.shape) < holes] = np.nan
    close[count * 3 // 4 if holes else count :, 1] = np.nan
    open_ = close * np.exp(rng.normal(0.0, 0.01, close.shape))
    top = np.maximum(open_, close) * np.exp(rng.uniform(0.0, 0.015, close.shape))
    bottom = np.minimum(open_, close) * np.exp(-rng.uniform(0.0, 0.015, close.shape))
    factor = np.where(np.isfinite(close), np.where(np.arange(count)[:, np.newaxis] >= count // 2, 1.02, 1.0), np.nan)
    return panel_of(close, open=open_, high=top, low=bottom, return_factor=factor)


@pytest.mark.parametrize("holes", [0.0, 0.1])
def test_a_triple_barrier_is_the_textbooks(holes: float) -> None:
    panel = real_bars(3, holes=holes)
    rule = TripleBarrier(horizon=8, profit=1.2, stop=0.8, volatility_rows=20, delisting_return=-0.2)
    labels = make(panel, rule)
    expected = np.array([[textbook(panel, rule, t, s) for s in range(6)] for t in range(120)])
    np.testing.assert_array_equal(labels.values, expected[:, :, 0])
    np.testing.assert_allclose(labels.raw, expected[:, :, 1], rtol=1e-9)
    np.testing.assert_array_equal(labels.exits, expected[:, :, 2])
    assert {-1.0, 0.0, 1.0} == set(labels.values[np.isfinite(labels.values)])


def test_a_barrier_met_before_the_data_end_does_not_make_a_label_without_its_horizon() -> None:
    close = np.full((30, 1), 100.0) * (1.0 + 0.001 * (np.arange(30) % 2))[:, np.newaxis]
    close[26:] = 50.0  # every walk entered in rows 22..25 is stopped out inside the panel
    labels = make(panel_of(close), TripleBarrier(horizon=6, volatility_rows=10))
    assert labels.values[22, 0] == -1.0 and labels.exits[22, 0] == 26
    assert np.isnan(labels.values[23:]).all() and (labels.t1[23:] == NEVER).all() and (labels.exits[23:] == -1).all()


def test_a_rows_interval_is_that_of_its_latest_cell() -> None:
    panel = real_bars(5)
    labels = make(panel, TripleBarrier(horizon=8, volatility_rows=20))
    rows = np.flatnonzero(np.isfinite(labels.values).any(axis=1))
    ends = np.where(np.isfinite(labels.values), labels.ends, -1)
    np.testing.assert_array_equal(labels.t1[rows], ends[rows].max(axis=1))
    np.testing.assert_array_equal(ends[rows], np.where(labels.exits[rows] >= 0, panel.known_at[labels.exits[rows]], -1))
    assert (ends[rows].min(axis=1) < labels.t1[rows]).any() and (labels.ends[~np.isfinite(labels.values)] == NEVER).all()


def test_a_row_waits_until_it_is_known_that_a_cell_has_no_outcome() -> None:
    close = np.full((30, 3), 100.0) * (1.0 + 0.001 * (np.arange(30) % 2))[:, np.newaxis]
    close[17:, 0] = 50.0  # decided in row 14: stopped out in row 17
    close[21, 1] = np.nan  # met nothing, and has no bar when its horizon ends in row 21
    close[12:16, 2] = np.nan  # never entered
    panel = panel_of(close)
    labels = make(panel, TripleBarrier(horizon=6, profit=3.0, stop=3.0, volatility_rows=10))
    assert labels.exits[14].tolist() == [17, -1, -1] and labels.values[14, 0] == -1.0
    assert labels.t1[14] == panel.known_at[21] and labels.ends[14, 0] == panel.known_at[17]


def test_what_happens_after_a_cells_end_does_not_change_it() -> None:
    rule = TripleBarrier(horizon=8, volatility_rows=20)
    panel = real_bars(6)
    before = make(panel, rule)
    for name in ("open", "high", "low", "close"):
        panel.fields[name][80:] *= 1.7
    after = make(panel, rule)
    ended = (before.exits >= 0) & (before.exits < 80)
    assert ended.any() and (ended & (np.arange(120)[:, np.newaxis] > 72)).any()
    np.testing.assert_array_equal(before.raw[ended], after.raw[ended])
    still = (before.exits >= 80) & (np.arange(120)[:, np.newaxis] < 79)
    assert (before.raw[still] != after.raw[still]).mean() > 0.9


def test_a_meta_label_says_whether_the_side_paid_after_costs() -> None:
    panel, rng = real_bars(7), np.random.default_rng(7)
    side = rng.integers(-1, 2, panel.shape).astype(np.int8)
    free, dear = (make(panel, MetaLabel(horizon=8, volatility_rows=20, cost_bps=cost), side=side) for cost in (0.0, 150.0))
    spoke = np.isfinite(free.values)
    assert (side[spoke] != 0).all() and spoke.sum() > 300
    np.testing.assert_array_equal(free.values[spoke], free.raw[spoke] > 0.0)
    np.testing.assert_array_equal(dear.values[spoke], free.raw[spoke] > 0.015)
    far = MetaLabel(horizon=8, volatility_rows=20, profit=50.0, stop=50.0)
    np.testing.assert_allclose(make(panel, far, side=side).raw, -make(panel, far, side=-side).raw)


def test_a_delisted_name_takes_the_barrier_it_settles_beyond() -> None:
    close = np.full((30, 2), 100.0) * (1.0 + 0.001 * (np.arange(30) % 2))[:, np.newaxis]
    close[20:, 1] = np.nan
    labels = make(panel_of(close), TripleBarrier(horizon=6, volatility_rows=10, delisting_return=-0.3))
    assert labels.values[17, 1] == -1.0 and labels.raw[17, 1] == pytest.approx(-0.3, abs=0.01)
    assert make(panel_of(close), TripleBarrier(horizon=6, volatility_rows=10)).values[17, 1] == 0.0
    assert np.isnan(labels.values[19:, 1]).all() and barriers.SETTLED == 5
