"""What a catalogue module lists: named features with their meaning. One line per feature; the set and its rows in the docs come from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from trading_platform.features.expression import Expression
from trading_platform.features.program import FeatureSet


class Feature(NamedTuple):
    """One line of the catalogue. meaning: what it is and its unit, for the docs. level: it moves when prices are scaled (T1)."""

    expression: Expression
    meaning: str
    level: bool = False


@dataclass(frozen=True, slots=True)
class Listing:
    """A feature set with what a reader of the docs is told: `note` of the set, meaning of each feature."""

    name: str
    label: str
    note: str
    features: Mapping[str, Feature]

    def feature_set(self) -> FeatureSet:
        """The set, ready to be compiled into a program."""
        levels = frozenset(name for name, feature in self.features.items() if feature.level)
        return FeatureSet(self.name, self.label, {name: feature.expression for name, feature in self.features.items()}, levels)
