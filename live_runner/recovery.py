"""From the journal and the published state to where the last process stopped. Start-up and crash recovery are one path.

The fold begins at the newest full snapshot or at the account's adoption, whichever is later, and applies what follows (DESIGN 8, T4).
"""

from __future__ import annotations

from pathlib import Path

from live_runner.fold import Fold
from live_runner.recorder import Recorder
from trading_platform.contracts.errors import CorruptionError
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.session_inputs import SessionInputs

FOLD = "fold"
SIGNALS = "signals"
HASH = "hash"


def recover(reader: JournalReader, fold: Fold) -> bool:
    """Fold the journal; False where no account was ever adopted. CorruptionError where the same code comes to another decision."""
    adoptions = [record.seq for record in reader.records(Kind.ACCOUNT) if record.body.get("adopted")]
    begin = adoptions[-1] - 1 if adoptions else reader.head()[0]
    snapshot = reader.last(Kind.SNAPSHOT, FOLD)
    if snapshot is not None and snapshot.seq > begin:
        fold.load_body(snapshot.body)
        begin = snapshot.seq
    for record in reader.records(after=begin):
        fold.apply(record)
    latch = reader.last(Kind.LATCH)
    if latch is not None:
        fold.apply(latch)  # latched levels outlive an adoption
    if fold.divergences:
        first = next(record for record in reader.records(Kind.DECISION, key=fold.divergences[0]))
        same_code = first.body["decision"]["hashes"]["engine"] == fold.engine.engine_hash()
        if same_code and first.body["decision"]["hashes"] == fold.engine.hashes:
            what = f"{len(fold.divergences)} journaled decisions come out differently, first {fold.divergences[0]}"
            raise CorruptionError(what, str(reader.path), "stop; compare with live-runner replay before trading on")
        # Another build or profile: what was decided stays as it was, only the account's fills and cash matter from here.
        fold.divergences.clear()
    return bool(adoptions)


async def load_published_state(inputs: SessionInputs, lake: Path, fold: Fold, recorder: Recorder, now: int) -> int:
    """Start signals and factors from the newest published state not after `now`; returns its known_at, 0 where there is none.

    The state is journaled, so that a replay needs nothing but the journal and the bundles.
    """
    state = inputs.state_before(now)
    if state is not None:
        fold.engine.signals.program.load_state(state.program.read(lake))
        fold.factors.load_state(state.factors.read(lake))
    known_at = 0 if state is None else state.known_at
    await recorder.note(Kind.SNAPSHOT, SIGNALS, {**fold.signals_body(), "known_at": known_at})
    return known_at


def sessions_of_date(reader: JournalReader, session_date: str) -> int:
    """How often this date has been opened in the journal."""
    return sum(1 for _ in reader.records(Kind.SESSION_OPENED, key=session_date))
