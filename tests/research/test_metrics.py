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
