"""Skewness and kurtosis over the last n present bars: the two-block scheme of rolling_moments with four central moments.

Merging follows Pebay (2008), "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical moments".
The results are the bias-corrected sample values (pandas, Excel). Undefined where all values are equal.
"""

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


@kernel
def merge(a, mean_a, m2_a, m3_a, m4_a, b, mean_b, m2_b, m3_b, m4_b):
    """Mean and central moment sums of the union of a and b values."""
    n = a + b
    d = mean_b - mean_a
    mean = mean_a + d * (b / n)
    m2 = m2_a + m2_b + d * d * (a * b / n)
    m3 = m3_a + m3_b + d * d * d * (a * b * (a - b) / (n * n)) + 3.0 * d * ((a * m2_b - b * m2_a) / n)
    m4 = m4_a + m4_b + d * d * d * d * (a * b * (a * a - a * b + b * b) / (n * n * n))
    m4 += 6.0 * d * d * ((a * a * m2_b + b * b * m2_a) / (n * n)) + 4.0 * d * ((a * m3_b - b * m3_a) / n)
    return mean, m2, m3, m4


@kernel
def skewness(n, m2, m3):
    """Adjusted Fisher-Pearson coefficient of n values."""
    spread = m2 / n
    return math.sqrt(n * (n - 1.0)) / (n - 2.0) * (m3 / n) / (spread * math.sqrt(spread)) if m2 > 0.0 else NAN


@kernel
def excess_kurtosis(n, m2, m4):
    """Bias-corrected excess kurtosis of n values."""
    return (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * (n * (m4 / m2) / m2) - 3.0 * (n - 1.0)) if m2 > 0.0 else NAN


@kernel
def add_row(q, v, block, lo, hi, fresh):
    """One more value, after q, in columns lo..hi-1 of the block's four rows; fresh (3, hi - lo): scratch. A loop per row is a vector."""
    mean, m2, m3, m4 = block[0, lo:hi], block[1, lo:hi], block[2, lo:hi], block[3, lo:hi]
    second, third, fourth = fresh[0], fresh[1], fresh[2]
    for s in range(v.size):
        fourth[s] = merge(q, mean[s], m2[s], m3[s], m4[s], 1.0, v[s], 0.0, 0.0, 0.0)[3]
    for s in range(v.size):
        third[s] = merge(q, mean[s], m2[s], m3[s], 0.0, 1.0, v[s], 0.0, 0.0, 0.0)[2]
    for s in range(v.size):
        second[s] = merge(q, mean[s], m2[s], 0.0, 0.0, 1.0, v[s], 0.0, 0.0, 0.0)[1]
    for s in range(v.size):
        mean[s] = merge(q, mean[s], 0.0, 0.0, 0.0, 1.0, v[s], 0.0, 0.0, 0.0)[0]
    copy_row(second, m2)
    copy_row(third, m3)
    copy_row(fourth, m4)


@kernel
def close_rows(state, lo, hi, n, fresh):
    """Turn the full block of columns lo..hi-1 into suffix means and moment sums."""
    block = state[4 * n :]
    block[:, lo:hi] = 0.0
    for j in range(n - 1, -1, -1):
        add_row(n - 1.0 - j, state[j, lo:hi], block, lo, hi, fresh)
        for k in range(4):
            copy_row(block[k, lo:hi], state[k * n + j, lo:hi])
    block[:, lo:hi] = 0.0


@kernel
def result_of(n, m2, m3, m4, fourth):
    """Kurtosis or skewness."""
    return excess_kurtosis(n, m2, m4) if fourth else skewness(n, m2, m3)


@kernel
def aligned_shape(seen, lo, state, x, n, fourth, out):
    """`shape` where every cell is present and every column stands at one place."""
    rows, width = x.shape
    hi, block, fresh, made = lo + width, state[4 * n :], np.empty((3, width)), 0
    p = int(place_of_next(seen[0], n))
    mean, m2, m3, m4 = block[0, lo:hi], block[1, lo:hi], block[2, lo:hi], block[3, lo:hi]
    for t in range(rows):
        result, q = out[t], p + 1
        copy_row(x[t], state[p, lo:hi])
        if p == 0:
            block[:, lo:hi] = 0.0
        add_row(float(p), x[t], block, lo, hi, fresh)
        if q == n:
            for s in range(width):
                result[s] = result_of(n, m2[s], m3[s], m4[s], fourth)
            close_rows(state, lo, hi, n, fresh)
            q = 0
        else:
            a, b, c, d = state[q, lo:hi], state[n + q, lo:hi], state[2 * n + q, lo:hi], state[3 * n + q, lo:hi]
            for s in range(width):
                _, x2, x3, x4 = merge(float(q), mean[s], m2[s], m3[s], m4[s], float(n - q), a[s], b[s], c[s], d[s])
                result[s] = result_of(n, x2, x3, x4, fourth)
        for s in range(width):
            made += is_infinite(result[s])
            result[s] = defined(result[s])
        p = q
    return made


@kernel
def shape(present, seen, aligned, places, lo, state, x, n, fourth, out):
    """state: four times n ring rows (values, then suffix means; suffix moment sums), the same four of the current block."""
    if aligned:
        return aligned_shape(seen, lo, state, x, n, fourth, out)
    rows, width = x.shape
    made, block = 0, state[4 * n :]
    for s in range(width):
        places[s] = int(place_of_next(seen[s], n))
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            p, v = places[s], x[t, s]
            state[p, c] = v
            if p == 0:
                block[:, c] = 0.0
            mean, m2, m3, m4 = merge(float(p), block[0, c], block[1, c], block[2, c], block[3, c], 1.0, v, 0.0, 0.0, 0.0)
            block[0, c], block[1, c], block[2, c], block[3, c] = mean, m2, m3, m4
            q = p + 1
            if q == n:
                close_shape(state, c, n)
                q = 0
            else:
                above = (state[q, c], state[n + q, c], state[2 * n + q, c], state[3 * n + q, c])
                mean, m2, m3, m4 = merge(float(q), mean, m2, m3, m4, float(n - q), above[0], above[1], above[2], above[3])
            r = result_of(n, m2, m3, m4, fourth)
            made += is_infinite(r)
            out[t, s] = defined(r)
            places[s] = q
    return made


@kernel
def close_shape(state, c, n):
    """The same for one column."""
    mean, m2, m3, m4 = 0.0, 0.0, 0.0, 0.0
    for j in range(n - 1, -1, -1):
        mean, m2, m3, m4 = merge(float(n - 1 - j), mean, m2, m3, m4, 1.0, state[j, c], 0.0, 0.0, 0.0)
        state[j, c], state[n + j, c], state[2 * n + j, c], state[3 * n + j, c] = mean, m2, m3, m4
    state[4 * n :, c] = 0.0


def _state(params: Params) -> tuple[float, ...]:
    return (NAN,) * (4 * int(params["n"]) + 4)


OPERATORS = (
    Operator(
        "skew",
        Kind.WINDOW,
        shape,
        1,
        "sample skewness of the last n present bars",
        ("n",),
        extra=lambda _: (False,),
        cold=_state,
        warm_up=all_but_one,
    ),
    Operator(
        "kurt",
        Kind.WINDOW,
        shape,
        1,
        "sample excess kurtosis of the last n present bars",
        ("n",),
        extra=lambda _: (True,),
        cold=_state,
        warm_up=all_but_one,
    ),
)
