"""All automation of both pipelines."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from trading_platform.assets.pipelines import PIPELINES
from trading_platform.automation.jobs import retrain_job
from trading_platform.automation.schedules import bars_schedule
from trading_platform.automation.sensors import promotion_sensor, retrain_sensor


@dataclass(frozen=True, slots=True)
class Automation:
    """Jobs, schedules and sensors for a Definitions object."""

    jobs: list[UnresolvedAssetJobDefinition]
    schedules: list[dg.ScheduleDefinition]
    sensors: list[dg.SensorDefinition]


def build_automation() -> Automation:
    """Everything that starts by itself; stopped until a person starts it."""
    jobs = {pipeline.name: retrain_job(pipeline) for pipeline in PIPELINES}
    sensors = [sensor for pipeline in PIPELINES for sensor in (retrain_sensor(pipeline, jobs[pipeline.name]), promotion_sensor(pipeline))]
    return Automation(list(jobs.values()), [bars_schedule(pipeline) for pipeline in PIPELINES], sensors)
