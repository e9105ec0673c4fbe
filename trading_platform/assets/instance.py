"""The Dagster instance of a home: its dagster.yaml, written once per change, and the instance opened on it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from trading_platform.config import Settings

if TYPE_CHECKING:
    import dagster as dg

# SQLite (in `write_instance_file`), nothing reported, one heavy run at a time: two walk-forwards on two cores only take each other's time.
INSTANCE = {
    "telemetry": {"enabled": False},
    "nux": {"enabled": False},
    "concurrency": {"runs": {"max_concurrent_runs": 2, "tag_concurrency_limits": [{"key": "trading/heavy", "limit": 1}]}},
    "retention": {"schedule": {"purge_after_days": 90}, "sensor": {"purge_after_days": {"skipped": 7, "failure": 30, "success": 90}}},
    "run_monitoring": {"enabled": True, "start_timeout_seconds": 300},
}


def write_instance_file(settings: Settings) -> Path:
    """Write dagster.yaml into DAGSTER_HOME if it differs; return the folder."""
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    storage = {"custom": {"module": "trading_platform.assets.event_log", "class": "SqliteStorage", "config": {"base_dir": str(home)}}}
    content = yaml.safe_dump({**INSTANCE, "storage": storage}, sort_keys=True)
    text = f"# Written by the platform (trading_platform/assets/instance.py); edits are overwritten.\n{content}"
    path = home / "dagster.yaml"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")
    return home


def prepare_instance(settings: Settings) -> dg.DagsterInstance:
    """The persistent instance under `settings.home`, for runs in this process; use it as a context manager or dispose of it.

    Output of steps is not captured: capturing takes this process' own standard output and two helper processes for each step.
    """
    import dagster as dg
    from dagster._core.instance import InstanceRef

    from trading_platform.assets.event_log import BATCHES

    os.environ.update(BATCHES)
    uncaptured = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(write_instance_file(settings)), overrides={"compute_logs": uncaptured}))
