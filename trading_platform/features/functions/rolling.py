"""Functions over the last n present bars of one instrument. An undefined value takes its place in the window until it has left."""

from __future__ import annotations

from trading_platform.contracts.errors import InputError
from trading_platform.features.functions.elementwise import where
from trading_platform.features.node import Expression, apply, window


def lag(x: Expression, n: int = 1) -> Expression:
    """The value n present bars ago: x[t-n]; n >= 1.

    Unit: of x. Warm-up: n. Undefined: where x[t-n] is. Source: pandas shift(n).
    """
    return apply("lag", x, n=window("lag", n))


def diff(x: Expression, n: int = 1) -> Expression:
    """Change over n present bars: x[t] - x[t-n].

    Unit: of x. Warm-up: n. Undefined: where x[t] or x[t-n] is. Source: pandas diff(n).
    """
    return x - lag(x, n)


def pct_change(x: Expression, n: int = 1) -> Expression:
    """Fractional change over n present bars: x[t] / x[t-n] - 1.

    Unit: fraction. Warm-up: n. Undefined: where x[t] or x[t-n] is, or x[t-n] = 0. Source: pandas pct_change(n).
    """
    return x / lag(x, n) - 1.0


def sum_(x: Expression, n: int) -> Expression:
    """Sum: x[t-n+1] + ... + x[t].

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: pandas rolling(n).sum().
    """
    return apply("sum", x, n=window("sum", n))


def mean(x: Expression, n: int) -> Expression:
    """Arithmetic mean of n values: sum / n.

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: pandas rolling(n).mean(), TA-Lib SMA.
    """
    return apply("mean", x, n=window("mean", n))


def var(x: Expression, n: int) -> Expression:
    """Sample variance: sum of (x - mean)^2 / (n - 1), n >= 2; exactly 0 for equal values.

    Unit: square of x's. Warm-up: n - 1. Undefined: while one of the n values is. Source: pandas rolling(n).var(); TA-Lib VAR divides by n.
    """
    return apply("var", x, n=window("var", n, 2))


def std(x: Expression, n: int) -> Expression:
    """Sample standard deviation: sqrt(var), n >= 2; exactly 0 for equal values.

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: pandas rolling(n).std(); TA-Lib STDDEV divides by n.
    """
    return apply("std", x, n=window("std", n, 2))


def min_(x: Expression, n: int) -> Expression:
    """Smallest of n values.

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: TA-Lib MIN.
    """
    return apply("min", x, n=window("min", n))


def max_(x: Expression, n: int) -> Expression:
    """Largest of n values.

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: TA-Lib MAX.
    """
    return apply("max", x, n=window("max", n))


def skew(x: Expression, n: int) -> Expression:
    """Bias-corrected sample skewness G1 = sqrt(n (n - 1)) / (n - 2) * m3 / m2^1.5, n >= 3.

    Unit: none. Warm-up: n - 1. Undefined: while one of the n values is, or all are equal. Source: pandas rolling(n).skew().
    """
    return apply("skew", x, n=window("skew", n, 3))


def kurt(x: Expression, n: int) -> Expression:
    """Bias-corrected sample excess kurtosis G2 = (n - 1) / ((n - 2)(n - 3)) * ((n + 1) m4 / m2^2 - 3 (n - 1)), n >= 4.

    Unit: none. Warm-up: n - 1. Undefined: while one of the n values is, or all are equal. Source: pandas rolling(n).kurt().
    """
    return apply("kurt", x, n=window("kurt", n, 4))


def argmax(x: Expression, n: int) -> Expression:
    """Bars since the largest of n values, 0 (now) to n - 1; of equals the newest counts.

    Unit: present bars. Warm-up: n - 1. Undefined: while one of the n values is. Source: TA-Lib MAXINDEX, counted back from now.
    """
    return apply("argmax", x, n=window("argmax", n))


def argmin(x: Expression, n: int) -> Expression:
    """Bars since the smallest of n values, 0 (now) to n - 1; of equals the newest counts.

    Unit: present bars. Warm-up: n - 1. Undefined: while one of the n values is. Source: TA-Lib MININDEX, counted back from now.
    """
    return apply("argmin", x, n=window("argmin", n))


def rank(x: Expression, n: int) -> Expression:
    """Average rank of the newest among n values / n, in (0, 1].

    Unit: share. Warm-up: n - 1. Undefined: while one of the n values is. Source: pandas rolling(n).rank(pct=True).
    """
    return apply("rank", x, n=window("rank", n))


def median(x: Expression, n: int) -> Expression:
    """Median of n values; the mean of the middle two where n is even.

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: pandas rolling(n).median().
    """
    return apply("median", x, n=window("median", n))


def quantile(x: Expression, n: int, q: float) -> Expression:
    """Quantile q in [0, 1] of n values, linear between neighbours: the value at place q (n - 1) of the ascending values.

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: pandas rolling(n).quantile(q); Hyndman and Fan type 7.
    """
    if not 0.0 <= q <= 1.0:
        raise InputError(f"quantile {q}", "features.expression.quantile", "use a number from 0 to 1")
    return apply("quantile", x, n=window("quantile", n), q=float(q))


def cov(x: Expression, y: Expression, n: int) -> Expression:
    """Sample covariance: sum of (x - mean x)(y - mean y) / (n - 1), n >= 2.

    Unit: product of the inputs'. Warm-up: n - 1. Undefined: while one of the 2n values is. Source: pandas rolling(n).cov().
    """
    return apply("cov", x, y, n=window("cov", n, 2))


def corr(x: Expression, y: Expression, n: int) -> Expression:
    """Pearson correlation: cov(x, y) / (std x * std y), in [-1, 1], n >= 2.

    Unit: none. Warm-up: n - 1. Undefined: while one of the 2n values is, or one series does not move. Source: pandas rolling(n).corr().
    """
    return apply("corr", x, y, n=window("corr", n, 2))


def beta(x: Expression, y: Expression, n: int) -> Expression:
    """Slope of the least-squares line of x on y: cov(x, y) / var(y), n >= 2.

    Unit: x per y. Warm-up: n - 1. Undefined: while one of the 2n values is, or y does not move. Source: least squares.
    """
    return apply("beta", x, y, n=window("beta", n, 2))


def slope(x: Expression, n: int) -> Expression:
    """Slope of the least-squares line of n values on time 0 .. n - 1, n >= 2.

    Unit: of x, per present bar. Warm-up: n - 1. Undefined: while one of the n values is. Source: TA-Lib LINEARREG_SLOPE, Qlib Slope.
    """
    return apply("slope", x, n=window("slope", n, 2))


def rsquare(x: Expression, n: int) -> Expression:
    """Share of variance that the line of x on time explains: corr(x, time)^2, in [0, 1], n >= 2.

    Unit: share. Warm-up: n - 1. Undefined: while one of the n values is, or x does not move. Source: Qlib Rsquare.
    """
    return apply("rsquare", x, n=window("rsquare", n, 2))


def resid(x: Expression, n: int) -> Expression:
    """Newest value minus the end of its least-squares line on time, n >= 2.

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: Qlib Resi; x - TA-Lib LINEARREG.
    """
    return apply("resid", x, n=window("resid", n, 2))


def decay_linear(x: Expression, n: int) -> Expression:
    """Mean with weights 1 (oldest) to n (newest): sum of k x / (n (n + 1) / 2).

    Unit: of x. Warm-up: n - 1. Undefined: while one of the n values is. Source: TA-Lib WMA; Kakushadze, 101 Formulaic Alphas (2016).
    """
    return apply("decay_linear", x, n=window("decay_linear", n))


def count(condition: Expression, n: int) -> Expression:
    """How often the condition held in the last n present bars, 0 .. n.

    Unit: present bars. Warm-up: n - 1. Undefined: while one of the n conditions is. Source: sum(where(condition, 1, 0), n).
    """
    return sum_(where(condition, 1.0, 0.0), window("count", n))
