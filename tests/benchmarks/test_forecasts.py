"""The numbers of a comparison of forecasts: books of deciles, what they trade, and intervals of paired differences."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.forecasts import daily, decile_weights, interval, resampled_means


def test_a_tenth_on_each_side_and_equal_forecasts_share_the_edge() -> None:
    forecast = np.array([np.arange(20.0), np.repeat([0.0, 1.0], 10), np.full(20, 3.0), np.full(20, np.nan)])
    forecast[0, 0] = np.nan  # 19 forecasts: one name a side
    weights = decile_weights(forecast)
    assert weights[0, 19] == 1.0 and weights[0, 1] == -1.0 and np.count_nonzero(weights[0]) == 2
    assert weights[1] == pytest.approx(np.repeat([-0.1, 0.1], 10))  # two places, ten candidates
    assert not weights[2].any() and not weights[3].any()


def test_a_book_pays_for_what_it_trades_and_only_for_that() -> None:
    outcome = np.tile(np.linspace(-0.01, 0.01, 20), (4, 1))
    steady, flips = np.tile(np.arange(20.0), (4, 1)), np.array([1.0, -1.0, 1.0, -1.0])[:, np.newaxis] * np.arange(20.0)
    one = daily(steady, outcome, 1, 1e-3)
    assert one.traded.tolist() == [2.0, 0.0, 0.0, 0.0]
    gross = float(np.mean(outcome[0, -2:]) - np.mean(outcome[0, :2]))
    assert one.net == pytest.approx([gross - 2e-3, gross, gross, gross]) and one.ic == pytest.approx(np.ones(4))
    other = daily(flips, outcome, 1, 1e-3)
    assert other.traded.tolist() == [2.0, 4.0, 4.0, 4.0] and other.net[1] == pytest.approx(-gross - 4e-3)
    slow = daily(flips, outcome, 2, 1e-3)  # two tranches: each meets its own forecast again
    assert slow.traded.tolist() == [1.0, 1.0, 0.0, 0.0] and slow.net[2] == pytest.approx(gross / 2)


def test_a_forecast_that_says_the_same_of_every_name_has_an_ic_of_zero() -> None:
    outcome = np.random.default_rng(0).standard_normal((3, 30))
    found = daily(np.full((3, 30), 0.5), outcome, 1, 1e-3)
    assert found.ic.tolist() == [0.0, 0.0, 0.0] and found.net.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("count", [1000, 1008])
def test_blocks_keep_the_autocorrelation_that_single_days_lose(count: int) -> None:
    rng = np.random.default_rng(1)
    widths, truths = [], []
    for _ in range(60):
        series = rng.standard_normal(count)
        for at in range(1, count):
            series[at] += 0.5 * series[at - 1]
        widths.append(resampled_means(series[:, np.newaxis], 400).std())
        truths.append(series.mean())
    assert np.mean(widths) == pytest.approx(np.std(truths), rel=0.3)
    assert np.mean(widths) > 1.5 * np.std(series) / np.sqrt(count)


def test_a_paired_interval_is_narrow_where_both_sides_move_together() -> None:
    rng = np.random.default_rng(2)
    market = rng.standard_normal(1500)
    sides = np.column_stack([market + 0.1, market + 0.05 * rng.standard_normal(1500)])
    means = resampled_means(sides)
    low, high = interval(means[:, 0] - means[:, 1])
    assert 0.09 < low < 0.1 < high < 0.11
    assert interval(means[:, 0])[1] - interval(means[:, 0])[0] > 5 * (high - low)
