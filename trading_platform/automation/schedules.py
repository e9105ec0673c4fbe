"""Schedules: what happens by the clock of the exchange's city. All are stopped until a person starts them."""

from __future__ import annotations

import dagster as dg

from trading_platform.assets.pipelines import Pipeline

# The vendor's daily bars are published a quarter of an hour after the close; half past five leaves room for corrections of the day.
AFTER_THE_CLOSE = "30 17 * * 1-5"
TIMEZONE = "America/New_York"


def bars_schedule(pipeline: Pipeline) -> dg.ScheduleDefinition:
    """Read the source again on every weekday after the close; the retrain sensor sees whether anything changed."""
    return dg.ScheduleDefinition(
        name=f"{pipeline.bars}_after_the_close",
        target=dg.AssetSelection.assets(pipeline.bars),
        cron_schedule=AFTER_THE_CLOSE,
        execution_timezone=TIMEZONE,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
