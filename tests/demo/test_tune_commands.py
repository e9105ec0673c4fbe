"""`trading-platform tune` and `tracking sync`, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from trading_platform.cli import main
from trading_platform.registry.parameter_choices import ParameterChoices

KEY = "lightgbm-40x5-s7"


def tune(home: Path, *words: str) -> int:
    return main(["tune", "--home", str(home), *words])


def test_before_anybody_decides_the_code_s_parameters_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tune(tmp_path, "history", "daily") == 0 and "nobody decided anything" in capsys.readouterr().out
    assert tune(tmp_path, "list", "daily") == 0 and f"tune run daily {KEY}" in capsys.readouterr().out
    assert tune(tmp_path, "default", "daily", "--who", "ann", "--why", "x") == 2 and "nothing to take back" in capsys.readouterr().err


def test_the_history_is_what_was_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    choices = ParameterChoices(tmp_path / "ledger" / "parameters.jsonl")
    said = {"at": 1, "who": "ann", "why": "fewer leaves", "pipeline": "daily", "action": "choose", "learner": "lightgbm", "study": KEY}
    choices.append(choices.head(), **said, data_version="d", trial=3, known_until=9, parameters={"rounds": 60})
    assert tune(tmp_path, "history", "daily") == 0 and "fewer leaves" in capsys.readouterr().out
    assert tune(tmp_path, "default", "daily", "--who", "bob", "--why", "simpler") == 0
    assert "the parameters of the code (entry 2)" in capsys.readouterr().out
    assert tune(tmp_path, "history", "daily", "--json") == 0
    assert [(entry["who"], entry["action"]) for entry in json.loads(capsys.readouterr().out)] == [("ann", "choose"), ("bob", "default")]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "daily", "forest-1"), "is no plan of a study"),
        (("run", "weekly", KEY), "no pipeline 'weekly'"),
        (("show", "daily", KEY), "was not run"),
        (("choose", "daily", KEY, "3", "--who", "ann", "--why", "x"), "was not run"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_done_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    assert tune(tmp_path, *words) == 2 and said in capsys.readouterr().err


def test_tracking_sync_with_nothing_waiting_does_not_even_connect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tracking", "--home", str(tmp_path), "sync"]) == 0
    assert "0 runs sent (0 lines), 0 waiting" in capsys.readouterr().out and not (tmp_path / "mlflow" / "mlflow.db").exists()


def test_tracking_sync_fails_while_mlflow_does_not_answer_and_loses_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlflow" / "unsent").mkdir(parents=True)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TRADING_MLFLOW_URI", f"sqlite:///{tmp_path}/file/mlflow.db")
    kept = tmp_path / "mlflow" / "unsent" / "one.jsonl"
    kept.write_bytes(b'{"payload":{},"run":"","what":"run"}\n')
    assert main(["tracking", "--home", str(tmp_path), "sync"]) != 0
    assert "start the tracking server" in capsys.readouterr().err and kept.exists()
