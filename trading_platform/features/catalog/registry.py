"""The feature sets by name. A bundle names one; its hash says which version."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from trading_platform.contracts.errors import InputError
from trading_platform.features.catalog import alpha158, core, cross_section, intraday, microstructure
from trading_platform.features.catalog.listing import Listing
from trading_platform.features.catalog.selection import parse, version_of
from trading_platform.features.program import FeatureSet

_LISTINGS: dict[str, Callable[[], Listing]] = {
    "alpha158": alpha158.listing,
    "core": core.listing,
    "core_year": core.listing_of_a_year,
    "core_sentiment": core.listing_with_sentiment,
    "cross_section": cross_section.listing,
    "intraday": intraday.listing,
    "intraday_vix": intraday.listing_with_vix,
    "microstructure": microstructure.listing,
    "microstructure_quotes": microstructure.listing_of_quotes,
}
"""An older version of a set that is still kept stands here as `name@label`."""


def names() -> tuple[str, ...]:
    """Names of the catalogue's sets in their newest version, sorted."""
    return tuple(sorted(name for name in _LISTINGS if "@" not in name))


@cache
def listing(name: str) -> Listing:
    """The listing of this name: each feature's expression, meaning and unit. Raises InputError for an unknown one."""
    if name not in _LISTINGS:
        raise InputError(f"unknown feature set {name!r}", "features.catalog", f"use one of {', '.join(names())}")
    return _LISTINGS[name]()


@cache
def feature_set(name: str) -> FeatureSet:
    """The set of this name, or the part or version of one that a reference names (`features.catalog.selection`).

    Raises InputError for an unknown set, version or feature.
    """
    wanted = parse(name)
    older = (key for key in _LISTINGS if key.startswith(f"{wanted.name}@"))
    return wanted.of(version_of([listing(key).feature_set() for key in (wanted.name, *older)], wanted))
