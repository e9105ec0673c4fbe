"""Functions that carry a value from bar to bar without a window. An undefined input is skipped and the value kept."""

from __future__ import annotations

from trading_platform.features.node import Expression, apply, window


def ema(x: Expression, n: int) -> Expression:
    """Exponential mean: y += 2 / (n + 1) * (x - y), seeded by the mean of the first n defined values.

    Unit: of x. Warm-up: n - 1. Undefined: before n defined values. Source: TA-Lib EMA.
    """
    return apply("ema", x, n=window("ema", n))


def wilder(x: Expression, n: int) -> Expression:
    """Wilder's mean: y += (x - y) / n, seeded by the mean of the first n defined values.

    Unit: of x. Warm-up: n - 1. Undefined: before n defined values. Source: Wilder, New Concepts in Technical Trading Systems (1978).
    """
    return apply("wilder", x, n=window("wilder", n))


def bars_since(condition: Expression) -> Expression:
    """Present bars since the condition last held, 0 where it holds now. An undefined condition does not hold.

    Unit: present bars. Warm-up: 0. Undefined: before it ever held. Source: this project.
    """
    return apply("bars_since", condition)
