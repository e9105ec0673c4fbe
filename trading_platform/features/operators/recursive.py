"""Operators that carry values from bar to bar: lag, smoothed means, bars since an event. State per column, never per chunk."""

from __future__ import annotations

from trading_platform.features.operators.kernel import NAN, Kind, Operator, Params, StateShapes, all_but_one, kernel, share_one_place


@kernel
def lag(present, dense, lo, ring, head, full, x, n, out):
    """ring (n, S): the last n present values; head: where the next one goes; full: 1 once the ring has been filled."""
    rows, width = x.shape
    hi = lo + width
    if dense and share_one_place(head, full, lo, hi):
        p, f = head[lo], full[lo]
        for t in range(rows):
            cells, values, result = ring[p, lo:hi], x[t], out[t]
            for s in range(width):
                result[s] = cells[s] if f else NAN
                cells[s] = values[s]
            p += 1
            if p == n:
                p, f = 0, 1
        for s in range(lo, hi):
            head[s], full[s] = p, f
        return 0
    for s in range(width):
        c = lo + s
        p, f = head[c], full[c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            out[t, s] = ring[p, c] if f else NAN
            ring[p, c] = x[t, s]
            p += 1
            if p == n:
                p, f = 0, 1
        head[c], full[c] = p, f
    return 0


@kernel
def bars_since(present, dense, lo, since, seen, condition, out):
    """since (S,): present bars since the condition last held; seen: 1 once it has. An undefined condition does not hold."""
    rows, width = condition.shape
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = condition[t, s]
            if v < 0.0 or v > 0.0:
                since[c], seen[c] = 0, 1
            else:
                since[c] += 1
            out[t, s] = since[c] if seen[c] else NAN
    return 0


@kernel
def smooth(present, dense, lo, value, count, x, n, weight, out):
    """value, count (S,): the smoothed value and how many defined inputs made it (at most n). Seeded by the mean of the first n."""
    rows, width = x.shape
    hi = lo + width
    values, counts = value[lo:hi], count[lo:hi]
    warm = dense
    for s in range(width):
        warm = warm and counts[s] == n
    if warm:
        for t in range(rows):
            inputs, result = x[t], out[t]
            for s in range(width):
                v, old = inputs[s], values[s]
                new = old + weight * (v - old)
                values[s] = new if v == v else old
                result[s] = values[s]
        return 0
    for t in range(rows):
        for s in range(width):
            v, k = x[t, s], counts[s]
            if v == v:
                k = min(k + 1, n + 1)
                values[s] += (weight if k > n else 1.0 / k) * (v - values[s])
                k = min(k, n)
                counts[s] = k
            out[t, s] = values[s] if present[t, s] and k == n else NAN
    return 0


def _ring(params: Params) -> StateShapes:
    return {"ring": ((int(params["n"]),), "f8"), "head": ((), "i8"), "full": ((), "i8")}


def _smoothed(_: Params) -> StateShapes:
    return {"value": ((), "f8"), "count": ((), "i8")}


def _since(_: Params) -> StateShapes:
    return {"since": ((), "i8"), "seen": ((), "i8")}


def _n(params: Params) -> int:
    return int(params["n"])


OPERATORS = (
    Operator("lag", Kind.WINDOW, lag, 1, "the value n present bars ago", ("n",), state=_ring, warm_up=_n),
    Operator(
        "ema",
        Kind.WINDOW,
        smooth,
        1,
        "exponential mean of weight 2 / (n + 1), seeded by the mean of the first n defined values",
        ("n",),
        extra=lambda params: (2.0 / (params["n"] + 1.0),),
        state=_smoothed,
        warm_up=all_but_one,
    ),
    Operator(
        "wilder",
        Kind.WINDOW,
        smooth,
        1,
        "exponential mean of weight 1 / n, seeded by the mean of the first n defined values",
        ("n",),
        extra=lambda params: (1.0 / params["n"],),
        state=_smoothed,
        warm_up=all_but_one,
    ),
    Operator("bars_since", Kind.WINDOW, bars_since, 1, "present bars since the condition last held", state=_since),
)
