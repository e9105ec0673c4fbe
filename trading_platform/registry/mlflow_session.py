"""MLflow as our ledger of experiments: one child run per asset and partition under one parent per Dagster run (TUNE-02..13).

Status comes from exceptions, no global state of mlflow is touched, and a tracking server that does not answer never stops training: what it
refused goes to a local file, line by line, and the run says so (TUNE-13). Aliases point for people; the promotion ledger is the authority.
mlflow is imported on the first use.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.ledger import STAGES

PARENT_TAG = "mlflow.parentRunId"
NAME_TAG = "mlflow.runName"
USER_TAG = "mlflow.user"
DAGSTER_TAG = "dagster/run_id"
DIGEST_LENGTH = 36  # what MLflow stores of a dataset's digest
PARAM_LENGTH = 6000


@dataclass(slots=True)
class TrackedRun:
    """One child run. `problems` holds what the server refused; the same lines are in the fallback file."""

    run_id: str
    _client: Any
    _fallback: Path
    problems: list[str] = field(default_factory=list)

    def _send(self, what: str, payload: Any, call: Callable[[], Any]) -> None:
        _guarded(self.problems, self._fallback, {"run": self.run_id, "what": what, "payload": payload}, call)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters, as text."""
        from mlflow.entities import Param

        values = {key: str(value)[:PARAM_LENGTH] for key, value in params.items()}
        self._send("params", values, lambda: self._client.log_batch(self.run_id, params=[Param(k, v) for k, v in values.items()]))

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0, at: int = 0) -> None:
        """Metrics at a step; at: milliseconds since 1970, 0 when the caller has no time. Undefined ones are left out."""
        from mlflow.entities import Metric

        values = {key: float(value) for key, value in metrics.items() if value == value and abs(value) != float("inf")}
        self._send(
            "metrics", values, lambda: self._client.log_batch(self.run_id, metrics=[Metric(k, v, at, step) for k, v in values.items()])
        )

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags."""
        from mlflow.entities import RunTag

        values = {key: str(value) for key, value in tags.items()}
        self._send("tags", values, lambda: self._client.log_batch(self.run_id, tags=[RunTag(k, v) for k, v in values.items()]))

    def log_dataset(self, name: str, data_version: str, source: str, context: str = "training") -> None:
        """A data set by its data version: the digest is ours, never a hash of a sample."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name, data_version[:DIGEST_LENGTH], "lake", source)
        tags = [InputTag("mlflow.data.context", context), InputTag("dagster.data_version", data_version)]
        payload = {"name": name, "data_version": data_version, "source": source}
        self._send("dataset", payload, lambda: self._client.log_inputs(self.run_id, [DatasetInput(dataset, tags)]))


def _guarded(problems: list[str], fallback: Path, line: Mapping[str, Any], call: Callable[[], Any]) -> Any:
    """The call's result; on a failure of tracking the line goes to the fallback file and None comes back."""
    from mlflow.exceptions import MlflowException

    try:
        return call()
    except (MlflowException, OSError) as error:
        problems.append(f"{line['what']}: {type(error).__name__}: {error}")
        fallback.parent.mkdir(parents=True, exist_ok=True)
        with open(fallback, "ab") as file:
            file.write(canonical_bytes({**line, "error": type(error).__name__}) + b"\n")
        return None


class MlflowSession:
    """Tracking for one experiment.

    tracking_uri: sqlite:///... or a server. artifact_location: folder or s3:// address of the experiment's artifacts. fallback: file for
    what could not be sent.
    """

    def __init__(self, tracking_uri: str, experiment: str, artifact_location: str, fallback: Path) -> None:
        self._uri = tracking_uri
        self._experiment = experiment
        self._artifacts = artifact_location
        self._fallback = fallback
        self._client: Any = None
        self._experiment_id = ""
        self.problems: list[str] = []

    def _connected(self) -> Any:
        """The client, its experiment created once; None where tracking does not answer."""
        if self._client is None:
            self._client = _guarded(self.problems, self._fallback, {"what": "connect"}, self._connect)
        return self._client

    def _connect(self) -> Any:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it reports each table of a new database otherwise
        client = MlflowClient(tracking_uri=self._uri, registry_uri=self._uri)
        known = client.get_experiment_by_name(self._experiment)
        if known is None:
            try:
                self._experiment_id = client.create_experiment(self._experiment, artifact_location=self._artifacts)
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

    @contextmanager
    def run(self, asset: str, partition: str, dagster_run_id: str, tags: Mapping[str, str], user: str = "") -> Iterator[TrackedRun]:
        """A child run for one asset partition. FINISHED when the block ends, FAILED when it raises (the exception goes on).

        tags: code_version, data_version, git_commit, ...; user: who started it (TUNE-10).
        """
        client = self._connected()
        own = {
            DAGSTER_TAG: dagster_run_id,
            "level": "child",
            "asset": asset,
            "partition": partition,
            NAME_TAG: f"{asset} {partition}",
            **tags,
        }
        if user:
            own[USER_TAG] = user

        def create() -> tuple[str, str]:
            parent = self._parent(client, dagster_run_id)
            return parent, str(client.create_run(self._experiment_id, tags={**own, PARENT_TAG: parent}).info.run_id)

        made = None if client is None else _guarded(self.problems, self._fallback, {"what": "run", "payload": own}, create)
        parent, run_id = made or ("", "")
        with _Ending(self, client, parent, run_id):
            yield TrackedRun(run_id, client if run_id else _Absent(), self._fallback, self.problems)

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

        payload = {"name": name, "bundle_id": bundle_id}
        return "" if client is None else _guarded(self.problems, self._fallback, {"what": "register", "payload": payload}, write) or ""

    def point_alias(self, name: str, stage: str, version: str) -> None:
        """Move the stage's alias (candidate, shadow, paper, live) to a registered version."""
        if stage not in STAGES:
            raise InputError(f"unknown stage {stage!r}", "registry.mlflow_session", f"use one of {', '.join(STAGES)}")
        client = self._connected()
        payload = {"name": name, "stage": stage, "version": version}
        if client is not None:
            line = {"what": "alias", "payload": payload}
            _guarded(self.problems, self._fallback, line, lambda: client.set_registered_model_alias(name, stage, version))

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


class _Absent:
    """Stands for a server that did not answer: every call fails as the server would, and lands in the fallback file."""

    def __getattr__(self, name: str) -> Any:
        def refuse(*_: Any, **__: Any) -> None:
            raise ConnectionError("tracking did not answer when the run was opened")

        return refuse


class _Ending:
    """Ends the child as its block ended; a parent is FAILED once any child was."""

    def __init__(self, session: MlflowSession, client: Any, parent: str, run_id: str) -> None:
        self._session, self._client, self._parent, self._run_id = session, client, parent, run_id

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        if not self._run_id:
            return
        status = "FINISHED" if kind is None else "FAILED"
        line = {"what": "end", "run": self._run_id, "payload": status}
        session = self._session
        _guarded(session.problems, session._fallback, line, lambda: self._end(status))

    def _end(self, status: str) -> None:
        self._client.set_terminated(self._run_id, status)
        before = self._client.get_run(self._parent).info.status
        self._client.set_terminated(self._parent, "FAILED" if "FAILED" in (before, status) else "FINISHED")
