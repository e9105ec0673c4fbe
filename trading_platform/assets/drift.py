"""Feature drift of a pipeline: every window after the newest model's training span against it. The retrain sensor reads the verdict."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from trading_platform.assets.bars import read_periods
from trading_platform.assets.inputs import Reads, Recipe, latest
from trading_platform.assets.node import Node, of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.contracts.profile import DriftRules
    from trading_platform.research.drift import FeatureDrift, Held

WINDOWS = {"1Day": "%Y-%m", "1Min": "%Y-%m-%d"}  # months of sessions, sessions of minutes
SHOWN = 15
CELLS = 200_000  # of the training span, evenly spaced: quantiles of more are the same to three digits


def drift_asset_name(pipeline: Pipeline) -> str:
    """feature_drift_daily or feature_drift_intraday."""
    return f"feature_drift_{pipeline.name}"


def drift_recipe(pipeline: Pipeline) -> Recipe:
    """Drift is a function of the features, the universe, the bundles' training spans and the profile's thresholds."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return dataclasses.asdict(place.profile(pipeline).drift)

    upstream = {pipeline.features: Reads.WHOLE, pipeline.asset("universe"): Reads.WHOLE, pipeline.asset("model_bundle"): Reads.EVERY}
    return Recipe(drift_asset_name(pipeline), ("research.drift", "assets.drift", "calendar"), upstream, parameters)


def newest_model(out: Publication, pipeline: Pipeline) -> Mapping[str, Any] | None:
    """Facts of the bundle with the latest training cutoff, None before the first one."""
    asset = pipeline.asset("model_bundle")
    made = {cutoff: item.manifest.facts for (name, cutoff), item in out.inputs.upstream.items() if name == asset}
    whole = {cutoff: facts for cutoff, facts in made.items() if "trained_through" in facts}
    return whole[max(whole)] if whole else None


def member_cells(out: Publication, pipeline: Pipeline) -> tuple["pl.DataFrame", list[str]]:
    """Published features of universe members, with their session, and the names a model may read (no levels)."""
    import polars as pl

    from trading_platform.features.catalog.registry import feature_set

    facts = out.facts(pipeline.features)
    level = set(feature_set(str(facts["feature_set"])).level)
    names = [name for name in facts["names"] if name not in level]
    members = out.read(pipeline.asset("universe"), "members", columns=["instrument_id", "session", "member"]).filter(pl.col("member"))
    frame = read_periods(out, pipeline.features, pipeline).select("instrument_id", "session", *names)
    return frame.join(members.select("instrument_id", "session"), on=["instrument_id", "session"], how="semi", maintain_order="left"), names


def publish_drift(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Judge every window after the training span; the verdict is about the complete ones."""
    import polars as pl

    from trading_platform.research import drift

    model = newest_model(out, pipeline)
    if not out.holds(pipeline.features) or model is None:
        return out.nothing(f"{pipeline.features} holds no rows" if model is not None else "no model was trained yet")
    rules = out.place.profile(pipeline).drift
    frame, names = member_cells(out, pipeline)
    day = pl.col("session").to_physical()
    span = frame.filter(day.is_between(int(model["trained_from"]), int(model["trained_through"])))
    span = span.gather_every(max(span.height // CELLS, 1))
    later = frame.filter(day > int(model["trained_through"])).with_columns(
        window=pl.col("session").dt.strftime(WINDOWS[pipeline.timeframe])
    )
    if not span.height or not later.height:
        return out.nothing(f"no rows {'in' if not span.height else 'after'} the training span of {model['label']}")
    trained = {name: drift.trained_on(name, span[name].to_numpy()) for name in names}
    windows = [(str(key[0]), part) for key, part in later.sort("session").group_by("window", maintain_order=True)]
    found = [(key, [drift.drift_of(trained[name], part[name].to_numpy(), rules) for name in names]) for key, part in windows]
    complete = found if _is_over(out, pipeline, windows[-1][1]) else found[:-1]
    verdict = drift.held(complete, rules)
    table = pl.concat([_rows(key, part, drifts) for (key, part), (_, drifts) in zip(windows, found, strict=True)])
    out.table("drift", table, sort_by=())
    facts = {"holds": verdict.holds, "window": complete[-1][0] if complete else "", "reason": verdict.reason, "model": model["label"]}
    return out.result(_said(facts, verdict, found, rules), _plot(found, names, rules, str(model["label"])), facts)


def _is_over(out: Publication, pipeline: Pipeline, last: "pl.DataFrame") -> bool:
    """Whether the last window is complete: the calendar's next session belongs to another one."""
    import polars as pl

    pattern, session = WINDOWS[pipeline.timeframe], int(last["session"].to_physical().max())  # type: ignore[arg-type]
    days = pl.Series([session, out.place.calendar.next_session(session)], dtype=pl.Int32).cast(pl.Date).dt.strftime(pattern)
    return bool(days[0] != days[1])


def _rows(window: str, part: "pl.DataFrame", drifts: "list[FeatureDrift]") -> "pl.DataFrame":
    import polars as pl

    first, last = part["session"].min(), part["session"].max()
    ends = [pl.lit(window).alias("window"), pl.lit(first).alias("first_session"), pl.lit(last).alias("last_session")]
    return pl.DataFrame([dataclasses.asdict(each) for each in drifts]).select(*ends, pl.all())


def _said(facts: Mapping[str, Any], verdict: "Held", found: "list[tuple[str, list[FeatureDrift]]]", rules: "DriftRules") -> dict[str, Any]:
    from trading_platform.research.drift import STATES

    newest = sorted(found[-1][1], key=lambda each: -np.nan_to_num(each.psi))[:SHOWN]
    head = "| feature | PSI | KS | p | missing | in training | state |\n|---|---|---|---|---|---|---|"
    rows = [
        f"| {d.feature} | {d.psi:.3f} | {d.ks:.3f} | {d.p_value:.1e} | {d.missing:.1%} | {d.missing_trained:.1%} | {d.state} |"
        for d in newest
    ]
    counts = [f"| {key} | " + " | ".join(str(sum(d.state == state for d in drifts)) for state in STATES) + " |" for key, drifts in found]
    return {
        "drift_holds": bool(facts["holds"]),
        "window": facts["window"],
        "reason": facts["reason"],
        "model": facts["model"],
        "drifted": ", ".join(verdict.features),
        "thresholds": f"PSI > {rules.psi_drift:g} drift, > {rules.psi_watch:g} watch; missing + {rules.missing_drift:g}",
        f"newest window {found[-1][0]}": dg.MetadataValue.md("\n".join([head, *rows])),
        "windows": dg.MetadataValue.md("\n".join([f"| window | {' | '.join(STATES)} |", "|---|---|---|---|---|", *counts])),
    }


def _plot(found: "list[tuple[str, list[FeatureDrift]]]", names: list[str], rules: "DriftRules", model: str) -> dict[str, bytes]:
    from trading_platform.research.report import plots as report

    psi = np.array([[each.psi for each in drifts] for _, drifts in found])
    title = f"Feature drift against the training span of {model}"
    return {"feature_drift": report.feature_drift([key for key, _ in found], psi, names, rules.psi_watch, rules.psi_drift, title)}


def drift_asset(pipeline: Pipeline) -> Node:
    """feature_drift of a pipeline with its check, which warns and blocks nothing: a refit is the sensor's business."""
    recipe = drift_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="features",
        kinds={"polars", "parquet"},
        description="PSI, KS and missing share of each feature after the newest model's training span",
    )
    def feature_drift(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_drift(platform.publication(context, recipe), pipeline)

    @dg.asset_check(asset=recipe.asset, name="stable", description="drift does not hold over the last complete windows")
    def stable(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        found = latest(context.instance, platform.place, recipe.asset)
        facts = {} if found is None else found.manifest.facts
        said = {name: str(facts[name]) for name in ("reason", "window", "model", "empty") if facts.get(name)}
        return dg.AssetCheckResult(passed=not facts.get("holds", False), severity=dg.AssetCheckSeverity.WARN, metadata=said)

    return Node(recipe, feature_drift, (stable,))
