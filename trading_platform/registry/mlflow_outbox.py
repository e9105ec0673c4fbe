"""What a tracked run says, sent by a thread of its own; from the first refusal on kept in a file, in order, to be sent later (TUNE-13).

A line says the same thing however often it is sent: parameters and tags by name, metrics as distinct points, data sets by digest, artifacts
by name. So a call whose answer was lost is simply sent again, and what the server holds can be counted against what was said.
"""

from __future__ import annotations

import fcntl
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from trading_platform.contracts.canonical import canonical_bytes, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError

Line = Mapping[str, Any]
OUTBOX_TAG = "outbox"
LOGGED_TAG = "logged"
PARENT_TAG = "mlflow.parentRunId"
SUFFIX = ".jsonl"
DIGEST_LENGTH = 36  # what MLflow stores of a dataset's digest
PARAM_BATCH = 100  # as many as one call may hold
METRIC_BATCH = 1000
_STOP: Line = {}


@dataclass(slots=True)
class Said:
    """Distinct things of each kind that a run was given; what the server has to hold in the end."""

    points: set[tuple[str, float, int, int]] = field(default_factory=set)
    params: set[str] = field(default_factory=set)
    datasets: set[tuple[str, str]] = field(default_factory=set)
    artifacts: set[str] = field(default_factory=set)

    def add(self, line: Line) -> None:
        """Count a line."""
        payload = line["payload"]
        if line["what"] == "metrics":
            self.points |= {(key, value, step, at) for key, value, step, at in payload}
        elif line["what"] == "params":
            self.params |= set(payload)
        elif line["what"] == "dataset":
            self.datasets.add((payload["name"], payload["data_version"][:DIGEST_LENGTH]))
        elif line["what"] == "artifact":
            self.artifacts.add(payload["name"])

    def counts(self) -> dict[str, int]:
        """Numbers by kind."""
        return {
            "points": len(self.points),
            "params": len(self.params),
            "datasets": len(self.datasets),
            "artifacts": len(self.artifacts),
        }


def deliver(client: Any, run_id: str, line: Line, folder: Path) -> None:
    """Send one line of a run to the server. folder: where `keep` put the bytes of artifacts. Raises what the client raises."""
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

    payload = line["payload"]
    match line["what"]:
        case "params":
            items = [Param(key, value) for key, value in payload.items()]
            for first in range(0, len(items), PARAM_BATCH):
                client.log_batch(run_id, params=items[first : first + PARAM_BATCH])
        case "metrics":
            for first in range(0, len(payload), METRIC_BATCH):
                points = [Metric(key, value, at, step) for key, value, step, at in payload[first : first + METRIC_BATCH]]
                client.log_batch(run_id, metrics=points)
        case "tags":
            client.log_batch(run_id, tags=[RunTag(key, value) for key, value in payload.items()])
        case "dataset":
            version = payload["data_version"]
            dataset = Dataset(payload["name"], version[:DIGEST_LENGTH], "lake", payload["source"])
            tags = [InputTag("mlflow.data.context", payload["context"]), InputTag("dagster.data_version", version)]
            client.log_inputs(run_id, [DatasetInput(dataset, tags)])
        case "artifact":
            _deliver_artifact(client, run_id, payload["name"], _artifact_bytes(line, folder))
        case "end":
            _deliver_end(client, run_id, payload["status"], payload["counts"])
        case what:
            raise CorruptionError(f"a line says {what!r}", str(folder), "remove the file: another version of the platform wrote it")


def gathered(lines: Iterable[Line]) -> Iterator[Line]:
    """The same lines with neighbouring metrics in one: many steps, few calls."""
    points: list[Any] = []
    for line in lines:
        if line["what"] == "metrics":
            points.extend(line["payload"])
            continue
        if points:
            yield {"what": "metrics", "payload": points}
            points = []
        yield line
    if points:
        yield {"what": "metrics", "payload": points}


def _deliver_artifact(client: Any, run_id: str, name: str, data: bytes) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / Path(name).name
        path.write_bytes(data)
        parent = str(Path(name).parent)
        client.log_artifact(run_id, str(path), None if parent == "." else parent)


def _deliver_end(client: Any, run_id: str, status: str, counts: Mapping[str, int]) -> None:
    """End the child; a parent is FAILED once any child was."""
    client.set_tag(run_id, LOGGED_TAG, canonical_bytes(counts).decode())
    client.set_terminated(run_id, status)
    parent = client.get_run(run_id).data.tags.get(PARENT_TAG, "")
    if parent:
        before = client.get_run(parent).info.status
        client.set_terminated(parent, "FAILED" if before == "FAILED" or status != "FINISHED" else "FINISHED")


def held(client: Any, run_id: str) -> dict[str, int]:
    """What the server holds of a run, by the kinds of `Said.counts`."""
    run = client.get_run(run_id)
    points = sum(len(client.get_metric_history(run_id, key)) for key in run.data.metrics)
    datasets = 0 if run.inputs is None else len(run.inputs.dataset_inputs)
    return {"points": points, "params": len(run.data.params), "datasets": datasets, "artifacts": _files(client, run_id, None)}


def _files(client: Any, run_id: str, path: str | None) -> int:
    found = client.list_artifacts(run_id, path)
    return sum(_files(client, run_id, item.path) if item.is_dir else 1 for item in found)


class Sender:
    """Sends a run's lines one after another in a thread. After the first refusal it keeps them in `<folder>/<outbox>.jsonl` instead.

    head: what it takes to make the run again, the first line of that file. The caller never waits, except in `close`.
    """

    def __init__(self, client: Any, run_id: str, folder: Path, outbox: str, head: Line, problems: list[str]) -> None:
        self._client, self._run_id, self._folder, self._outbox, self._head = client, run_id, folder, outbox, head
        self._problems = problems
        self._lines: queue.SimpleQueue[Line | threading.Event] = queue.SimpleQueue()
        self._file: IO[bytes] | None = None
        self._guard = threading.Lock()  # of the file, and of who may write it
        self._sending: Line | None = None
        self._left = False
        self._broken = client is None
        self._thread = threading.Thread(target=self._send_all, name=f"mlflow {outbox[:8]}", daemon=True)
        self._thread.start()

    def put(self, line: Line, data: bytes | None = None) -> None:
        """Take a line over. data: of an artifact, laid beside the file until it is sent."""
        if data is not None:
            place = self._folder / self._outbox
            place.mkdir(parents=True, exist_ok=True)
            (place / line["payload"]["sha256"]).write_bytes(data)
        self._lines.put(line)

    def flush(self, patience: float) -> bool:
        """Wait at most `patience` seconds until every line so far is sent or kept; whether it came to that."""
        done = threading.Event()
        self._lines.put(done)
        return done.wait(patience)

    def close(self, patience: float) -> bool:
        """Wait at most `patience` seconds for what is left, keep the rest; True if the server took every line."""
        self._lines.put(_STOP)
        self._thread.join(patience)
        with self._guard:
            self._left = True
            if self._thread.is_alive():
                self._problems.append(f"tracking did not answer within {patience:g} s")
                for line in self._rest():
                    self._keep(line)
            if self._file is not None:
                self._file.close()
                return False
        _clear(self._folder / self._outbox)
        return True

    def _rest(self) -> Iterator[Line]:
        """The line whose answer is still out, then those after it."""
        if self._sending is not None:
            yield self._sending
        while not self._lines.empty():
            line = self._lines.get()
            if line is not _STOP and not isinstance(line, threading.Event):
                yield line

    def _send_all(self) -> None:
        while (line := self._lines.get()) is not _STOP:
            if isinstance(line, threading.Event):
                line.set()
                continue
            with self._guard:
                if self._left:
                    return
                self._sending = line
            problem = "" if self._broken else self._problem_of(line)
            with self._guard:
                if self._left:
                    return  # `close` has kept this line
                if problem or self._broken:
                    self._broken = True
                    self._problems.extend([problem] if problem else [])
                    self._keep(line)
                self._sending = None

    def _problem_of(self, line: Line) -> str:
        try:
            deliver(self._client, self._run_id, line, self._folder / self._outbox)
        except Exception as error:  # whatever tracking raises, training goes on; the line is kept and the problem told
            return f"{line['what']}: {type(error).__name__}: {error}"
        return ""

    def _keep(self, line: Line) -> None:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = open(self._folder / f"{self._outbox}{SUFFIX}", "ab")  # noqa: SIM115  (open until the run has ended)
            fcntl.flock(self._file, fcntl.LOCK_EX)  # until the run has ended: `waiting` passes over it
            self._file.write(canonical_bytes(self._head) + b"\n")
        self._file.write(canonical_bytes(line) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())


def artifact_line(name: str, data: bytes) -> Line:
    """The line of an artifact."""
    return {"what": "artifact", "payload": {"name": name, "sha256": sha256_hex(data), "size": len(data)}}


def _artifact_bytes(line: Line, folder: Path) -> bytes:
    data: bytes = (folder / line["payload"]["sha256"]).read_bytes()
    if sha256_hex(data) != line["payload"]["sha256"]:
        raise CorruptionError(f"the kept bytes of {line['payload']['name']} changed", str(folder), "remove them, or make the asset again")
    return data


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file of lines nobody is writing any more. remove: to be called when the server holds them all."""

    outbox: str
    head: Line
    lines: tuple[Line, ...]
    folder: Path
    remove: Callable[[], None]


@contextmanager
def waiting(path: Path) -> Iterator[Waiting | None]:
    """The lines of a file, locked for this process; None while its run is still writing, or another process sends them.

    A last line without its end is of a process that was killed while writing it and is left out. CorruptionError where another line does
    not parse.
    """
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        whole = [text for text in file.read().splitlines(keepends=True) if text.endswith(b"\n")]
        if not whole:  # made this moment, before its writer locked it
            yield None
            return
        try:
            head, *lines = (dict(parse(text)) for text in whole)  # type: ignore[call-overload]
        except ValueError as error:
            raise CorruptionError(f"the kept lines do not parse: {error}", str(path), "look at the file and remove it") from error

        def remove() -> None:
            _clear(path.with_suffix(""))
            path.unlink()

        yield Waiting(path.stem, head, tuple(lines), path.with_suffix(""), remove)


def _clear(folder: Path) -> None:
    if folder.is_dir():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
