"""Operators that look at one cell: arithmetic, comparisons, choices. No state, no neighbours. NaN in, NaN out."""

from __future__ import annotations

import math

import numpy as np

from trading_platform.features.operators.kernel import NAN, Kind, Operator, defined, inlined, is_infinite

EXP_LIMIT = 709.782712893384  # the largest x whose exp is finite; math.exp raises above it when uncompiled
SMALLEST_NORMAL = float(np.finfo(np.float64).smallest_normal)
ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
LG1, LG2, LG3, LG4 = 6.666666666666735130e-01, 3.999999999940941908e-01, 2.857142874366239149e-01, 2.222219843214978396e-01
LG5, LG6, LG7 = 1.818357216161805012e-01, 1.531383769920937332e-01, 1.479819860511658591e-01


@inlined
def add(x, y, out):
    a, b, o, made = x, y, out, 0
    for i in range(o.size):
        v = a[i] + b[i]
        made += is_infinite(v)
        o[i] = defined(v)
    return made


@inlined
def sub(x, y, out):
    a, b, o, made = x, y, out, 0
    for i in range(o.size):
        v = a[i] - b[i]
        made += is_infinite(v)
        o[i] = defined(v)
    return made


@inlined
def mul(x, y, out):
    a, b, o, made = x, y, out, 0
    for i in range(o.size):
        v = a[i] * b[i]
        made += is_infinite(v)
        o[i] = defined(v)
    return made


@inlined
def div(x, y, out):
    a, b, o, made = x, y, out, 0
    for i in range(o.size):
        v = a[i] / b[i]
        made += is_infinite(v)
        o[i] = defined(v)
    return made


@inlined
def neg(x, out):
    a, o = x, out
    for i in range(o.size):
        o[i] = defined(-a[i])
    return 0


@inlined
def absolute(x, out):
    a, o = x, out
    for i in range(o.size):
        o[i] = abs(a[i])
    return 0


@inlined
def sign(x, out):
    a, o = x, out
    for i in range(o.size):
        v = a[i]
        o[i] = 1.0 if v > 0.0 else (-1.0 if v < 0.0 else (0.0 if v == 0.0 else NAN))
    return 0


@inlined
def log(x, out):
    """Natural logarithm by the series of fdlibm's e_log.c (error below 1 ulp): plain arithmetic, so that the loops become vectors.

    x = 2^k m with m in [sqrt(1/2), sqrt(2)); with f = m - 1 and s = f / (2 + f), log m = f - (f^2 / 2 - s (f^2 / 2 + series(s^2))).
    """
    a, o, made, tiny = x, out, 0, 0
    given, bits = a.view(np.int64), o.view(np.int64)
    for i in range(o.size):
        bits[i] = given[i] - (((given[i] - ROOT_HALF) >> 52) << 52)  # m
    for i in range(o.size):
        v, k = a[i], float((given[i] - ROOT_HALF) >> 52)
        f = o[i] - 1.0
        s = f / (2.0 + f)
        z = s * s
        w = z * z
        series = w * (LG2 + w * (LG4 + w * LG6)) + z * (LG1 + w * (LG3 + w * (LG5 + w * LG7)))
        half = 0.5 * f * f
        r = k * LN2_HIGH - ((half - (s * (half + series) + k * LN2_LOW)) - f)
        made += 1 if v == 0.0 else 0
        tiny += 1 if abs(v) < SMALLEST_NORMAL else 0
        o[i] = r if v > 0.0 else NAN
    if tiny > made:  # numbers without the leading bit that the split relies on
        for i in range(o.size):
            if 0.0 < a[i] < SMALLEST_NORMAL:
                o[i] = math.log(a[i])
    return made


@inlined
def exp(x, out):
    a, o, made = x, out, 0
    for i in range(o.size):
        v = a[i]
        made += 1 if v > EXP_LIMIT else 0
        o[i] = math.exp(v) if v <= EXP_LIMIT else NAN
    return made


@inlined
def sqrt(x, out):
    a, o = x, out
    for i in range(o.size):
        v = a[i]
        o[i] = math.sqrt(v) if v >= 0.0 else NAN
    return 0


@inlined
def clip(x, low, high, out):
    a, o = x, out
    for i in range(o.size):
        v = a[i]
        o[i] = low if v < low else (high if v > high else v)
    return 0


@inlined
def maximum(x, y, out):
    a, b, o = x, y, out
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = u if u >= v else (v if v > u else NAN)
    return 0


@inlined
def minimum(x, y, out):
    a, b, o = x, y, out
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = u if u <= v else (v if v < u else NAN)
    return 0


@inlined
def less(x, y, out):
    a, b, o = x, y, out
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = 1.0 if u < v else (0.0 if u >= v else NAN)
    return 0


@inlined
def less_or_equal(x, y, out):
    a, b, o = x, y, out
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = 1.0 if u <= v else (0.0 if u > v else NAN)
    return 0


@inlined
def equal(x, y, out):
    a, b, o = x, y, out
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = 1.0 if u == v else (0.0 if u < v or u > v else NAN)
    return 0


@inlined
def where(condition, x, y, out):
    c, a, b, o = condition, x, y, out
    for i in range(o.size):
        v = c[i]
        o[i] = a[i] if v < 0.0 or v > 0.0 else (b[i] if v == 0.0 else NAN)
    return 0


OPERATORS = (
    Operator("add", Kind.ELEMENTWISE, add, 2, "x + y"),
    Operator("sub", Kind.ELEMENTWISE, sub, 2, "x - y"),
    Operator("mul", Kind.ELEMENTWISE, mul, 2, "x * y"),
    Operator("div", Kind.ELEMENTWISE, div, 2, "x / y; undefined for y = 0"),
    Operator("neg", Kind.ELEMENTWISE, neg, 1, "-x"),
    Operator("abs", Kind.ELEMENTWISE, absolute, 1, "absolute value"),
    Operator("sign", Kind.ELEMENTWISE, sign, 1, "-1, 0 or 1"),
    Operator("log", Kind.ELEMENTWISE, log, 1, "natural logarithm; undefined for x <= 0"),
    Operator("exp", Kind.ELEMENTWISE, exp, 1, "e to the x"),
    Operator("sqrt", Kind.ELEMENTWISE, sqrt, 1, "square root; undefined for x < 0"),
    Operator("clip", Kind.ELEMENTWISE, clip, 1, "x limited to [low, high]", params=("low", "high")),
    Operator("maximum", Kind.ELEMENTWISE, maximum, 2, "the larger of x and y"),
    Operator("minimum", Kind.ELEMENTWISE, minimum, 2, "the smaller of x and y"),
    Operator("lt", Kind.ELEMENTWISE, less, 2, "1 where x < y, else 0"),
    Operator("le", Kind.ELEMENTWISE, less_or_equal, 2, "1 where x <= y, else 0"),
    Operator("equal", Kind.ELEMENTWISE, equal, 2, "1 where x = y, else 0"),
    Operator("where", Kind.ELEMENTWISE, where, 3, "y where the condition x is not 0, else z"),
)
