"""Two series over the last n present bars: covariance, correlation, beta. The two-block scheme of rolling_moments with co-moments."""

from __future__ import annotations

import math

from trading_platform.features.operators.kernel import NAN, Kind, Operator, Params, all_but_one, defined, is_infinite, kernel, place_of_next

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
def pairs(present, seen, aligned, places, lo, state, x, y, n, mode, out):
    """state: five times n ring rows (x, y, then their suffix means; suffix squares x, squares y, products), the same five of the block."""
    rows, width = x.shape
    made = 0
    for s in range(width):
        places[s] = int(place_of_next(seen[s], n))
    block = state[5 * n :]
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            p, u, v = places[s], x[t, s], y[t, s]
            mx, my, xx, yy, xy = block[0, c], block[1, c], block[2, c], block[3, c], block[4, c]
            state[p, c], state[n + p, c] = u, v
            q = p + 1
            du, dv = u - mx, v - my
            mx += du * (1.0 / q)
            my += dv * (1.0 / q)
            xx += du * (u - mx)
            yy += dv * (v - my)
            xy += du * (v - my)
            block[0, c], block[1, c], block[2, c], block[3, c], block[4, c] = mx, my, xx, yy, xy
            if q == n:
                close_pairs(state, c, n)
                q = 0
            else:
                a, b, share = state[q, c] - mx, state[n + q, c] - my, q * (n - q) / n
                xx += state[2 * n + q, c] + a * a * share
                yy += state[3 * n + q, c] + b * b * share
                xy += state[4 * n + q, c] + a * b * share
            r = result_of(mode, n, xx, yy, xy)
            made += is_infinite(r)
            out[t, s] = defined(r)
            places[s] = q
    return made


@kernel
def close_pairs(state, c, n):
    """Turn column c's full block into suffix means, squares and products."""
    mx, my, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(n - 1, -1, -1):
        u, v = state[j, c], state[n + j, c]
        du, dv = u - mx, v - my
        mx += du * (1.0 / (n - j))
        my += dv * (1.0 / (n - j))
        xx += du * (u - mx)
        yy += dv * (v - my)
        xy += du * (v - my)
        state[j, c], state[n + j, c], state[2 * n + j, c], state[3 * n + j, c], state[4 * n + j, c] = mx, my, xx, yy, xy
    state[5 * n :, c] = 0.0


def _state(params: Params) -> tuple[float, ...]:
    return (NAN,) * (5 * int(params["n"])) + (0.0,) * 5


def _paired(name: str, mode: int, summary: str) -> Operator:
    def extra(_: Params) -> tuple[float, ...]:
        return (mode,)

    return Operator(name, Kind.WINDOW, pairs, 2, summary, ("n",), extra=extra, cold=_state, warm_up=all_but_one)


OPERATORS = (
    _paired("cov", COVARIANCE, "sample covariance of x and y over the last n present bars"),
    _paired("corr", CORRELATION, "correlation of x and y over the last n present bars"),
    _paired("beta", BETA, "slope of x on y over the last n present bars"),
)
