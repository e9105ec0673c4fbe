"""Outcomes of the two strategies (MODL-15): who enters, how each trade ends, against loops over one name at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from panels import panel_of, random_closes

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research.label_rules import ForwardReturn, LabelRule, MeanReversion, MetaLabel, TrendContinuation, TripleBarrier
from trading_platform.research.labels import NEVER, make
from trading_platform.research.primary_signals import mean_reversion, trend_continuation

SESSION = 60
REVERSION = MeanReversion(horizon=30, entry_z=1.5, rsi=45.0, window=20)
TREND = TrendContinuation(horizon=10, fast=5, slow=15, adx=15.0)


def bars(seed: int, timeframe: str, count: int, width: int = 4) -> Panel:
    rng = np.random.default_rng(seed)
    close = random_closes(rng, count, width, 0.01)
    open_ = close * np.exp(rng.normal(0.0, 0.004, close.shape))
    high = np.maximum(open_, close) * np.exp(rng.uniform(0.0, 0.006, close.shape))
    low = np.minimum(open_, close) * np.exp(-rng.uniform(0.0, 0.006, close.shape))
    volume = rng.uniform(1e5, 1e6, close.shape)
    rows = 1 if timeframe == "1Day" else SESSION
    return panel_of(close, timeframe, rows_per_session=rows, open=open_, high=high, low=low, volume=volume)


def wilder_rsi(close: list[float], n: int = 14) -> float:
    """Wilder's RSI of the last close, by his own recursion."""
    changes = [b - a for a, b in pairwise(close)]
    up, down = sum(max(c, 0.0) for c in changes[:n]) / n, sum(max(-c, 0.0) for c in changes[:n]) / n
    for change in changes[n:]:
        up, down = (up * (n - 1) + max(change, 0.0)) / n, (down * (n - 1) + max(-change, 0.0)) / n
    return 100.0 * up / (up + down)


def session_z(panel: Panel, t: int, s: int, window: int) -> float:
    """The close's distance from the session's volume-weighted typical price, in root mean squares of the last distances."""
    f, gaps = panel.fields, []
    for k in range(t - window + 1, t + 1):
        start = k - k % SESSION
        typical = [(f["high"][j, s] + f["low"][j, s] + f["close"][j, s]) / 3.0 for j in range(start, k + 1)]
        volume = [f["volume"][j, s] for j in range(start, k + 1)]
        average = sum(p * v for p, v in zip(typical, volume, strict=True)) / sum(volume)
        gaps.append(f["close"][k, s] / average - 1.0)
    return gaps[-1] / math.sqrt(sum(g * g for g in gaps) / window)


def test_mean_reversion_enters_against_a_stretched_price_that_rsi_confirms() -> None:
    panel, rule = bars(1, "1Min", 4 * SESSION), replace(REVERSION, rsi=35.0)
    signal = mean_reversion(panel, rule)
    for s in range(4):
        for t in range(40, 4 * SESSION, 3):
            z, strength = session_z(panel, t, s, 20), wilder_rsi(panel.fields["close"][: t + 1, s].tolist())
            expected = int(z < -1.5 and strength < 35.0) - int(z > 1.5 and strength > 65.0)
            assert (signal.side[t, s], signal.leave_long[t, s]) == (expected, abs(z) < 0.5), (t, s)
    assert {-1, 0, 1} == set(np.unique(signal.side))


def test_mean_reversion_is_one_where_the_price_came_back_first() -> None:
    panel = bars(1, "1Min", 4 * SESSION)
    labels, signal = make(panel, REVERSION), mean_reversion(panel, REVERSION)
    f = panel.fields
    ends: dict[str, int] = {}
    for t, s in np.argwhere(signal.side != 0):
        close_of_day = t - t % SESSION + SESSION - 1
        end = min(t + 1 + 30, close_of_day)
        incomplete = end >= panel.shape[0] - 1 and end < t + 31  # the panel's last session may go on
        if end < t + 2 or incomplete or math.isnan(signal.atr[t, s]):
            assert math.isnan(labels.values[t, s])
            continue
        side = int(signal.side[t, s])
        entry = sum(f[name][t + 1, s] for name in ("high", "low", "close")) / 3.0
        stop = entry * (1.0 - side * 1.5 * signal.atr[t, s])
        why, row = "time", end
        for k in range(t + 2, end + 1):
            worst = f["low"][k, s] if side > 0 else f["high"][k, s]
            if (worst - stop) * side <= 0.0:
                why, row = "stop", k
            elif abs(session_z(panel, k - 1, s, 20)) < 0.5:
                why, row = "back", k
            if why != "time":
                break
        ends[why] = ends.get(why, 0) + 1
        assert (labels.values[t, s], labels.exits[t, s]) == (float(why == "back"), row), (t, s, why)
    assert all(ends.get(why, 0) >= 3 for why in ("stop", "back", "time")), ends
    assert np.isnan(labels.values[signal.side == 0]).all()


def test_a_position_of_the_panels_last_session_has_no_outcome_before_its_horizon() -> None:
    panel = bars(2, "1Min", 3 * SESSION + 25)
    labels = make(panel, REVERSION)
    last = np.arange(panel.shape[0]) >= 3 * SESSION
    assert np.isnan(labels.values[last]).all() and (labels.t1[last] == NEVER).all()
    assert np.isfinite(labels.values[3 * SESSION - 20 : 3 * SESSION]).any()  # the session before is known to be over
    whole = make(panel.rows(0, 3 * SESSION), REVERSION)
    assert np.isnan(whole.values[2 * SESSION + 29 :]).all() and np.isfinite(whole.values[: 2 * SESSION + 29]).any()


def test_trend_continuation_is_one_where_the_trade_paid_under_its_own_exits() -> None:
    panel = bars(3, "1Day", 260)
    labels, signal = make(panel, TREND), trend_continuation(panel, TREND)
    f, seen = panel.fields, 0
    for t, s in np.argwhere((signal.side != 0) & (np.arange(260)[:, np.newaxis] < 249)):
        side, leave = int(signal.side[t, s]), signal.leave_long if signal.side[t, s] > 0 else signal.leave_short
        entry = sum(f[name][t + 1, s] for name in ("high", "low", "close")) / 3.0
        distance, best = 3.0 * signal.atr[t, s] * entry, f["high" if side > 0 else "low"][t + 1, s]
        stop, price = entry - side * distance, math.nan
        for k in range(t + 2, t + 12):
            stop = side * max(side * stop, side * best - distance)
            best = max(best, f["high"][k, s]) if side > 0 else min(best, f["low"][k, s])
            if ((f["low"] if side > 0 else f["high"])[k, s] - stop) * side <= 0.0:
                price = min(side * stop, side * f["open"][k, s]) * side
            elif leave[k - 1, s] or k == t + 11:
                price = sum(f[name][k, s] for name in ("high", "low", "close")) / 3.0
            if math.isfinite(price):
                break
        returned = side * (price / entry - 1.0)
        assert labels.raw[t, s] == pytest.approx(returned, rel=1e-9) and labels.exits[t, s] == k
        assert labels.values[t, s] == float(returned > 0.001)
        seen += 1
    assert seen > 50 and 0.1 < np.nanmean(labels.values) < 0.9
    np.testing.assert_array_equal(np.isfinite(labels.values), (signal.side != 0) & (np.arange(260)[:, np.newaxis] < 249))


def test_trend_enters_on_a_pullback_within_a_confirmed_trend() -> None:
    panel = bars(3, "1Day", 260)
    signal, close = trend_continuation(panel, TREND), panel.fields["close"]

    def mean_of(n: int) -> np.ndarray:
        """Seeded with the first n closes' mean, as the algebra's ema."""
        found = np.full(close.shape, np.nan)
        found[n - 1] = close[:n].mean(axis=0)
        for t in range(n, len(close)):
            found[t] = found[t - 1] + 2.0 / (n + 1) * (close[t] - found[t - 1])
        return found

    fast, slow = mean_of(5), mean_of(15)
    rows = slice(60, None)
    np.testing.assert_array_equal(signal.leave_long[rows], (fast < slow)[rows])
    long, short = signal.side == 1, signal.side == -1
    assert long.any() and short.any()
    assert ((fast > slow) & (panel.fields["low"] <= fast) & (close > slow))[rows][long[rows]].all()
    assert ((fast < slow) & (panel.fields["high"] >= fast) & (close < slow))[rows][short[rows]].all()


RULES = (
    REVERSION,
    TREND,
    MetaLabel(horizon=10, primary="mean_reversion", volatility_rows=20),
    TripleBarrier(horizon=9, volatility_rows=20),
    ForwardReturn(horizon=7, volatility_rows=20, neutral="market"),
)


@pytest.mark.parametrize("timeframe", ["1Day", "1Min"])
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_rows_after_a_labels_horizon_do_not_change_it_and_rows_without_one_have_none(rule: LabelRule, timeframe: str) -> None:
    panel = bars(4, timeframe, 200)
    whole = make(panel, rule)
    for count in (150, 180):
        cut, reach = make(panel.rows(0, count), rule), count - 1 - rule.horizon
        for name in ("values", "raw", "ends", "exits", "t1"):
            np.testing.assert_array_equal(getattr(whole, name)[:reach], getattr(cut, name)[:reach], err_msg=name)
        assert np.isnan(cut.values[reach:]).all() and (cut.t1[reach:] == NEVER).all()
    assert np.isfinite(whole.values).any() and set(whole.values[np.isfinite(whole.values)]) <= set(rule.classes or whole.values.ravel())


def test_a_meta_label_of_a_named_primary_speaks_where_that_signal_does() -> None:
    panel = bars(5, "1Day", 400)
    labels = make(panel, MetaLabel(horizon=5, primary="mean_reversion", volatility_rows=20))
    side = mean_reversion(panel, MeanReversion(horizon=5)).side
    there = np.isfinite(labels.values)
    np.testing.assert_array_equal(there, (side != 0) & (np.arange(400) < 394)[:, np.newaxis])
    given = make(panel, MetaLabel(horizon=5, volatility_rows=20), side=side)
    np.testing.assert_array_equal(labels.values, given.values)


def test_a_side_that_is_none_is_refused() -> None:
    panel, rule = bars(6, "1Day", 60), MetaLabel(horizon=5, volatility_rows=20)
    with pytest.raises(InputError, match="no side came with it"):
        make(panel, rule)
    with pytest.raises(InputError, match="side is"):
        make(panel, rule, side=np.full(panel.shape, 2, np.int8))
    with pytest.raises(InputError, match="side is"):
        make(panel, rule, side=np.ones(panel.shape[1], np.int8))
