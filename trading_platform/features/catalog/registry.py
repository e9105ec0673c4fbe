"""The feature sets by name. A bundle names one; its hash says which version."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from trading_platform.contracts.errors import InputError
from trading_platform.features.catalog import core, intraday
from trading_platform.features.program import FeatureSet

_SETS: dict[str, Callable[[], FeatureSet]] = {
    "core": core.feature_set,
    "intraday": intraday.feature_set,
    "intraday_vix": intraday.feature_set_with_vix,
}


def names() -> tuple[str, ...]:
    """Names of the catalogue's sets, sorted."""
    return tuple(sorted(_SETS))


@cache
def feature_set(name: str) -> FeatureSet:
    """The set of this name. Raises InputError for an unknown one."""
    if name not in _SETS:
        raise InputError(f"unknown feature set {name!r}", "features.catalog", f"use one of {', '.join(names())}")
    return _SETS[name]()
