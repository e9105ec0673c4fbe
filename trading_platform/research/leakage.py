"""Leakage checks: each finds one kind of look-ahead and names the column, the first bad time and both values (freqtrade#11642).

Findings are texts that start with the check's name; an empty tuple means clean. The gate `leakage` fails on any finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.panel import Panel
from trading_platform.features.perturb import other_future
from trading_platform.research.labels import NEVER, Labels, demeaned, forward_return
from trading_platform.research.metrics import MIN_NAMES, information_coefficient
from trading_platform.research.splits import Fold

Features = NDArray[np.float32]
Compute = Callable[[Panel], Features]
IMPLAUSIBLE_IC = 0.25  # honest daily features reach 0.05; a one-row shift of a return reaches 1
SAMPLE_ROWS = 250


def _when(panel: Panel, row: int) -> str:
    return str(np.datetime64(int(panel.timestamp[row]), "ns").astype("datetime64[s]")) + "Z"


def _sampled(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, min(SAMPLE_ROWS, count)).astype(np.int64))


def _implausible(outcome: NDArray[np.float64], rows: NDArray[np.int64], horizon: int) -> float:
    """The mean rank IC that neither honest features nor luck reach: luck's own spread, three times, on top for few names and rows.

    The standard deviation of one rank IC of n names is 1 / sqrt(n - 1); outcomes of h bars make every h-th row independent.
    """
    names = np.isfinite(outcome[rows]).sum(axis=1)
    judged = names[names >= MIN_NAMES]
    independent = max(judged.size / max(horizon, 1), 1.0)
    return IMPLAUSIBLE_IC + 3.0 / np.sqrt(max(float(judged.mean()) - 1.0, 1.0) * independent) if judged.size else np.inf


def _mean_ics(features: Features, outcome: NDArray[np.float64], rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean rank IC of each column with the outcome over some rows, float64 (F,), NaN where there are too few."""
    found = np.full(features.shape[2], np.nan)
    for column in range(features.shape[2]):
        series = information_coefficient(features[rows, :, column].astype(np.float64), outcome[rows])
        defined = series[np.isfinite(series)]
        found[column] = defined.mean() if defined.size else np.nan
    return found


def label_in_features(panel: Panel, features: Features, names: Sequence[str], labels: Labels) -> list[str]:
    """Features that rank instruments as their own label does: the label, or a piece of it, is among the inputs."""
    usable = np.flatnonzero(np.isfinite(labels.values).sum(axis=1) >= MIN_NAMES)
    if usable.size == 0:
        return []
    rows = usable[_sampled(usable.size)]
    outcome = np.where(panel.member, labels.values, np.nan)
    found, limit = _mean_ics(features, outcome, rows), _implausible(outcome, rows, labels.horizon)
    return [
        f"label_in_features: {name} has a mean rank IC of {ic:.2f} with {labels.name}, first at {_when(panel, int(rows[0]))}"
        for name, ic in zip(names, found, strict=True)
        if abs(ic) > limit
    ]


def shifted_timestamp(panel: Panel, features: Features, names: Sequence[str]) -> list[str]:
    """Features that know the next row's return: bars stamped with their end, or joined one row too early."""
    wealth = panel.fields["close"] * panel.fields["return_factor"]
    following = np.full(panel.shape, np.nan)
    following[:-1] = wealth[1:] / wealth[:-1] - 1.0
    rows = _sampled(panel.shape[0])
    found, limit = _mean_ics(features, following, rows), _implausible(following, rows, 1)
    return [
        f"shifted_timestamp: {name} at row t has a mean rank IC of {ic:.2f} with the return of row t+1"
        for name, ic in zip(names, found, strict=True)
        if abs(ic) > limit
    ]


def same_bar_fill(panel: Panel, labels: Labels) -> list[str]:
    """Labels that are not the attainable return: bought in the row of the decision, held for another horizon, or zero where absent."""
    honest = forward_return(panel, labels.horizon)
    wanted = demeaned(honest, panel.member).values if labels.name.endswith("_demeaned") else honest.values
    both = np.isfinite(wanted) & np.isfinite(labels.values)
    wrong = both & (np.abs(wanted - np.where(both, labels.values, 0.0)) > 1e-9)
    wrong |= np.isfinite(labels.values) & ~np.isfinite(wanted)
    if not wrong.any():
        return []
    row, column = (int(i) for i in np.argwhere(wrong)[0])
    expected, got = wanted[row, column], labels.values[row, column]
    where = f"{panel.instrument_ids[column]} at {_when(panel, row)}"
    return [f"same_bar_fill: label of {where} is {got:.6g}, an entry in the next row gives {expected:.6g} ({int(wrong.sum())} cells)"]


def training_meets_test(labels: Labels, folds: Sequence[Fold]) -> list[str]:
    """Folds whose training labels were not yet known when their first test row was decided, or that never become known."""
    found = []
    for number, fold in enumerate(folds):
        late = labels.t1[fold.train].max()
        if late >= labels.t0[fold.test[0]]:
            when = "never" if late == NEVER else str(late)
            found.append(
                f"training_meets_test: fold {number} learns from a label known at {when}, its test begins at {labels.t0[fold.test[0]]}"
            )
    return found


def future_changes_past(panel: Panel, names: Sequence[str], compute: Compute, cuts: Sequence[int], seed: int = 7) -> list[str]:
    """Features at or before a cut that change when everything after it changes: centred windows, full-column scaling (I1).

    compute: panel -> float32 (T, S, F), from a cold start each time. Bits are compared.
    """
    honest = compute(panel)
    found: dict[str, str] = {}
    for cut in cuts:
        other = compute(other_future(panel, cut, np.random.default_rng(seed)))
        same = (honest[: cut + 1] == other[: cut + 1]) | (np.isnan(honest[: cut + 1]) & np.isnan(other[: cut + 1]))
        for column in np.flatnonzero(~same.all(axis=(0, 1))):
            row, symbol = (int(i) for i in np.argwhere(~same[:, :, column])[0])
            values = f"{honest[row, symbol, column]:.6g} became {other[row, symbol, column]:.6g}"
            where = f"{panel.instrument_ids[symbol]} at {_when(panel, row)}"
            found.setdefault(
                names[column], f"future_changes_past: {names[column]} of {where}: {values} when rows after {_when(panel, cut)} changed"
            )
    return list(found.values())


def check(
    panel: Panel,
    features: Features,
    names: Sequence[str],
    labels: Labels,
    folds: Sequence[Fold],
    compute: Compute | None = None,
) -> tuple[str, ...]:
    """All checks; `compute` adds the perturbation check on the first 400 rows."""
    found = label_in_features(panel, features, names, labels) + shifted_timestamp(panel, features, names)
    found += same_bar_fill(panel, labels) + training_meets_test(labels, folds)
    if compute is not None:
        rows = panel.rows(0, min(panel.shape[0], 400))
        count = rows.shape[0]
        found += future_changes_past(rows, names, compute, (count // 2, count * 3 // 4, count - 2))
    return tuple(found)
