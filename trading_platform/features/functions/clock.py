"""Functions of the wall clock: windows in steps of the panel's timeframe, the minute of the session, the same minute of other sessions."""

from __future__ import annotations

from trading_platform.features.functions.elementwise import equal
from trading_platform.features.node import Expression, apply, window


def sum_over(x: Expression, n: int) -> Expression:
    """Sum of the defined values of the last n steps of the panel's timeframe by the wall clock (n minutes of a minute panel).

    Unit: of x. Warm-up: n - 1. Undefined: until n steps have passed since the instrument's first bar; steps without a bar count as empty.
    Source: pandas rolling("7min").sum().
    """
    return apply("sum_over", x, n=window("sum_over", n))


def mean_over(x: Expression, n: int) -> Expression:
    """Mean of the defined values of the last n steps of the panel's timeframe by the wall clock.

    Unit: of x. Warm-up: n - 1. Undefined: as sum_over, and where no value of the n steps is defined. Source: pandas rolling("7min").mean().
    """
    return sum_over(x, n) / sum_over(equal(x, x), n)


def minute_of_session() -> Expression:
    """Minutes from the session's first row, of whichever instrument, to this one.

    Unit: minutes. Warm-up: 0. Undefined: never in a present bar. Source: time of day as in Gao, Han, Li and Zhou, JFE 129 (2018).
    """
    return apply("minute_of_session")


def same_minute_mean(x: Expression, n: int, slots: int = 390) -> Expression:
    """Exponential mean of weight 2 / (n + 1) of x at this minute of earlier sessions, seeded by the mean of its first n; never of this one.

    Of `slots` minutes told apart, later ones share the last.

    Unit: of x. Warm-up: 1. Undefined: where no earlier session had a defined value at this minute. Source: pandas
    groupby(minute).ewm(span=n).mean() of the bars before.
    """
    return apply("same_minute_mean", x, n=window("same_minute_mean", n), slots=window("slots of same_minute_mean", slots))
