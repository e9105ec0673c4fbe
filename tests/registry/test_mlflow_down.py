"""A real MLflow server that is killed in the middle of a run, mute, and back again: the work goes on and nothing is lost (TUNE-13)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from trading_platform.contracts.canonical import sha256_hex
from trading_platform.registry.mlflow_outbox import held
from trading_platform.registry.mlflow_session import MlflowSession, Synced

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"), pytest.mark.xdist_group("mlflow")]


class Server:
    """`mlflow server` on SQLite, its artifacts served by itself; starts and is killed as often as one likes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self.process is None
        store, artifacts = f"sqlite:///{self.home}/mlflow.db", str(self.home / "artifacts")
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", store, "--artifacts-destination", artifacts]
        log = (self.home / "server.log").open("ab")
        quiet = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=quiet)
        log.close()
        until = time.monotonic() + 120.0
        while not self._answers():
            if time.monotonic() > until or self.process.poll() is not None:
                raise AssertionError((self.home / "server.log").read_text()[-2000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1.0) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def kill(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    yield one
    one.kill()


def test_training_goes_on_when_the_server_is_killed_and_all_of_it_arrives_later(server: Server, tmp_path: Path) -> None:
    server.start()
    session = MlflowSession(server.uri, "tests", "", tmp_path / "unsent")
    with session.run("alpha", "all", "dagster-1", {"git_commit": "c"}, user="ann") as run:
        run.log_metrics({"ic": 0.1}, step=0)
        run.log_artifact("early.txt", b"before")
        assert run.flush(30.0)
        server.kill()
        for step in range(1, 200):
            run.log_metrics({"ic": 0.1 / step, "loss": 1.0 / step}, step=step)
        run.log_params({"rounds": 150})
        run.log_dataset("features", "f" * 64, "lake")
        run.log_artifact("plots/equity.png", b"\x89PNG" * 1000)
    (path,) = session.unsent()
    assert run.run_id and session.problems and path.read_bytes().count(b'"metrics"') == 199
    with session.run("report", "all", "dagster-1", {}) as second:  # a run that never saw the server
        second.log_metrics({"sharpe": 0.3})
    assert second.run_id == "" and session.sync() == Synced(0, 0, 2, ())

    server.start()
    fresh = MlflowSession(server.uri, "tests", "", tmp_path / "unsent")
    assert fresh.sync() == Synced(2, 199 + 4 + 2, 0, ()) and fresh.problems == [] and list((tmp_path / "unsent").iterdir()) == []
    client = fresh._connected()
    found = client.get_run(run.run_id)
    assert held(client, run.run_id) == {"points": 1 + 2 * 199, "params": 1, "datasets": 1, "artifacts": 2}
    assert fresh.difference(run.run_id) == "" and found.info.status == "FINISHED" and found.data.tags["mlflow.user"] == "ann"
    assert Path(client.download_artifacts(run.run_id, "plots/equity.png", str(tmp_path))).read_bytes() == b"\x89PNG" * 1000
    (late,) = client.search_runs([fresh._experiment_id], "tags.asset = 'report'")
    assert late.data.metrics == {"sharpe": 0.3} and late.info.status == "FINISHED"
    assert late.data.tags["mlflow.parentRunId"] == found.data.tags["mlflow.parentRunId"]
    assert fresh.sync() == Synced(0, 0, 0, ())


def test_lines_that_arrived_but_were_never_answered_count_once_and_a_difference_is_told(tmp_path: Path) -> None:
    session = MlflowSession(f"sqlite:///{tmp_path}/mlflow.db", "tests", (tmp_path / "artifacts").as_uri(), tmp_path / "unsent")
    client = session._connected()
    log_batch = client.log_batch

    def lost(*given: object, **named: object) -> None:
        log_batch(*given, **named)
        raise ConnectionError("the answer was lost")

    with session.run("alpha", "all", "dagster-1", {}) as run:
        client.log_batch = lost
        run.log_metrics({"ic": 0.1}, step=1)
        run.log_artifact("a.txt", b"a")
    client.log_batch = log_batch
    (path,) = session.unsent()
    kept = path.read_bytes()
    assert session.sync() == Synced(1, 3, 0, ()) and held(client, run.run_id)["points"] == 1
    path.write_bytes(kept.replace(b'"points":1', b'"points":2'))
    path.with_suffix("").mkdir()
    (path.with_suffix("") / sha256_hex(b"a")).write_bytes(b"a")
    (said,) = session.sync().differing
    assert "'points': 2" in said and path.exists()  # nothing is thrown away


def test_a_run_whose_creation_was_never_answered_is_found_again_and_not_made_twice(tmp_path: Path) -> None:
    session = MlflowSession(f"sqlite:///{tmp_path}/mlflow.db", "tests", (tmp_path / "artifacts").as_uri(), tmp_path / "unsent")
    client = session._connected()
    create_run = client.create_run

    def lost(experiment: str, tags: dict[str, str]) -> object:
        made = create_run(experiment, tags=tags)
        if tags["level"] == "child":
            raise ConnectionError("the answer was lost")
        return made

    client.create_run = lost
    with session.run("alpha", "all", "dagster-1", {}) as run:
        run.log_metrics({"ic": 0.1})
    client.create_run = create_run
    assert run.run_id == "" and session.sync() == Synced(1, 2, 0, ())
    (found,) = client.search_runs([session._experiment_id], "tags.level = 'child'")
    assert found.info.status == "FINISHED" and found.data.metrics == {"ic": 0.1}


def test_a_server_that_takes_calls_and_never_answers_delays_the_end_by_its_patience_only(tmp_path: Path) -> None:
    session = MlflowSession(f"sqlite:///{tmp_path}/mlflow.db", "tests", (tmp_path / "artifacts").as_uri(), tmp_path / "unsent")
    asked, released = threading.Event(), threading.Event()

    def hang(*_: object, **__: object) -> None:
        asked.set()
        released.wait(60.0)

    client = session._connected()
    with session.run("alpha", "all", "dagster-1", {}) as run:
        session._patience = 1.0
        client.log_batch = hang
        run.log_metrics({"ic": 0.1})
        assert asked.wait(30.0)
        run.log_metrics({"ic": 0.2}, step=1)
    assert not released.is_set() and any("1 s" in problem for problem in session.problems)
    released.set()
    del client.log_batch
    assert session.sync() == Synced(1, 3, 0, ()) and held(client, run.run_id)["points"] == 2


def test_a_database_that_cannot_be_opened_delays_a_run_by_its_patience_only(tmp_path: Path) -> None:
    """MLflow tries such a database for minutes before it gives up."""
    (tmp_path / "mlflow.db").mkdir()
    session = MlflowSession(f"sqlite:///{tmp_path}/mlflow.db", "tests", "", tmp_path / "unsent", patience=0.5)
    with session.run("alpha", "all", "dagster-1", {}) as run:
        run.log_metrics({"ic": 0.1})
    assert run.run_id == "" and session.problems == ["connect: no answer within 0.5 s"] and len(session.unsent()) == 1
