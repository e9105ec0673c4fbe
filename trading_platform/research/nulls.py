"""What a model must beat (T29): signals that know nothing, labels that mean nothing, and 12-1 momentum.

First cut: the random signals and momentum are compared in every report. `shuffled_labels` is called by no asset yet: refits on them count
for the gate only with 100 runs, which take hours of training on a small machine.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trading_platform.contracts.panel import Panel
from trading_platform.research.labels import Labels

Array = NDArray[np.float64]
MIN_RUNS = 100


@dataclass(frozen=True, slots=True)
class NullComparison:
    """A model beside its nulls; ICs are mean rank ICs over the same rows.

    random_95, shuffled_95: 95th percentile over `random_runs` and `shuffled_runs` (None: not run). momentum_ic: of 12-1 momentum.
    intercept_t: HAC t of the net return left after market and momentum (None: not run). *_sharpe: annual net Sharpe ratios through the same
    backtest, the model's and the populations' 95th percentiles (None: not run).
    """

    model_ic: float
    random_95: float
    random_runs: int
    momentum_ic: float
    shuffled_95: float | None = None
    shuffled_runs: int = 0
    intercept_t: float | None = None
    model_sharpe: float | None = None
    random_sharpe_95: float | None = None
    shuffled_sharpe_95: float | None = None


def momentum_12_1(panel: Panel, long: int = 252, short: int = 21) -> Array:
    """Total return from `long` to `short` rows ago, float64 (T, S), NaN where a bar is missing. Jegadeesh, Titman 1993."""
    wealth = panel.fields["close"] * panel.fields["return_factor"]
    score = np.full(panel.shape, np.nan)
    score[long:] = wealth[long - short : len(wealth) - short] / wealth[: len(wealth) - long] - 1.0
    return score


def shuffled_labels(labels: Labels, seed: int) -> Labels:
    """The labels with each row's values dealt anew among its labelled instruments: same distribution, no information."""
    rng = np.random.default_rng(seed)
    values = labels.values.copy()
    for row in values:
        defined = np.flatnonzero(np.isfinite(row))
        row[defined] = row[rng.permutation(defined)]
    return replace(labels, values=values, name=f"{labels.name}_shuffled")


def _row_scores(values: Array) -> Array:
    """Centred ranks of each row scaled to length 1, zero where undefined: their dot product is a rank correlation."""
    ranks = np.asarray(stats.rankdata(values, axis=1, nan_policy="omit"))
    with np.errstate(invalid="ignore"):
        centred = np.nan_to_num(
            ranks - np.nanmean(np.where(np.isfinite(ranks).any(axis=1, keepdims=True), ranks, 0.0), axis=1, keepdims=True)
        )
    length = np.sqrt(np.sum(centred * centred, axis=1, keepdims=True))
    return np.asarray(centred / np.where(length > 0.0, length, 1.0))


def random_signal_ics(predictions: Array, outcomes: Array, runs: int = 200, seed: int = 7) -> Array:
    """Mean rank IC of `runs` signals that know nothing but have the model's own persistence, and so its turnover.

    Each run gives every instrument another instrument's predictions for the whole span. predictions, outcomes: float64 (T, S). Cells
    missing on one side count as zero, which leaves the mean at zero and shrinks the spread a little. Returns float64 (runs,).
    """
    rng = np.random.default_rng(seed)
    rows = np.isfinite(predictions).any(axis=1) & np.isfinite(outcomes).any(axis=1)
    one, other = _row_scores(predictions[rows]), _row_scores(outcomes[rows])
    return np.array([float(np.mean(np.sum(one[:, rng.permutation(one.shape[1])] * other, axis=1))) for _ in range(runs)])
