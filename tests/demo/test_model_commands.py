"""`trading-platform models`: the commands as typed, on a home of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis

from trading_platform.cli import main
from trading_platform.config import load_settings
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.contracts.model import ModelConfig
from trading_platform.demo.doctor import CHECKS
from trading_platform.registry import bundle, ledger
from trading_platform.registry.object_store import FileStore
from trading_platform.registry.redis_server import RedisServer
from trading_platform.registry.slots import Slots

GATES = {name: {"passed": True} for name in ledger.TECHNICAL_GATES}


class Shell:
    """Types commands on one home and reads what they print."""

    def __init__(self, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._capsys = home, capsys
        self.settings = load_settings(home=home)
        self.store = FileStore(Path(self.settings.object_store))

    def __call__(self, *words: object, code: int = 0) -> str:
        found = main(["models", "--home", str(self.home), *(str(word) for word in words)])
        said = self._capsys.readouterr()
        assert found == code, said.out + said.err
        return said.out if code == 0 else said.out + said.err

    def json(self, *words: object, code: int = 0) -> Any:
        return json.loads(self(*words, "--json", code=code))

    def entries(self) -> list[tuple[str, str]]:
        return [(entry.action, entry.stage) for entry in LedgerReader(self.settings.ledger_path).entries()]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(tmp_path / "home", capsys)


def make(store: FileStore, version: str) -> str:
    through = int(np.datetime64("2014-12-01", "D").astype(int))
    config = ModelConfig("alpha", version, "daily", "1Day", "core", "f" * 64, ("a",), "v", "r", 5, "forward return", 1, through, {})
    return bundle.write_bundle(store, config, version.encode(), np.zeros((1, 1), np.float32), np.zeros(1), {}, "# card")


def to_paper(shell: Shell, version: str, bundle_id: str) -> None:
    path = shell.settings.ledger_path
    for stage in ("candidate", "shadow", "paper"):
        said: dict[str, Any] = {"name": "alpha", "version": version, "account": "default", "mode": "paper", "stage": stage, "slot": "daily"}
        said |= {"at": 1, "approvals": ("automatic",), "reason": "test", "gates": GATES, "bundle_id": bundle_id}
        ledger.promote(path, expected_head=LedgerReader(path).head(), **said)


def test_bundles_go_out_and_come_back_and_a_changed_byte_shows(shell: Shell, tmp_path: Path) -> None:
    assert "no bundles" in shell("list")
    bundle_id, remote = make(shell.store, "1"), tmp_path / "remote"
    to_paper(shell, "1", bundle_id)
    assert shell.json("upload-s3", "alpha_v1", "--to", remote, "--current")[0]["copied"] == 5
    assert (remote / "trading-models/alpha/model.onnx").read_bytes() == b"1"
    shell("fetch", "alpha_v9", "--from", remote, code=2)
    shell("sync", "--from", tmp_path / "nowhere", code=2)
    (shell.store.root / "trading-models/alpha/versions/v1/model.onnx").write_bytes(b"2")
    (row,) = shell.json("status", code=1)
    assert "model.onnx does not match" in row["files"] and row["stage"] == "paper"
    assert "does not match" in shell("upload-s3", "--all", "--to", tmp_path / "other", code=1)
    assert shell.json("sync", "--from", remote)[0]["copied"] == 1
    (row,) = shell.json("status")
    assert row["files"] == "whole" and row["trained_through"] == "2014-12-01" and row["age"] == "22 (old)" and row["share"] == "100%"


def test_clean_keeps_what_the_ledger_names(shell: Shell) -> None:
    kept = make(shell.store, "1")
    make(shell.store, "2")
    to_paper(shell, "1", kept)
    assert "nothing to remove" in shell("clean")
    assert shell.json("clean", "--unused") == [{"path": "trading-models/alpha/versions/v2/"}]
    assert [row["bundle"] for row in shell.json("list")] == ["alpha_v1"]


def test_revoking_rolling_back_and_archiving_name_people_and_reasons(shell: Shell) -> None:
    for version in ("1", "2"):
        to_paper(shell, version, make(shell.store, version))
    assert "entry 7: alpha_v2 revoked (default/paper)" in shell("rollback", "--slot", "daily", "--who", "Ann", "--why", "bad fills")
    assert "only alpha_v1 is in force" in shell("rollback", "--slot", "daily", "--who", "Ann", "--why", "again", code=2)
    assert "alpha_v2 has no stage" in shell("revoke", "alpha_v2", "--who", "Ann", "--why", "again", code=2)
    shell("thresholds", "--who", "Ann", "--second", "Bob", "--why", "an entry about no bundle")
    assert CHECKS["bundles"](shell.settings) == "2, every sha256 as promoted"
    shell("archive", "alpha_v1", "--who", "Ann", "--why", "superseded")
    assert "no stage for default/live" in shell("revoke", "alpha_v1", "--mode", "live", "--who", "Ann", "--why", "x", code=2)
    last = shell.json("history")[-1]
    assert (last["stage"], last["approvals"], last["reason"]) == ("archived", ["Ann"], "superseded")
    assert shell.entries()[-3:] == [("revoke", "paper"), ("thresholds", ""), ("promote", "archived")]
    assert {row["bundle"]: row["stage"] for row in shell.json("status")} == {"alpha_v1": "archived", "alpha_v2": "revoked"}


def test_rolling_back_asks_the_runner_for_the_bundle_before(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    before = make(shell.store, "1")
    to_paper(shell, "1", before)
    to_paper(shell, "2", make(shell.store, "2"))
    with RedisServer() as server:
        monkeypatch.setenv("TRADING_REDIS_URL", server.url)
        shell("rollback", "--slot", "daily", "--who", "Ann", "--why", "bad fills")
        with redis.Redis.from_url(server.url) as client:
            assert Slots(client, "default", "paper").pending("daily") == ("alpha_v1", before)


def test_approvers_make_keys_and_vouch_for_each_other(shell: Shell, tmp_path: Path) -> None:
    public = {name: shell("key", tmp_path / f"{name}.pem").strip() for name in ("ann", "bob", "cid")}
    assert (tmp_path / "ann.pem").stat().st_mode & 0o777 == 0o600
    assert "never overwritten" in shell("key", tmp_path / "ann.pem", code=2)
    for name in ("ann", "bob"):
        shell("enrol", public[name], "--who", name, "--why", "risk desk")
    alone = ("enrol", public["cid"], "--who", "cid", "--why", "joins")
    assert "nobody enrolled vouches" in shell(*alone, code=2)
    assert "nobody enrolled vouches" in shell(*alone, "--by", "bob", "--key", tmp_path / "cid.pem", code=2)
    assert "cid is an approver" in shell(*alone, "--by", "bob", "--key", tmp_path / "bob.pem")
    assert "no readable private key" in shell(*alone, "--by", "bob", "--key", tmp_path / "none.pem", code=2)


def test_thresholds_are_put_in_force_once(shell: Shell) -> None:
    assert "in force" in shell("thresholds", "--who", "Ann", "--second", "Bob", "--why", "first")
    assert "nothing is left to do" in shell("thresholds", "--who", "Ann", "--second", "Bob", "--why", "again", code=2)
    assert "names a person" in shell("thresholds", "--who", " ", "--second", "Bob", "--why", "again", code=2)
