"""The promotion ledger's writer: compare-and-swap appends and the moves of a bundle between stages (T24, T26, T39).

Reading and verifying lie in contracts/ledger.py, what a move needs in registry/promotion_rules.py, words of people in
registry/approvals.py. The file is replaced whole (temporary file, fsync, rename) under an exclusive lock, so a power cut leaves the old
ledger or the new one, never a torn line.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.errors import InputError, TransientError
from trading_platform.contracts.ledger import GENESIS, LedgerEntry, LedgerReader, in_force, standing
from trading_platform.registry import promotion_rules as rules
from trading_platform.registry.object_store import write_atomic
from trading_platform.registry.promotion_rules import (
    AUTOMATIC,
    LIVE_SHARES,
    OPERATIONAL_GATES,
    STATISTICAL_GATES,
    TECHNICAL_GATES,
    Wanted,
    required_gates,
)

__all__ = [
    "AUTOMATIC",
    "LIVE_SHARES",
    "OPERATIONAL_GATES",
    "STATISTICAL_GATES",
    "TECHNICAL_GATES",
    "append",
    "promote",
    "required_gates",
    "revoke",
    "roll_back",
    "step_down",
]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(path.suffix + ".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def append(path: Path, expected_head: str, **fields: Any) -> LedgerEntry:
    """Append one entry if the head is still `expected_head` (GENESIS for an empty ledger); return it, durable.

    fields: those of LedgerEntry except seq and prev. Raises TransientError when another writer was first, CorruptionError when the chain
    is broken. This is the raw write: `promote`, `revoke` and the functions of registry/approvals.py are what callers use.
    """
    path = Path(path)
    with _locked(path):
        entries = LedgerReader(path).entries()
        head = entries[-1].hash if entries else GENESIS
        if head != expected_head:
            raise TransientError(
                f"the ledger's head is {head[:12]}, expected {expected_head[:12]}", str(path), "read the ledger again and decide again"
            )
        entry = LedgerEntry(seq=len(entries) + 1, prev=head, **fields)
        line = canonical_bytes({**parse(canonical_bytes(entry)), "hash": entry.hash})
        before = path.read_bytes() if path.exists() else b""
        write_atomic(path, before + line + b"\n", if_absent=False)
    return entry


def _people(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in names if name.strip()))


def promote(
    path: Path,
    *,
    expected_head: str,
    name: str,
    version: str,
    bundle_id: str,
    account: str,
    mode: str,
    stage: str,
    slot: str,
    at: int,
    approvals: Sequence[str],
    reason: str,
    gates: Mapping[str, Mapping[str, Any]],
    capital_share: float = 1.0,
    recipe: str | None = None,
    bound: Mapping[str, str] | None = None,
    loss_budget: float | None = None,
) -> LedgerEntry:
    """Give a bundle a stage for one account and mode, after checking order, gates and approvals; return the entry.

    gates: name -> {passed, value, threshold, storage_id, ...} as judged; a gate that is absent, failed or without power (passed None)
    refuses the stages that need it. at: UTC ns. approvals: who decided; for live nobody counts whose signed approval is not in the
    ledger, unless a refit inherits its incumbent's. Raises InputError with the reason; nothing is written then.
    """
    path = Path(path)
    entries, where, people = LedgerReader(path).entries(), str(path), _people(approvals)
    wanted = Wanted(name, version, bundle_id, account, mode, stage, slot, capital_share, recipe, bound, loss_budget)
    rules.check_stage(entries, wanted, where)
    rules.check_named(wanted, reason, where)
    rules.check_return(entries, wanted, people, where)
    inherits = None
    if stage == "live":
        people, inherits = rules.check_live(entries, wanted, gates, people, where)
    else:
        rules.check_gates(required_gates(stage), stage, gates, where)
    kept = {key: dict(value) for key, value in gates.items()}
    return append(
        path, expected_head, action="promote", **wanted.subject(), at=at, approvals=people, reason=reason, gates=kept, inherits=inherits
    )


def revoke(
    path: Path, *, expected_head: str, bundle_id: str, account: str, mode: str, at: int, approvals: Sequence[str], reason: str
) -> LedgerEntry:
    """Take back a bundle's promotion; its next activation is refused. Raises InputError when there is nothing to revoke."""
    path = Path(path)
    now = standing(LedgerReader(path).entries(), bundle_id, account, mode)
    if now is None:
        raise InputError(
            f"bundle {bundle_id[:12]} holds no promotion for {account}/{mode}", str(path), "check the bundle, account and mode"
        )
    people = _people(approvals)
    if not people or not reason.strip():
        raise InputError("a revocation names a person and a reason", str(path), "give both")
    moved = rules.wanted_of(now).subject()
    return append(path, expected_head, action="revoke", **moved, at=at, approvals=people, reason=reason, gates={})


def step_down(
    path: Path, *, account: str, slot: str, at: int, reason: str, approvals: Sequence[str] = (AUTOMATIC,)
) -> tuple[LedgerEntry, ...]:
    """One step down the ladder of capital for everything live in a slot, at once and without approvals; at the lowest step, revoke (T26).

    Every bundle in force moves, so that no way back to an older one leads to more capital; loss budgets shrink with the shares. InputError
    where nothing is live.
    """
    path = Path(path)
    found = in_force(LedgerReader(path).entries(), account, "live", slot)
    if not found:
        raise InputError(f"nothing is live in slot {slot} of {account}", str(path), "look at `trading-platform models status`")
    share = max((step for step in LIVE_SHARES if step < found[-1].capital_share), default=0.0)
    written = []
    for now in found:
        head = LedgerReader(path).head()
        if share == 0.0:
            who = {"bundle_id": now.bundle_id, "account": account, "mode": "live"}
            written.append(revoke(path, expected_head=head, **who, at=at, approvals=approvals, reason=reason))
        elif now.capital_share > share:
            budget = None if now.loss_budget is None else now.loss_budget * share / now.capital_share
            moved = replace(rules.wanted_of(now), capital_share=share, loss_budget=budget).subject()
            said: dict[str, Any] = {"at": at, "approvals": _people(approvals), "reason": reason, "gates": now.gates}
            written.append(append(path, head, action="promote", **moved, **said, inherits=now.inherits or now.seq))
    return tuple(written)


def roll_back(
    path: Path, *, expected_head: str, account: str, mode: str, slot: str, at: int, approvals: Sequence[str], reason: str
) -> tuple[LedgerEntry, LedgerEntry]:
    """Revoke the slot's newest bundle; return (the revocation, the entry of the bundle before it, which is still in force).

    InputError where no older bundle is in force: then there is nothing to go back to, and `revoke` is the honest word.
    """
    found = in_force(LedgerReader(path).entries(), account, mode, slot)
    if len(found) < 2:
        has = f"only {found[0].name}_v{found[0].version} is" if found else "nothing is"
        fix = "revoke it instead: the runner then holds (T23)" if found else "look at `trading-platform models status`"
        raise InputError(f"{has} in force in slot {slot} of {account}/{mode}", str(path), fix)
    newest, before = found[-1], found[-2]
    who: dict[str, Any] = {"bundle_id": newest.bundle_id, "account": account, "mode": mode}
    return revoke(path, expected_head=expected_head, **who, at=at, approvals=approvals, reason=reason), before
