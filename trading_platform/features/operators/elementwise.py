"""Operators that look at one cell: arithmetic, comparisons, choices. No state, no neighbours. NaN in, NaN out."""

from __future__ import annotations

from trading_platform.features.operators.kernel import NAN, Kind, Operator, defined, is_infinite, kernel

import math  # isort: skip

EXP_LIMIT = 709.782712893384  # the largest x whose exp is finite; math.exp raises above it when uncompiled


@kernel
def add(x, y, out):
    a, b, o, made = x.ravel(), y.ravel(), out.ravel(), 0
    for i in range(o.size):
        v = a[i] + b[i]
        made += is_infinite(v)
        o[i] = defined(v)
    return made


@kernel
def sub(x, y, out):
    a, b, o, made = x.ravel(), y.ravel(), out.ravel(), 0
    for i in range(o.size):
        v = a[i] - b[i]
        made += is_infinite(v)
        o[i] = defined(v)
    return made


@kernel
def mul(x, y, out):
    a, b, o, made = x.ravel(), y.ravel(), out.ravel(), 0
    for i in range(o.size):
        v = a[i] * b[i]
        made += is_infinite(v)
        o[i] = defined(v)
    return made


@kernel
def div(x, y, out):
    a, b, o, made = x.ravel(), y.ravel(), out.ravel(), 0
    for i in range(o.size):
        v = a[i] / b[i]
        made += is_infinite(v)
        o[i] = defined(v)
    return made


@kernel
def neg(x, out):
    a, o = x.ravel(), out.ravel()
    for i in range(o.size):
        o[i] = defined(-a[i])
    return 0


@kernel
def absolute(x, out):
    a, o = x.ravel(), out.ravel()
    for i in range(o.size):
        o[i] = abs(a[i])
    return 0


@kernel
def sign(x, out):
    a, o = x.ravel(), out.ravel()
    for i in range(o.size):
        v = a[i]
        o[i] = 1.0 if v > 0.0 else (-1.0 if v < 0.0 else (0.0 if v == 0.0 else NAN))
    return 0


@kernel
def log(x, out):
    a, o, made = x.ravel(), out.ravel(), 0
    for i in range(o.size):
        v = a[i]
        made += 1 if v == 0.0 else 0
        o[i] = math.log(v) if v > 0.0 else NAN
    return made


@kernel
def exp(x, out):
    a, o, made = x.ravel(), out.ravel(), 0
    for i in range(o.size):
        v = a[i]
        made += 1 if v > EXP_LIMIT else 0
        o[i] = math.exp(v) if v <= EXP_LIMIT else NAN
    return made


@kernel
def sqrt(x, out):
    a, o = x.ravel(), out.ravel()
    for i in range(o.size):
        v = a[i]
        o[i] = math.sqrt(v) if v >= 0.0 else NAN
    return 0


@kernel
def clip(x, low, high, out):
    a, o = x.ravel(), out.ravel()
    for i in range(o.size):
        v = a[i]
        o[i] = low if v < low else (high if v > high else v)
    return 0


@kernel
def maximum(x, y, out):
    a, b, o = x.ravel(), y.ravel(), out.ravel()
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = u if u >= v else (v if v > u else NAN)
    return 0


@kernel
def minimum(x, y, out):
    a, b, o = x.ravel(), y.ravel(), out.ravel()
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = u if u <= v else (v if v < u else NAN)
    return 0


@kernel
def less(x, y, out):
    a, b, o = x.ravel(), y.ravel(), out.ravel()
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = 1.0 if u < v else (0.0 if u >= v else NAN)
    return 0


@kernel
def less_or_equal(x, y, out):
    a, b, o = x.ravel(), y.ravel(), out.ravel()
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = 1.0 if u <= v else (0.0 if u > v else NAN)
    return 0


@kernel
def equal(x, y, out):
    a, b, o = x.ravel(), y.ravel(), out.ravel()
    for i in range(o.size):
        u, v = a[i], b[i]
        o[i] = 1.0 if u == v else (0.0 if u < v or u > v else NAN)
    return 0


@kernel
def where(condition, x, y, out):
    c, a, b, o = condition.ravel(), x.ravel(), y.ravel(), out.ravel()
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
