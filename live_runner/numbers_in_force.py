"""What people ask of a profile: the limits in force, and where two profiles differ (T37)."""

from __future__ import annotations

import dataclasses
from typing import Any

from trading_platform.contracts.profile import Profile


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Every number of a profile by its dotted key, such as `limits.max_gross`, ascending."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        part, key = getattr(value, field.name), prefix + field.name
        found.update(flat(part, key + ".") if dataclasses.is_dataclass(part) else {key: part})
    return dict(sorted(found.items()))


def limits(profile: Profile) -> dict[str, Any]:
    """The account's limits with the hashes that every decision under them carries."""
    return {"profile": profile.name, "profile_hash": profile.hash, "limits_hash": profile.limits_hash, **flat(profile.limits)}


def difference(one: Profile, other: Profile) -> dict[str, tuple[Any, Any]]:
    """Every key whose value differs, with both values; the name counts as a key, because it is hashed like one."""
    left, right = flat(one), flat(other)
    return {key: (left[key], right[key]) for key in left if left[key] != right[key]}
