"""Walk-forward: refit on each fold's training rows, predict its test rows, keep for each row what the newest model said (T31).

The other test rows give the age curve: how the information coefficient falls as a model gets older. Folds, learners, parameters and seeds
run side by side; what the candidates of a fold have in common is made once. Unchanged folds come from a FoldStore, and a hash chain over
the folds says what was trained on what and said what (`research.models.folds`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research.labels import Labels
from trading_platform.research.metrics import hac_t, information_coefficient
from trading_platform.research.models import lightgbm
from trading_platform.research.models.folds import (
    Cells,
    FoldResult,
    FoldStore,
    FoldWork,
    Link,
    chained,
    keep,
    kept,
    trained_key,
    usable_cells,
)
from trading_platform.research.models.learner import Learner
from trading_platform.research.splits import Fold

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is walked forward: a learner with its parameters, and a seed."""

    learner: Learner = field(default_factory=lightgbm.Trees)
    seed: int = 7


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
    share. models: trained bytes of the folds in order. reused: folds that came from the store. shapley: float64 (F,), mean share of |exact
    Shapley value| over test cells, empty where it was not kept. chain: one link per fold; its last one names the whole walk-forward.
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
    shapley: Array = field(default_factory=lambda: np.empty(0))
    chain: tuple[Link, ...] = ()


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
    learner: Learner | None = None,
    weights: Array | None = None,
) -> tuple[bytes, bool]:
    """Train on the cells of these rows; return (trained bytes, whether they came from the store).

    learner: by default LightGBM with `parameters`. weights: float64 (T, S), what a cell counts for; None for equal ones.
    """
    chosen = learner or lightgbm.Trees(parameters or lightgbm.Parameters())
    cells = Cells(panel, features, names, labels, weights)
    key = trained_key(chosen, seed, cells.names, cells.learned_digest(rows))
    found = kept(store, key)
    if found is not None:
        return found, True
    model = chosen.train(chosen.prepare(cells.training(rows)), seed)
    keep(store, key, model)
    return model, False


def _check(features: NDArray[np.float32], names: Sequence[str], labels: Labels, folds: Sequence[Fold], panel: Panel) -> None:
    if features.shape != (*panel.shape, len(names)):
        raise InputError(
            f"features {features.shape}, panel {panel.shape}, {len(names)} names", "research.walk_forward", "give (T, S, F) of this panel"
        )
    if not folds:
        raise InputError("no folds", "research.walk_forward", "make them with splits.walk_forward")
    for number, fold in enumerate(folds):
        if fold.train.size == 0 or fold.test.size == 0:
            raise InputError(
                f"fold {number} has no training or no test rows", "research.walk_forward", "make them with splits.walk_forward"
            )
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
    learner: Learner | None = None,
    weights: Array | None = None,
) -> WalkForward:
    """Train and test every fold, `workers` at a time; see `sweep`. learner: by default LightGBM with `parameters`."""
    chosen = Candidate(learner or lightgbm.Trees(parameters or lightgbm.Parameters()), seed)
    return sweep(panel, features, names, labels, folds, [chosen], progress, store, workers, weights)[0]


def sweep(
    panel: Panel,
    features: NDArray[np.float32],
    names: Sequence[str],
    labels: Labels,
    folds: Sequence[Fold],
    candidates: Sequence[Candidate],
    progress: Progress = lambda done, total: None,
    store: FoldStore | None = None,
    workers: int = 2,
    weights: Array | None = None,
) -> list[WalkForward]:
    """Train and test every candidate on every fold, `workers` at a time (the libraries leave the interpreter free); one result each.

    features: float32 (T, S, F) of `panel`, columns named by `names`. weights: float64 (T, S), what a cell counts for in training.
    progress: called with (fits done, fits). Raises InputError for a fold whose training labels reach into its test rows, and for one that
    nothing can be learned from, naming the fold. No result depends on the workers, the store or the other candidates.
    """
    _check(features, names, labels, folds, panel)
    if not candidates:
        raise InputError("no candidates", "research.walk_forward", "give at least one learner and seed")
    cells = Cells(panel, features, names, labels, weights)
    with ThreadPoolExecutor(workers) as pool:
        waiting = []
        for fold in folds:  # fold after fold, so that few are open at a time
            work = FoldWork(cells, fold, store, len(candidates))
            waiting.append([pool.submit(work.run, candidate.learner, candidate.seed) for candidate in candidates])
        try:
            results = _gather(waiting, folds, panel, progress)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [_collect(panel, cells, folds, [row[number] for row in results]) for number in range(len(candidates))]


def _gather(waiting: list[list[Future[FoldResult]]], folds: Sequence[Fold], panel: Panel, progress: Progress) -> list[list[FoldResult]]:
    total, done = sum(map(len, waiting)), 0
    results: list[list[FoldResult]] = []
    for number, (fold, futures) in enumerate(zip(folds, waiting, strict=True)):
        results.append([])
        for future in futures:
            try:
                results[-1].append(future.result())
            except InputError as error:
                first, last = (str(np.datetime64(int(panel.session[row]), "D")) for row in (fold.train[0], fold.train[-1]))
                raise InputError(f"fold {number}, trained on {first} to {last}: {error.what}", error.where, error.fix) from error
            done += 1
            progress(done, total)
    return results


def _collect(panel: Panel, cells: Cells, folds: Sequence[Fold], results: list[FoldResult]) -> WalkForward:
    count, width = panel.shape
    labels = cells.labels
    predictions, spoke = np.full((count, width), np.nan), np.full(count, -1, dtype=np.int64)
    longest = max(fold.test.size for fold in folds)
    by_age = np.full((len(folds), longest), np.nan)
    for number, (fold, result) in enumerate(zip(folds, results, strict=True)):
        predicted = np.full((fold.test.size, width), np.nan)
        predicted[cells.usable[fold.test]] = result.predicted
        outcome = np.where(panel.member[fold.test], labels.values[fold.test], np.nan)
        by_age[number, : fold.test.size] = information_coefficient(predicted, outcome)
        predictions[fold.speaks] = predicted[fold.speaks - fold.test[0]]
        spoke[fold.speaks] = number
    ic = information_coefficient(predictions, np.where(panel.member, labels.values, np.nan))
    step = max(fold.speaks.size for fold in folds)
    fold_ic = np.array([_mean(row[: fold.speaks.size]) for row, fold in zip(by_age, folds, strict=True)])
    return WalkForward(
        predictions=predictions,
        fold=spoke,
        ic=ic,
        fold_ic=fold_ic,
        age_curve=_age_curve(by_age, step, labels.horizon),
        importance=np.mean([result.gain for result in results], axis=0),
        names=cells.names,
        models=tuple(result.model for result in results),
        reused=sum(result.reused for result in results),
        shapley=np.mean([result.shapley for result in results], axis=0),
        chain=chained(results),
    )


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
