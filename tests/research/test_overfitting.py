"""Golden values of reference/quant.md 2.1 and 2.2, and the wrong units that look better."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trading_platform.contracts.errors import InputError
from trading_platform.research import overfitting as of

SHARPE, VARIANCE = 2.5 / math.sqrt(250), 0.5 / 250


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        (5, 1.1925940010),
        (10, 1.5745983013),
        (45, 2.2356401778),
        (46, 2.2441708308),
        (50, 2.2763030934),
        (88, 2.4852947876),
        (1000, 3.2551215137),
    ],
)
def test_expected_maximum_of_worthless_trials(trials: int, expected: float) -> None:
    assert of.expected_maximum(trials) == pytest.approx(expected, abs=1e-10)


def test_expected_maximum_to_the_last_digit_and_annualised() -> None:
    assert of.expected_maximum(100) == pytest.approx(2.5306028932016846, abs=1e-15)
    assert of.expected_maximum(100, VARIANCE) * math.sqrt(250) == pytest.approx(1.7894064662732077, abs=1e-13)
    assert of.expected_maximum(1, VARIANCE) == 0.0


@pytest.mark.parametrize(
    ("skew", "kurtosis", "trials", "expected"),
    [(-3.0, 10.0, 100, 0.9003968344493903), (-3.0, 10.0, 46, 0.9505017069), (0.0, 3.0, 100, 0.9427705860), (0.0, 3.0, 88, 0.9504908167)],
)
def test_deflated_sharpe_of_the_papers_example(skew: float, kurtosis: float, trials: int, expected: float) -> None:
    assert of.deflated_sharpe(SHARPE, 1250, skew, kurtosis, trials, VARIANCE) == pytest.approx(expected, abs=1e-10)


def test_wrong_units_look_better_and_are_not_our_value() -> None:
    annualised = of.deflated_sharpe(2.5, 1250, -3, 10, 100, 0.5)
    excess = of.deflated_sharpe(SHARPE, 1250, -3, 7, 100, VARIANCE)
    assert annualised == pytest.approx(0.99999994, abs=1e-8) and excess == pytest.approx(0.90178, abs=1e-5)
    assert min(annualised, excess) > of.deflated_sharpe(SHARPE, 1250, -3, 10, 100, VARIANCE)


def test_probabilistic_sharpe() -> None:
    monthly = 1.585 / math.sqrt(12)
    assert of.probabilistic_sharpe(monthly, 24, -2.448, 10.164) == pytest.approx(0.91323430688486018, abs=1e-14)
    assert of.probabilistic_sharpe(monthly, 24) == pytest.approx(0.9815912361, abs=1e-10)
    assert math.isnan(of.probabilistic_sharpe(0.1, 1)) and math.isnan(of.probabilistic_sharpe(2.0, 100, skew=3.0))


def test_minimum_track_record() -> None:
    assert of.minimum_track_record(2 / math.sqrt(250), 1 / math.sqrt(250)) / 250 == pytest.approx(2.7311878018, abs=1e-10)
    assert of.minimum_track_record(2 / math.sqrt(52), 1 / math.sqrt(52)) / 52 == pytest.approx(2.8288335869, abs=1e-10)
    assert of.minimum_track_record(3 / math.sqrt(12), 2.5 / math.sqrt(12), -0.72, 5.78) / 12 == pytest.approx(27.3529201960, abs=1e-9)
    assert of.minimum_track_record(0.1, 0.1) == math.inf


@pytest.mark.parametrize(
    ("trials", "years"), [(45, 4.9980870044), (7, 1.923143), (10, 2.479360), (20, 3.612691), (100, 6.403951), (1000, 10.595816)]
)
def test_minimum_backtest_length(trials: int, years: float) -> None:
    assert of.minimum_backtest_length(trials) == pytest.approx(years, abs=1e-6)


@given(st.floats(-0.3, 0.3), st.integers(30, 3000), st.floats(-1, 1), st.floats(2, 12), st.integers(2, 500), st.floats(1e-5, 0.01))
def test_more_trials_never_make_a_result_more_certain(
    sr: float, count: int, skew: float, kurtosis: float, trials: int, variance: float
) -> None:
    fewer = of.deflated_sharpe(sr, count, skew, kurtosis, trials, variance)
    more = of.deflated_sharpe(sr, count, skew, kurtosis, trials + 1, variance)
    assert math.isnan(fewer) or more <= fewer <= of.probabilistic_sharpe(sr, count, skew, kurtosis)


def test_the_variance_formula_agrees_with_simulation() -> None:
    draws = np.random.default_rng(7).standard_normal((4000, 500)) * 0.01 + 0.0005
    ratios = draws.mean(axis=1) / draws.std(axis=1, ddof=1)
    hits = np.mean(ratios > 0.0)
    assert of.probabilistic_sharpe(0.05, 500) == pytest.approx(hits, abs=0.02)
    assert stats.norm.cdf(0.05 * math.sqrt(499) / math.sqrt(1 + 0.5 * 0.05**2)) == pytest.approx(
        of.probabilistic_sharpe(0.05, 500), abs=1e-12
    )


@pytest.mark.parametrize(("seed", "expected"), [(0, 0.47466977466977467), (1, 0.5640248640248641), (2, 0.7188811188811188)])
def test_overfitting_probability_of_pure_noise(seed: int, expected: float) -> None:
    noise = np.random.default_rng(seed).standard_normal((1000, 100)) * 0.01
    assert of.probability_of_overfitting(noise) == pytest.approx(expected, abs=1e-12)


def test_overfitting_probability_of_the_two_clear_cases() -> None:
    noise = np.random.default_rng(0).standard_normal((1000, 100)) * 0.01
    skilled = noise.copy()
    skilled[:, :10] += 0.0015
    assert of.probability_of_overfitting(skilled) == 0.0
    levelled = (noise - noise[8:].mean(axis=0)) / noise[8:].std(axis=0)
    assert of.probability_of_overfitting(levelled) == 1.0


def test_constant_columns_and_bad_shapes() -> None:
    flat = np.zeros((64, 3))
    assert 0.0 <= of.probability_of_overfitting(flat, blocks=4) <= 1.0
    with pytest.raises(InputError):
        of.probability_of_overfitting(flat, blocks=5)
