"""The promotion's check of MLflow's aliases: it warns, and says nothing where tracking is off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg

from trading_platform.assets.promotion import judge_aliases
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.registry import aliases, ledger

BUNDLE = "ab" * 32


def test_an_alias_that_is_not_where_the_ledger_says_warns(tmp_path: Path) -> None:
    place = Workplace(load_settings(home=str(tmp_path), profile="demo"))
    place.settings.mlflow_dir.mkdir(parents=True)
    path = place.settings.ledger_path
    for stage in ("candidate", "shadow", "paper"):
        said: dict[str, Any] = {
            "name": "alpha",
            "version": "1",
            "account": "desk",
            "mode": "paper",
            "stage": stage,
            "slot": "daily",
            "at": 1,
        }
        gates = {name: {"passed": True} for name in ledger.TECHNICAL_GATES}
        head = LedgerReader(path).head()
        ledger.promote(path, expected_head=head, bundle_id=BUNDLE, approvals=("Ann",), reason="test", gates=gates, **said)
    assert judge_aliases(place, tracking=False).passed is True
    found = judge_aliases(place, tracking=True)
    assert found.passed is False and found.severity is dg.AssetCheckSeverity.WARN
    assert found.metadata["elsewhere"].value == f"alpha@paper points to nothing, the ledger says {BUNDLE[:12]}"
    mlflow = aliases.client(place.settings.mlflow_tracking_uri)
    mlflow.create_registered_model("alpha")
    mlflow.create_model_version("alpha", "models/1", tags={"bundle_id": BUNDLE})
    mlflow.set_registered_model_alias("alpha", "paper", "1")
    assert judge_aliases(place, tracking=True).passed is True
