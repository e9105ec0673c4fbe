"""`live-runner replay`: the engine over a journal once more, every decision compared with the journaled bytes. Reads only.

Bits are promised for one code, one package lock, one set of hashes (I3). Where those that replay are not those that decided, a decision is
`hash-verified, not re-executed`: its record is whole, and what is computed now is another program's opinion (T39).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from live_runner.fold import Fold, action_table, build_fold
from live_runner.package_lock import package_lock
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.profile import Profile
from trading_platform.contracts.session_inputs import SessionInputs
from trading_platform.registry.bundle import load_bundle
from trading_platform.registry.object_store import open_store

RE_EXECUTED, VERIFIED = "re-executed", "hash-verified, not re-executed"


@dataclass(frozen=True, slots=True)
class Replay:
    """decisions: how many were made again. different: ids of those whose bytes differ. records: journal records folded.

    same_code: every compared decision was made by this engine source, package lock and profile, and on these inputs. changed: what is not
    the same, by name (`engine`, `lock`, `profile`, `limits`, `features`, `universe`, `corporate_actions`, `calendar`), ascending.
    """

    decisions: int
    different: tuple[str, ...]
    records: int
    same_code: bool
    changed: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What may be said of the decisions (T39)."""
        return RE_EXECUTED if self.same_code else VERIFIED


def replay(journal: Path, lake: Path, pipeline: str, object_store: str, profile: Profile, decision_id: str | None = None) -> Replay:
    """Fold the journal from its last adoption, making every decision again; stops behind `decision_id` where one is given.

    The hash chain up to there is verified first. InputError where the journal adopts no account or holds no such decision, CorruptionError
    where its chain is broken.
    """
    inputs, store = SessionInputs.load(lake, pipeline), open_store(object_store)
    calendar = MarketCalendar(inputs.calendar)
    fold = build_fold(inputs, action_table(inputs, lake), calendar, profile, lambda label, bundle_id: load_bundle(store, label, bundle_id))
    lock, changed = package_lock(), set[str]()
    with JournalReader(journal) as reader:
        reader.verify()
        begin = _begin(reader, decision_id)
        made, folded = 0, 0
        for record in reader.records(after=begin):
            fold.apply(record)
            folded += 1
            if record.kind is not Kind.DECISION:
                continue
            made += 1
            if decision_id is None or record.key == decision_id:
                changed |= _changed(record.body, fold, lock)
            if record.key == decision_id:
                different = tuple(i for i in fold.divergences if i == decision_id)
                return Replay(1, different, folded, not changed, tuple(sorted(changed)))
    return Replay(made, tuple(fold.divergences), folded, not changed, tuple(sorted(changed)))


def _changed(body: Mapping[str, Any], fold: Fold, lock: str) -> set[str]:
    """What differs between those who made a journaled decision and those who make it again."""
    then, now = body["decision"]["hashes"], fold.engine.hashes
    names = {name for name in {*then, *now} if then.get(name) != now.get(name)}
    return names | {"lock"} if body["trace"]["lock"] != lock else names


def _begin(reader: JournalReader, decision_id: str | None) -> int:
    until = reader.head()[0]
    if decision_id is not None:
        wanted = next(reader.records(Kind.DECISION, key=decision_id), None)
        if wanted is None:
            raise InputError(f"no decision {decision_id}", str(reader.path), "copy the id from the journal or the order's lineage")
        until = wanted.seq
    adoptions = [r.seq for r in reader.records(Kind.ACCOUNT, until=until) if r.body.get("adopted")]
    if not adoptions:
        raise InputError("the journal has adopted no account", str(reader.path), "let the runner start once")
    return adoptions[-1] - 1
