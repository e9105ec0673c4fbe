"""`live-runner replay`: the engine over a journal once more, every decision compared with the journaled bytes. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from live_runner.fold import build_fold
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.profile import Profile
from trading_platform.contracts.session_inputs import SessionInputs, Universe
from trading_platform.registry.bundle import load_bundle
from trading_platform.registry.object_store import open_store


@dataclass(frozen=True, slots=True)
class Replay:
    """decisions: how many were made again. different: ids of those whose bytes differ. records: journal records folded."""

    decisions: int
    different: tuple[str, ...]
    records: int


def replay(journal: Path, lake: Path, pipeline: str, object_store: str, profile: Profile, decision_id: str | None = None) -> Replay:
    """Fold the journal from its last adoption, making every decision again; stops behind `decision_id` where one is given.

    InputError where the journal adopts no account or holds no such decision.
    """
    inputs, store = SessionInputs.load(lake, pipeline), open_store(object_store)
    universe = Universe.from_bytes(inputs.universe.read(lake))
    calendar = MarketCalendar(inputs.calendar)
    fold = build_fold(inputs, universe, calendar, lake, profile, lambda label, bundle_id: load_bundle(store, label, bundle_id))
    with JournalReader(journal) as reader:
        begin = _begin(reader, decision_id)
        made, folded = 0, 0
        for record in reader.records(after=begin):
            fold.apply(record)
            folded += 1
            if record.kind is Kind.DECISION:
                made += 1
                if record.key == decision_id:
                    different = tuple(i for i in fold.divergences if i == decision_id)
                    return Replay(1, different, folded)
    return Replay(made, tuple(fold.divergences), folded)


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
