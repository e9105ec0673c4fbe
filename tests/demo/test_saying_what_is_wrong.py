"""What the demo's tools say where something is wrong: one message, what, where and what to do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from trading_platform.assets.pipelines import DAILY
from trading_platform.config import Settings
from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.ledger import GENESIS
from trading_platform.contracts.model import ModelConfig
from trading_platform.contracts.session_inputs import FileRef, SessionInputs, StateRef, pointer_path
from trading_platform.demo.doctor import examine
from trading_platform.demo.explain import replays_equal
from trading_platform.market_data.lake import Lake
from trading_platform.registry.bundle import write_bundle
from trading_platform.registry.ledger import promote, required_gates
from trading_platform.registry.object_store import FileStore


def test_the_doctor_names_a_profile_that_is_not_there_and_looks_at_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(home=tmp_path, profile="bold")
    assert examine(settings, as_json=True) == 1
    answers = json.loads(capsys.readouterr().out)
    assert [name for name, answer in answers.items() if not answer["ok"]] == ["profile"]
    said = answers["profile"]["text"]
    assert "no profile 'bold'" in said and "TRADING_PROFILE=bold" in said and "use one of demo, equity_conservative" in said


def test_the_doctor_names_the_stored_file_that_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(home=tmp_path)

    def wrong() -> dict[str, str]:
        examine(settings, as_json=True)
        answers = json.loads(capsys.readouterr().out)
        return {name: answer["text"] for name, answer in answers.items() if not answer["ok"]}

    lake, store = Lake(settings.lake_dir), FileStore(Path(settings.object_store))
    bars = lake.write_partition("bars/timeframe=1Day", "year=2013", pl.DataFrame({"close": [1.0, 2.0]}))
    state = lake.write_file("features_daily", "state", b"state", ".bin")
    ref = FileRef(state.uri, state.sha256)
    inputs = SessionInputs("daily", "daily", "1Day", "core", "f", {}, "XNYS", "c", (), ref, ref, states=(StateRef(1, ref, ref),))
    pointer_path(settings.lake_dir, "daily").parent.mkdir()
    pointer_path(settings.lake_dir, "daily").write_bytes(inputs.to_bytes())
    config = ModelConfig("alpha", "1", "daily", "1Day", "core", "f", ("a",), "a", "a", 5, "forward return", 1, 2, {})
    bundle_id = write_bundle(store, config, b"onnx", np.zeros((1, 1), np.float32), np.zeros(1), {}, "card")
    assert wrong() == {}
    for path, named in (
        (settings.lake_dir / bars.uri, {"lake": "bars/timeframe=1Day/year=2013"}),
        (settings.lake_dir / state.uri, {"lake": "features_daily/state", "inputs": "features_daily/state"}),
        (next(store.root.rglob("model.onnx")), {"bundles": "alpha/versions/v1/model.onnx"}),
    ):
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        found = wrong()
        path.write_bytes(sound)
        assert found.keys() == named.keys() and all(where in found[name] for name, where in named.items())
    metadata = next(store.root.rglob("metadata.json"))
    gates = {name: {"passed": True, "value": 1.0, "threshold": 0.0} for name in required_gates("candidate")}
    entry: dict[str, Any] = {"name": "alpha", "version": "1", "bundle_id": bundle_id, "account": "demo", "mode": "paper", "slot": "daily"}
    entry |= {"stage": "candidate", "at": 1, "approvals": (), "reason": "test", "gates": gates, "expected_head": GENESIS}
    promote(settings.ledger_path, **entry)
    assert wrong() == {}
    metadata.write_bytes(metadata.read_bytes() + b" ")
    assert "metadata.json hashes to" in wrong()["bundles"]


def test_a_replay_that_does_not_end_is_one_message_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(command: list[str], **_: Any) -> None:
        raise subprocess.TimeoutExpired(command, 300)

    monkeypatch.setattr(subprocess, "run", hangs)
    with pytest.raises(TransientError, match="took longer than 300 s") as caught:
        replays_equal(Settings(home=tmp_path), DAILY, "a-decision")
    assert "live_runner replay" in caught.value.fix and "--decision a-decision" in caught.value.fix
