"""Moving values between the panel, the blocks that kernels work on, and the feature matrix.

Rows are taken as slices before the inner loops: with plain indices the compiler cannot prove them non-negative and does not vectorise.
"""

from __future__ import annotations

from trading_platform.features.operators.kernel import LARGEST, NAN, kernel


@kernel
def load_present(present, start, lo, out):
    """Copy a block of the presence mask; return True if every cell is present."""
    rows, width = out.shape
    absent = 0
    for t in range(rows):
        source, result = present[start + t, lo : lo + width], out[t]
        for s in range(width):
            result[s] = source[s]
            absent += 0 if source[s] else 1
    return absent == 0


@kernel
def load_field(values, present, start, lo, out):
    """Copy a block of a (T, S) field; `present` is the block's mask. Absent cells and infinities become NaN, infinities are counted."""
    rows, width = out.shape
    made = 0
    for t in range(rows):
        source, here, result = values[start + t, lo : lo + width], present[t], out[t]
        for s in range(width):
            v = source[s]
            made += here[s] & (abs(v) > LARGEST)
            result[s] = v if here[s] & (abs(v) <= LARGEST) else NAN
    return made


@kernel
def load_block(wide, lo, out):
    """Copy columns lo.. of a full-width value into a block."""
    out[:, :] = wide[:, lo : lo + out.shape[1]]


@kernel
def store_block(block, lo, wide):
    """Copy a block to columns lo.. of a full-width value."""
    wide[:, lo : lo + block.shape[1]] = block


@kernel
def keep_within(stack, largest):
    """Make values beyond `largest` NaN, in place: the cast to the matrix would make them infinities. Returns how many there were."""
    values, made = stack.ravel(), 0
    for i in range(values.size):
        made += 1 if abs(values[i]) > largest else 0
        values[i] = values[i] if abs(values[i]) <= largest else NAN
    return made


@kernel
def write_features(stack, start, lo, out):
    """Write F blocks (F, t, w) to rows start.. and columns lo.. of the feature matrix (T, S, F), casting to its dtype.

    Eight features at a time: each pass writes neighbouring cells of the matrix and reads eight streams.
    """
    count, rows, width = stack.shape
    eights = count - count % 8
    for t in range(rows):
        target = out[start + t, lo : lo + width]
        for f in range(0, eights, 8):
            a, b, c, d = stack[f, t], stack[f + 1, t], stack[f + 2, t], stack[f + 3, t]
            e, g, h, i = stack[f + 4, t], stack[f + 5, t], stack[f + 6, t], stack[f + 7, t]
            for s in range(width):
                cells = target[s, f : f + 8]
                cells[0], cells[1], cells[2], cells[3] = a[s], b[s], c[s], d[s]
                cells[4], cells[5], cells[6], cells[7] = e[s], g[s], h[s], i[s]
        for f in range(eights, count):
            rest = stack[f, t]
            for s in range(width):
                target[s, f] = rest[s]
