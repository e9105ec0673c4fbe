"""Operators that weigh a bar by its place in the window of n present bars: regression on time and linearly decaying means.

Time is the place in the window (0 oldest, n - 1 newest), so its moments are known in closed form and only the values' need state. Two-block
scheme as in rolling_moments: the mean time of the current block is always n / 2 bars after that of the previous block's suffix.
"""

from __future__ import annotations

from trading_platform.features.operators.kernel import NAN, Kind, Operator, Params, StateShapes, all_but_one, defined, is_infinite, kernel

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
def trend(present, dense, lo, rings, block, head, full, x, n, mode, out):
    """rings (3, n + 1, S): values, then suffix mean, squares and products with time; block (3, S): those of the current block."""
    rows, width = x.shape
    made = 0
    for s in range(width):
        c = lo + s
        p, f = head[c], full[c]
        mean, xx, xt = block[0, c], block[1, c], block[2, c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = x[t, s]
            rings[0, p, c] = v
            q = p + 1
            delta = v - mean
            mean += delta * (1.0 / q)
            xx += delta * (v - mean)
            xt += (v - mean) * (0.5 * q)
            if q == n:
                r = regressed(mode, n, v, mean, xx, xt)
            elif f:
                gap, share = mean - rings[0, q, c], q * (n - q) / n
                whole = mean - gap * ((n - q) / n)
                r = regressed(mode, n, v, whole, xx + rings[1, q, c] + gap * gap * share, xt + rings[2, q, c] + gap * (0.5 * n) * share)
            else:
                r = NAN
            made += is_infinite(r)
            out[t, s] = defined(r)
            p = q
            if p == n:
                mean, xx, xt = 0.0, 0.0, 0.0
                for j in range(n - 1, -1, -1):
                    delta = rings[0, j, c] - mean
                    mean += delta * (1.0 / (n - j))
                    xx += delta * (rings[0, j, c] - mean)
                    xt += (rings[0, j, c] - mean) * (0.5 * (j - n))
                    rings[0, j, c], rings[1, j, c], rings[2, j, c] = mean, xx, xt
                p, f, mean, xx, xt = 0, 1, 0.0, 0.0, 0.0
        head[c], full[c] = p, f
        block[0, c], block[1, c], block[2, c] = mean, xx, xt
    return made


@kernel
def decay(present, dense, lo, ring, block, head, full, x, n, out):
    """Mean with weights 1 (oldest) to n. ring (n + 1, S): values, then suffix sums of suffix sums; block (2, S): sum v, sum place * v."""
    rows, width = x.shape
    made = 0
    total_weight = 0.5 * n * (n + 1.0)
    for s in range(width):
        c = lo + s
        p, f, total, placed = head[c], full[c], block[0, c], block[1, c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = x[t, s]
            ring[p, c] = v
            total += v
            placed += p * v
            r = (ring[p + 1, c] + ((n - p) * total + placed)) / total_weight if f or p + 1 == n else NAN
            made += is_infinite(r)
            out[t, s] = defined(r)
            p += 1
            if p == n:
                suffix, weighted = 0.0, 0.0
                for j in range(n - 1, -1, -1):
                    suffix += ring[j, c]
                    weighted += suffix
                    ring[j, c] = weighted
                p, f, total, placed = 0, 1, 0.0, 0.0
        head[c], full[c], block[0, c], block[1, c] = p, f, total, placed
    return made


def _trend_state(params: Params) -> StateShapes:
    return {"rings": ((3, int(params["n"]) + 1), "f8"), "block": ((3,), "f8"), "head": ((), "i8"), "full": ((), "i8")}


def _decay_state(params: Params) -> StateShapes:
    return {"ring": ((int(params["n"]) + 1,), "f8"), "block": ((2,), "f8"), "head": ((), "i8"), "full": ((), "i8")}


def _regression(name: str, mode: int, summary: str) -> Operator:
    def extra(_: Params) -> tuple[float, ...]:
        return (mode,)

    return Operator(name, Kind.WINDOW, trend, 1, summary, ("n",), extra=extra, state=_trend_state, warm_up=all_but_one)


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
        state=_decay_state,
        warm_up=all_but_one,
    ),
)
