"""The journal: durable, chained, append-only, whole transactions."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from live_runner.journal import AccountLock, Entry, Journal
from live_runner.kill_points import KillPoint
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.journal import DDL, GENESIS, JournalReader, Kind, record_hash

SESSION = "demo/paper/2014-01-02/1"


def entry(number: int, kind: Kind = Kind.ROW) -> Entry:
    return Entry(SESSION, number, kind, f"k{number}", {"price": 1.0 / 3.0, "zero": -0.0, "array": np.array([1.5, np.nan]), "n": number})


def test_records_are_chained_with_the_hash_of_the_contract(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a-paper.sqlite")
    journal.commit_blocking([entry(1), entry(2)])
    journal.commit_blocking([entry(3)])
    with journal.reader() as reader:
        assert reader.verify() == 3
        records = list(reader.records())
        assert records[2].prev == records[1].hash
        first = records[0]
        assert first.hash == record_hash(first.prev, 1, SESSION, 1, "row", "k1", first.body)
    journal.close()


def test_a_reopened_journal_continues_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "a-paper.sqlite"
    first = Journal(path)
    first.commit_blocking([entry(1)])
    first.close()
    second = Journal(path)
    assert second.head[0] == 1
    second.commit_blocking([entry(2)])
    second.close()
    with JournalReader(path) as reader:
        assert reader.verify() == 2


def test_nothing_can_be_changed_or_removed(tmp_path: Path) -> None:
    path = tmp_path / "a-paper.sqlite"
    journal = Journal(path)
    journal.commit_blocking([entry(1)])
    journal.close()
    db = sqlite3.connect(path)
    for statement in ("UPDATE record SET at = 9", "DELETE FROM record"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            db.execute(statement)


def test_verify_names_the_record_that_was_changed_behind_the_triggers(tmp_path: Path) -> None:
    path = tmp_path / "a-paper.sqlite"
    journal = Journal(path)
    journal.commit_blocking([entry(1), entry(2), entry(3)])
    journal.close()
    db = sqlite3.connect(path)
    db.execute("DROP TRIGGER record_no_update")
    db.execute("UPDATE record SET at = 9 WHERE seq = 2")
    db.commit()
    db.close()
    with JournalReader(path) as reader, pytest.raises(CorruptionError, match="record 2"):
        reader.verify()


def test_a_batch_with_a_bad_entry_leaves_nothing(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "a-paper.sqlite")
    with pytest.raises(InputError, match="nan"):
        journal.commit_blocking([entry(1), Entry(SESSION, 2, Kind.ROW, "bad", {"x": float("nan")})])
    assert journal.head[0] == 0
    journal.commit_blocking([entry(1)])
    with journal.reader() as reader:
        assert reader.verify() == 1
    journal.close()


def test_commits_that_wait_together_share_a_transaction_and_stay_in_order(tmp_path: Path) -> None:
    times: list[float] = []
    journal = Journal(tmp_path / "a-paper.sqlite", observe=times.append)

    async def many() -> list[int]:
        batches = await asyncio.gather(*(journal.commit([entry(n), entry(n)]) for n in range(1, 201)))
        return [record.at for batch in batches for record in batch]

    assert asyncio.run(many()) == [n for n in range(1, 201) for _ in range(2)]
    assert len(times) < 200
    with journal.reader() as reader:
        assert reader.verify() == 400
    journal.close()


def test_a_journal_that_could_not_be_made_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader looks as soon as the file is there, so it must never be there without its table."""
    path = tmp_path / "journal.sqlite"
    with monkeypatch.context() as broken:
        broken.setattr("live_runner.journal.DDL", DDL.split(";")[0] + "; CREATE TABLE")
        with pytest.raises(sqlite3.OperationalError):
            Journal(path)
    assert not path.exists()
    Journal(path).close()
    with JournalReader(path) as reader:
        assert reader.head() == (0, GENESIS)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    lock = AccountLock(tmp_path / "a-paper.sqlite")
    with pytest.raises(InputError, match="another runner"):
        AccountLock(tmp_path / "a-paper.sqlite")
    lock.release()
    AccountLock(tmp_path / "a-paper.sqlite").release()


KILLED = """
import sys; from pathlib import Path
from live_runner.journal import Journal, Entry; from live_runner.kill_points import KillPoint
from trading_platform.contracts.journal import Kind
journal = Journal(Path(sys.argv[1]), KillPoint(sys.argv[2]))
for n in range(1, 6): journal.commit_blocking([Entry("s", n, Kind.ROW, "k", n), Entry("s", n, Kind.DECISION, "k", n)])
"""


@pytest.mark.parametrize(("point", "kept"), [("commit:3:before", 4), ("commit:3:after", 6)])
def test_a_killed_commit_is_there_completely_or_not_at_all(tmp_path: Path, point: str, kept: int) -> None:
    path = tmp_path / "a-paper.sqlite"
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), point], env=os.environ, check=False)
    assert done.returncode == -signal.SIGKILL
    with JournalReader(path) as reader:
        assert reader.verify() == kept


def test_a_kill_point_is_spelled_out_or_refused() -> None:
    with pytest.raises(InputError, match="kill point"):
        KillPoint("commit:0:after")
