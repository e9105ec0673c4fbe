"""Performance metrics, one definition each. Returns are simple fractions per period, net of costs unless the caller says otherwise.

Sharpe-like numbers are PER PERIOD; only names that begin with `annual_` are annualised. Standard deviations use ddof = 1, kurtosis is raw
(3 for a normal). Undefined results (too few observations, no variance) are NaN.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
SESSIONS_PER_YEAR = 252.0
MIN_NAMES = 4  # a rank correlation of fewer names says nothing


def sharpe(returns: Array) -> float:
    """Mean over standard deviation (ddof 1), per period. NaN below two observations or without variance."""
    clean = returns[np.isfinite(returns)]
    if clean.size < 2:
        return math.nan
    spread = float(clean.std(ddof=1))
    return float(clean.mean()) / spread if spread > 1e-15 else math.nan


def annual_sharpe(returns: Array, periods: float) -> float:
    """Sharpe ratio times sqrt(periods per year)."""
    return sharpe(returns) * math.sqrt(periods)


def sortino(returns: Array) -> float:
    """Mean over downside deviation (root mean square of the negative returns over all observations), per period."""
    clean = returns[np.isfinite(returns)]
    down = math.sqrt(float(np.mean(np.minimum(clean, 0.0) ** 2))) if clean.size else 0.0
    return float(clean.mean()) / down if down > 0.0 else math.nan


def skewness(returns: Array) -> float:
    """Population skewness g3 = m3 / m2^1.5."""
    clean = returns[np.isfinite(returns)]
    return float(stats.skew(clean)) if clean.size > 2 and clean.std() > 1e-15 else math.nan


def kurtosis(returns: Array) -> float:
    """Population kurtosis g4 = m4 / m2^2, RAW: 3 for a normal distribution."""
    clean = returns[np.isfinite(returns)]
    return float(stats.kurtosis(clean, fisher=False)) if clean.size > 3 and clean.std() > 1e-15 else math.nan


def max_drawdown(returns: Array) -> float:
    """Largest fall of compounded wealth from an earlier high, a fraction >= 0; the start counts as a high."""
    wealth = np.concatenate([[1.0], np.cumprod(1.0 + np.nan_to_num(returns))])
    return float(np.max(1.0 - wealth / np.maximum.accumulate(wealth)))


def drawdown_at_volatility(returns: Array, periods: float, annual_volatility: float) -> float:
    """Max drawdown after scaling the returns to one annual volatility: skill and leverage apart (quant.md 3)."""
    spread = float(np.nanstd(returns, ddof=1)) * math.sqrt(periods)
    return max_drawdown(returns * (annual_volatility / spread)) if spread > 1e-15 else math.nan


def annual_return(returns: Array, periods: float) -> float:
    """Geometric: wealth^(periods / observations) - 1."""
    clean = returns[np.isfinite(returns)]
    wealth = float(np.prod(1.0 + clean))
    return wealth ** (periods / clean.size) - 1.0 if clean.size and wealth > 0.0 else math.nan


def annual_volatility(returns: Array, periods: float) -> float:
    """Standard deviation times sqrt(periods per year)."""
    clean = returns[np.isfinite(returns)]
    return float(clean.std(ddof=1)) * math.sqrt(periods) if clean.size > 1 else math.nan


def hit_rate(returns: Array) -> float:
    """Share of the non-zero returns that are positive."""
    moved = returns[np.isfinite(returns) & (returns != 0.0)]
    return float(np.mean(moved > 0.0)) if moved.size else math.nan


def profit_factor(returns: Array) -> float:
    """Sum of gains over sum of losses; NaN without a loss."""
    clean = returns[np.isfinite(returns)]
    losses = -float(clean[clean < 0.0].sum())
    return float(clean[clean > 0.0].sum()) / losses if losses > 0.0 else math.nan


def hac_t(series: Array, lags: int | None = None) -> float:
    """t statistic of the mean with Newey-West (Bartlett) standard errors, robust to the overlap of labels.

    lags: None = floor(4 (n/100)^(2/9)). Newey, West 1987, 1994.
    """
    clean = series[np.isfinite(series)]
    count = clean.size
    if count < 3:
        return math.nan
    used = math.floor(4.0 * (count / 100.0) ** (2.0 / 9.0)) if lags is None else lags
    error = clean - clean.mean()
    variance = float(error @ error) / count
    for lag in range(1, min(used, count - 1) + 1):
        variance += 2.0 * (1.0 - lag / (used + 1.0)) * float(error[lag:] @ error[:-lag]) / count
    return float(clean.mean()) / math.sqrt(variance / count) if variance > 0.0 else math.nan


def hac_intercept_t(returns: Array, factors: Array, lags: int | None = None) -> tuple[float, float]:
    """(intercept, HAC t) of returns regressed on factors (n, k) and a constant: what is left after known factors (T29)."""
    usable = np.isfinite(returns) & np.isfinite(factors).all(axis=1)
    y, x = returns[usable], np.column_stack([np.ones(int(usable.sum())), factors[usable]])
    count, width = x.shape
    if count <= width + 2:
        return math.nan, math.nan
    used = math.floor(4.0 * (count / 100.0) ** (2.0 / 9.0)) if lags is None else lags
    inverse = np.linalg.pinv(x.T @ x)
    beta = inverse @ x.T @ y
    score = x * (y - x @ beta)[:, np.newaxis]
    meat = score.T @ score
    for lag in range(1, used + 1):
        cross = score[lag:].T @ score[:-lag]
        meat += (1.0 - lag / (used + 1.0)) * (cross + cross.T)
    error = math.sqrt(max(float((inverse @ meat @ inverse)[0, 0]), 0.0))
    return float(beta[0]), float(beta[0]) / error if error > 0.0 else math.nan


def _ranks(values: Array) -> Array:
    """Average ranks along each row, NaN kept."""
    return np.asarray(stats.rankdata(values, axis=1, nan_policy="omit"), dtype=np.float64)


def information_coefficient(prediction: Array, outcome: Array, rank: bool = True, min_names: int = MIN_NAMES) -> Array:
    """Cross-sectional correlation of prediction and outcome per row: (T,), NaN where fewer than min_names cells have both.

    prediction, outcome: float64 (T, S). rank: Spearman instead of Pearson.
    """
    both = np.isfinite(prediction) & np.isfinite(outcome)
    rows = np.flatnonzero(both.sum(axis=1) >= min_names)
    result = np.full(prediction.shape[0], np.nan)
    if rows.size == 0:
        return result
    x, y = np.where(both, prediction, np.nan)[rows], np.where(both, outcome, np.nan)[rows]
    if rank:
        x, y = _ranks(x), _ranks(y)
    x, y = x - np.nanmean(x, axis=1, keepdims=True), y - np.nanmean(y, axis=1, keepdims=True)
    scale = np.sqrt(np.nansum(x * x, axis=1) * np.nansum(y * y, axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        result[rows] = np.where(scale > 0.0, np.nansum(x * y, axis=1) / scale, np.nan)
    return result


def effective_bets(count: int, horizon: int, names_held: float) -> float:
    """Independent bets in overlapping labels: label uniqueness 1 / (horizon + 1) summed over the cells held (AFML ch. 4).

    count: rows traded; names_held: average names per row. Concurrent names count as separate bets.
    """
    return count * names_held / (horizon + 1)


@dataclass(frozen=True, slots=True)
class Performance:
    """A return series in numbers, with what they were made of. Fractions; `annual_` = per year; others per period or without unit."""

    n_obs: int
    periods_per_year: float
    net: bool
    ddof: int
    annual_return: float
    annual_volatility: float
    annual_sharpe: float
    sharpe: float
    sortino: float
    skew: float
    kurtosis_raw: float
    max_drawdown: float
    calmar: float
    hit_rate: float
    profit_factor: float
    mean_t_hac: float
    mean_turnover: float
    annual_turnover: float

    def record(self) -> dict[str, float | int | bool]:
        """Fields as plain values, undefined ones left out."""
        return {k: v for k, v in asdict(self).items() if not (isinstance(v, float) and not math.isfinite(v))}


def performance(returns: Array, periods: float, turnover: Array | None = None, net: bool = True) -> Performance:
    """All metrics of a series of simple returns per period. turnover: (T,) traded value / equity per period."""
    clean = returns[np.isfinite(returns)]
    fall, grown = max_drawdown(clean), annual_return(clean, periods)
    traded = float(np.nanmean(turnover)) if turnover is not None and turnover.size else math.nan
    return Performance(
        n_obs=int(clean.size),
        periods_per_year=periods,
        net=net,
        ddof=1,
        annual_return=grown,
        annual_volatility=annual_volatility(clean, periods),
        annual_sharpe=annual_sharpe(clean, periods),
        sharpe=sharpe(clean),
        sortino=sortino(clean),
        skew=skewness(clean),
        kurtosis_raw=kurtosis(clean),
        max_drawdown=fall,
        calmar=grown / fall if fall > 0.0 else math.nan,
        hit_rate=hit_rate(clean),
        profit_factor=profit_factor(clean),
        mean_t_hac=hac_t(clean),
        mean_turnover=traded,
        annual_turnover=traded * periods,
    )
