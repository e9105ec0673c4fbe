"""Aliases follow the ledger: moved ones are named, repaired, and never believed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.registry import aliases, ledger

ONE, TWO = "ab" * 32, "cd" * 32
GATES = {name: {"passed": True} for name in ledger.TECHNICAL_GATES}


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A registry on SQLite with both bundles as versions 1 and 2 of `alpha`."""
    folder = tmp_path_factory.mktemp("mlflow")
    found = aliases.client(f"sqlite:///{folder / 'mlflow.db'}")
    found.create_registered_model("alpha")
    for bundle_id in (ONE, TWO):
        found.create_model_version("alpha", f"models/{bundle_id}", tags={"bundle_id": bundle_id})
    yield found


def to_paper(path: Path, bundle_id: str, name: str = "alpha") -> None:
    for stage in ("candidate", "shadow", "paper"):
        said: dict[str, Any] = {"name": name, "version": bundle_id[:2], "account": "demo", "mode": "paper", "stage": stage, "slot": "daily"}
        head = LedgerReader(path).head()
        ledger.promote(path, expected_head=head, bundle_id=bundle_id, at=1, approvals=("Ann",), reason="test", gates=GATES, **said)


def revoke(path: Path, bundle_id: str) -> None:
    who: dict[str, Any] = {"bundle_id": bundle_id, "account": "demo", "mode": "paper", "at": 2, "approvals": ("Ann",), "reason": "drift"}
    ledger.revoke(path, expected_head=LedgerReader(path).head(), **who)


def test_aliases_are_found_wrong_by_name_and_put_right(tmp_path: Path, mlflow: Any) -> None:
    path = tmp_path / "promotion.jsonl"

    def found() -> list[str]:
        return [drift.text for drift in aliases.drifts(LedgerReader(path).entries(), mlflow)]

    def put_right() -> list[aliases.Drift]:
        return aliases.repair(aliases.drifts(LedgerReader(path).entries(), mlflow), mlflow)

    assert found() == []
    to_paper(path, ONE)
    assert found() == [f"alpha@paper points to nothing, the ledger says {ONE[:12]}"]
    assert put_right() == [] and found() == []
    mlflow.set_registered_model_alias("alpha", "paper", "2")  # by hand
    mlflow.set_registered_model_alias("alpha", "live", "2")
    assert found() == [
        f"alpha@live points to {TWO[:12]}, the ledger says nothing",
        f"alpha@paper points to {TWO[:12]}, the ledger says {ONE[:12]}",
    ]
    assert put_right() == [] and found() == []
    to_paper(path, TWO)
    assert put_right() == [] and mlflow.get_model_version_by_alias("alpha", "paper").version == 2
    revoke(path, TWO)
    assert put_right() == [] and mlflow.get_model_version_by_alias("alpha", "paper").version == 1
    revoke(path, ONE)
    assert put_right() == [] and found() == [] and mlflow.get_registered_model("alpha").aliases == {}


def test_a_bundle_that_mlflow_never_heard_of_stays_wrong_and_is_named(tmp_path: Path, mlflow: Any) -> None:
    path = tmp_path / "promotion.jsonl"
    to_paper(path, "ef" * 32)
    to_paper(path, ONE, name="beta")
    left = aliases.repair(aliases.drifts(LedgerReader(path).entries(), mlflow), mlflow)
    assert [(drift.name, drift.expected) for drift in left] == [("alpha", "ef" * 32), ("beta", ONE)]


def test_a_registry_that_does_not_answer_says_nothing_about_aliases(tmp_path: Path, mlflow: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException

    path = tmp_path / "promotion.jsonl"
    to_paper(path, ONE)

    def down(*_: object, **__: object) -> None:
        raise MlflowException("no route", error_code=1)

    monkeypatch.setattr(mlflow, "get_registered_model", down)
    with pytest.raises(TransientError, match="does not answer"):
        aliases.drifts(LedgerReader(path).entries(), mlflow)
