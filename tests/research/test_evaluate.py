from __future__ import annotations

import numpy as np
import pytest
from panels import DAY, panel_of, random_closes

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import Instrument, symbol_of
from trading_platform.contracts.profile import Limits, Profile
from trading_platform.research import evaluate, nulls
from trading_platform.research.evaluate import Arena, Sessions
from trading_platform.research.labels import forward_return
from trading_platform.research.metrics import information_coefficient
from trading_platform.research.splits import Fold
from trading_platform.research.trials import TrialCount
from trading_platform.research.walk_forward import AgeCurve, WalkForward

ROWS, WIDTH = 420, 24
PROFILE = Profile("test", limits=Limits(max_position=0.2, max_daily_drawdown=0.5, max_consecutive_losses=1000, min_coverage=0.5))


def arena(seed: int = 0) -> Arena:
    close = random_closes(np.random.default_rng(seed), ROWS, WIDTH, 0.01)
    panel = panel_of(close, high=close * 1.004, low=close * 0.996, volume=np.full(close.shape, 1e7))
    opened = panel.timestamp + 9 * 3_600_000_000_000
    sessions = Sessions(opened, opened + 7 * 3_600_000_000_000, opened + DAY)
    instruments = [Instrument(i, symbol_of(i)) for i in panel.instrument_ids]
    flat = np.full(panel.shape, 0.01)
    return Arena(PROFILE, panel, sessions, (), instruments, flat, flat, 1e6)


def knowing(place: Arena, share: float) -> np.ndarray:
    labels = forward_return(place.panel, 5)
    noise = np.random.default_rng(9).standard_normal(place.panel.shape) * 0.02
    signal = share * np.nan_to_num(labels.values) + noise
    signal[:30] = np.nan
    return signal


def walked(place: Arena, predictions: np.ndarray) -> WalkForward:
    fold = np.where(np.isfinite(predictions).any(axis=1), 0, -1)
    ic = information_coefficient(predictions, forward_return(place.panel, 5).values)
    curve = AgeCurve(np.array([0]), np.array([0.0]), np.array([0.0]), np.array([1]))
    return WalkForward(predictions, fold, ic, np.array([0.0]), curve, np.zeros(1), ("x",), (), 0)


def test_a_signal_that_knows_earns_and_costs_take_from_it() -> None:
    place = arena()
    net, dear = (evaluate.net_result(place, knowing(place, 2.0), cost_factor=f) for f in (1.0, 20.0))
    blind = evaluate.net_result(place, knowing(place, 0.0))
    assert net.first == 30 and net.session.size == net.returns.size == ROWS - 30
    assert net.performance.annual_return > blind.performance.annual_return + 0.05
    assert dear.performance.annual_return < net.performance.annual_return and net.exposure.max() <= 1.0 + 1e-9
    assert net.performance.net and net.performance.mean_turnover > 0.0


def test_the_evidence_of_an_evaluation_is_complete() -> None:
    place = arena()
    labels = forward_return(place.panel, 5)
    starts = np.arange(30, ROWS, 30)
    folds = [Fold(np.arange(s - 30, s - 10), np.arange(s, s + 30), np.arange(s, s + 30)) for s in starts]
    result = walked(place, knowing(place, 2.0))
    result.fold[30:] = np.arange(ROWS - 30) // 30
    found = evaluate.evaluate(place, result, folds, labels, TrialCount(1, 0, 1 / 400), runs=100)
    comparison = found.evidence.nulls
    assert comparison is not None and comparison.model_ic > comparison.random_95 and comparison.intercept_t is not None
    assert found.evidence.stressed is not None and found.evidence.delayed is not None and found.evidence.names_left == 0.0
    assert found.evidence.sessions > 300 and found.evidence.effective_bets > 100
    assert set(found.curves()) == {"model", "twice the costs", "momentum 12-1"}
    assert all(series.size == found.net.session.size for series in found.curves().values())


def test_a_model_gets_older_by_sessions() -> None:
    panel = arena().panel
    folds = [Fold(np.arange(10), np.arange(12, 20), np.arange(12, 16)), Fold(np.arange(4, 14), np.arange(16, 24), np.arange(16, 20))]
    fold = np.full(ROWS, -1)
    fold[12:16], fold[16:20] = 0, 1
    age = evaluate.model_age(panel, fold, folds)
    assert age[12] == 3 and age[15] == 6 and age[16] == 3 and age[0] == 0


def test_a_model_past_its_hard_age_opens_no_new_risk() -> None:
    place = arena()
    signal = knowing(place, 2.0)
    old = evaluate.net_result(place, signal, age=np.arange(ROWS))
    assert old.exposure[:30].max() > 0.0 and old.backtest.fills["row"][old.backtest.fills["side"] > 0].max() < 70


def test_minutes_are_gathered_to_sessions() -> None:
    session = np.array([1, 1, 2, 2, 2])
    days, returns = evaluate.per_session(session, np.array([0.1, 0.1, 0.0, -0.5, 1.0]), compound=True)
    np.testing.assert_allclose(returns, [0.21, 0.0])
    np.testing.assert_allclose(evaluate.per_session(session, np.ones(5), compound=False)[1], [2.0, 3.0])
    assert days.tolist() == [1, 2]


def test_names_that_left_are_counted() -> None:
    close = random_closes(np.random.default_rng(1), 40, 10)
    close[20:, :3] = np.nan
    assert evaluate.share_left(panel_of(close), 0) == pytest.approx(0.3)


def test_a_silent_signal_is_refused() -> None:
    place = arena()
    with pytest.raises(InputError, match="undefined everywhere"):
        evaluate.net_result(place, np.full(place.panel.shape, np.nan))


def test_momentum_by_hand_and_labels_dealt_anew() -> None:
    close = np.exp(np.arange(300) * 0.001)[:, np.newaxis] * np.ones((1, 6))
    score = nulls.momentum_12_1(panel_of(close))
    assert np.isnan(score[251]).all() and score[252, 0] == pytest.approx(np.exp(0.231) - 1)
    labels = forward_return(arena().panel, 5)
    dealt = nulls.shuffled_labels(labels, 3)
    np.testing.assert_array_equal(np.sort(dealt.values, axis=1), np.sort(labels.values, axis=1))
    assert not np.array_equal(dealt.values[:100], labels.values[:100])
    assert abs(np.nanmean(information_coefficient(dealt.values, labels.values))) < 0.05


def test_random_signals_centre_on_nothing() -> None:
    place = arena()
    labels = forward_return(place.panel, 5)
    found = nulls.random_signal_ics(knowing(place, 2.0), labels.values, 100)
    assert abs(found.mean()) < 0.02 and 0.003 < found.std() < 0.1
