"""The code location: `defs`, built by the one function that tests and command lines also use."""

from __future__ import annotations

from typing import Any

import dagster as dg

from trading_platform.assets.graph import build_graph
from trading_platform.assets.policy import with_policy
from trading_platform.assets.resources import Bundles, Mlflow, Platform
from trading_platform.automation.automation import build_automation


def build_definitions(tracking: bool = True, **settings: Any) -> dg.Definitions:
    """The assets, checks, jobs, schedules, sensors and resources of one set of settings (overrides of the environment's, by name).

    tracking: log to MLflow.
    """
    nodes = build_graph().nodes.values()
    bodies = list({id(node.definition): node.definition for node in nodes}.values())
    automation = build_automation()
    platform = Platform(settings=settings)
    definitions = dg.Definitions(
        assets=bodies,
        asset_checks=[check for node in nodes for check in node.checks],
        resources={"platform": platform, "bundles": Bundles(platform=platform), "mlflow": Mlflow(platform=platform, tracking=tracking)},
        jobs=automation.jobs,
        schedules=automation.schedules,
        sensors=automation.sensors,
        executor=dg.in_process_executor,
    )
    return with_policy(definitions)


defs = build_definitions()
