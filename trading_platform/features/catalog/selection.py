"""Naming a part or an older version of a catalogue's set: `core`, `core@v1.0`, `core!macd,rsi_14` (without), `core:price,rsi_14` (only).

The text is the name of the set it selects, so that a bundle, a state or a session's inputs that carry it find the same features anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trading_platform.contracts.errors import InputError
from trading_platform.features.program import FeatureSet

_TEXT = re.compile(r"(?P<name>[A-Za-z0-9_]+)(@(?P<label>[A-Za-z0-9._]+))?(:(?P<only>[A-Za-z0-9_.,]+))?(!(?P<without>[A-Za-z0-9_.,]+))?")


@dataclass(frozen=True, slots=True)
class Selection:
    """name: of a set. label: of one version, empty for the newest. only: features kept, empty for all; without: features left out."""

    name: str
    label: str = ""
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = (f"@{self.label}" if self.label else "", f":{','.join(self.only)}" if self.only else "")
        return f"{self.name}{''.join(parts)}{f'!{chr(44).join(self.without)}' if self.without else ''}"

    def of(self, whole: FeatureSet) -> FeatureSet:
        """The selected features. InputError for a feature that the set does not have, and where none is left."""
        unknown = sorted({*self.only, *self.without} - set(whole.names))
        if unknown:
            raise InputError(f"no feature {', '.join(unknown)}", f"feature set {whole.name} {whole.label}", "see `features list`")
        if not self.only and not self.without:
            return whole if not self.label else FeatureSet(str(self), whole.label, whole.features, whole.level_features)
        kept = (set(self.only) or set(whole.names)) - set(self.without)
        if not kept:
            raise InputError("no feature is left", str(self), "keep at least one")
        features = {name: whole.features[name] for name in whole.names if name in kept}
        return FeatureSet(str(self), whole.label, features, whole.level_features & kept)


def parse(text: str) -> Selection:
    """Read a reference; its features are sorted and named once. InputError for another form."""
    found = _TEXT.fullmatch(text)
    if found is None:
        raise InputError(
            f"{text!r} names no feature set", "features.catalog", "write name, name@label, name!without,these or name:only,these"
        )
    return Selection(found["name"], found["label"] or "", _names(found["only"]), _names(found["without"]))


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(sorted({name for name in (text or "").split(",") if name}))


def version_of(known: Sequence[FeatureSet], wanted: Selection) -> FeatureSet:
    """The version that is wanted of those the code still has. InputError names them where it is none of them."""
    for one in known:
        if not wanted.label or one.label == wanted.label:
            return one
    have = ", ".join(one.label for one in known)
    fix = "use one of them; an older version is exact only with the code that had it, so check out that commit"
    raise InputError(f"{wanted.name} has no version {wanted.label} here; it has {have}", "features.catalog", fix)
