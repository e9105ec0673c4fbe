"""A file of records that is only ever appended to: canonical JSON lines, each carrying the hash of the one above it (I11).

What the records mean is the caller's business (trials, openings of a holdout). An append costs the same however long the file is: the line
is first written whole beside the file, then appended, then the copy is removed. A power cut in between leaves a copy from which the next
reader or writer completes the file; a torn line without its copy is damage and is refused.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse
from trading_platform.contracts.errors import CorruptionError, TransientError
from trading_platform.registry.object_store import write_atomic

GENESIS = "0" * 64
Record = dict[str, Any]
TAIL = 1 << 16


class HashChain:
    """One file. Records are dictionaries with the caller's keys, `seq` (from 1), `prev` (GENESIS first) and `hash` (of all the others)."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._copy = self.path.with_name(self.path.name + ".pending")

    def records(self) -> tuple[Record, ...]:
        """All records in order. Raises CorruptionError where a line does not parse or the chain breaks (an edit, a deletion)."""
        if not self.path.exists() and not self._copy.exists():
            return ()
        with self._locked():
            return self._verified()

    def head(self) -> str:
        """Hash of the newest record, GENESIS when empty, without reading the rest; whoever pins it finds a cut-off tail."""
        if not self.path.exists() and not self._copy.exists():
            return GENESIS
        with self._locked():
            return self._newest()[1]

    def append(self, fields: Mapping[str, Any], allowed: Callable[[Sequence[Record]], None] | None = None) -> Record:
        """Append one record and return it, durable.

        allowed: called with all records, verified, while nobody else can append; it raises to refuse. Without it only the newest record
        is read. Absent values (None) are left out. Raises CorruptionError where the file does not end with a sound record.
        """
        with self._locked():
            if allowed is not None:
                allowed(self._verified())
            seq, head = self._newest()
            record: Record = parse(canonical_bytes({**fields, "seq": seq + 1, "prev": head}))
            record["hash"] = content_hash(record)
            line = canonical_bytes(record) + b"\n"
            write_atomic(self._copy, line, if_absent=False)
            self._write(line)
            self._copy.unlink()
        return record

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_name(self.path.name + ".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._complete()
            yield

    def _write(self, data: bytes) -> None:
        new = not self.path.exists()
        try:
            with open(self.path, "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            fix = "check free space, then read the file: the record may be there, or will be completed by the next reader"
            raise TransientError(f"cannot append: {error.strerror}", str(self.path), fix) from error
        if new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _complete(self) -> None:
        """Finish an append that was cut short, from the copy of its line; a copy that does not continue the file is refused."""
        if not self._copy.exists():
            return
        line = self._copy.read_bytes()
        tail = self._tail(self._size(), len(line))
        if tail != line:
            torn = tail.rpartition(b"\n")[2]
            pending = self._record(line, f"the unfinished record in {self._copy.name}")
            if not line.startswith(torn) or pending["prev"] != self._newest(self._size() - len(torn))[1]:
                raise self._damage(f"the unfinished record in {self._copy.name} does not continue the file")
            self._write(line[len(torn) :])
        self._copy.unlink()

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def _tail(self, size: int, length: int) -> bytes:
        """The last `length` of the first `size` bytes."""
        if size == 0:
            return b""
        with open(self.path, "rb") as file:
            file.seek(max(size - length, 0))
            return file.read(min(length, size))

    def _newest(self, size: int | None = None) -> tuple[int, str]:
        """(seq, hash) of the newest record within the first `size` bytes (all of them), (0, GENESIS) without one."""
        size = self._size() if size is None else size
        if size == 0:
            return 0, GENESIS
        length = TAIL
        while True:
            tail = self._tail(size, length)
            start = tail.rfind(b"\n", 0, -1) + 1
            if start or length >= size:
                break
            length *= 2
        if not tail.endswith(b"\n"):
            raise self._damage("the newest record is torn")
        found = self._record(tail[start:], "the newest record")
        return int(found["seq"]), str(found["hash"])

    def _verified(self) -> tuple[Record, ...]:
        data = self.path.read_bytes() if self.path.exists() else b""
        if data and not data.endswith(b"\n"):
            raise self._damage("the newest record is torn")
        found: list[Record] = []
        previous = GENESIS
        for number, line in enumerate(data.splitlines(), start=1):
            record = self._record(line, f"record {number}")
            if record.get("seq") != number or record.get("prev") != previous:
                raise self._damage(f"record {number} breaks the chain")
            previous = record["hash"]
            found.append(record)
        return tuple(found)

    def _record(self, line: bytes, what: str) -> Record:
        """One line whose hash is that of its own content."""
        try:
            record = parse(line)
        except CorruptionError as error:
            raise self._damage(f"{what} is not JSON") from error
        if not isinstance(record, dict) or record.get("hash") != content_hash({k: v for k, v in record.items() if k != "hash"}):
            raise self._damage(f"{what} breaks the chain: it was edited")
        return record

    def _damage(self, what: str) -> CorruptionError:
        return CorruptionError(what, str(self.path), "restore the file from its backup; do not edit it")
