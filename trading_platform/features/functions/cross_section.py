"""Functions across instruments at one time: over the defined cells of the point-in-time universe (T3). A cell outside it is undefined."""

from __future__ import annotations

from trading_platform.contracts.errors import InputError
from trading_platform.features.node import Expression, apply


def cs_rank(x: Expression) -> Expression:
    """Average rank / count among the universe's defined cells, in (0, 1].

    Unit: share. Warm-up: 0. Undefined: where x is, or outside the universe. Source: pandas rank(axis=1, pct=True).
    """
    return apply("cs_rank", x)


def cs_zscore(x: Expression) -> Expression:
    """(x - mean) / sample standard deviation over the universe's defined cells.

    Unit: standard deviations. Warm-up: 0. Undefined: where x is, outside the universe, or all are equal. Source: SciPy zscore(ddof=1).
    """
    return apply("cs_zscore", x)


def cs_demean(x: Expression, group: Expression | None = None) -> Expression:
    """x minus the mean of its group (a field such as a sector code), or of the whole universe without a group.

    Unit: of x. Warm-up: 0. Undefined: where x or its group is, or outside the universe. Source: pandas groupby(group).transform("mean").
    """
    return apply("cs_demean", x, 0.0 if group is None else group)


def cs_mean(x: Expression, group: Expression | None = None) -> Expression:
    """Mean of x over its group or the whole universe, the same number in each of its cells: x - cs_demean(x, group).

    Unit: of x. Warm-up: 0. Undefined: where x or its group is, or outside the universe. Source: as cs_demean.
    """
    return x - cs_demean(x, group)


def cs_winsorize(x: Expression, tail: float = 0.01) -> Expression:
    """x limited to its quantiles `tail` and 1 - `tail` (in [0, 0.5)) of the universe, linear between neighbours.

    Unit: of x. Warm-up: 0. Undefined: where x is, or outside the universe. Source: NumPy quantile and clip.
    """
    if not 0.0 <= tail < 0.5:
        raise InputError(f"tail {tail}", "features.expression.cs_winsorize", "use a share from 0 to below 0.5")
    return apply("cs_winsorize", x, tail=float(tail))


def cs_neutralize(x: Expression, y: Expression) -> Expression:
    """What is left of x after its least-squares line on y and a constant over the universe; x less its mean where y is constant.

    Unit: of x. Warm-up: 0. Undefined: where x or y is, or outside the universe. Source: NumPy lstsq.
    """
    return apply("cs_neutralize", x, y)
