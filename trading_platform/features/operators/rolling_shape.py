"""Skewness and kurtosis over the last n present bars: the two-block scheme of rolling_moments with four central moments.

Merging follows Pebay (2008), "Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical moments".
The results are the bias-corrected sample values (pandas, Excel). Undefined where all values are equal.
"""

from __future__ import annotations

import math

from trading_platform.features.operators.kernel import NAN, Kind, Operator, Params, StateShapes, all_but_one, defined, is_infinite, kernel


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
def shape(present, dense, lo, rings, block, head, full, x, n, fourth, out):
    """rings (4, n + 1, S): values, then suffix mean and moment sums; block (4, S): those of the current block."""
    rows, width = x.shape
    made = 0
    for s in range(width):
        c = lo + s
        p, f = head[c], full[c]
        mean, m2, m3, m4 = block[0, c], block[1, c], block[2, c], block[3, c]
        for t in range(rows):
            if not present[t, s]:
                out[t, s] = NAN
                continue
            v = x[t, s]
            rings[0, p, c] = v
            mean, m2, m3, m4 = merge(float(p), mean, m2, m3, m4, 1.0, v, 0.0, 0.0, 0.0)
            q = p + 1
            if q == n:
                r = excess_kurtosis(n, m2, m4) if fourth else skewness(n, m2, m3)
            elif f:
                left = float(n - q)
                above = merge(float(q), mean, m2, m3, m4, left, rings[0, q, c], rings[1, q, c], rings[2, q, c], rings[3, q, c])
                r = excess_kurtosis(n, above[1], above[3]) if fourth else skewness(n, above[1], above[2])
            else:
                r = NAN
            made += is_infinite(r)
            out[t, s] = defined(r)
            p = q
            if p == n:
                mean, m2, m3, m4 = 0.0, 0.0, 0.0, 0.0
                for j in range(n - 1, -1, -1):
                    mean, m2, m3, m4 = merge(float(n - 1 - j), mean, m2, m3, m4, 1.0, rings[0, j, c], 0.0, 0.0, 0.0)
                    rings[0, j, c], rings[1, j, c], rings[2, j, c], rings[3, j, c] = mean, m2, m3, m4
                p, f, mean, m2, m3, m4 = 0, 1, 0.0, 0.0, 0.0, 0.0
        head[c], full[c] = p, f
        block[0, c], block[1, c], block[2, c], block[3, c] = mean, m2, m3, m4
    return made


def _state(params: Params) -> StateShapes:
    return {"rings": ((4, int(params["n"]) + 1), "f8"), "block": ((4,), "f8"), "head": ((), "i8"), "full": ((), "i8")}


OPERATORS = (
    Operator(
        "skew",
        Kind.WINDOW,
        shape,
        1,
        "sample skewness of the last n present bars",
        ("n",),
        extra=lambda _: (False,),
        state=_state,
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
        state=_state,
        warm_up=all_but_one,
    ),
)
