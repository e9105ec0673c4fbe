"""Performance metrics, one definition each, with its formula and source. What a search does to them is in overfitting.py.

Returns are simple fractions per period, net of costs unless the caller says otherwise. Sharpe-like numbers are PER PERIOD; only names that
begin with `annual_` are annualised. Standard deviations use ddof = 1, kurtosis is raw (3 for a normal). Cells that are not finite are left
out; undefined results (too few observations, no variance) are NaN. r: returns, T: their number, w: wealth, f: a row's predictions.
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
    """mean(r) / std(r), ddof 1, per period. NaN below two observations or without variance. Sharpe 1966, 1994 (no riskless rate)."""
    clean = returns[np.isfinite(returns)]
    if clean.size < 2:
        return math.nan
    spread = float(clean.std(ddof=1))
    return float(clean.mean()) / spread if spread > 1e-15 else math.nan


def annual_sharpe(returns: Array, periods: float) -> float:
    """SR sqrt(periods per year): right for returns without serial correlation. Lo 2002, The Statistics of Sharpe Ratios."""
    return sharpe(returns) * math.sqrt(periods)


def sortino(returns: Array) -> float:
    """mean(r) / sqrt(mean(min(r, 0)^2)), over all observations, per period. Sortino, van der Meer 1991 with target 0."""
    clean = returns[np.isfinite(returns)]
    down = math.sqrt(float(np.mean(np.minimum(clean, 0.0) ** 2))) if clean.size else 0.0
    return float(clean.mean()) / down if down > 0.0 else math.nan


def skewness(returns: Array) -> float:
    """Population skewness g3 = m3 / m2^1.5 of the central moments (scipy.stats.skew, biased)."""
    clean = returns[np.isfinite(returns)]
    return float(stats.skew(clean)) if clean.size > 2 and clean.std() > 1e-15 else math.nan


def kurtosis(returns: Array) -> float:
    """Population kurtosis g4 = m4 / m2^2 of the central moments, RAW: 3 for a normal distribution."""
    clean = returns[np.isfinite(returns)]
    return float(stats.kurtosis(clean, fisher=False)) if clean.size > 3 and clean.std() > 1e-15 else math.nan


def drawdowns(returns: Array) -> Array:
    """1 - w_t / max(w_0 .. w_t) with w_0 = 1, w_t = prod(1 + r): float64 (T + 1,), how far wealth lies below its high, the start included.

    A return that is not finite counts as zero. Magdon-Ismail, Atiya 2004.
    """
    wealth = np.concatenate([[1.0], np.cumprod(1.0 + np.where(np.isfinite(returns), returns, 0.0))])
    return np.asarray(1.0 - wealth / np.maximum.accumulate(wealth))


def max_drawdown(returns: Array) -> float:
    """max of `drawdowns`: the largest fall of compounded wealth from an earlier high, a fraction >= 0; the start counts as a high."""
    return float(np.max(drawdowns(returns)))


def drawdown_duration(returns: Array) -> int:
    """Longest run of periods below a high, to its recovery or to the end (then it still lasts): time under water."""
    under = np.flatnonzero(drawdowns(returns) <= 1e-15)
    return int(np.max(np.diff(under, append=returns.size + 1) - 1))


def calmar(returns: Array, periods: float) -> float:
    """Annual geometric return / max drawdown over the whole series; NaN without a drawdown. Young 1991 (there over 36 months)."""
    fall = max_drawdown(returns)
    return annual_return(returns, periods) / fall if fall > 0.0 else math.nan


def drawdown_at_volatility(returns: Array, periods: float, annual_volatility: float) -> float:
    """max_drawdown(r target / (std(r) sqrt(periods))): on one annual volatility, so that leverage is not taken for skill."""
    spread = float(np.nanstd(returns, ddof=1)) * math.sqrt(periods)
    return max_drawdown(returns * (annual_volatility / spread)) if spread > 1e-15 else math.nan


def annual_return(returns: Array, periods: float) -> float:
    """w_T^(periods / T) - 1, geometric (GIPS); the arithmetic mean times periods overstates it. NaN once wealth is gone."""
    clean = returns[np.isfinite(returns)]
    wealth = float(np.prod(1.0 + clean))
    return wealth ** (periods / clean.size) - 1.0 if clean.size and wealth > 0.0 else math.nan


def annual_volatility(returns: Array, periods: float) -> float:
    """std(r) sqrt(periods per year), ddof 1."""
    clean = returns[np.isfinite(returns)]
    return float(clean.std(ddof=1)) * math.sqrt(periods) if clean.size > 1 else math.nan


def hit_rate(returns: Array) -> float:
    """#(r > 0) / #(r != 0): pure noise reaches 45 % always, and sound trend following seldom does (docs/validation.md)."""
    moved = returns[np.isfinite(returns) & (returns != 0.0)]
    return float(np.mean(moved > 0.0)) if moved.size else math.nan


def profit_factor(returns: Array) -> float:
    """sum(r | r > 0) / -sum(r | r < 0); NaN without a loss."""
    clean = returns[np.isfinite(returns)]
    losses = -float(clean[clean < 0.0].sum())
    return float(clean[clean > 0.0].sum()) / losses if losses > 0.0 else math.nan


def hac_t(series: Array, lags: int | None = None) -> float:
    """mean / sqrt(S / T), S = g_0 + 2 sum_l (1 - l / (L + 1)) g_l with autocovariances g: robust to the overlap of labels.

    lags: L; None = floor(4 (T / 100)^(2/9)); labels that overlap by h rows want h or more. No small-sample correction. Newey, West 1987,
    1994; equal to statsmodels' HAC with use_correction=False.
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


def expectancy(returns: Array, lags: int | None = None) -> tuple[float, float]:
    """(mean net return per period or trade, its HAC t): what a win rate only seems to say. lags: see `hac_t`."""
    clean = returns[np.isfinite(returns)]
    return (float(clean.mean()), hac_t(clean, lags)) if clean.size else (math.nan, math.nan)


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
    """corr(f_t, outcome_t) over the names of each row: (T,), NaN where fewer than min_names cells have both.

    prediction, outcome: float64 (T, S). rank: Spearman (ties share ranks) instead of Pearson. Its mean's t is `hac_t`, its ratio `icir`;
    the null sd of one rank IC is 1 / sqrt(n - 1). Grinold, Kahn 1999.
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


def icir(ic: Array) -> float:
    """mean(IC) / std(IC), ddof 1, per row: the Sharpe ratio of the information coefficient. Grinold, Kahn 1999; Qlib's ICIR."""
    return sharpe(ic)


def quantile_returns(prediction: Array, outcome: Array, quantiles: int = 10) -> Array:
    """Mean outcome of each quantile of the prediction per row: float64 (T, quantiles), lowest first, NaN where a row has fewer cells.

    prediction, outcome: float64 (T, S). Of a row's n cells with both, that of rank r (0 is lowest, ties by column) falls into quantile
    floor(r quantiles / n), so sizes differ by at most one. Fama, MacBeth 1973 portfolios; alphalens `mean_return_by_quantile`.
    """
    both = np.isfinite(prediction) & np.isfinite(outcome)
    number = both.sum(axis=1)
    found = np.full((prediction.shape[0], quantiles), np.nan)
    rows = np.flatnonzero(number >= quantiles)
    order = np.argsort(np.where(both, prediction, np.inf)[rows], axis=1, kind="stable")
    ranked = np.take_along_axis(np.where(both, outcome, 0.0)[rows], order, axis=1)
    sums = np.concatenate([np.zeros((rows.size, 1)), np.cumsum(ranked, axis=1)], axis=1)
    edges = -(-np.arange(quantiles + 1) * number[rows, np.newaxis] // quantiles)
    found[rows] = np.diff(np.take_along_axis(sums, edges, axis=1), axis=1) / np.diff(edges, axis=1)
    return found


def quantile_spread(prediction: Array, outcome: Array, quantiles: int = 10) -> Array:
    """Mean outcome of the highest quantile minus that of the lowest per row, float64 (T,), gross: a long-short portfolio's return."""
    found = quantile_returns(prediction, outcome, quantiles)
    return np.asarray(found[:, -1] - found[:, 0])


def turnover(weights: Array) -> Array:
    """sum_i |w_t,i - w_t-1,i|, two-sided, float64 (T,): traded value over equity per period, the first period built from nothing.

    weights: float64 (T, S), position value over equity; not finite counts as no position. Without drift of the weights between trades.
    """
    held = np.where(np.isfinite(weights), weights, 0.0)
    return np.asarray(np.abs(np.diff(held, axis=0, prepend=0.0)).sum(axis=1))


def capacity(traded: Array, dollar_volume: Array, participation: float = 0.01, share: float = 0.95) -> float:
    """Equity at which `share` of the traded value still keeps to `participation` of the average daily dollar volume (capacity at 1 % ADV).

    traded: float64 (T, S), |change of weight|, fractions of equity; dollar_volume: float64 (T, S), quote currency, known before the trade.
    Cell i binds at participation x ADV_i / |dw_i|; the result is the (1 - share) quantile of these, weighted by |dw|: with share 1 the
    strictest cell. A trade without a known volume binds at 0. NaN where nothing was traded, inf never.
    """
    size = np.abs(traded[np.isfinite(traded) & (traded != 0.0)])
    if size.size == 0:
        return math.nan
    volume = dollar_volume[np.isfinite(traded) & (traded != 0.0)]
    limit = participation * np.where(np.isfinite(volume), volume, 0.0) / size
    order = np.argsort(limit, kind="stable")
    over = np.cumsum(size[order]) - size[order]  # traded value whose limit is lower
    return float(limit[order][np.flatnonzero(over <= (1.0 - share) * size.sum() * (1.0 + 1e-12))[-1]])


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
    drawdown_duration: int = 0

    def record(self) -> dict[str, float | int | bool]:
        """Fields as plain values, undefined ones left out."""
        return {k: v for k, v in asdict(self).items() if not (isinstance(v, float) and not math.isfinite(v))}


def performance(returns: Array, periods: float, turnover: Array | None = None, net: bool = True) -> Performance:
    """All metrics of a series of simple returns per period. turnover: (T,) traded value / equity per period."""
    clean = returns[np.isfinite(returns)]
    traded = float(np.nanmean(turnover)) if turnover is not None and turnover.size else math.nan
    return Performance(
        n_obs=int(clean.size),
        periods_per_year=periods,
        net=net,
        ddof=1,
        annual_return=annual_return(clean, periods),
        annual_volatility=annual_volatility(clean, periods),
        annual_sharpe=annual_sharpe(clean, periods),
        sharpe=sharpe(clean),
        sortino=sortino(clean),
        skew=skewness(clean),
        kurtosis_raw=kurtosis(clean),
        max_drawdown=max_drawdown(clean),
        calmar=calmar(clean, periods),
        hit_rate=hit_rate(clean),
        profit_factor=profit_factor(clean),
        mean_t_hac=expectancy(clean)[1],
        mean_turnover=traded,
        annual_turnover=traded * periods,
        drawdown_duration=drawdown_duration(clean),
    )
