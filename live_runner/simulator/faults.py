"""Faults on a schedule: which request or message goes wrong, and how. Counts and draws depend on the seed and the count alone.

A file is a JSON list of rules `{"at": POINT, "kind": KIND, "nth": N}` (the N-th time, from 1) or with `"share": P` instead of `nth`
(each time with probability P). The first rule that applies wins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import parse
from trading_platform.contracts.errors import CorruptionError, InputError

ORDER_POINTS = ("post_order", "patch_order", "delete_order")
PUSH_POINTS = ("trade_update", "bar")
POINTS = (*ORDER_POINTS, "get", "data_get", *PUSH_POINTS)
ANSWER_KINDS = ("500", "429", "html_401")
LATE_KINDS = ("504_after_accept",)
PUSH_KINDS = ("drop_update", "duplicate_update", "disconnect", "mute")


@dataclass(frozen=True, slots=True)
class Rule:
    """One fault: the `nth` time at a point (0: any time), with probability `share`."""

    at: str
    kind: str
    nth: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        fitting = PUSH_KINDS if self.at in PUSH_POINTS else ANSWER_KINDS + (LATE_KINDS if self.at in ORDER_POINTS else ())
        if self.at not in POINTS or self.kind not in fitting:
            raise InputError(
                f"fault {self.kind!r} at {self.at!r}", "faults", f"points: {', '.join(POINTS)}; kinds there: {', '.join(fitting)}"
            )
        if self.nth < 0 or not 0.0 < self.share <= 1.0:
            raise InputError(
                f"fault {self.kind!r}: nth {self.nth}, share {self.share}", "faults", "nth counts from 1, a share is in (0, 1]"
            )


class Faults:
    """The schedule at work: `at(point)` counts one occurrence and says what goes wrong with it, None for nothing."""

    def __init__(self, rules: Sequence[Rule] = (), seed: int = 0) -> None:
        self._rules = tuple(rules)
        self._seed = seed
        self._counts: dict[str, int] = {}

    def at(self, point: str) -> str | None:
        """The fault of this occurrence."""
        count = self._counts[point] = self._counts.get(point, 0) + 1
        for number, rule in enumerate(self._rules):
            if rule.at == point and rule.nth in (0, count) and self._draw(number, count) < rule.share:
                return rule.kind
        return None

    def _draw(self, rule: int, count: int) -> float:
        digest = hashlib.sha256(f"{self._seed}|{rule}|{count}".encode()).digest()
        return int.from_bytes(digest[:8], "big") / 2**64


def load_faults(path: Path) -> tuple[Rule, ...]:
    """Read a file of rules. InputError names the rule that is wrong."""
    try:
        stored = parse(path.read_bytes())
    except (OSError, CorruptionError) as error:
        raise InputError(f"not a JSON file: {error}", str(path), "give a JSON list of rules") from error
    if not isinstance(stored, list):
        raise InputError("not a list of rules", str(path), "give a JSON list of rules")
    return tuple(_rule(item, f"{path}, rule {number}") for number, item in enumerate(stored, 1))


def _rule(item: Any, where: str) -> Rule:
    known = {"at": str, "kind": str, "nth": int, "share": float}
    sound = isinstance(item, dict) and {"at", "kind"} <= set(item) <= set(known) and ("nth" in item) != ("share" in item)
    if not sound or not all(isinstance(value, known[name]) for name, value in item.items()):
        raise InputError(f"{item} is no rule", where, 'write {"at": "post_order", "kind": "500", "nth": 3}, or "share": 0.1 instead of nth')
    return Rule(**item)
