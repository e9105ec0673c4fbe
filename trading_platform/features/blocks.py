"""Moving values between the panel, the blocks that kernels work on, and the feature matrix.

Rows are taken as slices before the inner loops: with plain indices the compiler cannot prove them non-negative and does not vectorise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trading_platform.features.operators.kernel import LARGEST, NAN, copy_row, kernel

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
CACHE_LINE = 64


def aligned(size: int) -> NDArray[np.float64]:
    """Room for `size` float64 that begins on a cache line: a vector that lies across two lines is fetched twice."""
    room = np.empty(8 * size + CACHE_LINE, np.uint8)
    first = -room.ctypes.data % CACHE_LINE
    return room[first : first + 8 * size].view(np.float64)


@kernel
def load_columns(values, columns, out):
    """Copy `columns` (w,) uint64 of rows (t, S) into a block (t, w)."""
    first, near = int(columns[0]), columns[-1] - columns[0] + 1 == columns.size
    for t in range(out.shape[0]):
        source, result = values[t], out[t]
        if near:
            copy_row(source[first : first + columns.size], result)
        else:
            for s in range(result.size):
                result[s] = source[columns[s]]


@kernel
def store_columns(values, columns, out):
    """Copy a block (t, w) to `columns` (w,) uint64 of rows (t, S)."""
    for t in range(values.shape[0]):
        source, target = values[t], out[t]
        for s in range(source.size):
            target[columns[s]] = source[s]


@kernel
def load_present(source, columns, session, days, present, opens):
    """Copy `columns` (w,) uint64 of a presence mask; mark each column's first bar of a session. Returns True if every cell is present.

    session (t,) int64: day numbers. days (w,) int64: day of each column's last bar, advanced in place.
    """
    load_columns(source, columns, present)
    rows, width = present.shape
    absent = 0
    for t in range(rows):
        here, opening, day = present[t], opens[t], session[t]
        for s in range(width):
            absent += 0 if here[s] else 1
            opening[s] = here[s] & (days[s] != day)
            days[s] = day if here[s] else days[s]
    return absent == 0


@kernel
def note_bars(present, session, rows_seen, last_session):
    """Count each column's present bars and keep the session of the newest, in place."""
    for t in range(present.shape[0]):
        here, day = present[t], session[t]
        for s in range(here.size):
            rows_seen[s] += here[s]
            last_session[s] = day if here[s] else last_session[s]


@kernel
def load_field(values, columns, present, out):
    """Copy `columns` (w,) uint64 of a field's rows (t, S). Absent cells and infinities become NaN; infinities are counted."""
    load_columns(values, columns, out)
    made = 0
    for t in range(out.shape[0]):
        here, result = present[t], out[t]
        for s in range(result.size):
            v = result[s]
            made += here[s] & (abs(v) > LARGEST)
            result[s] = v if here[s] & (abs(v) <= LARGEST) else NAN
    return made


@kernel
def keep_within(values, largest):
    """Make values beyond `largest` NaN, in place: the cast to the matrix would make them infinities. Returns how many there were."""
    cells, made = values.ravel(), 0
    for i in range(cells.size):
        made += 1 if abs(cells[i]) > largest else 0
    if made:
        for i in range(cells.size):
            cells[i] = cells[i] if abs(cells[i]) <= largest else NAN
    return made


@kernel
def write_features(stack, columns, out):
    """Write F blocks (F, t, w) into `columns` (w,) uint64 of rows (t, S, F) of the feature matrix, casting to its dtype.

    Eight features at a time: each pass writes neighbouring cells of the matrix and reads eight streams.
    """
    count, rows, width = stack.shape
    eights = count - count % 8
    for t in range(rows):
        target = out[t]
        for f in range(0, eights, 8):
            a, b, c, d = stack[f, t], stack[f + 1, t], stack[f + 2, t], stack[f + 3, t]
            e, g, h, i = stack[f + 4, t], stack[f + 5, t], stack[f + 6, t], stack[f + 7, t]
            for s in range(width):
                cells = target[columns[s], f : f + 8]
                cells[0], cells[1], cells[2], cells[3] = a[s], b[s], c[s], d[s]
                cells[4], cells[5], cells[6], cells[7] = e[s], g[s], h[s], i[s]
        for f in range(eights, count):
            rest = stack[f, t]
            for s in range(width):
                target[columns[s], f] = rest[s]
