"""Statistics against overfitting: probabilistic and deflated Sharpe ratio, minimum track record, PBO. All inputs PER PERIOD, kurtosis RAW.

Bailey, Lopez de Prado: The Sharpe Ratio Efficient Frontier (2012), The Deflated Sharpe Ratio (2014), The Probability of Backtest
Overfitting (2015). Annualised input or excess kurtosis gives numbers that look better: the tests hold both wrong results.
The report uses all but `probability_of_overfitting`, which waits for tuning: no asset calls it yet.
"""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from trading_platform.contracts.errors import InputError

EULER_GAMMA = 0.5772156649015329
NORMAL_KURTOSIS = 3.0


def _sharpe_variance(sharpe: float, skew: float, kurtosis: float) -> float:
    """Asymptotic variance of an estimated Sharpe ratio times the number of observations (Mertens 2002)."""
    return 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe


def probabilistic_sharpe(sharpe: float, count: int, skew: float = 0.0, kurtosis: float = NORMAL_KURTOSIS, benchmark: float = 0.0) -> float:
    """P(true Sharpe > benchmark) given an estimate from `count` observations; NaN where the variance formula has no value."""
    variance = _sharpe_variance(sharpe, skew, kurtosis)
    if count < 2 or not variance > 0.0:
        return math.nan
    return float(norm.cdf((sharpe - benchmark) * math.sqrt(count - 1.0) / math.sqrt(variance)))


def expected_maximum(trials: float, variance: float = 1.0) -> float:
    """Expected largest Sharpe ratio of `trials` worthless strategies whose estimates vary by `variance` (per period squared).

    One trial has expected maximum 0 (nothing was selected).
    """
    if trials < 1 or variance < 0.0:
        raise InputError(f"{trials} trials with variance {variance}", "research.overfitting", "trials >= 1, variance >= 0")
    if trials == 1:
        return 0.0
    high = (1.0 - EULER_GAMMA) * norm.ppf(1.0 - 1.0 / trials) + EULER_GAMMA * norm.ppf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * float(high)


def deflated_sharpe(sharpe: float, count: int, skew: float, kurtosis: float, trials: float, variance: float) -> float:
    """P(true Sharpe > what the best of `trials` worthless strategies would show). variance: of the trials' per-period Sharpe ratios."""
    return probabilistic_sharpe(sharpe, count, skew, kurtosis, expected_maximum(trials, variance))


def minimum_track_record(
    sharpe: float, benchmark: float, skew: float = 0.0, kurtosis: float = NORMAL_KURTOSIS, confidence: float = 0.95
) -> float:
    """Observations needed until P(true Sharpe > benchmark) reaches `confidence`; inf when the estimate is not above the benchmark."""
    if sharpe <= benchmark:
        return math.inf
    return 1.0 + _sharpe_variance(sharpe, skew, kurtosis) * (float(norm.ppf(confidence)) / (sharpe - benchmark)) ** 2


def minimum_backtest_length(trials: float, expected_annual_sharpe: float = 1.0) -> float:
    """Years of data below which the best of `trials` worthless strategies is expected to reach this annual Sharpe ratio."""
    return (expected_maximum(trials) / expected_annual_sharpe) ** 2


def probability_of_overfitting(returns: NDArray[np.float64], blocks: int = 16) -> float:
    """PBO by combinatorially symmetric cross-validation: share of splits where the best in-sample column ranks in the lower half outside.

    returns: (T, N) per period; the oldest rows are left out until T is a multiple of `blocks` (even). Sharpe ratios with ddof 1 from block
    sums, so no split is concatenated. Columns without variance get Sharpe 0. Ties share ranks. logit <= 0 counts as overfit.
    """
    if blocks < 2 or blocks % 2 or returns.ndim != 2 or returns.shape[1] < 2 or returns.shape[0] < 2 * blocks:
        raise InputError(
            f"returns {returns.shape}, {blocks} blocks", "research.overfitting", "give (T, N >= 2) returns and an even number of blocks"
        )
    used = returns[returns.shape[0] % blocks :].reshape(blocks, -1, returns.shape[1])
    size = used.shape[1] * blocks // 2
    first, second = used.sum(axis=1), (used * used).sum(axis=1)
    chosen = np.zeros((math.comb(blocks, blocks // 2), blocks))
    for row, picked in enumerate(combinations(range(blocks), blocks // 2)):
        chosen[row, list(picked)] = 1.0

    def ratios(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = weights @ first / size
        variance = (weights @ second - size * mean * mean) / (size - 1)
        flat = variance <= 1e-18
        return np.where(flat, 0.0, mean / np.sqrt(np.where(flat, 1.0, variance)))

    inside, outside = ratios(chosen), ratios(1.0 - chosen)
    best = np.argmax(inside, axis=1)
    rank = rankdata(outside, axis=1)[np.arange(len(best)), best] / (returns.shape[1] + 1.0)
    return float(np.mean(np.log(rank / (1.0 - rank)) <= 0.0))
