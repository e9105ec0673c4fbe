"""Child processes of the demo: started with a log file each, waited for by a line they print, and always ended."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from trading_platform.contracts.errors import TransientError

LAST_LINES = 12


class Child:
    """One `python -m ...` child. Its standard output is read for JSON lines; what it says on standard error goes to `log`."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        self._errors = log.open("wb")
        command = [sys.executable, "-m", *arguments]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._errors, stdin=subprocess.DEVNULL, env=dict(environment)
        )

    def wait_for(self, key: str, seconds: float) -> Any:
        """The value of `key` in the first JSON line that has it. TransientError when the child ends or stays silent instead."""
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while selector.select(timeout=seconds):
                line = self._process.stdout.readline()
                if not line:
                    break
                try:
                    said = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if isinstance(said, dict) and key in said:
                    return said[key]
        raise self._failure(f"{self.name} did not report {key!r} within {seconds:.0f} s")

    def finish(self, seconds: float) -> None:
        """Wait until it ends by itself. TransientError with the end of its log when it failed or did not end."""
        try:
            self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            raise self._failure(f"{self.name} did not end within {seconds:.0f} s") from None
        if self._process.returncode != 0:
            raise self._failure(f"{self.name} ended with exit code {self._process.returncode}")

    @property
    def running(self) -> bool:
        """The child has not ended."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """End it: ask, then insist."""
        if self.running:
            self._process.terminate()
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._errors.close()

    def _failure(self, what: str) -> TransientError:
        self._errors.flush()
        lines = self.log.read_text(errors="replace").strip().splitlines()[-LAST_LINES:]
        said = "\n".join(f"    {line}" for line in lines)
        return TransientError(f"{what}; it said:\n{said}" if said else what, str(self.log), "read the log; then run the command again")

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
