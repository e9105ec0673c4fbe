"""All automation of both pipelines."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from trading_platform.assets.pipelines import PIPELINES
from trading_platform.automation.jobs import refit_job, retrain_job
from trading_platform.automation.schedules import bars_schedule, monitor_schedule, retrain_schedule
from trading_platform.automation.sensors import bundle_sensor, promotion_sensor, retrain_sensor
from trading_platform.automation.upstream import upstream_of_graph


@dataclass(frozen=True, slots=True)
class Automation:
    """Jobs, schedules and sensors for a Definitions object."""

    jobs: list[UnresolvedAssetJobDefinition]
    schedules: list[dg.ScheduleDefinition]
    sensors: list[dg.SensorDefinition]


def build_automation() -> Automation:
    """Everything that starts by itself; stopped until a person starts it."""
    found, upstream = Automation([], [], []), upstream_of_graph()
    for pipeline in PIPELINES:
        retrain, refit = retrain_job(pipeline), refit_job(pipeline)
        found.jobs.extend([retrain, refit])
        found.schedules.extend([bars_schedule(pipeline), monitor_schedule(pipeline), retrain_schedule(pipeline, retrain, upstream)])
        found.sensors.extend([retrain_sensor(pipeline, retrain, upstream), bundle_sensor(pipeline, refit, upstream)])
        found.sensors.append(promotion_sensor(pipeline))
    return found
