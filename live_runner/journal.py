"""The write-ahead journal: one SQLite file (WAL, synchronous=FULL), one writer thread, one hash chain (DESIGN 8, I5, I11).

A commit is durable when it returns. Commits that wait together become one transaction (group commit), each of them whole. The schema and
the reader are in contracts/journal.py.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from live_runner.clock import stopwatch_ns
from live_runner.kill_points import KillPoint
from trading_platform.contracts.canonical import canonical_bytes, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.journal import DDL, GENESIS, SCHEMA_VERSION, JournalReader, Kind, Record

INSERT = "INSERT INTO record (seq, session_id, at, kind, key, body, prev, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Entry:
    """A record before it has a place in the chain. `body` is any value with a canonical form."""

    session_id: str
    at: int
    kind: Kind
    key: str
    body: Any


Batch = tuple[list[tuple[Entry, bytes]], "Future[tuple[Record, ...]]"]  # entries with their encoded bodies


def journal_path(folder: Path, account: str, mode: str) -> Path:
    """Where the journal of an account and mode lies."""
    return folder / f"{account}-{mode}.sqlite"


class AccountLock:
    """`flock` beside the journal: one writer per account and mode on this machine, whatever Redis says (DESIGN 8)."""

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_suffix(".lock")
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise InputError("another runner holds this account", str(self.path), "stop it first, or use another account") from error

    def release(self) -> None:
        """Let the next runner in."""
        os.close(self._file)

    @staticmethod
    def held(journal: Path) -> bool | None:
        """Whether a runner holds the account of this journal now; None where this user may not look. Leaves the lock as it was."""
        try:
            file = os.open(journal.with_suffix(".lock"), os.O_RDONLY)
        except FileNotFoundError:
            return False
        except PermissionError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared, and gone with the file: those who look do not hinder each other
        except BlockingIOError:
            return True
        finally:
            os.close(file)
        return False


class Journal:
    """The one writer of a journal file; use it under an `AccountLock`. Other processes read with `JournalReader`.

    `observe` is given the seconds each transaction took. Raises CorruptionError when the file is not a journal of this schema.
    """

    def __init__(self, path: Path, kill: KillPoint | None = None, observe: Callable[[float], None] | None = None) -> None:
        self.path = path
        self._kill = kill or KillPoint()
        self._observe = observe or (lambda seconds: None)
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._failed: BaseException | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = self._open()
        self._seq, self._hash = self._head()
        self._thread = threading.Thread(target=self._write, name="journal", daemon=True)
        self._thread.start()

    def _open(self) -> sqlite3.Connection:
        if not self.path.exists():
            self._create()
        try:
            db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA synchronous=FULL")
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
        except sqlite3.DatabaseError as error:
            raise CorruptionError(f"not a journal: {error}", str(self.path), "restore the journal from its backup") from error
        if version != SCHEMA_VERSION:
            raise CorruptionError(
                f"the journal has schema {version}, expected {SCHEMA_VERSION}", str(self.path), "use the runner that wrote it"
            )
        return db

    def _create(self) -> None:
        """Under another name first: a reader that finds the file finds its table, and a crash leaves no journal without one."""
        new = self.path.with_name(f"{self.path.name}.new")
        for left in (new, *(new.with_name(new.name + end) for end in ("-wal", "-shm"))):
            left.unlink(missing_ok=True)
        with closing(sqlite3.connect(new, isolation_level=None)) as db:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.executescript(DDL)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
        os.replace(new, self.path)
        _sync_folder(self.path.parent)  # the file's name must survive a power cut as its content does

    def _head(self) -> tuple[int, str]:
        row = self._db.execute("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1").fetchone()
        return (0, GENESIS) if row is None else (int(row[0]), str(row[1]))

    @property
    def head(self) -> tuple[int, str]:
        """(seq, hash) of the newest durable record."""
        return self._seq, self._hash

    def reader(self) -> JournalReader:
        """A read-only view of the same file."""
        return JournalReader(self.path)

    def commit_blocking(self, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Write the entries in one transaction and return them once they are on disk."""
        return self.submit(entries).result()

    async def commit(self, entries: Sequence[Entry]) -> tuple[Record, ...]:
        """Like `commit_blocking`, without holding the loop."""
        return await asyncio.wrap_future(self.submit(entries))

    def submit(self, entries: Sequence[Entry]) -> Future[tuple[Record, ...]]:
        """Queue the entries for the next transaction; the result is theirs once they are on disk."""
        future: Future[tuple[Record, ...]] = Future()
        self._queue.put(([(entry, canonical_bytes(entry.body)) for entry in entries], future))  # a bad value fails its caller alone
        return future

    def close(self) -> None:
        """Write what is queued and close the file."""
        self._queue.put(None)
        self._thread.join()
        self._db.close()

    def _write(self) -> None:
        while True:
            waiting = [self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get())
            work = [item for item in waiting if item is not None]
            if work:
                self._transaction(work)
            if len(work) < len(waiting):
                return

    def _transaction(self, work: list[Batch]) -> None:
        started = stopwatch_ns()
        seq, previous = self._seq, self._hash
        results: list[tuple[Record, ...]] = []
        try:
            if self._failed is not None:
                raise self._failed
            self._db.execute("BEGIN IMMEDIATE")
            for entries, _ in work:
                records = []
                for entry, body in entries:
                    seq += 1
                    record = self._insert(seq, previous, entry, body)
                    previous = record.hash
                    records.append(record)
                results.append(tuple(records))
            self._kill.reach("commit", "before")
            self._db.execute("COMMIT")
            self._kill.reach("commit", "after")
        except (sqlite3.Error, CorruptionError) as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            # A disk that failed once is not trusted again by this process: the caller stops, a restart looks anew.
            self._failed = CorruptionError(f"the journal cannot be written: {error}", str(self.path), "check the disk, then start again")
            for _, future in work:
                future.set_exception(self._failed)
            return
        self._seq, self._hash = seq, previous
        for (_, future), written in zip(work, results, strict=True):
            future.set_result(written)
        self._observe((stopwatch_ns() - started) / 1e9)

    def _insert(self, seq: int, previous: str, entry: Entry, body: bytes) -> Record:
        head = orjson.dumps([previous, seq, entry.session_id, entry.at, str(entry.kind), entry.key])
        digest = sha256_hex(head[:-1] + b"," + body + b"]")  # the bytes of contracts.journal.record_hash without encoding the body twice
        self._db.execute(INSERT, (seq, entry.session_id, entry.at, str(entry.kind), entry.key, body, previous, digest))
        return Record(seq, entry.session_id, entry.at, entry.kind, entry.key, parse(body), previous, digest)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
