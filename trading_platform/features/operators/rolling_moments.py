"""Sums and central moments over the last n present bars, by the two-block scheme: nothing is ever subtracted.

The bars of a column are cut into blocks of n. While a block fills, `ring[p]` takes its p-th value; entries above p still hold suffix
aggregates of the previous block, so the window at p is (suffix of the previous block from p + 1) merged with (the current block so far).
When the block is full, one pass from its end turns its values into suffix aggregates in place. A 1e300 or a NaN leaves no trace once it has
left the window. A row whose columns all stand at one place is done as a vector; otherwise each column runs alone, same arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from trading_platform.features.operators.kernel import (
    NAN,
    ExtraOf,
    Kind,
    Operator,
    Params,
    StateOf,
    StateShapes,
    all_but_one,
    defined,
    is_infinite,
    kernel,
    share_one_place,
)


@kernel
def close_sums(ring, run, lo, hi, n):
    """Turn the full block of columns lo..hi-1 into suffix sums."""
    for j in range(n - 2, -1, -1):
        below, above = ring[j, lo:hi], ring[j + 1, lo:hi]
        for s in range(below.size):
            below[s] += above[s]
    run[lo:hi] = 0.0


@kernel
def close_sum(ring, c, n):
    """The same for one column."""
    for j in range(n - 2, -1, -1):
        ring[j, c] += ring[j + 1, c]


@kernel
def sums(present, dense, lo, ring, run, head, full, x, n, divisor, out):
    """ring (n + 1, S): see the module; its last row stays 0. run (S,): sum of the current block. Result: window sum / divisor."""
    rows, width = x.shape
    hi = lo + width
    made = 0
    if dense and share_one_place(head, full, lo, hi):
        p, f, running = head[lo], full[lo], run[lo:hi]
        for t in range(rows):
            values, result, cells, suffix = x[t], out[t], ring[p, lo:hi], ring[p + 1, lo:hi]
            if f or p + 1 == n:
                for s in range(width):
                    total = running[s] + values[s]
                    running[s], cells[s] = total, values[s]
                    v = (suffix[s] + total) / divisor
                    made += is_infinite(v)
                    result[s] = defined(v)
            else:
                for s in range(width):
                    running[s], cells[s], result[s] = running[s] + values[s], values[s], NAN
            p += 1
            if p == n:
                close_sums(ring, run, lo, hi, n)
                p, f = 0, 1
        for s in range(lo, hi):
            head[s], full[s] = p, f
        return made
    for s in range(width):
        c = lo + s
        p, f, total = head[c], full[c], run[c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            total += x[t, s]
            ring[p, c] = x[t, s]
            v = (ring[p + 1, c] + total) / divisor if f or p + 1 == n else NAN
            made += is_infinite(v)
            out[t, s] = defined(v)
            p += 1
            if p == n:
                close_sum(ring, c, n)
                p, f, total = 0, 1, 0.0
        head[c], full[c], run[c] = p, f, total
    return made


@kernel
def welford(v, inverse, mean, total):
    """Mean and sum of squared deviations with one more value; inverse: 1 / the new count."""
    delta = v - mean
    mean += delta * inverse
    return mean, total + delta * (v - mean)


@kernel
def close_squares(ring, squares, average, spread, lo, hi, n):
    """Turn the full block of columns lo..hi-1 into suffix means (ring) and suffix sums of squared deviations (squares)."""
    means, totals = average[lo:hi], spread[lo:hi]
    means[:], totals[:] = 0.0, 0.0
    for j in range(n - 1, -1, -1):
        inverse, cells, suffix = 1.0 / (n - j), ring[j, lo:hi], squares[j, lo:hi]
        for s in range(means.size):
            mean, total = welford(cells[s], inverse, means[s], totals[s])
            means[s], totals[s], cells[s], suffix[s] = mean, total, mean, total
    means[:], totals[:] = 0.0, 0.0


@kernel
def close_square(ring, squares, c, n):
    """The same for one column."""
    mean, total = 0.0, 0.0
    for j in range(n - 1, -1, -1):
        mean, total = welford(ring[j, c], 1.0 / (n - j), mean, total)
        ring[j, c], squares[j, c] = mean, total


@kernel
def window_variance(p, n, average, spread, suffix_average, suffix_spread, root):
    """Merge the current block (p + 1 values) with the previous block's suffix (n - p - 1 values); divide by n - 1."""
    total = spread
    if p + 1 < n:
        delta = suffix_average - average
        total = spread + suffix_spread + delta * delta * ((p + 1.0) * (n - p - 1.0) / n)
    v = total / (n - 1.0)
    return math.sqrt(v) if root else v


@kernel
def variance(present, dense, lo, ring, squares, average, spread, head, full, x, n, root, out):
    """ring, squares (n + 1, S): values / suffix means and suffix squares; average, spread (S,): Welford's state of the current block."""
    rows, width = x.shape
    hi = lo + width
    made = 0
    if dense and share_one_place(head, full, lo, hi):
        p, f, averages, spreads = head[lo], full[lo], average[lo:hi], spread[lo:hi]
        for t in range(rows):
            values, result, cells = x[t], out[t], ring[p, lo:hi]
            above, above_squares = ring[p + 1, lo:hi], squares[p + 1, lo:hi]
            inverse, known = 1.0 / (p + 1.0), f or p + 1 == n
            for s in range(width):
                mean, square = welford(values[s], inverse, averages[s], spreads[s])
                averages[s], spreads[s], cells[s] = mean, square, values[s]
                r = window_variance(p, n, mean, square, above[s], above_squares[s], root) if known else NAN
                made += is_infinite(r)
                result[s] = defined(r)
            p += 1
            if p == n:
                close_squares(ring, squares, average, spread, lo, hi, n)
                p, f = 0, 1
        for s in range(lo, hi):
            head[s], full[s] = p, f
        return made
    for s in range(width):
        c = lo + s
        p, f, mean, square = head[c], full[c], average[c], spread[c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            mean, square = welford(x[t, s], 1.0 / (p + 1.0), mean, square)
            ring[p, c] = x[t, s]
            r = window_variance(p, n, mean, square, ring[p + 1, c], squares[p + 1, c], root) if f or p + 1 == n else NAN
            made += is_infinite(r)
            out[t, s] = defined(r)
            p += 1
            if p == n:
                close_square(ring, squares, c, n)
                p, f, mean, square = 0, 1, 0.0, 0.0
        head[c], full[c], average[c], spread[c] = p, f, mean, square
    return made


def _sum_state(params: Params) -> StateShapes:
    return {"ring": ((int(params["n"]) + 1,), "f8"), "run": ((), "f8"), "head": ((), "i8"), "full": ((), "i8")}


def _variance_state(params: Params) -> StateShapes:
    rows = (int(params["n"]) + 1,)
    return {
        "ring": (rows, "f8"),
        "squares": (rows, "f8"),
        "average": ((), "f8"),
        "spread": ((), "f8"),
        "head": ((), "i8"),
        "full": ((), "i8"),
    }


def _windowed(name: str, run: Callable[..., int], summary: str, state: StateOf, extra: ExtraOf) -> Operator:
    return Operator(name, Kind.WINDOW, run, 1, summary, ("n",), extra=extra, state=state, warm_up=all_but_one)


OPERATORS = (
    _windowed("sum", sums, "sum of the last n present bars", _sum_state, lambda params: (1.0,)),
    _windowed("mean", sums, "mean of the last n present bars", _sum_state, lambda params: (float(params["n"]),)),
    _windowed("var", variance, "sample variance of the last n present bars", _variance_state, lambda params: (False,)),
    _windowed("std", variance, "sample standard deviation of the last n present bars", _variance_state, lambda params: (True,)),
)
