"""Schedules: what happens by the clock of the exchange's city. All are stopped until a person starts them."""

# No postponed annotations here: Dagster reads those of a schedule's function as they stand.
import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from trading_platform.assets.monitoring import monitor_asset_name
from trading_platform.assets.pipelines import Pipeline
from trading_platform.automation.triggers import new_bars
from trading_platform.automation.upstream import Standing, Upstream, upstream_of_graph

# The vendor's daily bars are published a quarter of an hour after the close; half past five leaves room for corrections of the day.
AFTER_THE_CLOSE = "30 17 * * 1-5"
BEFORE_THE_OPEN = "30 8 * * 1-5"  # SCHD-01, MODL-25: the model's age and course, before anyone trades
WEEKLY = "0 2 * * 6"  # SCHD-07: the Saturday after, at two in the morning
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


def monitor_schedule(pipeline: Pipeline) -> dg.ScheduleDefinition:
    """Watch the promoted model on every weekday before the open: its live sessions, and its age whether or not it traded."""
    return dg.ScheduleDefinition(
        name=f"{monitor_asset_name(pipeline)}_before_the_open",
        target=dg.AssetSelection.assets(monitor_asset_name(pipeline)),
        cron_schedule=BEFORE_THE_OPEN,
        execution_timezone=TIMEZONE,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )


def retrain_schedule(pipeline: Pipeline, job: UnresolvedAssetJobDefinition, upstream: Upstream | None = None) -> dg.ScheduleDefinition:
    """A retrain every week on the bars as they are; none where their checks failed, and none twice on the same data version.

    upstream: the graph's own, unless given.
    """
    rules = upstream or upstream_of_graph()

    @dg.schedule(
        name=f"retrain_{pipeline.name}_weekly",
        job=job,
        cron_schedule=WEEKLY,
        execution_timezone=TIMEZONE,
        default_status=dg.DefaultScheduleStatus.STOPPED,
    )
    def weekly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        newest = context.instance.fetch_materializations(dg.AssetKey(pipeline.bars), limit=1).records
        asked = new_bars(pipeline.bars, newest[0]) if newest else []
        if not asked:
            return dg.SkipReason(f"{pipeline.bars} holds no rows")
        judgement = rules.judge(context.instance, pipeline.bars, newest[0])
        if judgement.standing is not Standing.PASSED:
            return dg.SkipReason(judgement.why)
        tags = {**asked[0].tags, "trigger/reason": "schedule"}
        return dg.RunRequest(run_key=f"scheduled:{asked[0].run_key}", tags=tags)

    return weekly
