"""All operators by name. Adding one is a spec in its family's module; nothing else lists them."""

from __future__ import annotations

from trading_platform.contracts.errors import InputError
from trading_platform.features.operators import (
    clock,
    cross_section,
    elementwise,
    recursive,
    rolling_moments,
    rolling_order,
    rolling_pairs,
    rolling_shape,
    rolling_trend,
    session,
)
from trading_platform.features.operators.kernel import Operator

_WINDOWS = (recursive, rolling_moments, rolling_shape, rolling_order, rolling_pairs, rolling_trend)
_FAMILIES = (elementwise, *_WINDOWS, session, clock, cross_section)
OPERATORS: dict[str, Operator] = {spec.name: spec for family in _FAMILIES for spec in family.OPERATORS}


def operator(name: str) -> Operator:
    """The spec of an operator. Raises InputError for an unknown name."""
    try:
        return OPERATORS[name]
    except KeyError:
        raise InputError(f"unknown operator {name!r}", "features.operators", f"use one of {', '.join(sorted(OPERATORS))}") from None
