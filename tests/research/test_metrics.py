from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from trading_platform.research import metrics as m

RETURNS = np.array([0.01, -0.02, 0.03, 0.0, -0.01, 0.02])


def test_a_series_in_numbers_by_hand() -> None:
    result = m.performance(RETURNS, 252.0, turnover=np.full(6, 0.1))
    assert result.sharpe == pytest.approx(0.005 / math.sqrt(0.00175 / 5))
    assert result.annual_sharpe == pytest.approx(result.sharpe * math.sqrt(252))
    assert result.max_drawdown == pytest.approx(0.02) and result.hit_rate == pytest.approx(0.6)
    assert result.profit_factor == pytest.approx(2.0) and result.sortino == pytest.approx(0.005 / math.sqrt(0.0005 / 6))
    assert result.annual_return == pytest.approx(float(np.prod(1 + RETURNS)) ** 42 - 1) and result.annual_turnover == pytest.approx(25.2)
    assert (result.n_obs, result.ddof, result.net) == (6, 1, True)


def test_moments_are_raw_and_equal_scipys() -> None:
    sample = np.random.default_rng(1).standard_t(6, 4000)
    assert (
        m.kurtosis(sample) == pytest.approx(stats.kurtosis(sample, fisher=False))
        and m.kurtosis(np.random.default_rng(2).standard_normal(100_000)) > 2.9
    )
    assert m.skewness(sample) == pytest.approx(stats.skew(sample))


def test_a_loss_from_the_start_counts_as_drawdown() -> None:
    assert m.max_drawdown(np.array([-0.1, -0.1])) == pytest.approx(0.19) and m.max_drawdown(np.array([0.1, 0.2])) == 0.0


def test_drawdown_at_fixed_volatility_does_not_see_leverage() -> None:
    sample = np.random.default_rng(3).standard_normal(1000) * 0.01
    small, large = (m.drawdown_at_volatility(sample * k, 252, 0.06) for k in (0.1, 2.0))
    assert small == pytest.approx(large) and m.max_drawdown(sample * 2) > 3 * m.max_drawdown(sample * 0.1)


def test_undefined_results_are_nan_and_left_out_of_records() -> None:
    for function in (m.sharpe, m.sortino, m.skewness, m.kurtosis, m.profit_factor, m.hit_rate, m.hac_t):
        assert math.isnan(function(np.zeros(1)))
    assert "sharpe" not in m.performance(np.zeros(10), 252.0).record() and math.isnan(m.sharpe(np.full(10, 0.01)))


def test_hac_t_without_lags_is_the_ordinary_t_up_to_ddof_and_shrinks_under_overlap() -> None:
    sample = np.random.default_rng(4).standard_normal(500) + 0.1
    plain = stats.ttest_1samp(sample, 0.0).statistic
    assert m.hac_t(sample, 0) == pytest.approx(plain * math.sqrt(500 / 499))
    overlapping = np.convolve(sample, np.ones(5) / 5, mode="valid")
    assert abs(m.hac_t(overlapping, 4)) < 0.6 * abs(m.hac_t(overlapping, 0))


def test_hac_t_rejects_a_true_null_about_as_often_as_it_says() -> None:
    draws = np.random.default_rng(5).standard_normal((600, 400))
    smooth = (draws[:, 2:] + draws[:, 1:-1] + draws[:, :-2]) / 3
    rate = float(np.mean([abs(m.hac_t(row, 6)) > 1.96 for row in smooth]))
    assert 0.02 < rate < 0.10


def test_the_intercept_is_what_factors_leave() -> None:
    rng = np.random.default_rng(6)
    factor = rng.standard_normal((1500, 2)) * 0.01
    returns = 0.0007 + factor @ np.array([0.8, -0.3]) + rng.standard_normal(1500) * 0.003
    intercept, t = m.hac_intercept_t(returns, factor)
    assert intercept == pytest.approx(0.0007, abs=3e-4) and t > 2.0
    assert abs(m.hac_intercept_t(returns - 0.0007, factor)[1]) < 3.0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_row_correlations_equal_scipys(seed: int, rank: bool) -> None:
    rng = np.random.default_rng(seed)
    x, y = np.round(rng.standard_normal((4, 12)), 1), rng.standard_normal((4, 12))
    x[rng.random(x.shape) < 0.2] = np.nan
    y[rng.random(y.shape) < 0.2] = np.nan
    got = m.information_coefficient(x, y, rank)
    for row in range(4):
        both = np.isfinite(x[row]) & np.isfinite(y[row])
        if both.sum() < m.MIN_NAMES:
            assert math.isnan(got[row])
            continue
        oracle = stats.spearmanr if rank else stats.pearsonr
        assert got[row] == pytest.approx(oracle(x[row, both], y[row, both]).statistic, abs=1e-12)


def test_hac_t_and_intercept_equal_statsmodels() -> None:
    """statsmodels 0.15.0, OLS(...).fit(cov_type="HAC", cov_kwds={"maxlags": L, "use_correction": False}).tvalues[0]."""
    smooth = np.convolve(np.random.default_rng(11).standard_normal(300), np.ones(4) / 4)[:300] * 0.01 + 0.0008
    assert m.hac_t(smooth, 0) == pytest.approx(3.9207221950794544, rel=1e-12)
    assert m.hac_t(smooth, 5) == m.hac_t(smooth) == pytest.approx(2.1454608923132965, rel=1e-12)
    factors = np.random.default_rng(12).standard_normal((300, 2)) * 0.01
    assert m.hac_intercept_t(smooth, factors, 5) == pytest.approx((0.0010434691959368856, 2.1598062898859784), rel=1e-10)
    assert m.expectancy(smooth, 5) == (pytest.approx(smooth.mean()), m.hac_t(smooth, 5))
    assert all(math.isnan(value) for value in m.expectancy(np.full(3, np.nan)))


def test_calmar_and_time_under_water_by_hand() -> None:
    returns = np.array([0.1, -0.05, 0.02, 0.05, -0.1, -0.1, 0.05])
    np.testing.assert_allclose(m.drawdowns(np.array([0.1, -0.5, 1.0])), [0.0, 0.0, 0.5, 0.0], atol=1e-15)
    assert m.drawdown_duration(returns) == 3 and m.drawdown_duration(returns[:5]) == 2
    assert m.drawdown_duration(np.array([-0.1, 0.0, 0.05])) == 3 and m.drawdown_duration(np.array([0.1, 0.0, 0.1])) == 0
    assert m.drawdown_duration(np.empty(0)) == 0
    assert m.calmar(returns, 252.0) == pytest.approx((float(np.prod(1 + returns)) ** 36 - 1) / (1 - 0.9 * 0.9))
    assert math.isnan(m.calmar(np.array([0.1, 0.2]), 252.0))
    found = m.performance(returns, 252.0)
    assert (found.calmar, found.drawdown_duration) == (m.calmar(returns, 252.0), 3)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_what_is_not_finite_is_left_out_everywhere(seed: int) -> None:
    rng = np.random.default_rng(seed)
    returns = rng.standard_normal(30) * 0.02
    holes = np.insert(returns, np.sort(rng.integers(0, 30, 5)), rng.choice([np.nan, np.inf], 5))
    for function in (m.sharpe, m.sortino, m.skewness, m.kurtosis, m.max_drawdown, m.hit_rate, m.profit_factor, m.hac_t):
        assert function(holes) == pytest.approx(function(returns), rel=1e-12)
    assert m.performance(holes, 252.0).record() == pytest.approx(m.performance(returns, 252.0).record())


def quantiles_by_hand(prediction: np.ndarray, outcome: np.ndarray, quantiles: int) -> np.ndarray:
    found = np.full((len(prediction), quantiles), np.nan)
    for row in range(len(prediction)):
        cells = [c for c in range(prediction.shape[1]) if np.isfinite(prediction[row, c]) and np.isfinite(outcome[row, c])]
        cells.sort(key=lambda c: (prediction[row, c], c))
        if len(cells) < quantiles:
            continue
        for quantile in range(quantiles):
            found[row, quantile] = np.mean([outcome[row, c] for r, c in enumerate(cells) if r * quantiles // len(cells) == quantile])
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(3, 17))
def test_quantile_returns_equal_the_slow_ones(seed: int, quantiles: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    prediction, outcome = np.round(rng.standard_normal((3, width)), 1), rng.standard_normal((3, width))
    prediction[rng.random(prediction.shape) < 0.2] = np.nan
    outcome[rng.random(outcome.shape) < 0.2] = np.nan
    expected = quantiles_by_hand(prediction, outcome, quantiles)
    np.testing.assert_allclose(m.quantile_returns(prediction, outcome, quantiles), expected, atol=1e-12)
    np.testing.assert_allclose(m.quantile_spread(prediction, outcome, quantiles), expected[:, -1] - expected[:, 0], atol=1e-12)


def test_a_perfect_prediction_has_the_widest_spread() -> None:
    outcome = np.arange(20.0)[np.newaxis] / 100
    assert m.quantile_spread(outcome, outcome)[0] == pytest.approx(0.185 - 0.005)
    assert m.quantile_spread(-outcome, outcome)[0] == pytest.approx(0.005 - 0.185)
    assert m.quantile_returns(outcome, outcome, 5)[0] == pytest.approx([0.015, 0.055, 0.095, 0.135, 0.175])


def test_turnover_counts_both_sides_and_the_first_purchase() -> None:
    weights = np.array([[0.5, -0.5], [0.5, -0.5], [0.0, 0.5], [np.nan, 0.5]])
    assert m.turnover(weights) == pytest.approx([1.0, 0.0, 1.5, 0.0])


def test_icir_is_per_row() -> None:
    ic = np.array([0.02, -0.01, 0.03, np.nan])
    assert m.icir(ic) == pytest.approx(0.04 / 3 / math.sqrt(((0.02 / 3) ** 2 + (0.07 / 3) ** 2 + (0.05 / 3) ** 2) / 2))


def test_capacity_by_hand() -> None:
    traded, volume = np.array([[0.1, -0.2, 0.1, 0.0]]), np.array([[1e6, 4e6, 1e5, 1.0]])
    assert m.capacity(traded, volume, share=1.0) == pytest.approx(1e4)  # 1 % of 100,000 for a tenth of equity
    assert m.capacity(traded, volume, share=0.75) == pytest.approx(1e5)
    assert m.capacity(traded, volume, share=0.4) == pytest.approx(2e5)
    assert m.capacity(traded, volume, participation=0.05, share=1.0) == pytest.approx(5e4)
    assert m.capacity(traded, np.full((1, 4), np.nan)) == 0.0 and math.isnan(m.capacity(np.zeros((1, 4)), volume))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 1.0))
def test_capacity_is_the_largest_equity_that_keeps_its_promise(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    traded, volume = rng.standard_normal((6, 5)), np.exp(rng.standard_normal((6, 5))) * 1e7
    size = np.abs(traded)

    def kept(equity: float) -> float:
        return float(size[size * equity <= 0.01 * volume * (1 + 1e-12)].sum() / size.sum())

    found = m.capacity(traded, volume, share=share)
    assert kept(found) >= share - 1e-9 and kept(found * (1 + 1e-9)) < share + 1e-9
