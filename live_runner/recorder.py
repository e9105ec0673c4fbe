"""Journal and fold as one step: commit, then apply. What is not on disk has not happened (I5).

What the venue says of our orders is the one exception: it is folded message by message, and a burst reaches the disk in one transaction.
The journal writes in the order it was given, so an intent that follows from it is on disk behind it, before its POST; a crash in between
loses what the venue will say again. `settled` waits for the disk; the loop calls it before it sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from live_runner.clock import Clock
from live_runner.fold import Fold
from live_runner.journal import Entry, Journal
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.journal import Kind, Record


class Recorder:
    """Writes records of the current session and folds them in the order of their commit."""

    def __init__(self, journal: Journal, fold: Fold, clock: Clock, nobody: str) -> None:
        self._journal = journal
        self._fold = fold
        self._clock = clock
        self._nobody = nobody  # session id of records before the first session: account/mode
        self.unsettled: list[Future[tuple[Record, ...]]] = []  # heard, perhaps not on disk yet
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
        await self.settled()  # what was heard before is on disk before
        for record in records:
            self._fold.apply(record, decided)
        self.watched(records)
        return records

    async def note(self, kind: Kind, key: str, body: Any) -> Record:
        """Record one entry."""
        return (await self.record(self.entry(kind, key, body)))[0]

    def heard(self, kind: Kind, key: str, body: Any) -> None:
        """Fold one entry of a burst at once; it is on disk when `settled` returns."""
        entry = self.entry(kind, key, body)
        told = parse(canonical_bytes(body))
        self._fold.apply(Record(0, entry.session_id, entry.at, kind, key, told, "", ""))  # its place in the chain is not known yet
        self.unsettled.append(self._journal.submit((entry,)))

    async def settled(self) -> None:
        """Wait until everything heard is on disk. CorruptionError where it cannot be written."""
        while self.unsettled:
            waiting, self.unsettled = self.unsettled, []
            written = await asyncio.gather(*(asyncio.wrap_future(future) for future in waiting))
            self.watched(tuple(record for records in written for record in records))
