"""Which tuned parameters a pipeline's models are trained with, who decided so and why: append-only, hash-chained, beside the ledger (T25).

A study suggests; a named person takes one of its trials, by its number. Nothing here or elsewhere reads "the best trial of the newest
study". Before the first decision a pipeline has the parameters its code names; `default` goes back to them.
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

ACTIONS = ("choose", "default")


@dataclass(frozen=True, slots=True)
class ParameterChoice:
    """One decision. at: UTC ns. learner: the kind of model that has these parameters.

    study: partition of the study asset; data_version: of its materialization; trial: its number. known_until: UTC ns, when the last label
    that the study saw was known: no test row before it is out of sample. parameters: name -> value, empty for `default`.
    """

    seq: int
    prev: str
    at: int
    who: str
    why: str
    pipeline: str
    action: str
    learner: str
    study: str
    data_version: str
    trial: int
    known_until: int
    parameters: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Chained hash of the entry."""
        return content_hash(self)


class ParameterChoices:
    """Reads, verifies and appends; an absent file says nothing."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def entries(self) -> tuple[ParameterChoice, ...]:
        """All decisions in order. CorruptionError where a line is none or the chain breaks."""
        if not self.path.exists():
            return ()
        found: list[ParameterChoice] = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), start=1):
            try:
                stored = dict(parse(line))
                stored_hash = stored.pop("hash")
                entry = ParameterChoice(**stored)
            except (ValueError, AttributeError, KeyError, TypeError) as error:
                raise CorruptionError(f"line {number} is no decision: {error}", str(self.path), "restore it from its backup") from error
            if entry.seq != number or entry.prev != (found[-1].hash if found else GENESIS) or entry.hash != stored_hash:
                raise CorruptionError(f"entry {number} breaks the chain", str(self.path), "restore it from its backup; do not edit it")
            found.append(entry)
        return tuple(found)

    def of(self, pipeline: str) -> tuple[ParameterChoice, ...]:
        """The decisions about a pipeline, oldest first."""
        return tuple(entry for entry in self.entries() if entry.pipeline == pipeline)

    def now(self, pipeline: str) -> ParameterChoice | None:
        """The decision in force, None where the parameters are the code's own."""
        found = self.of(pipeline)
        return found[-1] if found and found[-1].action == "choose" else None

    def head(self) -> str:
        """Hash of the newest decision about any pipeline, GENESIS for none."""
        known = self.entries()
        return known[-1].hash if known else GENESIS

    def append(self, expected_head: str, **values: Any) -> ParameterChoice:
        """Write one decision if the newest one is still `expected_head`; durable when this returns. values: fields but seq and prev.

        InputError without a person or a reason, TransientError where somebody else was first.
        """
        if not values["who"].strip() or not values["why"].strip():
            raise InputError("a choice of parameters names a person and a reason", str(self.path), "give --who and --why")
        assert values["action"] in ACTIONS
        with self._locked():
            known = self.entries()
            head = known[-1].hash if known else GENESIS
            if head != expected_head:
                raise TransientError("somebody else decided meanwhile", str(self.path), "look at `tune history`, then again")
            entry = ParameterChoice(seq=len(known) + 1, prev=head, **values)
            plain = {item.name: getattr(entry, item.name) for item in fields(entry)}
            before = self.path.read_bytes() if known else b""
            write_atomic(self.path, before + canonical_bytes({**plain, "hash": entry.hash}) + b"\n", if_absent=False)
        return entry

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(self.path.suffix + ".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
