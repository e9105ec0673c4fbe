"""A new feature set beside the one in force, for some sessions, without any model reading it (FEAT-26). `features shadow` begins a run."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.feature_policy import shadow_of
from trading_platform.assets.features import THREADS, features_array
from trading_platform.assets.inputs import Reads, Recipe, latest
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import market_fields, panel_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.features.program import FeatureSet

SEED = 7
SAMPLE_ROWS, SAMPLE_COLUMNS = 2048, 32


def shadow_asset_name(pipeline: Pipeline) -> str:
    """feature_shadow_daily or feature_shadow_intraday."""
    return f"feature_shadow_{pipeline.name}"


def shadow_recipe(pipeline: Pipeline) -> Recipe:
    """A shadow run is a function of bars, universe, the features in force and the run that was ordered."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return {"shadow": dict(shadow_of(place, pipeline)), "vendor_delay_s": place.profile(pipeline).vendor_delay_s}

    upstream = dict.fromkeys((pipeline.bars, pipeline.asset("universe"), pipeline.features), Reads.WHOLE)
    return Recipe(
        shadow_asset_name(pipeline), ("features", "market_data", "calendar", "assets.feature_shadow", "assets.panels"), upstream, parameters
    )


def publish_shadow(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Compute the set in shadow over every row, look at it, and compare the run's sessions with the features in force."""
    from trading_platform.features.catalog.registry import feature_set
    from trading_platform.features.program import Program
    from trading_platform.features.validate import validate_features

    run = out.inputs.parameters["shadow"]
    if not run or not out.holds(pipeline.features):
        return out.nothing("no set is in shadow" if not run else f"{pipeline.features} holds no rows")
    chosen = feature_set(str(run["reference"]))
    _refuse_another(out, pipeline, chosen, run)
    panel = panel_of(out, pipeline, chosen)
    values = Program(chosen, panel.instrument_ids, threads=THREADS).step(panel)
    days = np.unique(panel.session[panel.session > int(run["after_session"])])[: int(run["sessions"])]
    rows = np.isin(panel.session, days)
    warm = panel.present & (np.cumsum(panel.present, axis=0) >= chosen.warm_up)
    health = validate_features(values[rows], chosen.names, (warm & panel.member)[rows], chosen.level)
    current, names = features_array(out, pipeline, panel)
    table = _compared(chosen, values[rows], names, current[rows], [one.finding for one in health], warm[rows])
    out.table("shadow", table, sort_by=())
    findings = [*_proofs(chosen, panel), *(f"{one.feature}: {one.finding}" for one in health if one.finding)]
    done, wanted = len(days), int(run["sessions"])
    facts = {"reference": chosen.name, "feature_hash": chosen.hash, "sessions": done, "wanted": wanted, "findings": findings[:40]}
    facts["ready"] = done >= wanted and not findings
    said = {
        **facts,
        "findings": len(findings),
        "what": dg.MetadataValue.md("\n".join(f"- {text}" for text in findings[:40]) or "nothing found"),
    }
    return out.result({**said, "features": dg.MetadataValue.md(_markdown(table))}, facts=facts)


def _refuse_another(out: Publication, pipeline: Pipeline, chosen: "FeatureSet", run: Mapping[str, Any]) -> None:
    if chosen.hash != run["feature_hash"]:
        what = f"{chosen.name} was put in shadow as {str(run['feature_hash'])[:12]}, this code computes {chosen.hash[:12]}"
        raise InputError(what, out.recipe.asset, f"begin again: features shadow {pipeline.name} {run['reference']}")
    held = set(out.read(pipeline.bars, "fields")["field"].unique())
    missing = sorted(set(market_fields(chosen)) - held)
    if missing:
        raise InputError(f"{pipeline.bars} holds no field {', '.join(missing)}", out.recipe.asset, "end it: features shadow --stop")


def _proofs(chosen: "FeatureSet", panel: Panel) -> list[str]:
    """What the proofs find in the set on the newest rows."""
    from trading_platform.features.perturb import sample
    from trading_platform.features.proof import CHECKS, Proof

    proof, generator = Proof(chosen, sample(panel, SAMPLE_ROWS, SAMPLE_COLUMNS)), np.random.default_rng(SEED)
    verdicts = [proof.run(check, generator) for check in CHECKS]
    unjudged = [f"{verdict.check}: not judged, too few bars" for verdict in verdicts if verdict.passed is None]
    return unjudged + [finding.text for verdict in verdicts for finding in verdict.findings]


def _compared(
    chosen: "FeatureSet",
    mine: NDArray[np.float32],
    names: tuple[str, ...],
    current: NDArray[np.float32],
    findings: list[str],
    warm: NDArray[np.bool_],
) -> "pl.DataFrame":
    """One row per feature: how much of it is defined, and how it differs from the feature of its name in force."""
    import polars as pl

    rows = []
    for index, name in enumerate(chosen.names):
        new = mine[..., index][warm]
        row: dict[str, Any] = {"feature": name, "defined": float(np.isfinite(new).mean()) if new.size else 0.0, "finding": findings[index]}
        if name in names:
            old = current[..., names.index(name)][warm]
            same = (new == old) | (np.isnan(new) & np.isnan(old))
            row |= {"cells_that_differ": float(1.0 - same.mean()) if new.size else 0.0, "correlation": _correlation(new, old)}
        rows.append(row)
    schema = {"feature": pl.String, "defined": pl.Float64, "cells_that_differ": pl.Float64, "correlation": pl.Float64, "finding": pl.String}
    return pl.DataFrame(rows, schema=schema)


def _correlation(new: NDArray[np.float32], old: NDArray[np.float32]) -> float | None:
    """Rank correlation of the cells that both define; None for fewer than three, or a constant."""
    from scipy.stats import spearmanr

    both = np.isfinite(new) & np.isfinite(old)
    if both.sum() < 3 or np.ptp(new[both]) == 0.0 or np.ptp(old[both]) == 0.0:
        return None
    return float(spearmanr(new[both], old[both]).statistic)


def _markdown(table: "pl.DataFrame") -> str:
    def shown(value: object) -> str:
        return "new" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

    rows = [f"| {' | '.join(shown(value) for value in row)} |" for row in table.head(200).rows()]
    return "\n".join([f"| {' | '.join(table.columns)} |", "|---" * table.width + "|", *rows])


def shadow_ready(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline, feature_hash: str) -> bool:
    """Whether the newest shadow run was of these features, lasted its sessions and found nothing."""
    found = latest(instance, place, shadow_asset_name(pipeline))
    return found is not None and found.manifest.facts.get("feature_hash") == feature_hash and bool(found.manifest.facts.get("ready"))


def shadow_asset(pipeline: Pipeline) -> Node:
    """feature_shadow of a pipeline; empty while no run was ordered."""
    recipe = shadow_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="features",
        kinds={"numba", "parquet"},
        description="A new feature set beside the one in force, read by no model",
    )
    def feature_shadow(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_shadow(platform.publication(context, recipe), pipeline)

    return Node(recipe, feature_shadow)
