"""The promotion ledger's entries and its read-only reader. The writer (compare-and-swap on the head) lives in registry/ledger.py.

One JSON line per entry, hash-chained. Redis carries a request, never the authority: only an unrevoked entry here for this bundle, account
and mode lets a runner activate it (T24).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import content_hash, parse
from trading_platform.contracts.errors import CorruptionError

GENESIS = "0" * 64
STAGES = ("candidate", "shadow", "paper", "live", "archived")
MOVES = ("promote", "revoke")  # what changes a bundle's stage
ACTIONS = (*MOVES, "approve", "recipe", "thresholds", "enrol")


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One decision. What an action does not concern is empty. at: UTC ns; approvals: names of the people who decided.

    promote, revoke: a bundle's stage. gates: name -> {passed, value, threshold, storage_id} as judged. capital_share: of the sleeve (T26).
    approve: one person's word for a bundle's stage, share and loss budget; signature: by that person's own key (T39), base64.
    recipe: a recipe's document (T25), which live bundles name by hash. thresholds: the gates' limits in force. enrol: an approver's key.

    bound: name -> hash of what a decision rests on (report, config, thresholds, recipe). loss_budget: in quote currency. inherits: number
    of the entry whose approvals a refit inherits. Fields that are None are not hashed, so entries from before they existed stay whole.
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
    recipe: str | None = None
    bound: Mapping[str, str] | None = None
    loss_budget: float | None = None
    inherits: int | None = None
    document: Mapping[str, Any] | None = None
    signature: str | None = None

    @property
    def hash(self) -> str:
        """Chained hash of the entry."""
        return content_hash(self)


def standing(entries: Sequence[LedgerEntry], bundle_id: str, account: str, mode: str) -> LedgerEntry | None:
    """The newest move of a bundle for an account and mode, or None if there is none or it is a revocation."""
    newest = None
    for entry in entries:
        if entry.action in MOVES and (entry.bundle_id, entry.account, entry.mode) == (bundle_id, account, mode):
            newest = entry
    return None if newest is None or newest.action != "promote" else newest


def allows_trading(entry: LedgerEntry | None, mode: str) -> bool:
    """Whether a bundle's newest move lets it trade in a mode."""
    return entry is not None and entry.action == "promote" and entry.stage in (("live",) if mode == "live" else ("paper", "live"))


def in_force(entries: Sequence[LedgerEntry], account: str, mode: str, slot: str) -> tuple[LedgerEntry, ...]:
    """The entries that let a bundle trade in a slot, one per bundle, the newest last."""
    bundles = dict.fromkeys(entry.bundle_id for entry in entries if entry.action == "promote" and entry.slot == slot)
    found = (standing(entries, bundle_id, account, mode) for bundle_id in bundles)
    kept = [entry for entry in found if entry is not None and entry.slot == slot and allows_trading(entry, mode)]
    return tuple(sorted(kept, key=lambda entry: entry.seq))


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
        entry = standing(self.entries(), bundle_id, account, mode)
        return entry if allows_trading(entry, mode) else None
