"""Walk-forward: refit on each fold's training rows, predict its test rows, keep for each row what the newest model said (T31).

The other test rows give the age curve: how the information coefficient falls as a model gets older. Unchanged folds come from a FoldStore.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import content_hash, sha256_hex
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research.labels import Labels
from trading_platform.research.metrics import hac_t, information_coefficient
from trading_platform.research.models import lightgbm
from trading_platform.research.splits import Fold

CODE_VERSION = "1"
Array = NDArray[np.float64]
Progress = Callable[[int, int], None]


class FoldStore(Protocol):
    """Trained models by content hash of everything that went into them; `registry.object_store` behind a prefix fits."""

    def get(self, key: str) -> bytes | None:
        """The text model, or None."""

    def put(self, key: str, model: bytes) -> None:
        """Keep a text model."""


@dataclass(frozen=True, slots=True)
class AgeCurve:
    """Rank IC against model age. age: (B,) first row of each bucket since the test began; ic, t: mean and HAC t; count: rows."""

    age: NDArray[np.int64]
    ic: Array
    t: Array
    count: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class WalkForward:
    """Out-of-sample results of K folds.

    predictions: float64 (T, S), NaN before the first fold and where features are undefined. fold: int64 (T,), who spoke, -1 for nobody.
    ic: float64 (T,) rank IC per row. fold_ic: float64 (K,) mean rank IC over each fold's own rows. importance: float64 (F,), mean gain
    share. models: text models of the folds in order. reused: folds that came from the store.
    """

    predictions: Array
    fold: NDArray[np.int64]
    ic: Array
    fold_ic: Array
    age_curve: AgeCurve
    importance: Array
    names: tuple[str, ...]
    models: tuple[bytes, ...]
    reused: int


def usable_cells(panel: Panel, features: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Cells a model may speak about: the bar is there and every feature is defined. bool (T, S), as the engine has it."""
    return panel.present & np.isfinite(features).all(axis=2)


def training_matrix(
    panel: Panel, features: NDArray[np.float32], labels: Labels, rows: NDArray[np.int64], usable: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], Array]:
    """(X float32 (N, F), y float64 (N,)) of the member cells with features and label in these rows, in row-major order."""
    defined = usable_cells(panel, features)[rows] if usable is None else usable[rows]
    cells = defined & panel.member[rows] & np.isfinite(labels.values[rows])
    return np.ascontiguousarray(features[rows][cells]), labels.values[rows][cells]


def fit(
    panel: Panel,
    features: NDArray[np.float32],
    names: Sequence[str],
    labels: Labels,
    rows: NDArray[np.int64],
    parameters: lightgbm.Parameters | None = None,
    seed: int = 7,
    store: FoldStore | None = None,
    usable: NDArray[np.bool_] | None = None,
) -> tuple[bytes, bool]:
    """Train on the cells of these rows; return (text model, whether it came from the store)."""
    chosen = parameters or lightgbm.Parameters()
    x, y = training_matrix(panel, features, labels, rows, usable)
    material = [CODE_VERSION, version("lightgbm"), chosen, seed, list(names), sha256_hex(x.tobytes()), sha256_hex(y.tobytes())]
    key = content_hash(material)
    found = None if store is None else store.get(key)
    if found is not None:
        return found, True
    model = lightgbm.train(x, y, names, chosen, seed)
    if store is not None:
        store.put(key, model)
    return model, False


def _check(features: NDArray[np.float32], names: Sequence[str], labels: Labels, folds: Sequence[Fold], panel: Panel) -> None:
    if features.shape != (*panel.shape, len(names)):
        raise InputError(
            f"features {features.shape}, panel {panel.shape}, {len(names)} names", "research.walk_forward", "give (T, S, F) of this panel"
        )
    if not folds:
        raise InputError("no folds", "research.walk_forward", "make them with splits.walk_forward")
    for number, fold in enumerate(folds):
        if labels.t1[fold.train].max() >= labels.t0[fold.test[0]]:
            fix = "make the folds from these labels' own intervals"
            raise InputError(f"fold {number} learns from labels known only in its test", "research.walk_forward", fix)


def run(
    panel: Panel,
    features: NDArray[np.float32],
    names: Sequence[str],
    labels: Labels,
    folds: Sequence[Fold],
    parameters: lightgbm.Parameters | None = None,
    seed: int = 7,
    progress: Progress = lambda done, total: None,
    store: FoldStore | None = None,
    workers: int = 2,
) -> WalkForward:
    """Train and test every fold, `workers` at a time (LightGBM leaves the interpreter free).

    features: float32 (T, S, F) of `panel`, columns named by `names`. progress: called with (folds done, folds). Raises InputError for a
    fold whose training labels reach into its test rows. The result does not depend on workers or on the store.
    """
    _check(features, names, labels, folds, panel)
    usable = usable_cells(panel, features)
    done = 0

    def one(fold: Fold) -> tuple[bytes, bool, Array]:
        model, reused = fit(panel, features, names, labels, fold.train, parameters, seed, store, usable)
        predicted = np.full((fold.test.size, panel.shape[1]), np.nan)
        cells = usable[fold.test]
        predicted[cells] = lightgbm.predict(model, np.ascontiguousarray(features[fold.test][cells]))
        return model, reused, predicted

    results = []
    with ThreadPoolExecutor(workers) as pool:
        for result in pool.map(one, folds):
            results.append(result)
            done += 1
            progress(done, len(folds))
    return _collect(panel, labels, folds, names, results)


def _collect(
    panel: Panel, labels: Labels, folds: Sequence[Fold], names: Sequence[str], results: list[tuple[bytes, bool, Array]]
) -> WalkForward:
    count, width = panel.shape
    predictions, spoke = np.full((count, width), np.nan), np.full(count, -1, dtype=np.int64)
    longest = max(fold.test.size for fold in folds)
    by_age = np.full((len(folds), longest), np.nan)
    for number, (fold, (_, _, predicted)) in enumerate(zip(folds, results, strict=True)):
        outcome = np.where(panel.member[fold.test], labels.values[fold.test], np.nan)
        by_age[number, : fold.test.size] = information_coefficient(predicted, outcome)
        own = fold.speaks - fold.test[0]
        predictions[fold.speaks] = predicted[own]
        spoke[fold.speaks] = number
    ic = information_coefficient(predictions, np.where(panel.member, labels.values, np.nan))
    step = max(fold.speaks.size for fold in folds)
    fold_ic = np.array([_mean(row[: fold.speaks.size]) for row, fold in zip(by_age, folds, strict=True)])
    shares = np.mean([lightgbm.importance(model) for model, _, _ in results], axis=0)
    models = tuple(model for model, _, _ in results)
    reused = sum(again for _, again, _ in results)
    return WalkForward(predictions, spoke, ic, fold_ic, _age_curve(by_age, step, labels.horizon), shares, tuple(names), models, reused)


def _mean(values: Array) -> float:
    defined = values[np.isfinite(values)]
    return float(defined.mean()) if defined.size else math.nan


def _age_curve(by_age: Array, step: int, horizon: int) -> AgeCurve:
    """Mean IC per bucket of `step` rows of age, over all folds; t with lags for the labels' overlap."""
    starts = np.arange(0, by_age.shape[1], step)
    buckets = [by_age[:, start : start + step].ravel() for start in starts]
    clean = [bucket[np.isfinite(bucket)] for bucket in buckets]
    return AgeCurve(
        age=starts,
        ic=np.array([_mean(bucket) for bucket in clean]),
        t=np.array([hac_t(bucket, horizon) for bucket in clean]),
        count=np.array([bucket.size for bucket in clean], dtype=np.int64),
    )
