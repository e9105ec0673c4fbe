"""What a model must beat (T29): signals that know nothing, models of labels that mean nothing, momentum, reversal, buying and holding.

Here are the signals, the deals and the refits; `null_models` trades them all in the model's own arena and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from trading_platform.contracts.canonical import content_hash, sha256_hex
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.matching.price import attainable_prices
from trading_platform.research.labels import Labels
from trading_platform.research.models import lightgbm
from trading_platform.research.splits import Fold
from trading_platform.research.walk_forward import FoldStore, training_matrix, usable_cells

CODE_VERSION = "1"
Array = NDArray[np.float64]
DEAL_ROWS = 63  # rows that keep one deal: a quarter, much longer than a label, so that a shuffled label overlaps itself as a real one does


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


def reversal_1(panel: Panel) -> Array:
    """Minus the last row's total return, float64 (T, S), NaN where a bar is missing. Jegadeesh 1990, at one row."""
    wealth = panel.fields["close"] * panel.fields["return_factor"]
    score = np.full(panel.shape, np.nan)
    score[1:] = 1.0 - wealth[1:] / wealth[:-1]
    return score


def buy_and_hold(panel: Panel, first: int, cost_bps: float) -> Array:
    """Net return per row, float64 (T - first,), of buying every member of row `first` in equal parts and never trading again.

    Bought in row first + 1 at the attainable price plus cost_bps, marked at closes with dividends reinvested; who leaves stays in cash at
    its last close (T33). Raises InputError where nobody can be bought.
    """
    close = panel.fields["close"] * panel.fields["return_factor"]
    entry = (attainable_prices(panel) * panel.fields["return_factor"])[first + 1] if first + 1 < panel.shape[0] else np.empty(0)
    bought = np.flatnonzero(panel.member[first] & np.isfinite(entry)) if entry.size else np.empty(0, dtype=np.int64)
    if bought.size == 0:
        raise InputError(f"no member of row {first} can be bought in the next", "research.nulls", "begin where the universe has bars")
    value = close[first + 1 :, bought]
    seen = np.maximum.accumulate(np.where(np.isfinite(value), np.arange(len(value))[:, np.newaxis], -1), axis=0)
    held = np.where(seen >= 0, value[np.maximum(seen, 0), np.arange(bought.size)], entry[bought])
    wealth = np.concatenate([[1.0, 1.0], (held / entry[bought]).mean(axis=1) / (1.0 + cost_bps * 1e-4)])
    return np.asarray(wealth[1:] / wealth[:-1] - 1.0)


def shuffled_labels(labels: Labels, seed: int, rows: int = 1) -> Labels:
    """The labels dealt anew among each row's labelled instruments: same cells, same values per row, no information about who got what.

    rows: so many neighbouring rows share one deal, a uniform permutation of the instruments; with 1 the overlap of labels longer than a row
    is destroyed as well. In a row where the giver has no label, the giver's own giver takes its place, which leaves a uniform permutation
    of those that have one (dealing two groups apart would keep what lies between the groups). A row's mean stays: give relative labels.
    """
    rng = np.random.default_rng(seed)
    values, width = labels.values.copy(), labels.values.shape[1]
    for start in range(0, len(values), rows):
        giver = rng.permutation(width)
        for row in values[start : start + rows]:
            taken = np.isfinite(row)
            source = giver[taken]
            while not taken[source].all():
                source = np.where(taken[source], source, giver[source])
            row[taken] = row[source]
    return replace(labels, values=values, name=f"{labels.name}_shuffled")


def random_signal(predictions: Array, seed: int) -> Array:
    """A signal that knows nothing at the model's own persistence, and so its turnover: each instrument gets another one's predictions.

    predictions: float64 (T, S), NaN where nobody spoke. Instruments that are never predicted stay so.
    """
    spoken = np.flatnonzero(np.isfinite(predictions).any(axis=0))
    dealt = np.full_like(predictions, np.nan)
    dealt[:, spoken] = predictions[:, np.random.default_rng(seed).permutation(spoken)]
    return dealt


def shuffled_refits(
    panel: Panel,
    features: NDArray[np.float32],
    names: Sequence[str],
    labels: Labels,
    folds: Sequence[Fold],
    deals: Sequence[int],
    parameters: lightgbm.Parameters | None = None,
    seed: int = 7,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
    store: FoldStore | None = None,
) -> list[Array]:
    """The walk-forward's canonical predictions, float64 (T, S), once per deal: the model's own refits on labels dealt anew.

    One binned Dataset per fold serves every deal, because a deal keeps the cells and changes only whose label lies in which
    (`Dataset.set_label`). deals: seeds of the deals; seed: the model's. Same arguments as `walk_forward.run` otherwise, same folds, same
    rows. store: keeps each fold's predictions of these deals by the content of everything that went into them. Predictions are rounded to
    float32. The result does not depend on workers or on the store.
    """
    chosen, usable = parameters or lightgbm.Parameters(), usable_cells(panel, features)
    dealt = [shuffled_labels(labels, deal, DEAL_ROWS) for deal in deals]
    found = [np.full(panel.shape, np.nan) for _ in deals]

    def one(fold: Fold) -> None:
        x, _ = training_matrix(panel, features, labels, fold.train, usable)
        targets = [training_matrix(panel, features, shuffled, fold.train, usable)[1] for shuffled in dealt]
        cells = usable[fold.speaks]
        rows = np.ascontiguousarray(features[fold.speaks][cells])
        hashes = [sha256_hex(array.tobytes()) for array in (x, rows, *targets)]
        key = content_hash([CODE_VERSION, version("lightgbm"), chosen, seed, list(names), hashes])
        kept = None if store is None else store.get(key)
        if kept is None:
            kept = np.array(_fitted(x, targets, rows, names, chosen, seed), dtype=np.float32).tobytes()
            if store is not None:
                store.put(key, kept)
        for values, predicted in zip(found, np.frombuffer(kept, np.float32).reshape(len(dealt), -1), strict=True):
            own = np.full(cells.shape, np.nan)
            own[cells] = predicted
            values[fold.speaks] = own

    with ThreadPoolExecutor(workers) as pool:
        for done, _ in enumerate(pool.map(one, folds), start=1):
            progress(done, len(folds))
    return found


def _fitted(
    x: NDArray[np.float32],
    targets: Sequence[Array],
    rows: NDArray[np.float32],
    names: Sequence[str],
    parameters: lightgbm.Parameters,
    seed: int,
) -> list[Array]:
    """Predictions for `rows` of one model per target, all on one binned Dataset."""
    import lightgbm as native

    options = parameters.options(seed, x.shape[0])
    columns = [name.replace(" ", "_") for name in names]
    data = native.Dataset(x, targets[0], feature_name=columns, params=options)
    predicted = []
    for target in targets:
        data.set_label(target)
        booster = native.train(options, data, num_boost_round=parameters.rounds)
        predicted.append(np.asarray(booster.predict(rows, num_threads=1), dtype=np.float64) if len(rows) else np.empty(0))
    return predicted


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
