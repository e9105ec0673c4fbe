"""What the venue says is folded at once, and on disk in order: before the runner sleeps, and before what it records next."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from live_runner.journal import Batch, Journal
from live_runner.recorder import Recorder
from trading_platform.contracts.journal import JournalReader, Kind, Record


class SlowJournal(Journal):
    """Its disk takes its time."""

    transactions = 0

    def _transaction(self, work: list[Batch]) -> None:
        time.sleep(0.05)
        self.transactions += 1
        super()._transaction(work)


def test_a_burst_is_folded_at_once_and_is_on_disk_in_order_when_it_is_settled(tmp_path: Path) -> None:
    journal = SlowJournal(tmp_path / "a-paper.sqlite")
    folded: list[str] = []
    told: list[str] = []
    fold = SimpleNamespace(session_id="a/paper/2014-01-02/1", apply=lambda record, decided=False: folded.append(record.key))
    recorder = Recorder(journal, fold, SimpleNamespace(now_ns=lambda: 7), "nobody")  # type: ignore[arg-type]

    def watch(records: tuple[Record, ...]) -> None:
        told.extend(record.key for record in records)

    recorder.watched = watch

    async def burst() -> None:
        for key in "abcdefgh":
            recorder.heard(Kind.ORDER_EVENT, key, {"n": 1, "absent": None})
        assert folded == list("abcdefgh") and journal.head[0] == 0 and told == []
        await recorder.settled()
        assert journal.head[0] == 8 and told == list("abcdefgh") and journal.transactions <= 2
        recorder.heard(Kind.FILL, "i", {"n": 2})
        await recorder.record(recorder.entry(Kind.INTENT, "j", {"n": 3}))

    asyncio.run(burst())
    journal.close()
    with JournalReader(journal.path) as reader:
        records: list[Any] = list(reader.records())
        assert reader.verify() == 10
    assert [record.key for record in records] == folded == told == list("abcdefghij")
    assert records[0].body == {"n": 1}
