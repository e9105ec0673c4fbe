"""Two series over the last n present bars: covariance, correlation, beta. The two-block scheme of rolling_moments with co-moments."""

from __future__ import annotations

import math

from trading_platform.features.operators.kernel import NAN, Kind, Operator, Params, StateShapes, all_but_one, defined, is_infinite, kernel

COVARIANCE, CORRELATION, BETA = 0, 1, 2


@kernel
def result_of(mode, n, xx, yy, xy):
    """Covariance (n - 1), correlation in [-1, 1], or the slope of x on y."""
    if mode == COVARIANCE:
        return xy / (n - 1.0)
    if mode == BETA:
        return xy / yy if yy > 0.0 else NAN
    both = math.sqrt(xx) * math.sqrt(yy) if xx >= 0.0 and yy >= 0.0 else NAN
    return min(max(xy / both, -1.0), 1.0) if both > 0.0 and xy == xy else NAN


@kernel
def pairs(present, dense, lo, rings, block, head, full, x, y, n, mode, out):
    """rings (5, n + 1, S): x, y, then suffix mean x, mean y, squares x, squares y, products; block (5, S): those of the current block."""
    rows, width = x.shape
    made = 0
    for s in range(width):
        c = lo + s
        p, f = head[c], full[c]
        mx, my, xx, yy, xy = block[0, c], block[1, c], block[2, c], block[3, c], block[4, c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            u, v = x[t, s], y[t, s]
            rings[0, p, c], rings[1, p, c] = u, v
            q = p + 1
            du, dv = u - mx, v - my
            mx += du * (1.0 / q)
            my += dv * (1.0 / q)
            xx += du * (u - mx)
            yy += dv * (v - my)
            xy += du * (v - my)
            if q == n:
                r = result_of(mode, n, xx, yy, xy)
            elif f:
                a, b = rings[0, q, c] - mx, rings[1, q, c] - my
                share = q * (n - q) / n
                r = result_of(
                    mode, n, xx + rings[2, q, c] + a * a * share, yy + rings[3, q, c] + b * b * share, xy + rings[4, q, c] + a * b * share
                )
            else:
                r = NAN
            made += is_infinite(r)
            out[t, s] = defined(r)
            p = q
            if p == n:
                close_pairs(rings, c, n)
                p, f, mx, my, xx, yy, xy = 0, 1, 0.0, 0.0, 0.0, 0.0, 0.0
        head[c], full[c] = p, f
        block[0, c], block[1, c], block[2, c], block[3, c], block[4, c] = mx, my, xx, yy, xy
    return made


@kernel
def close_pairs(rings, c, n):
    """Turn column c's full block into suffix means, squares and products."""
    mx, my, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(n - 1, -1, -1):
        u, v = rings[0, j, c], rings[1, j, c]
        du, dv = u - mx, v - my
        mx += du * (1.0 / (n - j))
        my += dv * (1.0 / (n - j))
        xx += du * (u - mx)
        yy += dv * (v - my)
        xy += du * (v - my)
        rings[0, j, c], rings[1, j, c], rings[2, j, c], rings[3, j, c], rings[4, j, c] = mx, my, xx, yy, xy


def _state(params: Params) -> StateShapes:
    return {"rings": ((5, int(params["n"]) + 1), "f8"), "block": ((5,), "f8"), "head": ((), "i8"), "full": ((), "i8")}


def _paired(name: str, mode: int, summary: str) -> Operator:
    def extra(_: Params) -> tuple[float, ...]:
        return (mode,)

    return Operator(name, Kind.WINDOW, pairs, 2, summary, ("n",), extra=extra, state=_state, warm_up=all_but_one)


OPERATORS = (
    _paired("cov", COVARIANCE, "sample covariance of x and y over the last n present bars"),
    _paired("corr", CORRELATION, "correlation of x and y over the last n present bars"),
    _paired("beta", BETA, "slope of x on y over the last n present bars"),
)
