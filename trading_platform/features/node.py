"""Features as immutable, content-addressed expressions: the node, its arithmetic and its leaves. No arrays, no compiler, no state.

An expression is a value: two expressions built the same way have the same `key` and are equal, wherever they were written. Nothing here can
name a later row: lags and windows are refused below 1, and labels are another type. The functions over nodes are in `features.functions`.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError

Number = int | float
Param = int | float | str
_PRICES = re.compile(r"open|high|low|close|vwap|(bid|ask)_price(_\d+)?")
_SHARES = re.compile(r"volume|(buy|sell)_volume|order_flow|(bid|ask)_size(_\d+)?")
_BACK_ADJUSTED = ("adjusted_close", "adj_close", "close_adjusted", "adjusted_open", "adjusted_high", "adjusted_low", "adjusted_volume")


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """One node: an operator, its input expressions and its parameters. `key` is the sha256 of all of it (64 hex)."""

    operator: str
    inputs: tuple[Expression, ...] = ()
    params: tuple[tuple[str, Param], ...] = ()
    key: str = dataclass_field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "key", content_hash([self.operator, [x.key for x in self.inputs], [list(pair) for pair in self.params]]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __str__(self) -> str:
        if self.operator in ("field", "constant"):
            return str(self.params[0][1])
        arguments = [str(x) for x in self.inputs] + [f"{name}={value}" for name, value in self.params]
        return f"{self.operator}({', '.join(arguments)})"

    def __add__(self, other: Expression | Number) -> Expression:
        """Sum of two values, cell by cell: x + y.

        Unit: of the inputs. Warm-up: 0. Undefined: where an input is, or the result overflows. Source: IEEE 754.
        """
        return apply("add", self, other)

    def __radd__(self, other: Number) -> Expression:
        return apply("add", other, self)

    def __sub__(self, other: Expression | Number) -> Expression:
        """Difference: x - y.

        Unit: of the inputs. Warm-up: 0. Undefined: where an input is, or the result overflows. Source: IEEE 754.
        """
        return apply("sub", self, other)

    def __rsub__(self, other: Number) -> Expression:
        return apply("sub", other, self)

    def __mul__(self, other: Expression | Number) -> Expression:
        """Product: x * y.

        Unit: product of the inputs'. Warm-up: 0. Undefined: where an input is, or the result overflows. Source: IEEE 754.
        """
        return apply("mul", self, other)

    def __rmul__(self, other: Number) -> Expression:
        return apply("mul", other, self)

    def __truediv__(self, other: Expression | Number) -> Expression:
        """Quotient: x / y.

        Unit: quotient of the inputs'. Warm-up: 0. Undefined: where an input is, y is 0, or the result overflows. Source: IEEE 754.
        """
        return apply("div", self, other)

    def __rtruediv__(self, other: Number) -> Expression:
        return apply("div", other, self)

    def __neg__(self) -> Expression:
        """Sign turned: -x.

        Unit: of x. Warm-up: 0. Undefined: where x is. Source: IEEE 754.
        """
        return apply("neg", self)

    def __abs__(self) -> Expression:
        return apply("abs", self)

    def __lt__(self, other: Expression | Number) -> Expression:
        """Comparison x < y, also as y > x: 1.0 where it holds, else 0.0.

        Unit: 0 or 1. Warm-up: 0. Undefined: where an input is. Source: IEEE 754.
        """
        return apply("lt", self, other)

    def __le__(self, other: Expression | Number) -> Expression:
        """Comparison x <= y, also as y >= x: 1.0 where it holds, else 0.0.

        Unit: 0 or 1. Warm-up: 0. Undefined: where an input is. Source: IEEE 754.
        """
        return apply("le", self, other)

    def __gt__(self, other: Expression | Number) -> Expression:
        return apply("lt", other, self)

    def __ge__(self, other: Expression | Number) -> Expression:
        return apply("le", other, self)

    def __bool__(self) -> bool:
        raise InputError("an expression has no truth value: it stands for an array", str(self), "use where(condition, a, b)")


def constant(value: Number) -> Expression:
    """A finite number as an expression."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"{value!r} is not a finite number", "features.expression", "use an expression or a finite number")
    return Expression("constant", params=(("value", float(value)),))


def _wrap(value: Expression | Number) -> Expression:
    if isinstance(value, Expression):
        return value
    if isinstance(value, (int, float)):
        return constant(value)
    raise InputError(
        f"a {type(value).__name__} cannot be an input of a feature", "features.expression", "use fields, expressions and numbers"
    )


def apply(operator: str, *inputs: Expression | Number, **params: Number) -> Expression:
    """A node of an operator over expressions and numbers. InputError for another kind of input, or where all are numbers."""
    wrapped = tuple(_wrap(x) for x in inputs)
    if wrapped and all(x.operator == "constant" for x in wrapped):
        raise InputError(f"{operator} of constants only", "features.expression", "write the number itself")
    return Expression(operator, wrapped, tuple(sorted(params.items())))


def window(operator: str, n: int, least: int = 1) -> int:
    """n, if it is a whole number of present bars of at least `least`; otherwise InputError naming the operator."""
    if isinstance(n, bool) or not isinstance(n, int) or n < least:
        fix = f"use a whole number of present bars, at least {least}; a value below would look into the future or have no meaning"
        raise InputError(f"window {n!r} of {operator}", "features.expression", fix)
    return n


def field(name: str) -> Expression:
    """Raw values of a panel field, as the venue printed them.

    Unit: of the field. Warm-up: 0. Undefined: where the field is NaN in a present bar. Source: the panel (market_data.panel).
    """
    if name in _BACK_ADJUSTED:
        raise InputError(
            f"{name} is adjusted as of today: a later event would change its past", "features.expression.field", "use adj('close')"
        )
    if not name:
        raise InputError("a field needs a name", "features.expression.field", "use a field of the panel, such as close")
    return Expression("field", params=(("name", name),))


def is_price(name: str) -> bool:
    """Whether a field of this name is in currency per share, so that a split divides it."""
    return _PRICES.fullmatch(name) is not None


def is_shares(name: str) -> bool:
    """Whether a field of this name is a number of shares, so that a split multiplies it."""
    return _SHARES.fullmatch(name) is not None


def adj(name: str) -> Expression:
    """Forward-adjusted field: prices (also of a book) x return_factor, shares (volumes, sizes) / split_factor. No later event moves it.

    Unit: currency or shares of the instrument's first bar. Warm-up: 0. Undefined: where field or factor is. Source: TRADING T1.
    """
    if is_price(name):
        return field(name) * field("return_factor")
    if is_shares(name):
        return field(name) / field("split_factor")
    fix = f"use a price or a number of shares, such as close, vwap, bid_price_2, volume or ask_size, or field({name!r})"
    raise InputError(f"{name} has no adjustment", "features.expression.adj", fix)
