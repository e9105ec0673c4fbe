"""Order statistics over the last n present bars: extremes by the two-block scheme, rank and quantiles by a sorted window."""

from __future__ import annotations

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
    kernel,
    place_of_next,
)


@kernel
def larger(a, b):
    """The larger of two values, NaN if either is."""
    return b if b > a or b != b else a


@kernel
def close_extremes(state, lo, hi, n):
    """Turn the full block of columns lo..hi-1 into suffix maxima."""
    for j in range(n - 2, -1, -1):
        below, above = state[j, lo:hi], state[j + 1, lo:hi]
        for s in range(below.size):
            below[s] = larger(below[s], above[s])


@kernel
def close_extreme(state, c, n):
    """The same for one column."""
    for j in range(n - 2, -1, -1):
        state[j, c] = larger(state[j, c], state[j + 1, c])


@kernel
def extremes(present, seen, aligned, places, lo, state, x, n, side, out):
    """Window maximum of side * x, times side (side -1 gives the minimum). state: n ring rows, the current block's maximum."""
    rows, width = x.shape
    hi = lo + width
    running = state[n, lo:hi]
    if aligned:
        p = int(place_of_next(seen[0], n))
        for t in range(rows):
            values, result, cells = x[t], out[t], state[p, lo:hi]
            for s in range(width):
                cells[s] = side * values[s]
            if p == 0:
                running[:] = cells
            else:
                for s in range(width):
                    running[s] = larger(running[s], cells[s])
            suffix = state[p + 1, lo:hi]  # of the full block: its own maximum
            for s in range(width):
                result[s] = defined(side * larger(running[s], suffix[s]))
            p += 1
            if p == n:
                close_extremes(state, lo, hi, n)
                p = 0
        return 0
    suffix, stride, cells = np.empty(width), state.shape[1], state.reshape(state.size)
    begin(seen, n, lo, stride, places)
    for t in range(rows):
        values, result, here = x[t], out[t], present[t]
        for s in range(width):
            v = side * values[s]
            best = v if places[s] < stride else larger(running[s], v)
            running[s] = best if here[s] else running[s]
        for s in range(width):
            i = places[s]
            suffix[s], cells[i] = cells[i + stride], side * values[s]  # of an absent bar: the place is free until its bar comes
        for s in range(width):
            v = side * larger(running[s], suffix[s])
            result[s] = v if here[s] & (abs(v) <= LARGEST) else NAN
        if advance(here, stride, n * stride, places):
            for s in range(width):
                if places[s] >= n * stride:
                    places[s] -= n * stride
                    close_extreme(state, lo + s, n)
    return 0


@kernel
def extreme_ages(present, seen, aligned, places, lo, state, x, n, side, out):
    """Bars since the window's largest side * x; of equals the newest counts.

    state: n ring rows of (suffix) extremes, n rows of their places, the current block's extreme and its place.
    """
    rows, width = x.shape
    for s in range(width):
        places[s] = int(place_of_next(seen[s], n))
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            p, top, at = places[s], state[2 * n, c], state[2 * n + 1, c]
            v = side * x[t, s]
            if p == 0 or v >= top or v != v:
                top, at = v, float(p)
            q = p + 1
            r = p - at
            if q < n:
                r = p + n - state[n + q, c] if state[q, c] > top else r
                r = r if state[q, c] == state[q, c] else NAN
            out[t, s] = r if top == top else NAN
            state[p, c], state[2 * n, c], state[2 * n + 1, c] = v, top, at
            if q == n:
                close_ages(state, c, n)
                q = 0
            places[s] = q
    return 0


@kernel
def close_ages(state, c, n):
    """Turn column c's full block into suffix extremes and their places."""
    state[2 * n - 1, c] = n - 1
    for j in range(n - 2, -1, -1):
        if state[j, c] > state[j + 1, c] or state[j, c] != state[j, c]:
            state[n + j, c] = j
        else:
            state[j, c], state[n + j, c] = state[j + 1, c], state[n + j + 1, c]


@kernel
def first_not_below(ordered, held, v):
    """Index of the first of `held` ascending values that is not below v."""
    low, high = 0, held
    while low < high:
        middle = (low + high) // 2
        if ordered[middle] < v:
            low = middle + 1
        else:
            high = middle
    return low


@kernel
def replace_oldest(ordered, held, old, new):
    """Take `old` out of the ascending values and put `new` in (NaN: nothing to do); return how many are held."""
    if old == old:
        held -= 1
        for i in range(first_not_below(ordered, held + 1, old), held):
            ordered[i] = ordered[i + 1]
    if new == new:
        i = held
        while i > 0 and ordered[i - 1] > new:
            ordered[i] = ordered[i - 1]
            i -= 1
        ordered[i] = new
        held += 1
    return held


@kernel
def place_of(ordered, n, v):
    """Average rank of v among n ascending values that hold it, / n."""
    low = first_not_below(ordered, n, v)
    high = low + 1
    while high < n and ordered[high] == v:
        high += 1
    return 0.5 * (low + 1 + high) / n


@kernel
def interpolated(ordered, n, q):
    """Linearly interpolated quantile of n ascending values."""
    where = q * (n - 1)
    i = min(int(where), n - 1)
    j = min(i + 1, n - 1)
    return ordered[i] + (where - i) * (ordered[j] - ordered[i])


@kernel
def sorted_window(present, seen, aligned, places, lo, state, x, n, q, out):
    """Rank of the newest value (q < 0) or quantile q. state: n ring rows, n rows of their defined values ascending, how many."""
    rows, width = x.shape
    for s in range(width):
        places[s] = int(place_of_next(seen[s], n))
    own = np.empty(n + 1)
    for s in range(width):
        c = lo + s
        p, count = places[s], int(state[2 * n, c])
        own[:count] = state[n : n + count, c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = x[t, s]
            count = replace_oldest(own, count, state[p, c], v)
            state[p, c] = v
            p = p + 1 if p + 1 < n else 0
            if count == n:
                out[t, s] = place_of(own, n, v) if q < 0.0 else interpolated(own, n, q)
            else:
                out[t, s] = NAN
        state[n : n + count, c], state[n + count : 2 * n, c] = own[:count], 0.0
        state[2 * n, c] = count
    return 0


def _extreme_state(params: Params) -> tuple[float, ...]:
    return (NAN,) * int(params["n"]) + (0.0,)


def _age_state(params: Params) -> tuple[float, ...]:
    n = int(params["n"])
    return (NAN,) * n + (0.0,) * n + (NAN, 0.0)


def _sorted_state(params: Params) -> tuple[float, ...]:
    n = int(params["n"])
    return (NAN,) * n + (0.0,) * (n + 1)


def _windowed(name: str, run: Callable[..., int], summary: str, cold: ColdOf, extra: ExtraOf) -> Operator:
    return Operator(name, Kind.WINDOW, run, 1, summary, ("n",), extra=extra, cold=cold, warm_up=all_but_one)


OPERATORS = (
    _windowed("max", extremes, "largest of the last n present bars", _extreme_state, lambda params: (1.0,)),
    _windowed("min", extremes, "smallest of the last n present bars", _extreme_state, lambda params: (-1.0,)),
    _windowed("argmax", extreme_ages, "bars since the largest of the last n present bars", _age_state, lambda params: (1.0,)),
    _windowed("argmin", extreme_ages, "bars since the smallest of the last n present bars", _age_state, lambda params: (-1.0,)),
    _windowed("rank", sorted_window, "average rank / n of the newest among the last n present bars", _sorted_state, lambda params: (-1.0,)),
    _windowed("median", sorted_window, "median of the last n present bars", _sorted_state, lambda params: (0.5,)),
    Operator(
        "quantile",
        Kind.WINDOW,
        sorted_window,
        1,
        "linearly interpolated quantile q of the last n present bars",
        ("n", "q"),
        cold=_sorted_state,
        warm_up=all_but_one,
    ),
)
