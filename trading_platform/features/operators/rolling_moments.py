"""Sums and central moments over the last n present bars, by the two-block scheme: nothing is ever subtracted.

The bars of a column are cut into blocks of n. While a block fills, ring row p takes its p-th value; rows above p still hold suffix
aggregates of the previous block, so the window at p is (suffix of the previous block from p + 1) merged with (the current block so far).
When the block is full, one pass from its end turns its values into suffix aggregates in place. A 1e300 or a NaN leaves no trace once it has
left the window. All that is cold is NaN, so a window is undefined until it is full, wherever in a block it begins: plan.phase_of lets every
operator begin elsewhere, so that not all blocks are full in the same live row. Aligned rows are done as vectors, short loops of few arrays
each so that the compiler sees they do not overlap; otherwise each cell stands at its column's place. Same arithmetic, same bits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from trading_platform.features.operators.kernel import (
    LARGEST,
    NAN,
    ColdOf,
    ExtraOf,
    Kind,
    Operator,
    Params,
    advance,
    all_but_one,
    begin,
    defined,
    is_infinite,
    kernel,
    place_of_next,
)


@kernel
def close_sums(state, lo, hi, n):
    """Turn the full block of columns lo..hi-1 into suffix sums."""
    for j in range(n - 2, -1, -1):
        below, above = state[j, lo:hi], state[j + 1, lo:hi]
        for s in range(below.size):
            below[s] += above[s]
    state[n + 1, lo:hi] = 0.0


@kernel
def close_sum(state, c, n):
    """The same for one column."""
    total = state[n - 1, c]
    for j in range(n - 2, -1, -1):
        total = state[j, c] + total
        state[j, c] = total
    state[n + 1, c] = 0.0


@kernel
def sums(present, seen, aligned, places, lo, state, x, n, divisor, out):
    """Window sum / divisor. state: n ring rows, a row that stays 0, the sum of the current block."""
    rows, width = x.shape
    hi = lo + width
    running, made = state[n + 1, lo:hi], 0
    if aligned:
        p = int(place_of_next(seen[0], n))
        for t in range(rows):
            values, result, cells, suffix = x[t], out[t], state[p, lo:hi], state[p + 1, lo:hi]
            if p == 0:
                running[:] = 0.0
            for s in range(width):
                total = running[s] + values[s]
                running[s], cells[s] = total, values[s]
                v = (suffix[s] + total) / divisor
                made += is_infinite(v)
                result[s] = defined(v)
            p += 1
            if p == n:
                close_sums(state, lo, hi, n)
                p = 0
        return made
    suffix, stride, cells = np.empty(width), state.shape[1], state.reshape(state.size)
    begin(seen, n, lo, stride, places)
    for t in range(rows):
        values, result, here = x[t], out[t], present[t]
        for s in range(width):
            total = (0.0 if places[s] < stride else running[s]) + values[s]
            running[s] = total if here[s] else running[s]
        for s in range(width):
            i = places[s]
            suffix[s], cells[i] = cells[i + stride], values[s]  # of an absent bar: the place is free until its bar comes
        for s in range(width):
            v = (suffix[s] + running[s]) / divisor
            made += is_infinite(v) & here[s]
            result[s] = v if here[s] & (abs(v) <= LARGEST) else NAN
        if advance(here, stride, n * stride, places):
            for s in range(width):
                if places[s] >= n * stride:
                    places[s] -= n * stride
                    close_sum(state, lo + s, n)
    return made


@kernel
def welford(v, inverse, mean, total):
    """Mean and sum of squared deviations with one more value; inverse: 1 / the new count."""
    delta = v - mean
    mean += delta * inverse
    return mean, total + delta * (v - mean)


@kernel
def close_squares(state, lo, hi, n):
    """Turn the full block of columns lo..hi-1 into suffix means (rows 0..) and suffix sums of squared deviations (rows n..)."""
    means, totals = state[2 * n, lo:hi], state[2 * n + 1, lo:hi]
    means[:], totals[:] = 0.0, 0.0
    for j in range(n - 1, -1, -1):
        inverse, cells, suffix = 1.0 / (n - j), state[j, lo:hi], state[n + j, lo:hi]
        for s in range(means.size):
            mean, total = welford(cells[s], inverse, means[s], totals[s])
            means[s], totals[s], cells[s], suffix[s] = mean, total, mean, total
    means[:], totals[:] = 0.0, 0.0


@kernel
def close_square(state, c, n):
    """The same for one column."""
    mean, total = 0.0, 0.0
    for j in range(n - 1, -1, -1):
        mean, total = welford(state[j, c], 1.0 / (n - j), mean, total)
        state[j, c], state[n + j, c] = mean, total
    state[2 * n, c], state[2 * n + 1, c] = 0.0, 0.0


@kernel
def merged_variance(share, scale, mean, total, suffix_mean, suffix_total, root):
    """Merge the current block with the previous block's suffix (share: product of their counts / n); scale: 1 / (n - 1)."""
    delta = suffix_mean - mean
    v = (total + suffix_total + delta * delta * share) * scale
    return math.sqrt(v) if root else v


@kernel
def variance(present, seen, aligned, places, lo, state, x, n, root, out):
    """state: n ring rows (values, then suffix means), n rows of suffix squares, mean and squares of the current block."""
    rows, width = x.shape
    hi = lo + width
    means, totals, scale, made = state[2 * n, lo:hi], state[2 * n + 1, lo:hi], 1.0 / (n - 1.0), 0
    if aligned:
        p = int(place_of_next(seen[0], n))
        for t in range(rows):
            values, result, inverse = x[t], out[t], 1.0 / (p + 1.0)
            if p == 0:
                means[:], totals[:] = 0.0, 0.0
            for s in range(width):
                means[s], totals[s] = welford(values[s], inverse, means[s], totals[s])
            cells = state[p, lo:hi]
            for s in range(width):
                cells[s] = values[s]
            if p + 1 < n:
                above, squares, share = state[p + 1, lo:hi], state[n + p + 1, lo:hi], (p + 1.0) * (n - p - 1.0) / n
                for s in range(width):
                    result[s] = merged_variance(share, scale, means[s], totals[s], above[s], squares[s], root)
            else:
                for s in range(width):
                    result[s] = merged_variance(0.0, scale, means[s], totals[s], means[s], 0.0, root)
            for s in range(width):
                made += is_infinite(result[s])
                result[s] = defined(result[s])
            p += 1
            if p == n:
                close_squares(state, lo, hi, n)
                p = 0
        return made
    above, squares, filled, stride, cells = np.empty(width), np.empty(width), np.empty(width), state.shape[1], state.reshape(state.size)
    begin(seen, n, lo, stride, places)
    for s in range(width):
        filled[s] = place_of_next(seen[s], n)
    for t in range(rows):
        values, result, here = x[t], out[t], present[t]
        for s in range(width):
            mean, total = (0.0, 0.0) if filled[s] == 0.0 else (means[s], totals[s])
            mean, total = welford(values[s], 1.0 / (filled[s] + 1.0), mean, total)
            means[s], totals[s] = mean if here[s] else means[s], total if here[s] else totals[s]
        for s in range(width):
            i = places[s]
            above[s], squares[s], cells[i] = cells[i + stride], cells[i + (n + 1) * stride], values[s]  # absent: free, as in sums
        for s in range(width):
            q = filled[s] + 1.0
            mean, square = means[s] if q == n else above[s], 0.0 if q == n else squares[s]
            result[s] = merged_variance(q * (n - q) / n, scale, means[s], totals[s], mean, square, root)
        for s in range(width):
            made += is_infinite(result[s]) & here[s]
            result[s] = result[s] if here[s] & (abs(result[s]) <= LARGEST) else NAN
        for s in range(width):
            filled[s] = (0.0 if filled[s] + 1.0 == n else filled[s] + 1.0) if here[s] else filled[s]
        if advance(here, stride, n * stride, places):
            for s in range(width):
                if places[s] >= n * stride:
                    places[s] -= n * stride
                    close_square(state, lo + s, n)
    return made


def _sum_state(params: Params) -> tuple[float, ...]:
    return (NAN,) * int(params["n"]) + (0.0, NAN)


def _variance_state(params: Params) -> tuple[float, ...]:
    return (NAN,) * (2 * int(params["n"]) + 2)


def _windowed(name: str, run: Callable[..., int], summary: str, cold: ColdOf, extra: ExtraOf) -> Operator:
    return Operator(name, Kind.WINDOW, run, 1, summary, ("n",), extra=extra, cold=cold, warm_up=all_but_one)


OPERATORS = (
    _windowed("sum", sums, "sum of the last n present bars", _sum_state, lambda params: (1.0,)),
    _windowed("mean", sums, "mean of the last n present bars", _sum_state, lambda params: (float(params["n"]),)),
    _windowed("var", variance, "sample variance of the last n present bars", _variance_state, lambda params: (False,)),
    _windowed("std", variance, "sample standard deviation of the last n present bars", _variance_state, lambda params: (True,)),
)
