"""Features as immutable, content-addressed expressions. Only the words of the algebra belong here: no arrays, no compiler, no state.

An expression is a value: two expressions built the same way have the same `key` and are equal, wherever they were written. Windows count
present bars of one instrument. Nothing here can name a later row: lags and windows are refused below 1, and labels are another type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError

Number = int | float
Param = int | float | str
_PRICES = ("open", "high", "low", "close", "vwap")
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
        return _apply("add", self, other)

    def __radd__(self, other: Number) -> Expression:
        return _apply("add", other, self)

    def __sub__(self, other: Expression | Number) -> Expression:
        return _apply("sub", self, other)

    def __rsub__(self, other: Number) -> Expression:
        return _apply("sub", other, self)

    def __mul__(self, other: Expression | Number) -> Expression:
        return _apply("mul", self, other)

    def __rmul__(self, other: Number) -> Expression:
        return _apply("mul", other, self)

    def __truediv__(self, other: Expression | Number) -> Expression:
        return _apply("div", self, other)

    def __rtruediv__(self, other: Number) -> Expression:
        return _apply("div", other, self)

    def __neg__(self) -> Expression:
        return _apply("neg", self)

    def __abs__(self) -> Expression:
        return _apply("abs", self)

    def __lt__(self, other: Expression | Number) -> Expression:
        return _apply("lt", self, other)

    def __le__(self, other: Expression | Number) -> Expression:
        return _apply("le", self, other)

    def __gt__(self, other: Expression | Number) -> Expression:
        return _apply("lt", other, self)

    def __ge__(self, other: Expression | Number) -> Expression:
        return _apply("le", other, self)

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


def _apply(operator: str, *inputs: Expression | Number, **params: Number) -> Expression:
    wrapped = tuple(_wrap(x) for x in inputs)
    if wrapped and all(x.operator == "constant" for x in wrapped):
        raise InputError(f"{operator} of constants only", "features.expression", "write the number itself")
    return Expression(operator, wrapped, tuple(sorted(params.items())))


def _window(operator: str, n: int, least: int = 1) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < least:
        fix = f"use a whole number of present bars, at least {least}; a value below would look into the future or have no meaning"
        raise InputError(f"window {n!r} of {operator}", "features.expression", fix)
    return n


def field(name: str) -> Expression:
    """Raw values of a panel field, as the venue printed them (NaN where the bar is absent)."""
    if name in _BACK_ADJUSTED:
        raise InputError(
            f"{name} is adjusted as of today: a later event would change its past", "features.expression.field", "use adj('close')"
        )
    if not name:
        raise InputError("a field needs a name", "features.expression.field", "use a field of the panel, such as close")
    return Expression("field", params=(("name", name),))


def adj(name: str) -> Expression:
    """Forward-adjusted field (T1): prices x return_factor, volume / split_factor. Later events never change earlier values."""
    if name in _PRICES:
        return field(name) * field("return_factor")
    if name == "volume":
        return field(name) / field("split_factor")
    fix = f"use one of {', '.join((*_PRICES, 'volume'))}, or field({name!r})"
    raise InputError(f"{name} has no adjustment", "features.expression.adj", fix)


# --- elementwise -------------------------------------------------------------------------------------------------------------------


def log(x: Expression) -> Expression:
    """Natural logarithm; undefined for x <= 0."""
    return _apply("log", x)


def exp(x: Expression) -> Expression:
    """e to the x; undefined where it overflows."""
    return _apply("exp", x)


def sqrt(x: Expression) -> Expression:
    """Square root; undefined for x < 0."""
    return _apply("sqrt", x)


def abs_(x: Expression) -> Expression:
    """Absolute value."""
    return _apply("abs", x)


def sign(x: Expression) -> Expression:
    """-1, 0 or 1."""
    return _apply("sign", x)


def clip(x: Expression, low: Number, high: Number) -> Expression:
    """x limited to [low, high]."""
    if not low <= high:
        raise InputError(f"clip from {low} to {high}", "features.expression.clip", "low must not be above high")
    return _apply("clip", x, low=float(low), high=float(high))


def maximum(x: Expression | Number, y: Expression | Number) -> Expression:
    """The larger of two values; undefined if either is."""
    return _apply("maximum", x, y)


def minimum(x: Expression | Number, y: Expression | Number) -> Expression:
    """The smaller of two values; undefined if either is."""
    return _apply("minimum", x, y)


def equal(x: Expression | Number, y: Expression | Number) -> Expression:
    """1.0 where x equals y, else 0.0 (the == of Python compares the expressions themselves)."""
    return _apply("equal", x, y)


def where(condition: Expression, x: Expression | Number, y: Expression | Number) -> Expression:
    """x where the condition is not zero, else y; undefined where the condition is."""
    return _apply("where", condition, x, y)


# --- over the last n present bars --------------------------------------------------------------------------------------------------


def lag(x: Expression, n: int = 1) -> Expression:
    """The value n present bars ago."""
    return _apply("lag", x, n=_window("lag", n))


def diff(x: Expression, n: int = 1) -> Expression:
    """x minus its value n present bars ago."""
    return x - lag(x, n)


def pct_change(x: Expression, n: int = 1) -> Expression:
    """Fractional change over n present bars: x / lag(x, n) - 1."""
    return x / lag(x, n) - 1.0


def sum_(x: Expression, n: int) -> Expression:
    """Sum over the last n present bars."""
    return _apply("sum", x, n=_window("sum", n))


def mean(x: Expression, n: int) -> Expression:
    """Arithmetic mean over the last n present bars."""
    return _apply("mean", x, n=_window("mean", n))


def var(x: Expression, n: int) -> Expression:
    """Sample variance (n - 1 in the denominator) over the last n present bars; exactly 0 for equal values."""
    return _apply("var", x, n=_window("var", n, 2))


def std(x: Expression, n: int) -> Expression:
    """Sample standard deviation (n - 1 in the denominator) over the last n present bars; exactly 0 for equal values."""
    return _apply("std", x, n=_window("std", n, 2))


def min_(x: Expression, n: int) -> Expression:
    """Smallest of the last n present bars."""
    return _apply("min", x, n=_window("min", n))


def max_(x: Expression, n: int) -> Expression:
    """Largest of the last n present bars."""
    return _apply("max", x, n=_window("max", n))


def skew(x: Expression, n: int) -> Expression:
    """Bias-corrected sample skewness over the last n present bars (n >= 3); undefined for equal values."""
    return _apply("skew", x, n=_window("skew", n, 3))


def kurt(x: Expression, n: int) -> Expression:
    """Bias-corrected sample excess kurtosis over the last n present bars (n >= 4); undefined for equal values."""
    return _apply("kurt", x, n=_window("kurt", n, 4))


def argmax(x: Expression, n: int) -> Expression:
    """Bars since the largest of the last n present bars (0: now); of equals the newest counts."""
    return _apply("argmax", x, n=_window("argmax", n))


def argmin(x: Expression, n: int) -> Expression:
    """Bars since the smallest of the last n present bars (0: now); of equals the newest counts."""
    return _apply("argmin", x, n=_window("argmin", n))


def rank(x: Expression, n: int) -> Expression:
    """Average rank / n of the newest among the last n present bars, in (0, 1]."""
    return _apply("rank", x, n=_window("rank", n))


def median(x: Expression, n: int) -> Expression:
    """Median of the last n present bars."""
    return _apply("median", x, n=_window("median", n))


def quantile(x: Expression, n: int, q: float) -> Expression:
    """Quantile q in [0, 1] of the last n present bars, linearly interpolated."""
    if not 0.0 <= q <= 1.0:
        raise InputError(f"quantile {q}", "features.expression.quantile", "use a number from 0 to 1")
    return _apply("quantile", x, n=_window("quantile", n), q=float(q))


def cov(x: Expression, y: Expression, n: int) -> Expression:
    """Sample covariance over the last n present bars."""
    return _apply("cov", x, y, n=_window("cov", n, 2))


def corr(x: Expression, y: Expression, n: int) -> Expression:
    """Correlation over the last n present bars, in [-1, 1]; undefined where one series does not move."""
    return _apply("corr", x, y, n=_window("corr", n, 2))


def beta(x: Expression, y: Expression, n: int) -> Expression:
    """Slope of x on y over the last n present bars; undefined where y does not move."""
    return _apply("beta", x, y, n=_window("beta", n, 2))


def slope(x: Expression, n: int) -> Expression:
    """Slope per bar of the regression of x on time over the last n present bars."""
    return _apply("slope", x, n=_window("slope", n, 2))


def rsquare(x: Expression, n: int) -> Expression:
    """Share of variance that the regression on time explains, 0..1; undefined where x does not move."""
    return _apply("rsquare", x, n=_window("rsquare", n, 2))


def resid(x: Expression, n: int) -> Expression:
    """Newest value minus its fit by the regression on time over the last n present bars."""
    return _apply("resid", x, n=_window("resid", n, 2))


def decay_linear(x: Expression, n: int) -> Expression:
    """Mean of the last n present bars with weights 1 (oldest) to n (newest)."""
    return _apply("decay_linear", x, n=_window("decay_linear", n))


def ema(x: Expression, n: int) -> Expression:
    """Exponential mean with weight 2 / (n + 1), seeded by the mean of its first n defined values; undefined inputs are skipped."""
    return _apply("ema", x, n=_window("ema", n))


def wilder(x: Expression, n: int) -> Expression:
    """Wilder's mean: weight 1 / n, seeded by the mean of its first n defined values; undefined inputs are skipped."""
    return _apply("wilder", x, n=_window("wilder", n))


# --- within the exchange session ----------------------------------------------------------------------------------------------------


def session_sum(x: Expression) -> Expression:
    """Sum of the defined values since the session's open."""
    return _apply("session_sum", x)


def session_max(x: Expression) -> Expression:
    """Largest value since the session's open."""
    return _apply("session_max", x)


def session_min(x: Expression) -> Expression:
    """Smallest value since the session's open."""
    return _apply("session_min", x)


def session_first(x: Expression) -> Expression:
    """First defined value of the session."""
    return _apply("session_first", x)


def session_previous(x: Expression) -> Expression:
    """Last defined value of the instrument's previous session."""
    return _apply("session_previous", x)


def bars_since_open() -> Expression:
    """Present bars of the session before this one (0 at the open)."""
    return _apply("bars_since_open")


def bars_since(condition: Expression) -> Expression:
    """Present bars since the condition last held (0: now); undefined before it ever did. An undefined condition does not hold."""
    return _apply("bars_since", condition)


def count(condition: Expression, n: int) -> Expression:
    """How often the condition held in the last n present bars, 0..n."""
    return sum_(where(condition, 1.0, 0.0), _window("count", n))


def overnight() -> Expression:
    """Return from the previous session's last adjusted close to this session's first adjusted open, as a fraction."""
    return session_first(adj("open")) / session_previous(adj("close")) - 1.0


# --- by the clock -------------------------------------------------------------------------------------------------------------------


def sum_over(x: Expression, n: int) -> Expression:
    """Sum of the defined values of the last n steps of the panel's timeframe by the wall clock (n minutes of a minute panel).

    Steps without a bar count as empty, undefined values are left out. Undefined until n steps have passed since the instrument's first row.
    """
    return _apply("sum_over", x, n=_window("sum_over", n))


def mean_over(x: Expression, n: int) -> Expression:
    """Mean of the defined values of the last n steps of the panel's timeframe by the wall clock."""
    return sum_over(x, n) / sum_over(equal(x, x), n)


def minute_of_session() -> Expression:
    """Minutes from the session's first row, of whichever instrument, to this one."""
    return _apply("minute_of_session")


def same_minute_mean(x: Expression, n: int, slots: int = 390) -> Expression:
    """Exponential mean of weight 2 / (n + 1) of x at this minute of earlier sessions, seeded by the mean of its first n; never of this one.

    slots: minutes told apart; later ones share the last. Undefined where no earlier session had a defined value at this minute.
    """
    return _apply("same_minute_mean", x, n=_window("same_minute_mean", n), slots=_window("slots of same_minute_mean", slots))


# --- across the universe at one time -------------------------------------------------------------------------------------------------


def cs_rank(x: Expression) -> Expression:
    """Average rank / count among the defined cells of the point-in-time universe, in (0, 1]."""
    return _apply("cs_rank", x)


def cs_zscore(x: Expression) -> Expression:
    """(x - mean) / sample standard deviation over the defined cells of the point-in-time universe."""
    return _apply("cs_zscore", x)


def cs_demean(x: Expression, group: Expression | None = None) -> Expression:
    """x minus the mean of its group (a field such as a sector code), or of the whole universe without a group."""
    return _apply("cs_demean", x, 0.0 if group is None else group)


def cs_winsorize(x: Expression, tail: float = 0.01) -> Expression:
    """x limited to its quantiles `tail` and 1 - `tail` (in [0, 0.5)) of the point-in-time universe, linearly interpolated."""
    if not 0.0 <= tail < 0.5:
        raise InputError(f"tail {tail}", "features.expression.cs_winsorize", "use a share from 0 to below 0.5")
    return _apply("cs_winsorize", x, tail=float(tail))


def cs_neutralize(x: Expression, y: Expression) -> Expression:
    """What is left of x after its regression on y and a constant over the point-in-time universe; x less its mean where y is constant."""
    return _apply("cs_neutralize", x, y)
