"""Splits of time into training and test rows, on label intervals, never on row counts alone (VALD-01..03, T31).

Row r's label occupies the closed interval [t0[r], t1[r]], t1 that of the latest cell where cells end apart (barriers). No training interval
may intersect the interval of a contiguous run of test rows; an embargo lies beyond that. All instruments of a row, and all rows of one
instant, share a place. Golden cases: skfolio's, and the label-time cases that row-count purging gets wrong. docs/validation.md explains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError

Rows = NDArray[np.int64]
WHERE = "research.splits"
NEVER = np.iinfo(np.int64).max  # as in research.labels: no outcome was ever known


@dataclass(frozen=True, slots=True)
class Fold:
    """One refit: rows it learns from, rows it is tested on, and the first of these, on which it is the newest model (T31)."""

    train: Rows
    test: Rows
    speaks: Rows


def _check(t0: Rows, t1: Rows) -> None:
    if t0.shape != t1.shape or t0.ndim != 1:
        raise InputError(f"t0 is {t0.shape}, t1 is {t1.shape}", WHERE, "give one interval per row")
    for what, wrong in (("starts before the row above it", np.diff(t0, prepend=t0[:1]) < 0), ("ends before it starts", t1 < t0)):
        if wrong.any():
            raise InputError(f"row {int(np.argmax(wrong))} {what}", WHERE, "sort the rows by t0; a label ends after its decision")


def _check_places(places: Rows, count: int) -> None:
    if places.shape != (count,) or bool(np.any(np.diff(places) < 0)):
        fix = "give MarketCalendar.positions of the rows' sessions, in the rows' order"
        raise InputError(f"places {places.shape} for {count} rows, or not ascending", WHERE, fix)


def _window(t0: Rows, t1: Rows, at: int, train: int, gap: int, places: Rows | None) -> tuple[Rows, bool]:
    """(training rows of a model that is first asked at row `at`, whether the data reach back over the whole window)."""
    known = np.flatnonzero(t1[:at] < t0[at])
    if places is None:
        rows = known[: max(known.size - gap, 0)][-train:]
        return rows, rows.size == train
    if known.size == 0:
        return known, False
    newest = int(places[known[-1]]) - gap
    inside = (places[known] > newest - train) & (places[known] <= newest)
    return known[inside], bool(inside.any()) and newest - train + 1 >= int(places[0])


def training_rows(t0: Rows, t1: Rows, at: int, train: int, embargo: float = 0.01, places: Rows | None = None) -> Rows:
    """The last `train` rows whose label was known strictly before row `at` was decided, after leaving out the embargo.

    embargo: fraction of `train`, rounded up, dropped between the newest usable row and `at`. places: see `walk_forward`; `train` and the
    embargo then count sessions of the calendar. Fewer rows than `train` may come back.
    """
    _check(t0, t1)
    if places is not None:
        _check_places(places, t0.size)
    return _window(t0, t1, at, train, math.ceil(embargo * train), places)[0]


def walk_forward(
    t0: Rows, t1: Rows, train: int = 252, test: int = 63, step: int = 21, embargo: float = 0.01, places: Rows | None = None
) -> list[Fold]:
    """Rolling folds: `train` rows, then purge and embargo, then `test` rows; the next fold starts `step` rows later.

    t0, t1: int64 (T,) label intervals, t0 ascending. places: int64 (T,) of each row's session on its calendar (`MarketCalendar.positions`):
    all windows then count the market's sessions, however many rows a session has and whichever are missing, and a fold begins with a
    session. The first fold is the earliest with a full training window; the last ones have shorter tests, down to one row, so that the
    newest fold speaks for every row to the end. Raises InputError if not one fold fits.
    """
    _check(t0, t1)
    if min(train, test, step) < 1 or not 0.0 <= embargo < 1.0:
        raise InputError(f"train {train}, test {test}, step {step}, embargo {embargo}", WHERE, "windows >= 1, embargo a fraction below 1")
    if step > test:
        raise InputError(f"step {step} is longer than test {test}", WHERE, "the rows between them would hear no model")
    if places is not None:
        _check_places(places, t0.size)
    axis = np.arange(t0.size) if places is None else places
    gap, folds = math.ceil(embargo * train), []
    start, end = (int(axis[0]) + train, int(axis[-1])) if t0.size else (0, -1)
    while start <= end:
        at, spoken, tested = np.searchsorted(axis, (start, start + step, start + test))
        rows, full = _window(t0, t1, int(at), train, gap, places)
        if not full and not folds:
            start += 1
            continue
        if full and at < spoken:
            folds.append(Fold(rows, np.arange(at, tested), np.arange(at, spoken)))
        start += step
    if not folds:
        unit = "labelled rows" if places is None else "sessions with labelled rows"
        fix = f"a fold needs {train} {unit}, their horizon, the embargo and one test row"
        raise InputError(f"{t0.size} rows are too few for one fold", WHERE, fix)
    return folds


def warm_folds(folds: list[Fold], warm: NDArray[np.bool_], share: float = 0.5) -> list[Fold]:
    """The folds of whose training rows at least `share` are warm; the ones before them would learn from what little follows a warm-up.

    warm: bool (T,), at least one cell of the row has all of its features. Raises InputError if no fold is left.
    """
    kept = [fold for fold in folds if float(warm[fold.train].mean()) >= share]
    if not kept:
        cold = int(np.argmax(warm)) if warm.any() else warm.size
        fix = "read a longer span, or use a feature set with a shorter warm-up"
        raise InputError(f"the first {cold} of {warm.size} rows are cold: too few are left for one fold", WHERE, fix)
    return kept


def _segments(test: Rows) -> list[Rows]:
    """Contiguous runs of the rows, in order."""
    ordered = np.sort(test)
    return [run for run in np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1) if run.size]


def purged(t0: Rows, t1: Rows, test: Rows, embargo: int = 0) -> Rows:
    """Training rows for a set of test rows: those whose interval meets no test segment's interval, nor the `embargo` rows after it.

    Each contiguous run of test rows is one segment with the interval [t0 of its first row, latest t1 of its rows]. The embargo counts rows
    after the last row that the purge behind the segment removed (it stacks beyond the purge).
    """
    return np.flatnonzero(purged_cells(t0, t1[:, np.newaxis], test, embargo, absent=False)[:, 0])


def purged_cells(t0: Rows, ends: Rows, test: Rows, embargo: int = 0, absent: bool = True) -> NDArray[np.bool_]:
    """As `purged`, for cells whose labels end apart (barriers): bool (T, S), the cells that may be learned from.

    ends: int64 (T, S), when each cell's outcome was known. A segment ends with its latest cell, whichever the instrument: what happens to
    one name on a day happens to the others as well. absent: ends of NEVER are cells without a label, which neither teach nor lengthen a
    segment; with False they are outcomes that are not known yet.
    """
    _check(t0, ends.max(axis=1) if ends.size else t0)
    if embargo < 0 or test.size == 0 or int(test.min()) < 0 or int(test.max()) >= t0.size:
        raise InputError(f"{test.size} test rows of {t0.size}, embargo {embargo}", WHERE, "give rows of the table and an embargo >= 0")
    missing = (ends == NEVER) & absent
    keep = ~missing
    keep[test] = False
    for segment in _segments(test):
        begin = t0[segment[0]]
        end = np.max(ends[segment], where=~missing[segment], initial=t0[segment[-1]])
        keep &= ~((t0 <= end)[:, np.newaxis] & (ends >= begin))
        behind = max(int(np.searchsorted(t0, end, side="right")), int(segment[-1]) + 1)
        keep[behind : behind + embargo] = False
    return keep


def _blocks(t0: Rows, count: int) -> list[Rows]:
    """Contiguous blocks whose numbers of instants differ by at most one; rows of one instant stay together."""
    starts = np.unique(t0, return_index=True)[1]
    if starts.size < 2 * count:
        raise InputError(f"{starts.size} instants for {count} blocks", WHERE, "a block needs two rows at least: make fewer blocks")
    edges = [int(part[0]) for part in np.array_split(starts, count)]
    return np.split(np.arange(t0.size), edges[1:])


def purged_folds(t0: Rows, t1: Rows, n_folds: int, n_test: int = 1, embargo: int = 0) -> list[tuple[Rows, Rows]]:
    """Combinatorial purged cross-validation: (train rows, test rows) for each choice of n_test of n_folds blocks (n_test 1: purged k-fold).

    The blocks are contiguous and differ by at most one row. C(n_folds, n_test) splits, C(n_folds - 1, n_test - 1) test paths. Raises
    InputError where a block would have one row, or where purge and embargo leave fewer rows to learn from than the embargo leaves out.
    """
    _check(t0, t1)
    if not 1 <= n_test < n_folds <= t0.size:
        raise InputError(f"{n_test} test blocks of {n_folds} over {t0.size} rows", WHERE, "1 <= n_test < n_folds <= rows")
    blocks = _blocks(t0, n_folds)
    found = []
    for chosen in combinations(range(n_folds), n_test):
        test = np.concatenate([blocks[i] for i in chosen])
        train = purged(t0, t1, test, embargo)
        if train.size < max(embargo, 1):
            what = f"testing blocks {', '.join(map(str, chosen))} leaves {train.size} training rows, the embargo is {embargo}"
            raise InputError(what, WHERE, "a longer span, a shorter horizon, or fewer test blocks at a time")
        found.append((train, test))
    return found


@dataclass(frozen=True, slots=True)
class Combinatorial:
    """Combinatorial purged cross-validation with its paths (Lopez de Prado, AFML chapter 12).

    splits: (train rows, test rows) each. blocks: rows of each block. paths: int64 (C(n - 1, k - 1), n), the split whose model speaks for
    each block on each path; every split speaks once for every block that it tests.
    """

    splits: tuple[tuple[Rows, Rows], ...]
    blocks: tuple[Rows, ...]
    paths: Rows

    def assemble(self, predictions: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        """Out-of-sample predictions of every path, float64 (paths, T, ...).

        predictions: one array per split, (its test rows, ...) in their order. Raises InputError where one does not fit its split.
        """
        sizes = [test.size for _, test in self.splits]
        if [len(one) for one in predictions] != sizes:
            raise InputError(f"predictions for {[len(one) for one in predictions]} rows, tested were {sizes}", WHERE, "one array per split")
        found = np.full((len(self.paths), sum(block.size for block in self.blocks), *predictions[0].shape[1:]), np.nan)
        for path, chosen in enumerate(self.paths):
            for block, split in zip(self.blocks, chosen, strict=True):
                test = self.splits[split][1]
                found[path, block] = predictions[split][np.searchsorted(test, block)]
        return found


def combinatorial(t0: Rows, t1: Rows, n_folds: int = 6, n_test: int = 2, embargo: float = 0.01) -> Combinatorial:
    """`purged_folds` with path reconstruction. embargo: fraction of all rows (VALD-03), rounded up. Path j hears, for each block, the j-th
    of the splits that test it."""
    gap = math.ceil(embargo * t0.size)
    splits = tuple(purged_folds(t0, t1, n_folds, n_test, gap))
    chosen = np.array(list(combinations(range(n_folds), n_test)))
    paths = np.column_stack([np.flatnonzero((chosen == block).any(axis=1)) for block in range(n_folds)])
    return Combinatorial(splits, tuple(_blocks(t0, n_folds)), paths)
