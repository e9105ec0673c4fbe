"""How good forecasts were, and whether one is better than another: decile books net of costs, paired block bootstrap."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.research.metrics import information_coefficient

Array = NDArray[np.float64]
DRAWS, BLOCK, SEED = 4000, 21, 7


@dataclass(frozen=True, slots=True)
class Daily:
    """One forecast's days. ic: (T,) rank IC. net: (T,) return per day of the decile book after costs, fraction of one leg's capital.

    traded: (T,) what the book traded per day, both legs and both sides, in the same unit.
    """

    ic: Array
    net: Array
    traded: Array


def decile_weights(forecast: Array) -> Array:
    """Per row +1/n in the n names of the highest tenth, -1/n in the lowest, float64 (T, S); zeros below ten forecasts.

    Equal forecasts at a tenth's edge share what is left of it, so that a model of one tree is no bet on the order of the columns.
    """
    weights = np.zeros(forecast.shape)
    for row, values in enumerate(forecast):
        defined = np.flatnonzero(np.isfinite(values))
        n = defined.size // 10
        if n:
            known = values[defined]
            weights[row, defined] = _highest(known, n) - _highest(-known, n)
    return weights


def _highest(values: Array, n: int) -> Array:
    edge = np.partition(values, -n)[-n]
    above, level = values > edge, values == edge
    return np.asarray((above + level * (n - above.sum()) / level.sum()) / n)


def daily(forecast: Array, outcome: Array, horizon: int, cost: float) -> Daily:
    """Days of a forecast float64 (T, S) against outcomes over `horizon` rows.

    The book holds `horizon` tranches of 1/horizon each, one of which is put to the new deciles every row, so a tranche trades from the
    deciles of `horizon` rows before to today's. cost: fraction of each unit traded. Rows with fewer than ten forecasts that have an outcome
    are NaN; on a row on which it says the same of every name, a forecast has a rank IC of 0.
    """
    used = np.where(np.isfinite(outcome), forecast, np.nan)
    weights = decile_weights(used)
    before = np.zeros_like(weights)
    before[horizon:] = weights[:-horizon]
    traded = np.abs(weights - before).sum(axis=1) / horizon
    gross = np.sum(weights * np.nan_to_num(outcome), axis=1) / horizon
    spoke = np.isfinite(used).sum(axis=1) >= 10
    ic = np.where(spoke, np.nan_to_num(information_coefficient(used, outcome)), np.nan)
    return Daily(ic, np.where(spoke, gross - cost * traded, np.nan), np.where(spoke, traded, np.nan))


def resampled_means(series: Array, draws: int = DRAWS, block: int = BLOCK, seed: int = SEED) -> Array:
    """Means of circular-block-bootstrap resamples of one or several series resampled together, (draws, K).

    series: (n, K) without NaN: the columns keep their rows, which makes differences of them paired. Politis, Romano 1992.
    """
    count = series.shape[0]
    rng = np.random.default_rng(seed)
    whole = np.concatenate([series, series[:block]])
    sums = np.concatenate([np.zeros((1, series.shape[1])), np.cumsum(whole, axis=0)])
    full, rest = divmod(count, block)
    starts = rng.integers(0, count, (draws, full + bool(rest)))
    total = (sums[starts[:, :full] + block] - sums[starts[:, :full]]).sum(axis=1)
    if rest:
        total += sums[starts[:, -1] + rest] - sums[starts[:, -1]]
    return np.asarray(total / count)


def interval(means: Array, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of resampled means."""
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(low), float(high)
