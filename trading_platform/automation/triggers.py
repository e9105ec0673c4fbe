"""What an event asks for: run requests with keys that name the cause, so that the same cause never asks twice (Dagster keeps every key)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from trading_platform.assets.drift import drift_asset_name
from trading_platform.assets.monitoring import monitor_asset_name
from trading_platform.assets.pipelines import Pipeline

DATA_VERSION_TAG = "dagster/data_version"
Requests = Callable[[str, dg.EventLogRecord], list[dg.RunRequest]]


def triggers_of(pipeline: Pipeline) -> dict[str, Requests]:
    """Asset -> what its materializations ask for, in the order in which a tick looks at them."""
    return {pipeline.bars: new_bars, drift_asset_name(pipeline): drifted, monitor_asset_name(pipeline): off_course}


def tags_of(record: dg.EventLogRecord, reason: str, **more: str) -> dict[str, str]:
    """Tags of a run: why it was started, and by which event."""
    said = {"trigger/reason": reason, "trigger/storage_id": str(record.storage_id), "trigger/run_id": record.run_id}
    return said | {f"trigger/{name}": value for name, value in more.items()}


def new_bars(asset: str, record: dg.EventLogRecord) -> list[dg.RunRequest]:
    """One retrain per data version of the bars; none for bars without rows."""
    event = record.asset_materialization
    if event is None or int(event.metadata["dagster/row_count"].value or 0) == 0:
        return []
    version = (event.tags or {})[DATA_VERSION_TAG]
    return [dg.RunRequest(run_key=f"{asset}:{version}", tags=tags_of(record, "new bars", data_version=version))]


def drifted(asset: str, record: dg.EventLogRecord) -> list[dg.RunRequest]:
    """One retrain per window at whose end drift held."""
    event = record.asset_materialization
    if event is None or "drift_holds" not in event.metadata or not event.metadata["drift_holds"].value:
        return []
    said = {name: str(event.metadata[name].value) for name in ("window", "reason", "model")}
    tags = tags_of(record, f"drift: {said['reason']}", window=said["window"], model=said["model"])
    return [dg.RunRequest(run_key=f"{asset}:{said['window']}", tags=tags)]


def off_course(asset: str, record: dg.EventLogRecord) -> list[dg.RunRequest]:
    """One retrain per alarm of a detector, and one per full `max_age` of a model past its first (T25, T32).

    Sharpe triggers ask for nothing: they notify, in the check `on_course`.
    """
    event = record.asset_materialization
    if event is None or "events" not in event.metadata:
        return []
    said: Mapping[str, Any] = event.metadata["events"].value  # type: ignore[assignment]
    found = {f"{asset}:{alarm}": f"degradation: {alarm.replace(':', ' rang on ')}" for alarm in said["alarms"]}
    if said["age"] > said["max_age"]:
        times = said["age"] // said["max_age"]
        found[f"{asset}:age:{said['model']}:{times}"] = f"age: {said['age']} sessions, max_age {said['max_age']}"
    return [dg.RunRequest(run_key=key, tags=tags_of(record, reason, model=str(said["model"]))) for key, reason in found.items()]
