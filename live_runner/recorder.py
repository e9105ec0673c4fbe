"""Journal and fold as one step: commit, then apply. What is not on disk has not happened (I5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from live_runner.clock import Clock
from live_runner.fold import Fold
from live_runner.journal import Entry, Journal
from trading_platform.contracts.journal import Kind, Record


class Recorder:
    """Writes records of the current session and folds them in the order of their commit."""

    def __init__(self, journal: Journal, fold: Fold, clock: Clock, nobody: str) -> None:
        self._journal = journal
        self._fold = fold
        self._clock = clock
        self._nobody = nobody  # session id of records before the first session: account/mode
        self.watched: Callable[[tuple[Record, ...]], None] = lambda records: (
            None
        )  # told what is on disk, after the fold; must return at once

    def now(self) -> int:
        """The clock's time, UTC ns."""
        return self._clock.now_ns()

    def entry(self, kind: Kind, key: str, body: Any, session_id: str = "") -> Entry:
        """An entry at the clock's time, of the current session unless told otherwise."""
        return Entry(session_id or self._fold.session_id or self._nobody, self._clock.now_ns(), kind, key, body)

    async def record(self, *entries: Entry, decided: bool = False) -> tuple[Record, ...]:
        """One transaction; the fold has it when this returns."""
        if not entries:
            return ()
        records = await self._journal.commit(entries)
        for record in records:
            self._fold.apply(record, decided)
        self.watched(records)
        return records

    async def note(self, kind: Kind, key: str, body: Any) -> Record:
        """Record one entry."""
        return (await self.record(self.entry(kind, key, body)))[0]
