"""Order statistics over the last n present bars: extremes by the two-block scheme, ranks by counting, quantiles by a sorted window."""

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

INFINITY = math.inf
UNKNOWN = 1e12  # what an undefined value adds to a tally that never gets so large


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
def window_rank(present, seen, aligned, places, lo, state, x, n, out):
    """Average rank / n of the newest. state: n ring rows.

    Twice the number of smaller values plus that of equal ones, counted over the ring in whatever order it stands: a vector per ring row.
    """
    rows, width = x.shape
    hi, stride, ring, tally = lo + width, state.shape[1], state.reshape(state.size), np.empty(width)
    begin(seen, n, lo, stride, places)
    for t in range(rows):
        values, result, here = x[t], out[t], present[t]
        for s in range(width):
            ring[places[s]] = values[s] if here[s] else ring[places[s]]
        tally[:] = 0.0
        for j in range(n):
            cells = state[j, lo:hi]
            for s in range(width):
                c, v = cells[s], values[s]
                tally[s] += 2.0 if c < v else (1.0 if c == v else (0.0 if c > v else UNKNOWN))
        for s in range(width):
            result[s] = 0.5 * (tally[s] + 1.0) / n if here[s] & (tally[s] < UNKNOWN) else NAN
        advance(here, stride, n * stride, places)
        for s in range(width):
            places[s] -= n * stride if places[s] >= n * stride else 0
    return 0


@kernel
def take_higher(ordered, lo, n, old, new):
    """In columns whose new value is not below the old one: take the old out of the ascending rows and put the new in, from below."""
    for i in range(n):
        cells, above = ordered[i, lo : lo + old.size], ordered[i + 1, lo : lo + old.size]
        for s in range(old.size):
            a, b = cells[s], above[s]
            moved = b if b <= new[s] else (new[s] if a <= new[s] else a)
            cells[s] = moved if (new[s] >= old[s]) & (a >= old[s]) else a


@kernel
def take_lower(ordered, lo, n, old, new):
    """The same in columns whose new value is below the old one, from above."""
    for i in range(n - 1, -1, -1):
        cells, below = ordered[i, lo : lo + old.size], ordered[max(i - 1, 0), lo : lo + old.size]
        for s in range(old.size):
            a, b = cells[s], below[s] if i else -INFINITY
            moved = b if b > new[s] else (new[s] if a > new[s] else a)
            cells[s] = moved if (new[s] < old[s]) & (a <= old[s]) else a


@kernel
def sorted_window(present, seen, aligned, places, lo, state, x, n, q, out):
    """Linearly interpolated quantile q. state: n ring rows, n rows of their values ascending (undefined: infinite), an infinite row."""
    rows, width = x.shape
    stride, ring, ordered = state.shape[1], state.reshape(state.size), state[n:]
    old, new, place, made = np.empty(width), np.empty(width), q * (n - 1), 0
    i = min(int(place), n - 1)
    share, low, high = place - i, ordered[i, lo : lo + width], ordered[min(i + 1, n - 1), lo : lo + width]
    last = ordered[n - 1, lo : lo + width]
    begin(seen, n, lo, stride, places)
    for t in range(rows):
        values, result, here = x[t], out[t], present[t]
        for s in range(width):
            leaving = ring[places[s]]
            ring[places[s]] = values[s] if here[s] else leaving
            old[s] = leaving if leaving == leaving else INFINITY
            new[s] = (values[s] if values[s] == values[s] else INFINITY) if here[s] else old[s]
        take_higher(ordered, lo, n, old, new)
        take_lower(ordered, lo, n, old, new)
        for s in range(width):
            v = low[s] + share * (high[s] - low[s]) if here[s] & (last[s] < INFINITY) else NAN
            made += is_infinite(v)
            result[s] = defined(v)
        advance(here, stride, n * stride, places)
        for s in range(width):
            places[s] -= n * stride if places[s] >= n * stride else 0
    return made


def _extreme_state(params: Params) -> tuple[float, ...]:
    return (NAN,) * (int(params["n"]) + 1)


def _age_state(params: Params) -> tuple[float, ...]:
    n = int(params["n"])
    return (NAN,) * n + (0.0,) * n + (NAN, 0.0)


def _rank_state(params: Params) -> tuple[float, ...]:
    return (NAN,) * int(params["n"])


def _sorted_state(params: Params) -> tuple[float, ...]:
    n = int(params["n"])
    return (NAN,) * n + (INFINITY,) * (n + 1)


def _windowed(name: str, run: Callable[..., int], summary: str, cold: ColdOf, extra: ExtraOf) -> Operator:
    return Operator(name, Kind.WINDOW, run, 1, summary, ("n",), extra=extra, cold=cold, warm_up=all_but_one)


OPERATORS = (
    _windowed("max", extremes, "largest of the last n present bars", _extreme_state, lambda params: (1.0,)),
    _windowed("min", extremes, "smallest of the last n present bars", _extreme_state, lambda params: (-1.0,)),
    _windowed("argmax", extreme_ages, "bars since the largest of the last n present bars", _age_state, lambda params: (1.0,)),
    _windowed("argmin", extreme_ages, "bars since the smallest of the last n present bars", _age_state, lambda params: (-1.0,)),
    _windowed("rank", window_rank, "average rank / n of the newest among the last n present bars", _rank_state, lambda _: ()),
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
