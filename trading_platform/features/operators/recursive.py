"""Operators that carry values from bar to bar: lag, smoothed means, bars since an event. State per column, never per chunk."""

from __future__ import annotations

from trading_platform.features.operators.kernel import (
    LARGEST,
    NAN,
    Kind,
    Operator,
    Params,
    advance,
    all_but_one,
    begin,
    is_infinite,
    kernel,
    place_of_next,
)


@kernel
def lag(present, seen, aligned, places, lo, state, x, n, out):
    """state: n ring rows, the last n present values."""
    rows, width = x.shape
    if aligned:
        p = int(place_of_next(seen[0], n))
        for t in range(rows):
            cells, values, result = state[p, lo : lo + width], x[t], out[t]
            for s in range(width):
                result[s] = cells[s]
            for s in range(width):
                cells[s] = values[s]
            p = p + 1 if p + 1 < n else 0
        return 0
    stride, ring = state.shape[1], state.reshape(state.size)
    begin(seen, n, lo, stride, places)
    for t in range(rows):
        values, result, here = x[t], out[t], present[t]
        for s in range(width):
            old = ring[places[s]]
            ring[places[s]] = values[s] if here[s] else old
            result[s] = old if here[s] else NAN
        advance(here, stride, n * stride, places)
        for s in range(width):
            places[s] -= n * stride if places[s] >= n * stride else 0
    return 0


@kernel
def bars_since(present, seen, aligned, places, lo, state, condition, out):
    """state: present bars since the condition last held, NaN before it ever did. An undefined condition does not hold."""
    rows, width = condition.shape
    since = state[0, lo : lo + width]
    for t in range(rows):
        for s in range(width):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = condition[t, s]
            since[s] = 0.0 if v < 0.0 or v > 0.0 else since[s] + 1.0
            out[t, s] = since[s]
    return 0


@kernel
def smooth(present, seen, aligned, places, lo, state, x, n, weight, out):
    """state: the smoothed value, how many defined inputs made it (at most n). Seeded by the mean of the first n."""
    rows, width = x.shape
    values, counts = state[0, lo : lo + width], state[1, lo : lo + width]
    warm, made = True, 0
    for s in range(width):
        warm = warm and counts[s] == n
    if warm:
        for t in range(rows):
            inputs, result, here = x[t], out[t], present[t]
            for s in range(width):
                v, old = inputs[s], values[s]
                new = old + weight * (v - old)
                made += is_infinite(new)
                result[s] = NAN if abs(new) > LARGEST or not here[s] else (new if v == v else old)
            for s in range(width):
                v, old = inputs[s], values[s]
                new = old + weight * (v - old)
                values[s] = new if abs(new) <= LARGEST else old
        return made
    for t in range(rows):
        for s in range(width):
            v, k = x[t, s], counts[s]
            if v == v:
                new = values[s] + (weight if k + 1.0 > n else 1.0 / (k + 1.0)) * (v - values[s])
                if abs(new) > LARGEST:
                    out[t, s] = NAN
                    made += 1
                    continue
                k = min(k + 1.0, float(n))
                values[s], counts[s] = new, k
            out[t, s] = values[s] if present[t, s] and k == n else NAN
    return made


def _ring(params: Params) -> tuple[float, ...]:
    return (NAN,) * int(params["n"])


def _smoothed(_: Params) -> tuple[float, ...]:
    return (0.0, 0.0)


def _n(params: Params) -> int:
    return int(params["n"])


OPERATORS = (
    Operator("lag", Kind.WINDOW, lag, 1, "the value n present bars ago", ("n",), cold=_ring, warm_up=_n),
    Operator(
        "ema",
        Kind.WINDOW,
        smooth,
        1,
        "exponential mean of weight 2 / (n + 1), seeded by the mean of the first n defined values",
        ("n",),
        extra=lambda params: (2.0 / (params["n"] + 1.0),),
        cold=_smoothed,
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
        cold=_smoothed,
        warm_up=all_but_one,
    ),
    Operator("bars_since", Kind.WINDOW, bars_since, 1, "present bars since the condition last held", cold=lambda _: (NAN,)),
)
