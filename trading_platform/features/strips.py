"""Which columns run together, in one call of the machine.

A block whose columns all have their bars in the same rows is done row by row as vectors. One instrument listed late would take its
neighbours out of that path, so columns of one history stand together for the length of a step. How they stand changes no bit.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from trading_platform.features import machine
from trading_platform.features.operators.kernel import kernel

MIN_CELLS = 1 << 14  # rows x columns below which threads cost more than they save
MIN_TOGETHER = 16  # columns: two cache lines of their state
FACTOR = 0x9E3779B97F4A7C15  # odd: 2^64 over the golden ratio, which spreads neighbouring numbers
Columns = NDArray[np.uint64]


@kernel
def mark_histories(present, marks):
    """Fold the presence of each column into its mark (S,) uint64: equal histories keep equal marks, others hardly ever get them."""
    for t in range(present.shape[0]):
        here = present[t]
        for s in range(marks.size):
            marks[s] = (marks[s] ^ np.uint64(here[s])) * np.uint64(FACTOR)


def strips_of(present: NDArray[np.bool_], rows_seen: NDArray[np.int64], threads: int) -> list[Columns]:
    """Cut the columns of a step with bars at present (T, S), before which column s had rows_seen[s] bars: each column once.

    Few rows are one strip: they are not worth a second thread.
    """
    if present.size <= MIN_CELLS:
        return [np.arange(present.shape[1], dtype=np.uint64)]
    return [strip for group in _histories(present, rows_seen) for strip in _cut(group, threads)]


def _histories(present: NDArray[np.bool_], rows_seen: NDArray[np.int64]) -> list[Columns]:
    """Columns of one history each, the largest group first; those that are alone or few together at the end."""
    marks = (rows_seen + 1).astype(np.uint64)
    mark_histories(present, marks)
    _, group, counts = np.unique(marks, return_inverse=True, return_counts=True)
    group[counts[group] < MIN_TOGETHER] = -1
    large = sorted(np.flatnonzero(counts >= MIN_TOGETHER), key=lambda one: -counts[one])
    return [columns for one in (*large, -1) if (columns := np.flatnonzero(group == one).astype(np.uint64)).size]


def _cut(columns: Columns, threads: int) -> list[Columns]:
    """Strips of at most a block for several threads, one for a single thread."""
    most = columns.size if threads == 1 else min(machine.BLOCK_COLUMNS, 8 * math.ceil(columns.size / threads / 8))
    return [columns[first : first + most] for first in range(0, columns.size, most)]
