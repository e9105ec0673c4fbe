"""What moved a model's predictions: exact Shapley values of out-of-sample cells (TreeSHAP of Lundberg, Lee 2017 for trees).

A contribution is in the model's own unit; the contributions of a cell and its bias add up to its prediction, which is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.research.metrics import information_coefficient
from trading_platform.research.models.catalog import native
from trading_platform.research.models.learner import check_sum

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Attribution:
    """Of N sampled cells. mean_absolute: float64 (F,) mean |contribution|. share: of their sum. direction: rank correlation of a feature's
    value with its contribution, (F,), +1 where more of it always means a higher prediction. values float32, contributions float64 (N, F).
    """

    names: tuple[str, ...]
    mean_absolute: Array
    share: Array
    direction: Array
    values: NDArray[np.float32]
    contributions: Array


def attribute(names: Sequence[str], models: Sequence[tuple[bytes, NDArray[np.float32]]]) -> Attribution:
    """Attribution over (trained bytes, cells float32 (N, F) that they spoke about out of sample) pairs, all with the same features.

    Raises InputError where the contributions of a cell do not add up to its prediction.
    """
    told = [check_sum(native(model).contributions(model, cells), native(model).predict(model, cells)) for model, cells in models]
    contributions = np.concatenate([values[:, :-1] for values in told])
    values = np.concatenate([cells for _, cells in models])
    mean = np.abs(contributions).mean(axis=0)
    direction = information_coefficient(values.T.astype(np.float64), contributions.T, min_names=4)
    total = float(mean.sum())
    return Attribution(tuple(names), mean, mean / total if total > 0.0 else mean, np.nan_to_num(direction), values, contributions)


def sampled(rows: NDArray[np.int64], usable: NDArray[np.bool_], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """At most `count` usable cells (row, column) of some rows, evenly spread over them: no random number is drawn."""
    row, column = np.nonzero(usable[rows])
    chosen = np.unique(np.linspace(0, row.size - 1, min(count, row.size)).astype(np.int64)) if row.size else np.empty(0, np.int64)
    return rows[row[chosen]], column[chosen]
