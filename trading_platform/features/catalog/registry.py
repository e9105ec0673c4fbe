"""The feature sets by name. A bundle names one; its hash says which version."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from trading_platform.contracts.errors import InputError
from trading_platform.features.catalog import alpha158, core, cross_section, intraday, microstructure
from trading_platform.features.catalog.listing import Listing
from trading_platform.features.program import FeatureSet

_LISTINGS: dict[str, Callable[[], Listing]] = {
    "alpha158": alpha158.listing,
    "core": core.listing,
    "core_sentiment": core.listing_with_sentiment,
    "cross_section": cross_section.listing,
    "intraday": intraday.listing,
    "intraday_vix": intraday.listing_with_vix,
    "microstructure": microstructure.listing,
    "microstructure_quotes": microstructure.listing_of_quotes,
}


def names() -> tuple[str, ...]:
    """Names of the catalogue's sets, sorted."""
    return tuple(sorted(_LISTINGS))


@cache
def listing(name: str) -> Listing:
    """The listing of this name: each feature's expression, meaning and unit. Raises InputError for an unknown one."""
    if name not in _LISTINGS:
        raise InputError(f"unknown feature set {name!r}", "features.catalog", f"use one of {', '.join(names())}")
    return _LISTINGS[name]()


@cache
def feature_set(name: str) -> FeatureSet:
    """The set of this name. Raises InputError for an unknown one."""
    return listing(name).feature_set()
