"""Operators that weigh a bar by its place in the window of n present bars: regression on time and linearly decaying means.

Time is the place in the window (0 oldest, n - 1 newest), so its moments are known in closed form and only the values' need state. Two-block
scheme as in rolling_moments: the mean time of the current block is always n / 2 bars after that of the previous block's suffix.
"""

from __future__ import annotations

from trading_platform.features.operators.kernel import NAN, Kind, Operator, Params, all_but_one, defined, is_infinite, kernel, place_of_next

SLOPE, RSQUARE, RESIDUAL = 0, 1, 2


@kernel
def regressed(mode, n, value, mean, xx, xt):
    """Slope per bar, share of variance explained, or the newest value minus its fit."""
    tt = n * (n * n - 1.0) / 12.0
    if mode == SLOPE:
        return xt / tt
    if mode == RSQUARE:
        return min((xt / xx) * (xt / tt), 1.0) if xx > 0.0 and xt == xt else NAN
    return value - (mean + xt / tt * (n - 1.0) * 0.5)


@kernel
def trend(present, seen, aligned, places, lo, state, x, n, mode, out):
    """state: three times n ring rows (values, then suffix means; suffix squares; products with time), the same three of the block."""
    rows, width = x.shape
    made = 0
    for s in range(width):
        places[s] = int(place_of_next(seen[s], n))
    block = state[3 * n :]
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            p, v = places[s], x[t, s]
            if p == 0:
                block[:, c] = 0.0
            mean, xx, xt = block[0, c], block[1, c], block[2, c]
            state[p, c] = v
            q = p + 1
            delta = v - mean
            mean += delta * (1.0 / q)
            xx += delta * (v - mean)
            xt += (v - mean) * (0.5 * q)
            block[0, c], block[1, c], block[2, c] = mean, xx, xt
            if q == n:
                close_trend(state, c, n)
                q = 0
            else:
                gap, share = mean - state[q, c], q * (n - q) / n
                mean -= gap * ((n - q) / n)
                xx += state[n + q, c] + gap * gap * share
                xt += state[2 * n + q, c] + gap * (0.5 * n) * share
            r = regressed(mode, n, v, mean, xx, xt)
            made += is_infinite(r)
            out[t, s] = defined(r)
            places[s] = q
    return made


@kernel
def close_trend(state, c, n):
    """Turn column c's full block into suffix means, squares and products with time."""
    mean, xx, xt = 0.0, 0.0, 0.0
    for j in range(n - 1, -1, -1):
        v = state[j, c]
        delta = v - mean
        mean += delta * (1.0 / (n - j))
        xx += delta * (v - mean)
        xt += (v - mean) * (0.5 * (j - n))
        state[j, c], state[n + j, c], state[2 * n + j, c] = mean, xx, xt
    state[3 * n :, c] = 0.0


@kernel
def decay(present, seen, aligned, places, lo, state, x, n, out):
    """Mean with weights 1 (oldest) to n. state: n ring rows (values, then suffix sums of suffix sums), a row that stays 0, then the
    current block's sum of values and sum of place * value."""
    rows, width = x.shape
    made = 0
    for s in range(width):
        places[s] = int(place_of_next(seen[s], n))
    totals, placed, weight = state[n + 1], state[n + 2], 0.5 * n * (n + 1.0)
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            p, v = places[s], x[t, s]
            if p == 0:
                totals[c], placed[c] = 0.0, 0.0
            state[p, c] = v
            totals[c] += v
            placed[c] += p * v
            r = (state[p + 1, c] + ((n - p) * totals[c] + placed[c])) / weight
            made += is_infinite(r)
            out[t, s] = defined(r)
            if p + 1 == n:
                close_decay(state, c, n)
                p = -1
            places[s] = p + 1
    return made


@kernel
def close_decay(state, c, n):
    """Turn column c's full block into suffix sums of suffix sums."""
    suffix, weighted = 0.0, 0.0
    for j in range(n - 1, -1, -1):
        suffix += state[j, c]
        weighted += suffix
        state[j, c] = weighted
    state[n + 1, c], state[n + 2, c] = 0.0, 0.0


def _trend_state(params: Params) -> tuple[float, ...]:
    return (NAN,) * (3 * int(params["n"]) + 3)


def _decay_state(params: Params) -> tuple[float, ...]:
    return (NAN,) * int(params["n"]) + (0.0, NAN, NAN)


def _regression(name: str, mode: int, summary: str) -> Operator:
    def extra(_: Params) -> tuple[float, ...]:
        return (mode,)

    return Operator(name, Kind.WINDOW, trend, 1, summary, ("n",), extra=extra, cold=_trend_state, warm_up=all_but_one)


OPERATORS = (
    _regression("slope", SLOPE, "slope per bar of the regression on time over the last n present bars"),
    _regression("rsquare", RSQUARE, "share of variance explained by the regression on time"),
    _regression("resid", RESIDUAL, "newest value minus its fit by the regression on time"),
    Operator(
        "decay_linear",
        Kind.WINDOW,
        decay,
        1,
        "mean of the last n present bars with weights 1 (oldest) to n (newest)",
        ("n",),
        cold=_decay_state,
        warm_up=all_but_one,
    ),
)
