"""Splits of time into training and test rows, on label intervals, never on row counts alone (VALD-01..03, T31).

Row r's label occupies the closed interval [t0[r], t1[r]]. No training interval may intersect a test interval; an embargo lies beyond that.
All instruments of a row share the row's place. Golden cases: skfolio's, and the label-time cases that row-count purging gets wrong.
Every pipeline splits by `walk_forward`; `purged_folds` waits for tuning: no asset calls it yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fold:
    """One refit: rows it learns from, rows it is tested on, and the first of these, on which it is the newest model (T31)."""

    train: Rows
    test: Rows
    speaks: Rows


def _check(t0: Rows, t1: Rows) -> None:
    if t0.shape != t1.shape or t0.ndim != 1:
        raise InputError(f"t0 is {t0.shape}, t1 is {t1.shape}", "research.splits", "give one interval per row")
    if t0.size and (bool(np.any(np.diff(t0) < 0)) or bool(np.any(t1 < t0))):
        raise InputError("intervals must start in ascending order and not end before they start", "research.splits", "sort the rows by t0")


def training_rows(t0: Rows, t1: Rows, at: int, train: int, embargo: float = 0.01) -> Rows:
    """The last `train` rows whose label was known strictly before row `at` was decided, after leaving out the embargo.

    embargo: fraction of `train`, rounded up to rows, dropped between the newest usable row and `at`. Fewer rows than `train` may come back.
    """
    _check(t0, t1)
    known = np.flatnonzero(t1[:at] < t0[at])
    gap = math.ceil(embargo * train)
    return known[: max(known.size - gap, 0)][-train:]


def walk_forward(t0: Rows, t1: Rows, train: int = 252, test: int = 63, step: int = 21, embargo: float = 0.01) -> list[Fold]:
    """Rolling folds: `train` rows, then purge and embargo, then `test` rows; the next fold starts `step` rows later.

    t0, t1: int64 (T,) label intervals, t0 ascending. The first fold is the earliest with a full training window; the last ones have
    shorter tests, down to one row, so that the newest fold speaks for every row to the end. Raises InputError if not one fold fits.
    """
    _check(t0, t1)
    if min(train, test, step) < 1 or not 0.0 <= embargo < 1.0:
        raise InputError(
            f"train {train}, test {test}, step {step}, embargo {embargo}", "research.splits", "windows >= 1 row, embargo a fraction below 1"
        )
    count = t0.size
    folds: list[Fold] = []
    start = train
    while start < count:
        rows = training_rows(t0, t1, start, train, embargo)
        if rows.size < train and not folds:
            start += 1
            continue
        if rows.size == train:
            tested = np.arange(start, min(start + test, count))
            folds.append(Fold(rows, tested, tested[:step]))
        start += step
    if not folds:
        fix = f"a fold needs {train} labelled rows, their horizon, the embargo and one test row"
        raise InputError(f"{count} rows are too few for one fold", "research.splits", fix)
    return folds


def warm_folds(folds: list[Fold], warm: NDArray[np.bool_], share: float = 0.5) -> list[Fold]:
    """The folds of whose training rows at least `share` are warm; the ones before them would learn from what little follows a warm-up.

    warm: bool (T,), at least one cell of the row has all of its features. Raises InputError if no fold is left.
    """
    kept = [fold for fold in folds if float(warm[fold.train].mean()) >= share]
    if not kept:
        cold = int(np.argmax(warm)) if warm.any() else warm.size
        fix = "read a longer span, or use a feature set with a shorter warm-up"
        raise InputError(f"the first {cold} of {warm.size} rows are cold: too few are left for one fold", "research.splits", fix)
    return kept


def purged(t0: Rows, t1: Rows, test: Rows, embargo: int = 0) -> Rows:
    """Training rows for a set of test rows: those whose interval meets no test segment's interval, nor the `embargo` rows after it.

    Each contiguous run of test rows is one segment with the interval [t0 of its first row, latest t1 of its rows]. The embargo counts rows
    after the last row that the purge behind the segment removed (it stacks beyond the purge).
    """
    _check(t0, t1)
    keep = np.ones(t0.size, dtype=np.bool_)
    keep[test] = False
    ordered = np.sort(test)
    for segment in np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1):
        if segment.size == 0:
            continue
        begin, end = t0[segment[0]], t1[segment].max()
        meets = (t0 <= end) & (t1 >= begin)
        keep &= ~meets
        behind = max(int(np.searchsorted(t0, end, side="right")), int(segment[-1]) + 1)
        keep[behind : behind + embargo] = False
    return np.flatnonzero(keep)


def purged_folds(t0: Rows, t1: Rows, n_folds: int, n_test: int = 1, embargo: int = 0) -> list[tuple[Rows, Rows]]:
    """Combinatorial purged cross-validation: (train rows, test rows) for each choice of n_test of n_folds blocks (n_test 1: purged k-fold).

    The blocks are contiguous and differ by at most one row. C(n_folds, n_test) splits, C(n_folds - 1, n_test - 1) test paths.
    """
    if not 1 <= n_test < n_folds <= t0.size:
        raise InputError(f"{n_test} test blocks of {n_folds} over {t0.size} rows", "research.splits", "1 <= n_test < n_folds <= rows")
    blocks = np.array_split(np.arange(t0.size), n_folds)
    choices = combinations(range(n_folds), n_test)
    tests = [np.concatenate([blocks[i] for i in chosen]) for chosen in choices]
    return [(purged(t0, t1, test, embargo), test) for test in tests]
