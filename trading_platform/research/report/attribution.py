"""What moved a model's predictions: exact TreeSHAP of out-of-sample cells (Lundberg, Lee 2017), by LightGBM's `pred_contrib`.

A contribution is in the model's own unit; the contributions of a cell and its bias add up to its prediction, which is checked here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import CorruptionError
from trading_platform.research.metrics import information_coefficient
from trading_platform.research.models.lightgbm import predict

Array = NDArray[np.float64]
SUM_TOLERANCE = 1e-6  # of the largest prediction: contributions are summed in another order than trees


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


def tree_shap(model: bytes, cells: NDArray[np.float32]) -> Array:
    """Contributions float64 (N, F + 1) of a LightGBM text model to float32 (N, F) cells, the bias last.

    Raises CorruptionError where they do not add up to the model's own predictions.
    """
    import lightgbm

    booster = lightgbm.Booster(model_str=model.decode())
    found = np.asarray(booster.predict(cells, pred_contrib=True, num_threads=1), dtype=np.float64)
    expected = predict(model, cells)
    wrong = float(np.max(np.abs(found.sum(axis=1) - expected), initial=0.0))
    if wrong > SUM_TOLERANCE * max(float(np.max(np.abs(expected), initial=0.0)), 1e-12):
        what = f"contributions miss the prediction by up to {wrong:.3g}"
        raise CorruptionError(what, "research.report.attribution", "check the LightGBM version against constraints.txt")
    return found


def attribute(names: Sequence[str], models: Sequence[tuple[bytes, NDArray[np.float32]]]) -> Attribution:
    """Attribution over (text model, cells float32 (N, F) that it spoke about out of sample) pairs, all with the same features."""
    contributions = np.concatenate([tree_shap(model, cells)[:, :-1] for model, cells in models])
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
