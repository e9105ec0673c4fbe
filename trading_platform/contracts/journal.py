"""The journal's schema and its read-only reader. The writer lives in live_runner/journal.py.

One SQLite file (WAL) per account and mode. Records are append-only and hash-chained (see `record_hash`).
`body` is canonical JSON. `session_id` names the market day the record belongs to.
"""

from __future__ import annotations

import base64
import sqlite3
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError

SCHEMA_VERSION = 1
GENESIS = "0" * 64

DDL = """
CREATE TABLE IF NOT EXISTS record (
    seq INTEGER PRIMARY KEY,
    session_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    body BLOB NOT NULL,
    prev TEXT NOT NULL,
    hash TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS record_kind ON record (kind, key);
CREATE INDEX IF NOT EXISTS record_session ON record (session_id, seq);
CREATE TRIGGER IF NOT EXISTS record_no_update BEFORE UPDATE ON record BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
CREATE TRIGGER IF NOT EXISTS record_no_delete BEFORE DELETE ON record BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END;
"""


class Kind(StrEnum):
    """Kinds of records. Inputs and outputs both (T22)."""

    RUN_STARTED = "run_started"
    RUN_STOPPED = "run_stopped"
    SESSION_OPENED = "session_opened"
    SESSION_CLOSED = "session_closed"
    STATE = "state"
    ROW = "row"
    QUOTE = "quote"
    DECISION = "decision"
    INTENT = "intent"
    ORDER_EVENT = "order_event"
    FILL = "fill"
    ACTIVITY = "activity"
    ACCOUNT = "account"
    CORPORATE_ACTION = "corporate_action"
    COMMAND = "command"
    SWAP = "swap"
    SWAP_REFUSED = "swap_refused"
    LATCH = "latch"
    BREAK = "break"
    CORRECTION = "correction"
    LATE_BAR = "late_bar"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True, slots=True)
class Record:
    """One journal record; `body` is parsed canonical JSON (arrays still encoded)."""

    seq: int
    session_id: str
    at: int
    kind: Kind
    key: str
    body: Any
    prev: str
    hash: str


def record_hash(prev: str, seq: int, session_id: str, at: int, kind: str, key: str, body: Any) -> str:
    """Hash of a record, chained to the one before it."""
    return content_hash([prev, seq, session_id, at, kind, key, body])


def packed(data: bytes) -> str:
    """Bytes as text of a body: compressed, base64."""
    return base64.b64encode(zlib.compress(data, 1)).decode("ascii")


def unpacked(text: str) -> bytes:
    """The bytes of `packed`. CorruptionError where it is damaged."""
    try:
        return zlib.decompress(base64.b64decode(text))
    except (ValueError, zlib.error) as error:
        raise CorruptionError(f"a snapshot does not unpack: {error}", "journal", "restore the journal from its backup") from error


class JournalReader:
    """Read-only view of a journal file, usable while the runner writes it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError("no journal here", str(self.path), "start the runner once, or name the right --home, --account and --mode")
        self._db = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)

    def close(self) -> None:
        self._db.close()

    def __enter__(self) -> JournalReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def records(
        self, *kinds: Kind, session_id: str | None = None, key: str | None = None, after: int = 0, until: int | None = None
    ) -> Iterator[Record]:
        """Records in order of seq, optionally of some kinds, one session, one key, with after < seq <= until."""
        where, values = ["seq > ?"], [after]
        parameters: list[Any] = list(values)
        if until is not None:
            where.append("seq <= ?")
            parameters.append(until)
        if kinds:
            where.append(f"kind IN ({','.join('?' * len(kinds))})")
            parameters.extend(str(k) for k in kinds)
        if session_id is not None:
            where.append("session_id = ?")
            parameters.append(session_id)
        if key is not None:
            where.append("key = ?")
            parameters.append(key)
        sql = f"SELECT seq, session_id, at, kind, key, body, prev, hash FROM record WHERE {' AND '.join(where)} ORDER BY seq"
        for seq, session, at, kind, name, body, prev, digest in self._db.execute(sql, parameters):
            yield Record(seq, session, at, Kind(kind), name, parse(body), prev, digest)

    def last(self, kind: Kind, key: str | None = None) -> Record | None:
        """The newest record of a kind (and key), or None."""
        sql = "SELECT max(seq) FROM record WHERE kind = ?" + (" AND key = ?" if key is not None else "")
        (seq,) = self._db.execute(sql, [str(kind)] + ([key] if key is not None else [])).fetchone()
        return None if seq is None else next(self.records(after=seq - 1, until=seq))

    def head(self) -> tuple[int, str]:
        """(seq, hash) of the newest record; (0, GENESIS) when empty."""
        row = self._db.execute("SELECT seq, hash FROM record ORDER BY seq DESC LIMIT 1").fetchone()
        return (0, GENESIS) if row is None else (int(row[0]), str(row[1]))

    def verify(self) -> int:
        """Recompute the whole chain; return the number of records. Raises CorruptionError naming the first broken record."""
        previous, count = GENESIS, 0
        sql = "SELECT seq, session_id, at, kind, key, body, prev, hash FROM record ORDER BY seq"
        for *head, body, prev, digest in self._db.execute(sql):
            count += 1
            # The stored bytes themselves, not what they parse to: 5 times faster, and a body that was written differently is a break, too.
            stored = body if isinstance(body, bytes) else b""  # an edited one can be text
            expected = sha256_hex(canonical_bytes([previous, *head])[:-1] + b"," + stored + b"]")
            if head[0] != count or prev != previous or digest != expected:
                raise CorruptionError(
                    f"record {head[0]} breaks the chain", str(self.path), "restore the journal from its backup; do not edit it"
                )
            previous = digest
        return count
