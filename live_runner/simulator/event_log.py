"""The simulation's own record: one canonical JSON line per event, command, order update, fill and activity.

It holds nothing that depends on sockets or real time, so the same seed, data and clients give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.errors import InputError


class EventLog:
    """Lines in memory, and in `path` as they come when one is given."""

    def __init__(self, path: Path | None = None) -> None:
        self.lines: list[bytes] = []
        self.seq = 0
        self.now = 0
        try:
            self._file = path.open("wb") if path is not None else None
        except OSError as error:
            raise InputError(f"cannot write the event log: {error.strerror}", str(path), "give a writable path") from error

    def add(self, what: str, **fields: Any) -> None:
        """Record one thing under the current event."""
        line = canonical_bytes({"seq": self.seq, "now": self.now, "what": what, **fields}) + b"\n"
        self.lines.append(line)
        if self._file is not None:
            self._file.write(line)

    def flush(self) -> None:
        """Hand the lines to the operating system."""
        if self._file is not None:
            self._file.flush()

    def close(self) -> None:
        """No more lines."""
        if self._file is not None:
            self._file.close()
            self._file = None
