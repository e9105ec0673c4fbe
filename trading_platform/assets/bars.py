"""Bars as the lake keeps them: one table per year (daily) or month (minute), beside corporate actions, sectors and market-wide fields."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_platform.assets.inputs import Recipe, latest
from trading_platform.assets.node import Node, of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader, read_table
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.manifest import OutputFile

if TYPE_CHECKING:
    import polars as pl

PERIOD = {"1Day": ("year", "%Y"), "1Min": ("month", "%Y-%m")}
# Rows no market produces block a promotion; rows that are rare but real often enough are shown (market_data.quality, docs/data.md).
BLOCKING_CHECKS = {
    "schema": "the columns and types of a bar frame",
    "duplicates": "no instrument's timestamp twice",
    "order": "time never runs backwards within an instrument",
    "prices": "every price is there, finite and positive",
    "ohlc": "high and low enclose open and close",
    "volume": "every volume is there, finite and not negative",
    "calendar": "every bar lies in a session of the exchange",
    "impossible_moves": "no close goes to four times or a quarter and back in one bar",
}
WARNING_CHECKS = {
    "gaps": "no session is missing inside an instrument's life",
    "zero_volume": "no bar is without volume",
    "spikes": "no close moves by 15 % and 8 robust deviations, and back in one bar",
    "splits": "no move of a simple ratio that nobody stated, no stated split that the price did not follow",
}


def bars_recipe(pipeline: Pipeline) -> Recipe:
    """Bars are a function of the source's files and the span."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        settings = place.settings
        first = "" if settings.daily_first is None else settings.daily_first.isoformat()
        span = {"daily_first": first, "daily_last": settings.daily_last.isoformat()} if pipeline.timeframe == "1Day" else {}
        return {**span, "timeframe": pipeline.timeframe, "max_symbols": settings.max_symbols or 0, "source": place.source.identity.name}

    return Recipe(pipeline.bars, ("market_data", "calendar", "assets.bars"), {}, parameters, lambda place, partition: place.source_files())


def first_instruments(frame: "pl.DataFrame", limit: int | None) -> "pl.DataFrame":
    """The rows of the first `limit` instruments by id; all without a limit."""
    if limit is None:
        return frame
    ids = frame["instrument_id"].unique().sort()[:limit]
    return frame.filter(frame["instrument_id"].is_in(ids.implode()))


def publish_bars(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Read the source and write every table; zero rows, with the reason, where the source has no bars of this timeframe."""
    source, settings = out.place.source, out.place.settings
    reason = source.absence(pipeline.timeframe)
    if reason:
        return out.nothing(reason)
    bars = first_instruments(source.bars(pipeline.timeframe), settings.max_symbols)
    write_periods(out, f"bars/timeframe={pipeline.timeframe}", bars, pipeline)
    ids = bars["instrument_id"].unique()
    actions, sectors = source.corporate_actions(), source.sectors()
    out.table("corporate_actions", actions.filter(actions["instrument_id"].is_in(ids.implode())), sort_by=("instrument_id", "ex_date"))
    out.table("sectors", sectors.filter(sectors["instrument_id"].is_in(ids.implode())))
    out.table("fields", source.field_series(pipeline.timeframe), sort_by=("field", "timestamp"))
    identity = source.identity
    metadata = {
        "instruments": ids.len(),
        "bars": bars.height,
        "corporate_actions": actions.height,
        "source": identity.name,
        "vendor": identity.vendor,
        "licence": identity.licence_class,
        "newest_bar": str(bars["timestamp"].max()),
        "preview": dg.MetadataValue.md(_markdown(bars.tail(5))),
    }
    facts = {"rows": bars.height, "instruments": int(ids.len()), "feed": feed_of(out.place)}
    return out.result(metadata, facts=facts)


def feed_of(place: Workplace) -> dict[str, str]:
    """The T5 identity of the bars: a bundle carries it, and a runner refuses another."""
    identity = place.source.identity
    return {
        "vendor": identity.vendor,
        "tape": identity.feed,
        "bar_version": "final",
        "session_hours": identity.hours,
        "adjustment": identity.adjustment,
    }


def write_periods(out: Publication, lake_asset: str, frame: "pl.DataFrame", pipeline: Pipeline) -> None:
    """One table per period of the session date: years of daily rows, months of minute rows."""
    name, pattern = PERIOD[pipeline.timeframe]
    periods = frame["session"].dt.strftime(pattern)
    for period in periods.unique().sort():
        out.table(f"{name}={period}", frame.filter(periods == period), lake_asset)


def read_periods(out: Reader, asset: str, pipeline: Pipeline) -> "pl.DataFrame":
    """The rows of all periods of an upstream asset."""
    return out.read(asset, f"{PERIOD[pipeline.timeframe][0]}=")


def period_files(out: Reader, asset: str, pipeline: Pipeline) -> dict[str, OutputFile]:
    """The file of each period of an upstream asset that holds one per period, by lake name such as `year=2012`, ascending."""
    name = PERIOD[pipeline.timeframe][0]
    files = sorted(out.inputs.outputs(asset), key=lambda file: file.partition)
    return {file.partition: file for file in files if file.partition.startswith(f"{name}=")}


def _markdown(frame: "pl.DataFrame") -> str:
    head = f"| {' | '.join(frame.columns)} |\n|{'---|' * frame.width}"
    return "\n".join([head, *(f"| {' | '.join(str(value) for value in row)} |" for row in frame.rows())])


def bars_asset(pipeline: Pipeline) -> Node:
    """bars_daily or bars_minute with its checks."""
    recipe = bars_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="bars",
        kinds={"polars", "parquet"},
        description=f"{pipeline.timeframe} bars, raw, from the data folder or the box",
    )
    def bars(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_bars(platform.publication(context, recipe), pipeline)

    return Node(recipe, bars, (_quality_checks(pipeline),))


def _quality_checks(pipeline: Pipeline) -> dg.AssetChecksDefinition:
    specs = [dg.AssetCheckSpec(name, asset=pipeline.bars, blocking=True, description=said) for name, said in BLOCKING_CHECKS.items()]
    specs += [dg.AssetCheckSpec(name, asset=pipeline.bars, description=said) for name, said in WARNING_CHECKS.items()]

    @dg.multi_asset_check(specs=specs, name=f"{pipeline.bars}_quality")
    def quality(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterable[dg.AssetCheckResult]:
        yield from judge_bars(context.instance, platform.place, pipeline)

    return quality


def judge_bars(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> Iterable[dg.AssetCheckResult]:
    """One result per check of market_data.quality on the bars last materialized; no bars have no defects."""
    from trading_platform.market_data.quality import run_check

    found = latest(instance, place, pipeline.bars)
    frame = actions = None
    if found is not None and found.manifest.outputs:
        frame = read_table(place, found.manifest, f"{PERIOD[pipeline.timeframe][0]}=")
        actions = read_table(place, found.manifest, "corporate_actions")
    for name in (*BLOCKING_CHECKS, *WARNING_CHECKS):
        finding = None if frame is None or actions is None else run_check(name, frame, place.calendar, actions)
        severity = dg.AssetCheckSeverity.ERROR if name in BLOCKING_CHECKS else dg.AssetCheckSeverity.WARN
        said = {"rows": 0 if frame is None else frame.height}
        if finding is not None:
            said |= {"finding": str(finding), "count": finding.count}
        yield dg.AssetCheckResult(check_name=name, asset_key=pipeline.bars, passed=finding is None, severity=severity, metadata=said)
