"""What the demo's tools say where something is wrong: one message, what, where and what to do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from trading_platform.assets.pipelines import DAILY
from trading_platform.config import Settings
from trading_platform.contracts.errors import TransientError
from trading_platform.demo.doctor import examine
from trading_platform.demo.explain import replays_equal


def test_the_doctor_names_a_profile_that_is_not_there_and_looks_at_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(home=tmp_path, profile="bold")
    assert examine(settings, as_json=True) == 1
    answers = json.loads(capsys.readouterr().out)
    assert [name for name, answer in answers.items() if not answer["ok"]] == ["profile"]
    said = answers["profile"]["text"]
    assert "no profile 'bold'" in said and "TRADING_PROFILE=bold" in said and "use one of demo, equity_conservative" in said


def test_a_replay_that_does_not_end_is_one_message_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 300)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(TransientError, match="took longer than 300 s") as caught:
        replays_equal(Settings(home=tmp_path), DAILY, "a-decision")
    assert "live_runner replay" in caught.value.fix and "--decision a-decision" in caught.value.fix
