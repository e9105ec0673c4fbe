"""Statistics against overfitting: probabilistic and deflated Sharpe ratio, minimum track record, PBO. All inputs PER PERIOD, kurtosis RAW.

Bailey, Lopez de Prado: The Sharpe Ratio Efficient Frontier (2012), The Deflated Sharpe Ratio (2014), The Probability of Backtest
Overfitting (2015, CSCV); Lopez de Prado, Lewis: Detection of False Investment Strategies (2019, clusters of trials). Annualised input or
excess kurtosis gives numbers that look better: the tests hold both wrong results, and moments that cannot be raw ones are refused.
docs/validation.md says what each number is for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.stats import norm

from trading_platform.contracts.errors import InputError
from trading_platform.research.metrics import sharpe as sharpe_ratio

Array = NDArray[np.float64]
EULER_GAMMA = 0.5772156649015329
NORMAL_KURTOSIS = 3.0
MAX_BLOCKS = 20  # 184,756 splits; more blocks only cost time
CELLS_AT_ONCE = 50_000  # of splits x trials: stays in cache, and below the size at which matrix products start threads that cost more
MIN_COMMON = 60  # a correlation of fewer common periods says nothing: such trials count as unrelated


def _sharpe_variance(sharpe: float, skew: float, kurtosis: float) -> float:
    """Asymptotic variance of an estimated Sharpe ratio times the number of observations (Mertens 2002)."""
    return 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe * sharpe


def probabilistic_sharpe(sharpe: float, count: int, skew: float = 0.0, kurtosis: float = NORMAL_KURTOSIS, benchmark: float = 0.0) -> float:
    """P(true Sharpe > benchmark) given an estimate from `count` observations; NaN where the variance formula has no value.

    PSR = Phi[(SR - SR*) sqrt(T - 1) / sqrt(1 - g3 SR + (g4 - 1)/4 SR^2)]. Raises InputError for a kurtosis below skew^2 + 1, the smallest
    a raw one can be: excess kurtosis, most likely.
    """
    if kurtosis < (skew * skew + 1.0) * (1.0 - 1e-9):
        what = f"kurtosis {kurtosis} with skewness {skew}: a raw kurtosis is at least {skew * skew + 1.0:.3f}"
        raise InputError(what, "research.overfitting", "give the raw kurtosis (3 for a normal), not the excess")
    variance = _sharpe_variance(sharpe, skew, kurtosis)
    if count < 2 or not variance > 0.0:
        return math.nan
    return float(norm.cdf((sharpe - benchmark) * math.sqrt(count - 1.0) / math.sqrt(variance)))


def expected_maximum(trials: float, variance: float = 1.0) -> float:
    """Expected largest Sharpe ratio of `trials` worthless strategies whose estimates vary by `variance` (per period squared).

    SR0 = sqrt(V) [(1 - g) Z^-1(1 - 1/N) + g Z^-1(1 - 1/(N e))], g Euler's constant (Deflated Sharpe Ratio, equation 6).
    One trial has expected maximum 0 (nothing was selected).
    """
    if trials < 1 or variance < 0.0:
        raise InputError(f"{trials} trials with variance {variance}", "research.overfitting", "trials >= 1, variance >= 0")
    if trials == 1:
        return 0.0
    high = (1.0 - EULER_GAMMA) * norm.ppf(1.0 - 1.0 / trials) + EULER_GAMMA * norm.ppf(1.0 - 1.0 / (trials * math.e))
    return math.sqrt(variance) * float(high)


def deflated_sharpe(sharpe: float, count: int, skew: float, kurtosis: float, trials: float, variance: float) -> float:
    """P(true Sharpe > what the best of `trials` worthless strategies would show): the PSR against `expected_maximum`.

    variance: of the trials' per-period Sharpe ratios. N and V come from the trial registry and from nowhere else (T30).
    """
    return probabilistic_sharpe(sharpe, count, skew, kurtosis, expected_maximum(trials, variance))


def minimum_track_record(
    sharpe: float, benchmark: float, skew: float = 0.0, kurtosis: float = NORMAL_KURTOSIS, confidence: float = 0.95
) -> float:
    """Observations needed until P(true Sharpe > benchmark) reaches `confidence`; inf when the estimate is not above the benchmark.

    MinTRL = 1 + [1 - g3 SR + (g4 - 1)/4 SR^2] (Z_c / (SR - SR*))^2 (Sharpe Ratio Efficient Frontier, equation 11).
    """
    if sharpe <= benchmark:
        return math.inf
    return 1.0 + _sharpe_variance(sharpe, skew, kurtosis) * (float(norm.ppf(confidence)) / (sharpe - benchmark)) ** 2


def minimum_backtest_length(trials: float, expected_annual_sharpe: float = 1.0) -> float:
    """Years of data below which the best of `trials` worthless strategies is expected to reach this annual Sharpe ratio.

    MinBTL = (E[max_N] / annual Sharpe)^2, below 2 ln N / Sharpe^2 (Pseudo-Mathematics and Financial Charlatanism, 2014, theorem 2).
    """
    return (expected_maximum(trials) / expected_annual_sharpe) ** 2


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """CSCV, one entry per split: logit of the rank outside of the column that was best inside; its Sharpe ratios inside and outside."""

    logit: Array
    inside: Array
    outside: Array

    @property
    def probability(self) -> float:
        """PBO: share of the splits whose best column ranks in the lower half outside (logit <= 0)."""
        return float(np.mean(self.logit <= 0.0))

    @property
    def probability_of_loss(self) -> float:
        """Share of the splits whose best column loses outside."""
        return float(np.mean(self.outside < 0.0))

    @property
    def degradation(self) -> float:
        """Slope of the Sharpe ratio outside on the one inside; below zero, the better it looked the worse it did. NaN without spread."""
        spread = self.inside - self.inside.mean()
        total = float(spread @ spread)
        return float(spread @ self.outside) / total if total > 0.0 else math.nan


def _choices(blocks: int) -> Array:
    """Every choice of half of the blocks, one row each, 1 where chosen; row i from the end is the complement of row i."""
    bits = (np.arange(1 << blocks)[:, np.newaxis] >> np.arange(blocks)) & 1
    return bits[bits.sum(axis=1) == blocks // 2].astype(np.float64)


def _check_matrix(returns: Array, blocks: int) -> None:
    where = "research.overfitting"
    if not 2 <= blocks <= MAX_BLOCKS or blocks % 2 or returns.ndim != 2 or returns.shape[1] < 2 or returns.shape[0] < 2 * blocks:
        fix = f"give (T, N >= 2) returns and an even number of blocks up to {MAX_BLOCKS}, each of two rows at least"
        raise InputError(f"returns {returns.shape}, {blocks} blocks", where, fix)
    if not np.isfinite(returns).all():
        row, column = (int(place[0]) for place in np.nonzero(~np.isfinite(returns)))
        raise InputError(f"column {column} is not a number in row {row}", where, "give the rows on which every trial has a return")


def cross_validate(returns: Array, blocks: int = 16) -> CrossValidated:
    """Combinatorially symmetric cross-validation of N trials.

    returns: (T, N) per period, finite; the oldest rows are left out until T is a multiple of `blocks` (even). C(blocks, blocks / 2) splits.
    Sharpe ratios with ddof 1 from block sums, so no split is concatenated. Columns without variance get Sharpe 0. Ties share ranks; of
    columns equally good inside the first counts as best. rank w / (N + 1), logit ln(w / (1 - w)). Raises InputError for another shape.
    """
    _check_matrix(returns, blocks)
    width = returns.shape[1]
    used = returns[returns.shape[0] % blocks :].reshape(blocks, -1, width)
    size = used.shape[1] * blocks // 2
    centre = used.mean(axis=(0, 1))
    centred = used - centre
    first, second = centred.sum(axis=1), (centred * centred).sum(axis=1)
    flat = np.maximum((1e-12 * np.abs(used).max(axis=(0, 1))) ** 2, 1e-300)
    chosen = _choices(blocks)

    def ratios(weights: Array) -> Array:
        mean = weights @ first / size
        variance = (weights @ second - size * mean * mean) / (size - 1)
        return np.where(variance <= flat, 0.0, (centre + mean) / np.sqrt(np.maximum(variance, flat)))

    count = len(chosen)
    logit, best_inside, best_outside = np.empty(count), np.empty(count), np.empty(count)
    step = max(CELLS_AT_ONCE // width, 1)
    for start in range(0, count // 2, step):
        rows = np.arange(start, min(start + step, count // 2))
        mirror = count - 1 - rows
        halves = ratios(chosen[rows]), ratios(chosen[mirror])
        for places, inside, outside in ((rows, *halves), (mirror, *halves[::-1])):
            at = np.arange(rows.size), np.argmax(inside, axis=1)
            best = outside[at]
            below = (outside < best[:, np.newaxis]).sum(axis=1)
            rank = (below + ((outside == best[:, np.newaxis]).sum(axis=1) + 1) / 2) / (width + 1.0)
            logit[places], best_inside[places], best_outside[places] = np.log(rank / (1.0 - rank)), inside[at], best
    return CrossValidated(logit, best_inside, best_outside)


def probability_of_overfitting(returns: Array, blocks: int = 16) -> float:
    """PBO of `cross_validate`: share of splits where the best in-sample column ranks in the lower half outside."""
    return cross_validate(returns, blocks).probability


def null_band(returns: Array, blocks: int = 16, runs: int = 60, seed: int = 7, coverage: float = 0.9) -> tuple[float, float]:
    """(low, high): the central `coverage` of the PBO that worthless trials show, correlated and as volatile as these.

    Each run draws rows of the demeaned returns with replacement, so every true Sharpe ratio is zero and the columns keep their correlation.
    PBO of noise is wide (sd 0.15 for 1000 x 100): a value inside the band says nothing either way.
    """
    _check_matrix(returns, blocks)
    rng = np.random.default_rng(seed)
    level = returns - returns.mean(axis=0)
    found = [probability_of_overfitting(level[rng.integers(0, len(level), len(level))], blocks) for _ in range(runs)]
    low, high = np.quantile(found, ((1.0 - coverage) / 2.0, (1.0 + coverage) / 2.0))
    return float(low), float(high)


def correlation(returns: Array, least: int = MIN_COMMON) -> Array:
    """Correlation (N, N) of columns (T, N) on the periods that both have (NaN elsewhere); 0 below `least` of them or without variance."""
    there = np.isfinite(returns)
    kept = there.any(axis=0)
    values = np.where(there, returns, 0.0)
    values[:, kept] = np.where(there, returns - np.nanmean(np.where(kept, returns, 0.0), axis=0), 0.0)[:, kept]
    mask = there.astype(np.float64)
    count, sums, squares = mask.T @ mask, values.T @ mask, (values * values).T @ mask
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = values.T @ values / count - (sums / count) * (sums.T / count)
        variance = squares / count - (sums / count) ** 2
        found = covariance / np.sqrt(variance * variance.T)
        usable = (count >= least) & (np.minimum(variance, variance.T) > 1e-12 * np.maximum(squares, squares.T) / count)
    found = np.where(usable, np.clip(found, -1.0, 1.0), 0.0)
    np.fill_diagonal(found, 1.0)
    return found


def clusters(returns: Array, together: float = 0.5) -> NDArray[np.int64]:
    """Cluster number from 0 of each of N trials (T, N): trials that are the same bet in other clothes share one.

    Average linkage on the correlation: two clusters are one while their members correlate by `together` on average. Unlike a choice by
    silhouettes (ONC), it can find that all trials are one, and that none resembles another. The number of clusters is the effective N.
    """
    if returns.ndim != 2 or returns.shape[1] < 1 or not 0.0 < together < 1.0:
        what = f"returns {returns.shape}, together {together}"
        raise InputError(what, "research.overfitting", "give (T, N >= 1) returns and a correlation between 0 and 1")
    if returns.shape[1] == 1:
        return np.zeros(1, dtype=np.int64)
    distance = 1.0 - correlation(returns)
    tree = linkage(distance[np.triu_indices(len(distance), 1)], method="average")
    return np.asarray(fcluster(tree, 1.0 - together, criterion="distance"), dtype=np.int64) - 1


def cluster_sharpes(returns: Array, cluster: NDArray[np.int64]) -> Array:
    """Sharpe ratio per period of each cluster, float64 (K,): of its members' mean return, each scaled to unit variance. NaN if flat."""
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = returns / np.nanstd(returns, axis=0, ddof=1)
    scaled[~np.isfinite(scaled)] = np.nan
    found = []
    for number in range(int(cluster.max()) + 1):
        members = scaled[:, cluster == number]
        there = np.isfinite(members).any(axis=1)
        found.append(sharpe_ratio(np.nanmean(members[there], axis=1)))
    return np.array(found)
