"""Golden values of reference/quant.md 2.1 and 2.2, and the wrong units that look better."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
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


def test_annualised_ratios_look_better_and_are_not_our_value() -> None:
    annualised = of.deflated_sharpe(2.5, 1250, -3, 10, 100, 0.5)
    assert annualised == pytest.approx(0.99999994, abs=1e-8)
    assert of.deflated_sharpe(SHARPE, 1250, -3, 10, 100, VARIANCE) < 0.95 < annualised


def test_excess_kurtosis_looks_better_and_is_refused() -> None:
    hurdle = of.expected_maximum(100, VARIANCE)
    flattered = stats.norm.cdf((SHARPE - hurdle) * math.sqrt(1249) / math.sqrt(1 + 3 * SHARPE + (7 - 1) / 4 * SHARPE**2))
    assert flattered == pytest.approx(0.90178, abs=1e-5)
    with pytest.raises(InputError, match="at least 10"):
        of.deflated_sharpe(SHARPE, 1250, -3, 7, 100, VARIANCE)
    two_valued = np.where(np.random.default_rng(3).random(500) < 0.1, -0.03, 0.01)  # its raw kurtosis is exactly skew^2 + 1
    assert 0.0 < of.probabilistic_sharpe(0.01, 500, float(stats.skew(two_valued)), float(stats.kurtosis(two_valued, fisher=False))) < 1.0


def test_probabilistic_sharpe() -> None:
    monthly = 1.585 / math.sqrt(12)
    assert of.probabilistic_sharpe(monthly, 24, -2.448, 10.164) == pytest.approx(0.91323430688486018, abs=1e-14)
    assert of.probabilistic_sharpe(monthly, 24) == pytest.approx(0.9815912361, abs=1e-10)
    assert math.isnan(of.probabilistic_sharpe(0.1, 1)) and math.isnan(of.probabilistic_sharpe(1.0, 100, skew=2.0, kurtosis=5.0))


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


@given(st.integers(2, 100_000))
def test_the_minimum_backtest_length_keeps_below_its_bound(trials: int) -> None:
    assert of.minimum_backtest_length(trials) < 2 * math.log(trials)
    assert of.minimum_backtest_length(trials, 2.0) == pytest.approx(of.minimum_backtest_length(trials) / 4)


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


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_overfitting_probability_of_the_two_clear_cases(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((1000, 100)) * 0.01
    skilled = noise.copy()
    skilled[:, :10] += 0.0015
    assert of.probability_of_overfitting(skilled) == 0.0
    levelled = (noise - noise[8:].mean(axis=0)) / noise[8:].std(axis=0)
    assert of.probability_of_overfitting(levelled) == 1.0


def slow_cross_validation(returns: np.ndarray, blocks: int) -> tuple[list[float], list[float], list[float]]:
    """CSCV by the paper's words: concatenate the blocks of each split."""
    parts = np.split(returns, blocks)
    logits, inside, outside = [], [], []
    for chosen in combinations(range(blocks), blocks // 2):
        train = np.concatenate([parts[b] for b in chosen])
        test = np.concatenate([parts[b] for b in range(blocks) if b not in chosen])
        ratios = [part.mean(axis=0) / part.std(axis=0, ddof=1) for part in (train, test)]
        best = int(np.argmax(ratios[0]))
        rank = stats.rankdata(ratios[1])[best] / (returns.shape[1] + 1)
        logits.append(math.log(rank / (1 - rank)))
        inside.append(ratios[0][best])
        outside.append(ratios[1][best])
    return logits, inside, outside


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 4, 6, 8]), st.integers(2, 9), st.floats(-2.0, 2.0))
def test_cross_validation_from_block_sums_equals_concatenated_blocks(seed: int, blocks: int, width: int, level: float) -> None:
    returns = np.random.default_rng(seed).standard_normal((blocks * 7, width)) + level
    found, (logits, inside, outside) = of.cross_validate(returns, blocks), slow_cross_validation(returns, blocks)
    for ours, theirs in ((found.logit, logits), (found.inside, inside), (found.outside, outside)):
        np.testing.assert_allclose(np.sort(ours), np.sort(theirs), rtol=1e-9)
    assert found.probability == np.mean(np.array(logits) <= 0)
    assert found.probability_of_loss == np.mean(np.array(outside) < 0)
    assert found.degradation == pytest.approx(stats.linregress(inside, outside).slope, abs=1e-9)


def test_the_number_of_splits_is_the_papers() -> None:
    noise = np.random.default_rng(0).standard_normal((320, 3))
    assert [of.cross_validate(noise, blocks).logit.size for blocks in (8, 16)] == [70, 12_870]


def test_the_null_distribution_of_the_standard_size() -> None:
    """quant.md 2.2: N = 100, S = 16, 60 seeds."""
    noise = (np.random.default_rng(seed).standard_normal((1000, 100)) * 0.01 for seed in range(60))
    found = np.array([of.probability_of_overfitting(one) for one in noise])
    assert found.mean() == pytest.approx(0.451, abs=5e-4) and found.std() == pytest.approx(0.148, abs=5e-4)
    assert np.quantile(found, (0.05, 0.95)) == pytest.approx([0.23, 0.71], abs=5e-3)


def test_the_null_distribution_of_small_searches() -> None:
    """quant.md 2.2: N = 10, S = 8, 100 seeds."""
    noise = (np.random.default_rng(seed).standard_normal((1000, 10)) * 0.01 for seed in range(100))
    found = np.array([of.probability_of_overfitting(one, blocks=8) for one in noise])
    assert found.mean() == pytest.approx(0.518, abs=5e-4) and found.std() == pytest.approx(0.231, abs=2e-3)
    assert np.quantile(found, (0.05, 0.95)) == pytest.approx([0.13, 0.87], abs=6e-3)


def test_the_null_band_is_that_of_noise_even_where_the_trials_have_skill() -> None:
    rng = np.random.default_rng(1)
    skilled = rng.standard_normal((600, 10)) * 0.01
    skilled[:, 0] += 0.004
    low, high = of.null_band(skilled, blocks=8, runs=100)
    assert of.probability_of_overfitting(skilled, blocks=8) < low
    assert 0.05 < low < 0.25 and 0.75 < high < 0.95  # of independent noise: 0.13 to 0.87
    assert of.null_band(skilled, blocks=8, runs=100) == (low, high)


def test_flat_columns_share_the_middle_and_never_look_skilled() -> None:
    flat = np.full((64, 3), 0.7)
    found = of.cross_validate(flat, blocks=4)
    assert (found.inside == 0.0).all() and found.probability == 1.0 and math.isnan(found.degradation)
    mixed = np.column_stack([np.full(64, -3e-4), np.random.default_rng(0).standard_normal(64) - 2.0])
    assert of.cross_validate(mixed, blocks=4).inside == pytest.approx(np.zeros(6))


@pytest.mark.parametrize(
    ("returns", "blocks"),
    [
        (np.zeros((64, 3)), 5),
        (np.zeros((64, 1)), 4),
        (np.zeros(64), 4),
        (np.zeros((7, 3)), 4),
        (np.zeros((64, 3)), 22),
        (np.where(np.arange(192).reshape(64, 3) == 40, np.nan, 0.01), 4),
    ],
)
def test_what_cannot_be_cross_validated_is_refused(returns: np.ndarray, blocks: int) -> None:
    with pytest.raises(InputError, match="13" if blocks == 4 and np.isnan(returns).any() else "blocks"):
        of.cross_validate(returns, blocks)


def family(rng: np.random.Generator, groups: int, members: int, rho: float, count: int = 750) -> np.ndarray:
    common = rng.standard_normal((count, groups)).repeat(members, axis=1)
    return (math.sqrt(rho) * common + math.sqrt(1 - rho) * rng.standard_normal((count, groups * members))) * 0.01


@pytest.mark.parametrize(
    ("groups", "members", "rho", "expected"), [(1, 40, 0.95, 1), (5, 8, 0.9, 5), (50, 1, 0.0, 50), (8, 5, 0.75, 8), (3, 6, 0.1, 18)]
)
def test_the_effective_number_of_trials_is_that_of_different_bets(groups: int, members: int, rho: float, expected: int) -> None:
    returns = family(np.random.default_rng(groups), groups, members, rho)
    found = of.clusters(returns)
    assert found.max() + 1 == expected
    if expected == groups:
        assert (found.reshape(groups, members) == found.reshape(groups, members)[:, :1]).all()


def test_a_chain_of_neighbours_is_not_one_bet() -> None:
    """Each trial resembles the next, the ends of the chain have nothing in common: single linkage would call all of them one."""
    steps = np.random.default_rng(5).standard_normal((2000, 23))
    returns = np.column_stack([steps[:, start : start + 4].sum(axis=1) for start in range(20)])
    assert of.correlation(returns)[0, 1] > 0.7 and abs(of.correlation(returns)[0, 19]) < 0.1
    assert 4 <= of.clusters(returns).max() + 1 <= 12


def test_correlation_of_trials_on_the_days_that_both_have() -> None:
    rng = np.random.default_rng(2)
    returns = family(rng, 1, 4, 0.6, 400) + 0.5
    returns[:150, 1], returns[300:, 2], returns[:370, 3] = np.nan, np.nan, np.nan
    found = of.correlation(returns)
    assert found[0, 1] == pytest.approx(np.corrcoef(returns[150:, 0], returns[150:, 1])[0, 1], abs=1e-9)
    assert found[1, 2] == pytest.approx(np.corrcoef(returns[150:300, 1], returns[150:300, 2])[0, 1], abs=1e-9)
    assert found[3].tolist() == [0.0, 0.0, 0.0, 1.0]  # 30 days say nothing
    flat = np.column_stack([np.full(100, 0.3), rng.standard_normal(100), np.full(100, np.nan)])
    assert np.array_equal(of.correlation(flat), np.eye(3))


def test_a_cluster_speaks_with_the_mean_of_its_members_at_equal_volatility() -> None:
    rng = np.random.default_rng(3)
    returns = rng.standard_normal((300, 3)) * np.array([0.01, 0.05, 0.02]) + 0.002
    found = of.cluster_sharpes(returns, np.array([0, 0, 1]))
    pair = returns[:, :2] / returns[:, :2].std(axis=0, ddof=1)
    assert found[0] == pytest.approx(pair.mean(axis=1).mean() / pair.mean(axis=1).std(ddof=1))
    assert found[1] == pytest.approx(returns[:, 2].mean() / returns[:, 2].std(ddof=1))
