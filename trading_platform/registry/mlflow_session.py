"""MLflow as our ledger of experiments: one child run per asset and partition under one parent per Dagster run (TUNE-02..13).

Status comes from exceptions, and a tracking server that does not answer never stops or delays training: each run sends from a thread of its
own, what the server refused waits in a file, and `sync` sends it later and counts what arrived (TUNE-13, `registry.mlflow_outbox`).
Aliases point for people; the promotion ledger is the authority. mlflow is imported on the first use.
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import parse
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.ledger import STAGES
from trading_platform.registry.mlflow_outbox import (
    LOGGED_TAG,
    OUTBOX_TAG,
    PARENT_TAG,
    SUFFIX,
    Said,
    Sender,
    Waiting,
    artifact_line,
    deliver,
    gathered,
    held,
    waiting,
)

NAME_TAG = "mlflow.runName"
USER_TAG = "mlflow.user"
DAGSTER_TAG = "dagster/run_id"
PARAM_LENGTH = 6000
PATIENCE = 30.0  # seconds
# mlflow's own defaults retry a server that is gone for four minutes per call. Only where nobody has set them.
BOUNDED = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1"}


@dataclass(slots=True)
class TrackedRun:
    """One child run; nothing here waits for the server. `problems` holds what went wrong with tracking."""

    run_id: str
    _sender: Sender
    problems: list[str] = field(default_factory=list)
    _said: Said = field(default_factory=Said)

    def _put(self, what: str, payload: Any) -> None:
        line = {"what": what, "payload": payload}
        self._said.add(line)
        self._sender.put(line)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters, as text."""
        self._put("params", {key: str(value)[:PARAM_LENGTH] for key, value in params.items()})

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, at: int = 0) -> None:
        """Metrics at a step; at: milliseconds since 1970, 0 when the caller has no time. Undefined ones are left out."""
        points = [[key, float(value), step, at] for key, value in metrics.items() if math.isfinite(value)]
        self._put("metrics", points)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags."""
        self._put("tags", {key: str(value) for key, value in tags.items()})

    def log_dataset(self, name: str, data_version: str, source: str, context: str = "training") -> None:
        """A data set by its data version: the digest is ours, never a hash of a sample."""
        self._put("dataset", {"name": name, "data_version": data_version, "source": source, "context": context})

    def log_artifact(self, name: str, data: bytes) -> None:
        """A file among the run's artifacts; name may hold folders, as in `plots/equity.png`."""
        line = artifact_line(name, data)
        self._said.add(line)
        self._sender.put(line, data)

    def flush(self, patience: float = PATIENCE) -> bool:
        """Wait until all that was said so far is at the server or kept in the file; False if that takes longer than `patience` seconds."""
        return self._sender.flush(patience)

    def end(self, status: str, patience: float = PATIENCE) -> bool:
        """FINISHED or FAILED, with the counts of all that was said; True if the server took every line."""
        self._put("end", {"status": status, "counts": self._said.counts()})
        return self._sender.close(patience)


@dataclass(frozen=True, slots=True)
class Synced:
    """What a `sync` did: runs made whole and their lines, runs left waiting (still being written, or tracking does not answer), and the
    runs whose counts at the server are not what was said, with both.
    """

    runs: int
    lines: int
    left: int
    differing: tuple[str, ...]


class MlflowSession:
    """Tracking for one experiment.

    tracking_uri: sqlite:///... or a server. artifact_location: folder or s3:// address of the experiment's artifacts, "" for the server's
    own. unsent: folder for what could not be sent. patience: seconds that opening and ending a run wait for an answer, at most.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_location: str, unsent: Path, patience: float = PATIENCE) -> None:
        self._uri = tracking_uri
        self._experiment = experiment
        self._artifacts = artifact_location
        self._unsent = unsent
        self._patience = patience
        self._client: Any = None
        self._experiment_id = ""
        self.problems: list[str] = []

    def _guarded(self, what: str, call: Callable[[], Any]) -> Any:
        """The call's result; None, and a problem more, where tracking fails."""
        from mlflow.exceptions import MlflowException

        try:
            return call()
        except (MlflowException, OSError) as error:
            self.problems.append(f"{what}: {type(error).__name__}: {error}")
            return None

    def _within(self, what: str, call: Callable[[], Any]) -> Any:
        """As `_guarded`, and None after `patience`: MLflow itself tries a database that is gone for minutes."""
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=lambda: answers.put(self._guarded(what, call)), name=f"mlflow {what}", daemon=True).start()
        try:
            return answers.get(timeout=self._patience)
        except queue.Empty:
            self.problems.append(f"{what}: no answer within {self._patience:g} s")
            return None

    def _connected(self) -> Any:
        """The client, its experiment created once; None where tracking does not answer."""
        if self._client is None:
            self._client = self._within("connect", self._connect)
        return self._client

    def _connect(self) -> Any:
        for name, value in BOUNDED.items():
            os.environ.setdefault(name, value)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports each table of a new database otherwise
        client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        known = client.get_experiment_by_name(self._experiment)
        if known is None:
            try:
                self._experiment_id = client.create_experiment(self._experiment, artifact_location=self._artifacts or None)
                return client
            except MlflowException:  # another process was first
                known = client.get_experiment_by_name(self._experiment)
                if known is None:
                    raise
        self._experiment_id = known.experiment_id
        return client

    def _parent(self, client: Any, dagster_run_id: str) -> str:
        wanted = f"tags.`{DAGSTER_TAG}` = '{dagster_run_id}' and tags.level = 'parent'"
        found = client.search_runs([self._experiment_id], wanted, max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {DAGSTER_TAG: dagster_run_id, "level": "parent", NAME_TAG: f"dagster {dagster_run_id[:8]}"}
        return str(client.create_run(self._experiment_id, tags=tags).info.run_id)

    def _create(self, client: Any, tags: Mapping[str, str]) -> str:
        """A child run with these tags, under the parent of its Dagster run."""
        parent = self._parent(client, tags[DAGSTER_TAG])
        return str(client.create_run(self._experiment_id, tags={**tags, PARENT_TAG: parent}).info.run_id)

    def _found(self, client: Any, outbox: str) -> str:
        """The run of an outbox: it is there where only the answer to its creation was lost."""
        known = client.search_runs([self._experiment_id], f"tags.{OUTBOX_TAG} = '{outbox}'", max_results=1)
        return str(known[0].info.run_id) if known else ""

    @contextmanager
    def run(self, asset: str, partition: str, dagster_run_id: str, tags: Mapping[str, str], user: str = "") -> Iterator[TrackedRun]:
        """A child run for one asset partition. FINISHED when the block ends, FAILED when it raises (the exception goes on).

        tags: code_version, data_version, git_commit, ...; user: who started it (TUNE-10).
        """
        client = self._connected()
        outbox = uuid.uuid4().hex
        own = {
            DAGSTER_TAG: dagster_run_id,
            "level": "child",
            "asset": asset,
            "partition": partition,
            NAME_TAG: f"{asset} {partition}",
            **tags,
        }
        own |= {OUTBOX_TAG: outbox} | ({USER_TAG: user} if user else {})
        run_id = "" if client is None else self._within("run", lambda: self._create(client, own)) or ""
        head = {"what": "run", "payload": own, "run": run_id}
        sender = Sender(client if run_id else None, run_id, self._unsent, outbox, head, self.problems)
        tracked = TrackedRun(run_id, sender, self.problems)
        try:
            yield tracked
        except BaseException:
            tracked.end("FAILED", self._patience)
            raise
        tracked.end("FINISHED", self._patience)

    def unsent(self) -> tuple[Path, ...]:
        """The files of runs that wait to be sent."""
        return tuple(sorted(self._unsent.glob(f"*{SUFFIX}"))) if self._unsent.is_dir() else ()

    def sync(self) -> Synced:
        """Send what waits, count it at the server, and remove the files of the runs that are whole there.

        A run whose process was killed before its end is KILLED. A server that does not answer leaves everything as it is.
        """
        runs = lines = left = 0
        differing: list[str] = []
        for path in self.unsent():
            with waiting(path) as found:
                client = None if found is None else self._connected()
                if found is None or client is None:
                    left += 1
                    continue
                difference = self._guarded(f"sync {path.stem[:8]}", lambda one=found, to=client: self._send(to, one))  # type: ignore[misc]
                if difference is None:
                    left += 1
                elif difference:
                    differing.append(difference)
                else:
                    found.remove()
                    runs, lines = runs + 1, lines + len(found.lines)
        return Synced(runs, lines, left, tuple(differing))

    def _send(self, client: Any, found: Waiting) -> str:
        """Deliver the lines of one run; what differs at the server then, "" for nothing."""
        run_id = str(found.head["run"]) or self._found(client, found.outbox) or self._create(client, found.head["payload"])
        for line in gathered(found.lines):
            deliver(client, run_id, line, found.folder)
        if not found.lines or found.lines[-1]["what"] != "end":
            client.set_terminated(run_id, "KILLED")
            return ""
        return self.difference(run_id)

    def difference(self, run_id: str) -> str:
        """What the server holds of an ended run against what was said when it ended, "" if the same. Raises what the client raises."""
        client = self._connected()
        tags = client.get_run(run_id).data.tags
        if LOGGED_TAG not in tags:
            raise CorruptionError(
                f"run {run_id} does not say what was logged", "MLflow", "it has not ended, or was not made by this platform"
            )
        said, there = parse(tags[LOGGED_TAG].encode()), held(client, run_id)
        return "" if said == there else f"run {run_id}: said {said}, held {there}"

    def register(self, name: str, version_label: str, bundle_id: str, source: str, run_id: str) -> str:
        """Registered version of a bundle, made once; returns MLflow's version number, "" where tracking does not answer."""
        client = self._connected()

        def write() -> str:
            from mlflow.exceptions import MlflowException

            try:
                client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            for version in client.search_model_versions(f"name = '{name}'"):
                if client.get_model_version(name, version.version).tags.get("bundle_id") == bundle_id:
                    return str(version.version)
            tags = {"bundle_id": bundle_id, "label": version_label}
            return str(client.create_model_version(name, source, run_id or None, tags=tags).version)

        return "" if client is None else self._within("register", write) or ""

    def point_alias(self, name: str, stage: str, version: str) -> None:
        """Move the stage's alias (candidate, shadow, paper, live) to a registered version."""
        if stage not in STAGES:
            raise InputError(f"unknown stage {stage!r}", "registry.mlflow_session", f"use one of {', '.join(STAGES)}")
        client = self._connected()
        if client is not None:
            self._within("alias", lambda: client.set_registered_model_alias(name, stage, version))

    def alias(self, name: str, stage: str) -> tuple[str, str] | None:
        """(version, bundle_id) the alias points to, looked up directly; None where there is none."""
        from mlflow.exceptions import MlflowException

        client = self._connected()
        if client is None:
            return None
        try:
            found = client.get_model_version_by_alias(name, stage)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return str(found.version), str(found.tags.get("bundle_id", ""))
