"""Two series over the last n present bars: covariance, correlation, beta. The two-block scheme of rolling_moments with co-moments."""

from __future__ import annotations

import math

import numpy as np

from trading_platform.features.operators.kernel import (
    NAN,
    Kind,
    Operator,
    Params,
    all_but_one,
    copy_row,
    defined,
    is_infinite,
    kernel,
    place_of_next,
)

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
def with_pair(inverse, u, v, mx, my, xx, yy, xy):
    """Means, squares and products with one more pair; inverse: 1 / the new count."""
    du, dv = u - mx, v - my
    mx += du * inverse
    my += dv * inverse
    return mx, my, xx + du * (u - mx), yy + dv * (v - my), xy + du * (v - my)


@kernel
def merged(mode, n, q, mx, my, xx, yy, xy, other_mx, other_my, other_xx, other_yy, other_xy):
    """The result of a block of q pairs and the n - q pairs of the suffix before it."""
    a, b, share = other_mx - mx, other_my - my, q * (n - q) / n
    return result_of(mode, n, xx + other_xx + a * a * share, yy + other_yy + b * b * share, xy + other_xy + a * b * share)


@kernel
def add_row(inverse, u, v, block, lo, hi, fresh):
    """One more pair in columns lo..hi-1 of the block's five rows; fresh (3, hi - lo): scratch. A loop per row, so that each is a vector."""
    mx, my, xx, yy, xy = block[0, lo:hi], block[1, lo:hi], block[2, lo:hi], block[3, lo:hi], block[4, lo:hi]
    squares, others, products = fresh[0], fresh[1], fresh[2]
    for s in range(u.size):
        squares[s] = with_pair(inverse, u[s], 0.0, mx[s], 0.0, xx[s], 0.0, 0.0)[2]
    for s in range(u.size):
        others[s] = with_pair(inverse, 0.0, v[s], 0.0, my[s], 0.0, yy[s], 0.0)[3]
    for s in range(u.size):
        products[s] = with_pair(inverse, u[s], v[s], mx[s], my[s], 0.0, 0.0, xy[s])[4]
    for s in range(u.size):
        mx[s] = with_pair(inverse, u[s], 0.0, mx[s], 0.0, 0.0, 0.0, 0.0)[0]
    for s in range(u.size):
        my[s] = with_pair(inverse, 0.0, v[s], 0.0, my[s], 0.0, 0.0, 0.0)[1]
    copy_row(squares, xx)
    copy_row(others, yy)
    copy_row(products, xy)


@kernel
def close_rows(state, lo, hi, n, fresh):
    """Turn the full block of columns lo..hi-1 into suffix means, squares and products."""
    block = state[5 * n :]
    block[:, lo:hi] = 0.0
    for j in range(n - 1, -1, -1):
        add_row(1.0 / (n - j), state[j, lo:hi], state[n + j, lo:hi], block, lo, hi, fresh)
        for k in range(5):
            copy_row(block[k, lo:hi], state[k * n + j, lo:hi])
    block[:, lo:hi] = 0.0


@kernel
def aligned_pairs(seen, lo, state, x, y, n, mode, out):
    """`pairs` where every cell is present and every column stands at one place."""
    rows, width = x.shape
    hi, block, fresh, made = lo + width, state[5 * n :], np.empty((3, width)), 0
    p = int(place_of_next(seen[0], n))
    mx, my, xx, yy, xy = block[0, lo:hi], block[1, lo:hi], block[2, lo:hi], block[3, lo:hi], block[4, lo:hi]
    for t in range(rows):
        result, q = out[t], p + 1
        copy_row(x[t], state[p, lo:hi])
        copy_row(y[t], state[n + p, lo:hi])
        if p == 0:
            block[:, lo:hi] = 0.0
        add_row(1.0 / q, x[t], y[t], block, lo, hi, fresh)
        if q == n:
            for s in range(width):
                result[s] = result_of(mode, n, xx[s], yy[s], xy[s])
            close_rows(state, lo, hi, n, fresh)
            q = 0
        else:
            a, b = state[q, lo:hi], state[n + q, lo:hi]
            aa, bb, ab = state[2 * n + q, lo:hi], state[3 * n + q, lo:hi], state[4 * n + q, lo:hi]
            for s in range(width):
                result[s] = merged(mode, n, q, mx[s], my[s], xx[s], yy[s], xy[s], a[s], b[s], aa[s], bb[s], ab[s])
        for s in range(width):
            made += is_infinite(result[s])
            result[s] = defined(result[s])
        p = q
    return made


@kernel
def pairs(present, seen, aligned, places, lo, state, x, y, n, mode, out):
    """state: five times n ring rows (x, y, then their suffix means; suffix squares x, squares y, products), the same five of the block."""
    if aligned:
        return aligned_pairs(seen, lo, state, x, y, n, mode, out)
    rows, width = x.shape
    made, block = 0, state[5 * n :]
    for s in range(width):
        places[s] = int(place_of_next(seen[s], n))
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            p, u, v = places[s], x[t, s], y[t, s]
            state[p, c], state[n + p, c] = u, v
            q = p + 1
            if p == 0:
                block[:, c] = 0.0
            mx, my, xx, yy, xy = with_pair(1.0 / q, u, v, block[0, c], block[1, c], block[2, c], block[3, c], block[4, c])
            block[0, c], block[1, c], block[2, c], block[3, c], block[4, c] = mx, my, xx, yy, xy
            if q == n:
                r = result_of(mode, n, xx, yy, xy)
                close_pairs(state, c, n)
                q = 0
            else:
                a, b, aa, bb, ab = state[q, c], state[n + q, c], state[2 * n + q, c], state[3 * n + q, c], state[4 * n + q, c]
                r = merged(mode, n, q, mx, my, xx, yy, xy, a, b, aa, bb, ab)
            made += is_infinite(r)
            out[t, s] = defined(r)
            places[s] = q
    return made


@kernel
def close_pairs(state, c, n):
    """The same for one column."""
    mx, my, xx, yy, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for j in range(n - 1, -1, -1):
        mx, my, xx, yy, xy = with_pair(1.0 / (n - j), state[j, c], state[n + j, c], mx, my, xx, yy, xy)
        state[j, c], state[n + j, c], state[2 * n + j, c], state[3 * n + j, c], state[4 * n + j, c] = mx, my, xx, yy, xy
    state[5 * n :, c] = 0.0


def _state(params: Params) -> tuple[float, ...]:
    return (NAN,) * (5 * int(params["n"]) + 5)


def _paired(name: str, mode: int, summary: str) -> Operator:
    def extra(_: Params) -> tuple[float, ...]:
        return (mode,)

    return Operator(name, Kind.WINDOW, pairs, 2, summary, ("n",), extra=extra, cold=_state, warm_up=all_but_one)


OPERATORS = (
    _paired("cov", COVARIANCE, "sample covariance of x and y over the last n present bars"),
    _paired("corr", CORRELATION, "correlation of x and y over the last n present bars"),
    _paired("beta", BETA, "slope of x on y over the last n present bars"),
)
