"""Functions of one cell: no state, no neighbours. A NaN in gives a NaN out."""

from __future__ import annotations

from trading_platform.contracts.errors import InputError
from trading_platform.features.node import Expression, Number, apply


def log(x: Expression) -> Expression:
    """Natural logarithm: ln x.

    Unit: natural log units. Warm-up: 0. Undefined: where x is, or x <= 0. Source: C math.log.
    """
    return apply("log", x)


def exp(x: Expression) -> Expression:
    """Exponential: e to the x.

    Unit: ratio. Warm-up: 0. Undefined: where x is, or x > 709.78 (overflow). Source: C math.exp.
    """
    return apply("exp", x)


def sqrt(x: Expression) -> Expression:
    """Square root of x.

    Unit: root of x's. Warm-up: 0. Undefined: where x is, or x < 0. Source: IEEE 754.
    """
    return apply("sqrt", x)


def abs_(x: Expression) -> Expression:
    """Absolute value: |x|. The same as abs(x).

    Unit: of x. Warm-up: 0. Undefined: where x is. Source: IEEE 754.
    """
    return apply("abs", x)


def sign(x: Expression) -> Expression:
    """Sign of x: -1, 0 or 1.

    Unit: none. Warm-up: 0. Undefined: where x is. Source: NumPy sign.
    """
    return apply("sign", x)


def clip(x: Expression, low: Number, high: Number) -> Expression:
    """x limited to a range: min(max(x, low), high).

    Unit: of x. Warm-up: 0. Undefined: where x is. Source: NumPy clip.
    """
    if not low <= high:
        raise InputError(f"clip from {low} to {high}", "features.expression.clip", "low must not be above high")
    return apply("clip", x, low=float(low), high=float(high))


def maximum(x: Expression | Number, y: Expression | Number) -> Expression:
    """The larger of two values.

    Unit: of the inputs. Warm-up: 0. Undefined: where either is. Source: NumPy maximum.
    """
    return apply("maximum", x, y)


def minimum(x: Expression | Number, y: Expression | Number) -> Expression:
    """The smaller of two values.

    Unit: of the inputs. Warm-up: 0. Undefined: where either is. Source: NumPy minimum.
    """
    return apply("minimum", x, y)


def equal(x: Expression | Number, y: Expression | Number) -> Expression:
    """1.0 where x equals y, else 0.0 (the == of Python compares the expressions themselves).

    Unit: 0 or 1. Warm-up: 0. Undefined: where either is. Source: IEEE 754 comparison.
    """
    return apply("equal", x, y)


def where(condition: Expression, x: Expression | Number, y: Expression | Number) -> Expression:
    """x where the condition is not 0, else y; the branch not taken may be undefined.

    Unit: of x and y. Warm-up: 0. Undefined: where the condition or the branch taken is. Source: NumPy where.
    """
    return apply("where", condition, x, y)
