"""Which features are in force per pipeline, who said so and why: an append-only, hash-chained file beside the promotion ledger (FEAT-27).

Each entry holds the whole state it leaves behind, so what holds now is the newest entry and what held before is an older one. Nothing is
computed here: an entry names features and the hash they had.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse
from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.contracts.ledger import GENESIS
from trading_platform.registry.object_store import write_atomic

ACTIONS = ("use", "disable", "enable", "safe", "rollback", "shadow", "unshadow")


@dataclass(frozen=True, slots=True)
class PolicyEntry:
    """What one decision left in force for a pipeline.

    at: UTC ns. commit: of the code that computed feature_hash. reference: the set before anything was disabled (catalog.selection);
    disabled: features left out of it; safe: features to fall back to; feature_hash: of the reference without the disabled ones.
    shadow: empty, or {reference, feature_hash, after_session (day), sessions} of the set that runs beside it.
    """

    seq: int
    prev: str
    at: int
    who: str
    why: str
    commit: str
    pipeline: str
    action: str
    reference: str
    feature_hash: str
    disabled: tuple[str, ...]
    safe: tuple[str, ...]
    shadow: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Chained hash of the entry."""
        return content_hash(self)


class FeaturePolicy:
    """Reads, verifies and appends; an absent file says nothing, and every pipeline has the set its code names."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def entries(self) -> tuple[PolicyEntry, ...]:
        """All entries in order. CorruptionError where a line is no entry or the chain breaks."""
        if not self.path.exists():
            return ()
        found: list[PolicyEntry] = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                stored = dict(parse(line))
                stored_hash = stored.pop("hash")
                entry = PolicyEntry(**{**stored, "disabled": tuple(stored["disabled"]), "safe": tuple(stored["safe"])})
            except (ValueError, AttributeError, KeyError, TypeError) as error:
                raise CorruptionError(f"line {number} is no policy entry: {error}", str(self.path), "restore it from its backup") from error
            if entry.seq != number or entry.prev != (found[-1].hash if found else GENESIS) or entry.hash != stored_hash:
                raise CorruptionError(f"entry {number} breaks the chain", str(self.path), "restore it from its backup; do not edit it")
            found.append(entry)
        return tuple(found)

    def of(self, pipeline: str) -> tuple[PolicyEntry, ...]:
        """The entries of a pipeline, oldest first."""
        return tuple(entry for entry in self.entries() if entry.pipeline == pipeline)

    def now(self, pipeline: str) -> PolicyEntry | None:
        """What holds for a pipeline, None where nobody ever decided."""
        found = self.of(pipeline)
        return found[-1] if found else None

    def append(self, expected_head: str, **values: Any) -> PolicyEntry:
        """Write one entry if the newest one is still `expected_head` (its hash, GENESIS for none); durable when this returns.

        values: the fields of PolicyEntry but seq and prev. InputError without a person or a reason, TransientError where somebody else
        was first.
        """
        if not values["who"].strip() or not values["why"].strip():
            raise InputError("a change of features names a person and a reason", str(self.path), "give --who and --why")
        assert values["action"] in ACTIONS
        with _locked(self.path):
            known = self.entries()
            head = known[-1].hash if known else GENESIS
            if head != expected_head:
                raise TransientError(
                    "somebody else changed the features meanwhile", str(self.path), "look at `features history`, then again"
                )
            entry = PolicyEntry(seq=len(known) + 1, prev=head, **values)
            plain = {item.name: getattr(entry, item.name) for item in fields(entry)}
            before = self.path.read_bytes() if known else b""
            write_atomic(self.path, before + canonical_bytes({**plain, "hash": entry.hash}) + b"\n", if_absent=False)
        return entry

    def head(self) -> str:
        """Hash of the newest entry of any pipeline, GENESIS for none."""
        known = self.entries()
        return known[-1].hash if known else GENESIS


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(path.suffix + ".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
