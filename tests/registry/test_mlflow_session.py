from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from trading_platform.contracts.errors import InputError
from trading_platform.registry.mlflow_outbox import held
from trading_platform.registry.mlflow_session import MlflowSession, Synced

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning"), pytest.mark.xdist_group("mlflow")]
BUNDLE = "ab" * 32


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> MlflowSession:
    home = tmp_path_factory.mktemp("mlflow")
    return MlflowSession(f"sqlite:///{home}/mlflow.db", "tests", (home / "artifacts").as_uri(), home / "unsent", patience=180.0)


def test_each_asset_partition_is_a_child_whose_status_is_how_its_block_ended(session: MlflowSession) -> None:
    with session.run("alpha", "all", "run-1", {"code_version": "c1"}, user="ann") as run:
        run.log_params({f"p{n}": n for n in range(120)})
        run.log_metrics({"ic": 0.01, "undefined": float("nan")})
        run.set_tags({"bundle_id": BUNDLE})
        run.log_dataset("features", "f" * 64, "features_daily/part.parquet")
    client = session._connected()
    first = client.get_run(run.run_id)
    assert first.info.status == "FINISHED" and first.data.metrics == {"ic": 0.01} and first.data.params["p119"] == "119"
    assert first.data.tags["asset"] == "alpha" and first.data.tags["code_version"] == "c1" and first.data.tags["mlflow.user"] == "ann"
    assert first.inputs.dataset_inputs[0].dataset.digest == "f" * 36
    with pytest.raises(ZeroDivisionError), session.run("bundle", "2014", "run-1", {}) as second:
        raise ZeroDivisionError
    failed = client.get_run(second.run_id)
    parent = client.get_run(first.data.tags["mlflow.parentRunId"])
    assert failed.info.status == "FAILED" and failed.data.tags["mlflow.parentRunId"] == parent.info.run_id
    with session.run("report", "all", "run-1", {}):
        pass
    assert client.get_run(parent.info.run_id).info.status == "FAILED" and session.problems == []


def test_an_alias_moves_between_versions_and_a_bundle_is_registered_once(session: MlflowSession) -> None:
    assert session.alias("alpha", "paper") is None
    one = session.register("alpha", "alpha_v1", BUNDLE, "trading-models/alpha/versions/v1", "")
    assert session.register("alpha", "alpha_v1", BUNDLE, "trading-models/alpha/versions/v1", "") == one
    two = session.register("alpha", "alpha_v2", "cd" * 32, "trading-models/alpha/versions/v2", "")
    session.point_alias("alpha", "paper", one)
    assert session.alias("alpha", "paper") == (one, BUNDLE)
    session.point_alias("alpha", "paper", two)
    assert session.alias("alpha", "paper") == (two, "cd" * 32) and one != two
    with pytest.raises(InputError, match="production"):
        session.point_alias("alpha", "production", one)


def test_a_tracking_store_that_does_not_answer_never_stops_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    broken = MlflowSession(f"sqlite:///{tmp_path}/file/mlflow.db", "tests", "", tmp_path / "unsent")
    with broken.run("alpha", "all", "run-1", {"code_version": "c1"}) as run:
        run.log_metrics({"ic": 0.02})
    assert run.run_id == "" and broken.problems and broken.register("alpha", "alpha_v1", BUNDLE, "x", "") == ""
    (path,) = broken.unsent()
    lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
    assert [line["what"] for line in lines] == ["run", "metrics", "end"] and lines[0]["payload"]["code_version"] == "c1"
    assert lines[1]["payload"] == [["ic", 0.02, 0, 0]] and lines[2]["payload"]["status"] == "FINISHED"
    assert broken.sync().left == 1 and path.exists()


def test_what_was_logged_can_be_counted_at_the_server(session: MlflowSession) -> None:
    with session.run("alpha", "counted", "run-2", {}) as run:
        for step in range(30):
            run.log_metrics({"ic": 0.01, "loss": 1.0 / (step + 1)}, step=step)
        run.log_metrics({"ic": 0.01}, step=29)  # the same point again
        run.log_params({"a": 1})
        run.log_artifact("plots/equity.png", b"png")
        run.log_artifact("report.html", b"<html>")
        run.log_dataset("bars", "b" * 64, "lake")
    client = session._connected()
    assert session.difference(run.run_id) == "" and session.problems == [] and session.unsent() == ()
    assert held(client, run.run_id) == {"points": 60, "params": 1, "datasets": 1, "artifacts": 2}
    client.log_metric(run.run_id, "ic", 0.5, step=99)
    assert "61" in session.difference(run.run_id)


KILLED = """
import os, sys
from pathlib import Path
from trading_platform.registry.mlflow_session import MlflowSession
(Path(sys.argv[1]) / "file").write_text("not a folder")
session = MlflowSession(f"sqlite:///{sys.argv[1]}/file/mlflow.db", "tests", "", Path(sys.argv[2]))
with session.run("alpha", "all", "run-9", {}) as run:
    run.log_metrics({"ic": 0.1})
    run.flush(30.0)
    os._exit(9)
"""


def test_a_run_whose_process_is_killed_is_sent_as_far_as_it_came(tmp_path: Path) -> None:
    uri, unsent = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "unsent"
    assert subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(unsent)], check=False).returncode == 9
    (path,) = unsent.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"what":"met')  # a line the kill cut off
    mended = MlflowSession(uri, "tests", (tmp_path / "artifacts").as_uri(), unsent)
    assert mended.sync() == Synced(1, 1, 0, ()) and mended.problems == []
    found = mended._connected().search_runs([mended._experiment_id], "tags.level = 'child'")
    assert [(run.info.status, run.data.metrics) for run in found] == [("KILLED", {"ic": 0.1})]


def test_importing_the_session_does_not_import_mlflow() -> None:
    code = "import sys, trading_platform.registry.mlflow_session; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
