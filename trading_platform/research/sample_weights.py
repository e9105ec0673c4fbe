"""Sample weights for labels that overlap in time (Lopez de Prado, Advances in Financial Machine Learning, ch. 4).

A label decided on row t occupies the rows t+1 .. its exit, of its own instrument; names beside it are samples of their own. Weights depend
on the ends of later labels, so a fold computes them from its own training rows, never from the whole sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.matching.price import attainable_prices
from trading_platform.research.labels import Labels

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
_WHERE = "research.sample_weights"


@dataclass(frozen=True, slots=True)
class SampleWeights:
    """Weights of the cells of some rows, each float64 (T, S), NaN where a cell has no label or is in none of the rows.

    uniqueness: mean of 1 / concurrency over the label's rows, in (0, 1]. attribution: |log return of the label's rows, each shared by the
    labels that hold it|, scaled to mean 1. concurrency: int64 (T, S), labels that hold a row.
    """

    uniqueness: Array
    attribution: Array
    concurrency: Rows

    @property
    def independent(self) -> float:
        """Sum of the uniqueness: how many labels without overlap say as much (the effective bets of quant.md 3)."""
        return float(np.nansum(self.uniqueness))


def sample_weights(labels: Labels, panel: Panel, rows: Rows | None = None) -> SampleWeights:
    """Uniqueness and return attribution of the labels of some rows (all by default), as if no other labels existed.

    rows: int64, of the panel. Raises InputError for labels without exits, or rows without a single label.
    """
    if labels.exits is None:
        raise InputError(f"{labels.name} do not say when each cell ended", _WHERE, "make them with labels.make")
    chosen = np.zeros(panel.shape[0], np.bool_)
    chosen[slice(None) if rows is None else rows] = True
    held = np.isfinite(labels.values) & chosen[:, np.newaxis]
    if not held.any():
        raise InputError(f"not one of {int(chosen.sum())} rows has a label of {labels.name}", _WHERE, "choose rows with labels")
    first = np.repeat(np.arange(1, panel.shape[0] + 1)[:, np.newaxis], panel.shape[1], axis=1)
    concurrent = concurrency(first, labels.exits, held, panel.shape[0])
    with np.errstate(divide="ignore"):
        share = np.where(concurrent > 0, 1.0 / concurrent, 0.0)
    unique = _over_label(share, first, labels.exits, held) / np.where(held, labels.exits - first + 1, 1)
    earned = np.abs(_over_label(_row_returns(panel) * share, first + 1, labels.exits, held))
    mean = np.nanmean(earned)
    return SampleWeights(unique, earned / mean if mean > 0.0 else np.where(held, 1.0, np.nan), concurrent)


def concurrency(first: Rows, last: Rows, held: NDArray[np.bool_], count: int) -> Rows:
    """How many labels hold each row, int64 (count, S). first, last: int64 (N, S), the rows each label occupies, both ends included;
    held: bool (N, S), which of them exist. AFML snippet 4.1."""
    steps = np.zeros((count + 1, first.shape[1]), np.int64)
    label, column = np.nonzero(held)
    np.add.at(steps, (first[label, column], column), 1)
    np.add.at(steps, (last[label, column] + 1, column), -1)
    return np.cumsum(steps[:-1], axis=0)


def uniqueness(first: Rows, last: Rows, count: int) -> Array:
    """Average uniqueness of N labels of one instrument, float64 (N,), from the rows each occupies, both ends included. AFML snippet 4.2.

    Labels on rows 0-2, 2-3, 4-5 of 6: 0.8333, 0.75, 1.0.
    """
    begin, end = first[:, np.newaxis], last[:, np.newaxis]
    held = np.ones(begin.shape, np.bool_)
    concurrent = concurrency(begin, end, held, count)
    share = np.where(concurrent > 0, 1.0 / np.maximum(concurrent, 1), 0.0)
    return np.asarray(_over_label(share, begin, end, held)[:, 0] / (last - first + 1))


def _over_label(values: Array, first: Rows, last: Rows, held: NDArray[np.bool_]) -> Array:
    """Sum of values (T, S) over the rows each label occupies, float64 (N, S), NaN where there is no label."""
    total = np.zeros((values.shape[0] + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=total[1:])
    found = np.full(held.shape, np.nan)
    label, column = np.nonzero(held)
    found[label, column] = total[last[label, column] + 1, column] - total[first[label, column], column]
    return found


def _row_returns(panel: Panel) -> Array:
    """Log return of the attainable price into each row since the name's last bar, (T, S), 0 in a name's first bar and where it has none."""
    price = attainable_prices(panel) * panel.fields["return_factor"]
    there = np.isfinite(price)
    newest = np.maximum.accumulate(np.where(there, np.arange(panel.shape[0])[:, np.newaxis], -1), axis=0)
    before = np.vstack([np.full((1, panel.shape[1]), -1), newest[:-1]])
    earlier = np.take_along_axis(price, np.maximum(before, 0), axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(there & (before >= 0), np.log(price / earlier), 0.0)


def time_decay(unique: Array, oldest: float) -> Array:
    """A factor per row, float64 (T,), linear in the uniqueness summed up to the row, 1 at the newest row. AFML snippet 4.11.

    unique: float64 (T, S), NaN without a label, rows in time order. oldest: in (-1, 1], the factor where nothing has been summed yet; 1: no
    decay; below 0: the oldest share -oldest of the sum gets weight 0. InputError outside of it.
    """
    if not -1.0 < oldest <= 1.0:
        raise InputError(f"oldest {oldest} is outside (-1, 1]", _WHERE, "1 decays nothing, 0 to nothing, -0.3 drops the oldest 30 %")
    summed = np.cumsum(np.nansum(unique, axis=1))
    whole = summed[-1]
    if whole <= 0.0:
        raise InputError("not one label has a uniqueness", _WHERE, "choose rows with labels")
    slope = (1.0 - oldest) / whole if oldest >= 0.0 else 1.0 / ((oldest + 1.0) * whole)
    return np.asarray(np.maximum(1.0 + slope * (summed - whole), 0.0))


def training_weights(labels: Labels, panel: Panel, rows: Rows, oldest: float = 1.0, attribution: bool = False) -> Array:
    """The weight of each cell of a fold's training rows, float64 (N, S), mean 1 over the labelled cells, NaN elsewhere.

    rows: int64 (N,) ascending. Uniqueness (or return attribution, which has it inside) times the decay, from these rows alone.
    """
    found = sample_weights(labels, panel, rows)
    base = (found.attribution if attribution else found.uniqueness)[rows]
    weighted = base * time_decay(found.uniqueness[rows], oldest)[:, np.newaxis]
    return np.asarray(weighted / np.nanmean(weighted))
