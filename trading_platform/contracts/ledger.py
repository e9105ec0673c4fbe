"""The promotion ledger's entries and its read-only reader. The writer (compare-and-swap on the head) lives in registry/ledger.py.

One JSON line per entry, hash-chained. Redis carries a request, never the authority: only an unrevoked entry here for this bundle, account
and mode lets a runner activate it (T24).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import content_hash, parse
from trading_platform.contracts.errors import CorruptionError

GENESIS = "0" * 64
STAGES = ("candidate", "shadow", "paper", "live", "archived")


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One promotion or revocation. `action` is promote or revoke; `capital_share` is the share of the sleeve's capital (T26).

    gates: name -> {passed, value, threshold, storage_id} as judged; approvals: names of people (live needs two, T39). at: UTC ns.
    """

    seq: int
    prev: str
    action: str
    name: str
    version: str
    bundle_id: str
    account: str
    mode: str
    stage: str
    slot: str
    at: int
    approvals: tuple[str, ...]
    reason: str
    gates: Mapping[str, Any] = field(default_factory=dict)
    capital_share: float = 1.0

    @property
    def hash(self) -> str:
        """Chained hash of the entry."""
        return content_hash(self)


class LedgerReader:
    """Reads and verifies a ledger file; an absent file is an empty ledger."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    def entries(self) -> tuple[LedgerEntry, ...]:
        """All entries in order. Raises CorruptionError where a line does not parse or the chain breaks."""
        if not self.path.exists():
            return ()
        lines = self.path.read_bytes().splitlines()
        found, previous = [], GENESIS
        for number, line in enumerate(lines, start=1):
            stored = parse(line)
            try:
                stored_hash = stored.pop("hash")
                entry = LedgerEntry(**{**stored, "approvals": tuple(stored["approvals"])})
            except (AttributeError, KeyError, TypeError) as error:
                raise CorruptionError(
                    f"line {number} is not a ledger entry: {error}", str(self.path), "restore the ledger from its backup"
                ) from error
            if entry.seq != number or entry.prev != previous or entry.hash != stored_hash:
                raise CorruptionError(
                    f"entry {number} breaks the chain", str(self.path), "restore the ledger from its backup; do not edit it"
                )
            found.append(entry)
            previous = stored_hash
        return tuple(found)

    def head(self) -> str:
        """Hash of the newest entry, GENESIS when empty."""
        entries = self.entries()
        return entries[-1].hash if entries else GENESIS

    def authority(self, bundle_id: str, account: str, mode: str) -> LedgerEntry | None:
        """The newest promotion of this bundle for this account and mode that allows trading, or None if there is none or it was revoked."""
        current: LedgerEntry | None = None
        for entry in self.entries():
            if entry.bundle_id == bundle_id and entry.account == account and entry.mode == mode:
                current = entry
        if current is None or current.action != "promote" or current.stage not in ("paper", "live"):
            return None
        if mode == "live" and current.stage != "live":
            return None
        return current
