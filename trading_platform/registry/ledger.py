"""The promotion ledger's writer: compare-and-swap appends, stage order, gates that fail closed (T24, T26, T39).

Reading and verifying lie in contracts/ledger.py. The file is replaced whole (temporary file, fsync, rename) under an exclusive lock, so a
power cut leaves the old ledger or the new one, never a torn line.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.errors import InputError, TransientError
from trading_platform.contracts.ids import MODES
from trading_platform.contracts.ledger import GENESIS, STAGES, LedgerEntry, LedgerReader
from trading_platform.contracts.names import SLOTS
from trading_platform.registry.object_store import write_atomic

TECHNICAL_GATES = ("leakage", "parity", "golden", "latency", "batch_invariance")
STATISTICAL_GATES = (
    "dsr",
    "expectancy",
    "net_sharpe",
    "drawdown_at_fixed_volatility",
    "effective_bets",
    "cost_stress",
    "beats_nulls",
    "plausible_sharpe",
)
OPERATIONAL_GATES = ("operational_evidence", "survivorship")
STAGES_OF_MODE = {"paper": ("candidate", "shadow", "paper", "archived"), "live": ("live", "archived")}
LIVE_APPROVALS = 2
LIVE_SHARES = (0.05, 0.25, 0.5, 1.0)  # T26: each step is a promotion of its own
AUTOMATIC = "automatic"  # approves the way to paper, and is nobody at live


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(path.suffix + ".lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def append(path: Path, expected_head: str, **fields: Any) -> LedgerEntry:
    """Append one entry if the head is still `expected_head` (GENESIS for an empty ledger); return it, durable.

    fields: those of LedgerEntry except seq and prev. Raises TransientError when another writer was first, CorruptionError when the chain
    is broken. This is the raw write: `promote` and `revoke` are what callers use.
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


def current(entries: Sequence[LedgerEntry], bundle_id: str, account: str, mode: str) -> LedgerEntry | None:
    """The newest entry of a bundle for an account and mode, or None if there is none or it is a revocation."""
    newest = None
    for entry in entries:
        if (entry.bundle_id, entry.account, entry.mode) == (bundle_id, account, mode):
            newest = entry
    return None if newest is None or newest.action != "promote" else newest


def required_gates(stage: str) -> tuple[str, ...]:
    """Names of the gates that must be present and passed to enter a stage (DESIGN 7: statistics bind only at live)."""
    if stage in ("shadow", "paper"):
        return TECHNICAL_GATES
    return (*TECHNICAL_GATES, *STATISTICAL_GATES, *OPERATIONAL_GATES) if stage == "live" else ()


def _check_gates(stage: str, gates: Mapping[str, Mapping[str, Any]], where: str) -> None:
    missing = [name for name in required_gates(stage) if name not in gates]
    failed = [name for name, gate in gates.items() if name in required_gates(stage) and gate.get("passed") is not True]
    if missing or failed:
        parts = [f"{title}: {', '.join(found)}" for title, found in (("failed", failed), ("not judged", missing)) if found]
        raise InputError(
            f"stage {stage} is refused; gates {'; '.join(parts)}",
            where,
            "an absent gate counts as failed: run the report and fix the cause",
        )


def _check_stage(entries: Sequence[LedgerEntry], bundle_id: str, account: str, mode: str, stage: str, where: str) -> None:
    if mode not in MODES or stage not in STAGES_OF_MODE[mode]:
        allowed = "; ".join(f"{m}: {', '.join(s)}" for m, s in STAGES_OF_MODE.items())
        raise InputError(f"stage {stage!r} does not exist in mode {mode!r}", where, f"use {allowed}")
    now = current(entries, bundle_id, account, mode)
    if stage == "archived":
        if now is None:
            raise InputError(f"bundle {bundle_id[:12]} has no stage to leave", where, "only a promoted bundle can be archived")
        return
    if stage == "live":
        on_paper = any(
            e.bundle_id == bundle_id and e.stage == "paper" and current(entries, bundle_id, e.account, e.mode) == e for e in entries
        )
        if not on_paper:
            raise InputError(f"bundle {bundle_id[:12]} was not on paper", where, "promote it to paper first")
        return
    have = -1 if now is None or now.stage == "archived" else STAGES.index(now.stage)
    if STAGES.index(stage) not in (have, have + 1):
        found = "no stage" if have < 0 else STAGES[have]
        raise InputError(
            f"bundle {bundle_id[:12]} has {found} and cannot become {stage}",
            where,
            f"stages are taken one by one: {' -> '.join(STAGES[:4])}",
        )


def _check_live(
    entries: Sequence[LedgerEntry], bundle_id: str, account: str, people: Sequence[str], capital_share: float, where: str
) -> None:
    """Two different people, and no step of capital left out (T26, T39)."""
    if len({person.casefold() for person in people} - {AUTOMATIC}) < LIVE_APPROVALS:
        raise InputError(
            f"live needs {LIVE_APPROVALS} different people, got {', '.join(people) or 'nobody'}", where, "let a second person approve (T39)"
        )
    now = current(entries, bundle_id, account, "live")
    have = now.capital_share if now is not None and now.stage == "live" else 0.0
    allowed = next((share for share in LIVE_SHARES if share > have), LIVE_SHARES[-1])
    if capital_share > allowed:
        raise InputError(
            f"live at {capital_share:.0%} of the capital after {have:.0%}", where, f"the next step is at most {allowed:.0%} (T26)"
        )


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
) -> LedgerEntry:
    """Give a bundle a stage for one account and mode, after checking order, gates and approvals; return the entry.

    gates: name -> {passed, value, threshold, ...} as judged; a gate that is absent, failed or without power (passed None) refuses the
    stages that need it. at: UTC ns. Raises InputError with the reason; nothing is written then.
    """
    path = Path(path)
    where = str(path)
    people = tuple(dict.fromkeys(person.strip() for person in approvals if person.strip()))
    entries = LedgerReader(path).entries()
    _check_stage(entries, bundle_id, account, mode, stage, where)
    if slot not in SLOTS:
        raise InputError(f"unknown slot {slot!r}", where, f"use one of {', '.join(SLOTS)}")
    if len(bundle_id) != 64 or not account or not reason:
        raise InputError("a promotion names a bundle (64 hex digits), an account and a reason", where, "give all three")
    if not 0.0 < capital_share <= 1.0:
        raise InputError(f"capital share {capital_share} is not in (0, 1]", where, "live begins at 0.05 (T26)")
    _check_gates(stage, gates, where)
    if stage == "live":
        _check_live(entries, bundle_id, account, people, capital_share, where)
    return append(
        path,
        expected_head,
        action="promote",
        name=name,
        version=version,
        bundle_id=bundle_id,
        account=account,
        mode=mode,
        stage=stage,
        slot=slot,
        at=at,
        approvals=people,
        reason=reason,
        gates={key: dict(value) for key, value in gates.items()},
        capital_share=capital_share,
    )


def revoke(
    path: Path, *, expected_head: str, bundle_id: str, account: str, mode: str, at: int, approvals: Sequence[str], reason: str
) -> LedgerEntry:
    """Take back a bundle's promotion; its next activation is refused. Raises InputError when there is nothing to revoke."""
    path = Path(path)
    now = current(LedgerReader(path).entries(), bundle_id, account, mode)
    if now is None:
        raise InputError(
            f"bundle {bundle_id[:12]} holds no promotion for {account}/{mode}", str(path), "check the bundle, account and mode"
        )
    return append(
        path,
        expected_head,
        action="revoke",
        name=now.name,
        version=now.version,
        bundle_id=bundle_id,
        account=account,
        mode=mode,
        stage=now.stage,
        slot=now.slot,
        at=at,
        approvals=tuple(approvals),
        reason=reason,
        gates={},
        capital_share=now.capital_share,
    )
