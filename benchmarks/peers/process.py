"""The driver's side of a peer: its program as a child process in its own environment, asked to run one action at a time."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.install import python_of, why_absent

ROOT = Path(__file__).resolve().parents[2]


class PeerFailedError(Exception):
    """The peer could not be asked; the message is what the table prints in its place."""


class Peer:
    """A running peer. name: its environment below .peers; module: its program; arguments: the program's.

    Raises PeerFailedError where the environment is missing or the program ends.
    """

    def __init__(self, name: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        absent = why_absent(name)
        if absent:
            raise PeerFailedError(f"{name} {absent}")
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        command = [str(python_of(name)), "-W", "ignore", "-m", module, *arguments]
        pipe = subprocess.PIPE
        extra = None if environment is None else dict(environment)
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=self._errors, text=True, env=extra)
        hello = self._answer()
        self.version: str = hello["version"]
        self.actions: list[str] = hello["actions"]

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.communicate()  # closes its standard input: the program's loop ends
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._process.wait()
        self._errors.seek(0)
        last = [text for text in self._errors.read().splitlines() if text.strip()] or [f"ended with {self._process.returncode}"]
        raise PeerFailedError(f"{self.name} failed: {last[-1]}")

    def _ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def run(self, action: str) -> dict[str, Any]:
        """{"wall": seconds, "cpu": seconds, "samples": seconds of each live row, or None} of one run."""
        return self._ask({"do": action})

    def values(self, columns: list[int]) -> NDArray[np.float64]:
        """The peer's values of these symbols, (T, len(columns), 32), for comparison."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "values.npy"
            self._ask({"do": "values", "columns": columns, "path": str(path)})
            return np.load(path)
