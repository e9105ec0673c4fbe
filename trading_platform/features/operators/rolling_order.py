"""Order statistics over the last n present bars: extremes by the two-block scheme, rank and quantiles by a sorted window."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

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
    kernel,
    share_one_place,
)


@kernel
def larger(a, b):
    """The larger of two values, NaN if either is."""
    return b if b > a or b != b else a


@kernel
def close_extremes(ring, lo, hi, n):
    """Turn the full block of columns lo..hi-1 into suffix maxima."""
    for j in range(n - 2, -1, -1):
        below, above = ring[j, lo:hi], ring[j + 1, lo:hi]
        for s in range(below.size):
            below[s] = larger(below[s], above[s])


@kernel
def close_extreme(ring, c, n):
    """The same for one column."""
    for j in range(n - 2, -1, -1):
        ring[j, c] = larger(ring[j, c], ring[j + 1, c])


@kernel
def extremes(present, dense, lo, ring, run, head, full, x, n, side, out):
    """Window maximum of side * x, times side (side -1 gives the minimum). ring (n, S), run (S,) as in rolling_moments."""
    rows, width = x.shape
    hi = lo + width
    if dense and share_one_place(head, full, lo, hi):
        p, f, running = head[lo], full[lo], run[lo:hi]
        for t in range(rows):
            values, result, cells, suffix = x[t], out[t], ring[p, lo:hi], ring[min(p + 1, n - 1), lo:hi]
            for s in range(width):
                v = side * values[s]
                best = v if p == 0 else larger(running[s], v)
                running[s] = best
                whole = best if p + 1 == n else larger(best, suffix[s])
                cells[s] = v
                result[s] = defined(side * whole) if f or p + 1 == n else NAN
            p += 1
            if p == n:
                close_extremes(ring, lo, hi, n)
                p, f = 0, 1
        for s in range(lo, hi):
            head[s], full[s] = p, f
        return 0
    for s in range(width):
        c = lo + s
        p, f, best = head[c], full[c], run[c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = side * x[t, s]
            best = v if p == 0 else larger(best, v)
            whole = best if p + 1 == n else larger(best, ring[p + 1, c])
            ring[p, c] = v
            out[t, s] = defined(side * whole) if f or p + 1 == n else NAN
            p += 1
            if p == n:
                close_extreme(ring, c, n)
                p, f = 0, 1
        head[c], full[c], run[c] = p, f, best
    return 0


@kernel
def extreme_ages(present, dense, lo, ring, places, best, place, head, full, x, n, side, out):
    """Bars since the window's largest side * x; of equals the newest counts. ring, places (n, S): suffix extremes and where they stand."""
    rows, width = x.shape
    for s in range(width):
        c = lo + s
        p, f, top, at = head[c], full[c], best[c], place[c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = side * x[t, s]
            if p == 0 or v >= top or v != v:
                top, at = v, p
            q = p + 1
            r = float(p - at)
            if q < n:
                r = float(p + n - places[q, c]) if ring[q, c] > top else r
                r = r if f and ring[q, c] == ring[q, c] else NAN
            ring[p, c] = v
            out[t, s] = r if top == top else NAN
            p = q
            if p == n:
                close_ages(ring, places, c, n)
                p, f = 0, 1
        head[c], full[c], best[c], place[c] = p, f, top, at
    return 0


@kernel
def close_ages(ring, places, c, n):
    """Turn column c's full block into suffix extremes and their places."""
    places[n - 1, c] = n - 1
    for j in range(n - 2, -1, -1):
        if ring[j, c] > ring[j + 1, c] or ring[j, c] != ring[j, c]:
            places[j, c] = j
        else:
            ring[j, c], places[j, c] = ring[j + 1, c], places[j + 1, c]


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
def sorted_window(present, dense, lo, ring, ordered, held, head, full, x, n, q, out):
    """Rank of the newest value (q < 0) or quantile q. ring (n, S): the window; ordered (n, S): its defined values, held (S,) of them."""
    rows, width = x.shape
    own = np.empty(n + 1)
    for s in range(width):
        c = lo + s
        p, f, count = head[c], full[c], held[c]
        own[:n] = ordered[:, c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = x[t, s]
            count = replace_oldest(own, count, ring[p, c] if f else NAN, v)
            ring[p, c] = v
            p += 1
            if p == n:
                p, f = 0, 1
            if count == n:
                out[t, s] = place_of(own, n, v) if q < 0.0 else interpolated(own, n, q)
            else:
                out[t, s] = NAN
        ordered[:, c] = own[:n]
        head[c], full[c], held[c] = p, f, count
    return 0


def _extreme_state(params: Params) -> StateShapes:
    return {"ring": ((int(params["n"]),), "f8"), "run": ((), "f8"), "head": ((), "i8"), "full": ((), "i8")}


def _age_state(params: Params) -> StateShapes:
    rows = (int(params["n"]),)
    return {"ring": (rows, "f8"), "places": (rows, "i8"), "best": ((), "f8"), "place": ((), "i8"), "head": ((), "i8"), "full": ((), "i8")}


def _sorted_state(params: Params) -> StateShapes:
    rows = (int(params["n"]),)
    return {"ring": (rows, "f8"), "ordered": (rows, "f8"), "held": ((), "i8"), "head": ((), "i8"), "full": ((), "i8")}


def _windowed(name: str, run: Callable[..., int], summary: str, state: StateOf, extra: ExtraOf) -> Operator:
    return Operator(name, Kind.WINDOW, run, 1, summary, ("n",), extra=extra, state=state, warm_up=all_but_one)


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
        state=_sorted_state,
        warm_up=all_but_one,
    ),
)
