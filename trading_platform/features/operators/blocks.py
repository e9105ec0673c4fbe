"""Moving values between the panel, the blocks that kernels work on, and the feature matrix."""

from __future__ import annotations

from trading_platform.features.operators.kernel import NAN, defined, is_infinite, kernel

STRIPE = 16  # columns written together: their rows of the feature matrix stay in the first-level cache


@kernel
def load_field(values, present, start, lo, out):
    """Copy rows start.. and columns lo.. of a field; absent cells and infinities become NaN. Returns how many infinities were present."""
    made = 0
    for t in range(out.shape[0]):
        for s in range(out.shape[1]):
            v = values[start + t, lo + s]
            here = present[start + t, lo + s]
            made += is_infinite(v) if here else 0
            out[t, s] = defined(v) if here else NAN
    return made


@kernel
def load_present(present, start, lo, out):
    """Copy a block of the presence mask; return True if every cell is present."""
    full = True
    for t in range(out.shape[0]):
        for s in range(out.shape[1]):
            out[t, s] = present[start + t, lo + s]
            full &= out[t, s]
    return full


@kernel
def load_block(wide, lo, out):
    """Copy columns lo.. of a full-width value into a block."""
    out[:, :] = wide[:, lo : lo + out.shape[1]]


@kernel
def store_block(block, lo, wide):
    """Copy a block to columns lo.. of a full-width value."""
    wide[:, lo : lo + block.shape[1]] = block


@kernel
def write_features(stack, start, lo, out):
    """Write F blocks (F, t, w) to rows start.. and columns lo.. of the feature matrix (T, S, F), casting to its dtype."""
    count, rows, width = stack.shape
    for t in range(rows):
        for first in range(0, width, STRIPE):
            last = min(first + STRIPE, width)
            for f in range(count):
                for s in range(first, last):
                    out[start + t, lo + s, f] = stack[f, t, s]
