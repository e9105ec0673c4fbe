"""Labels: what happened after each row, with the interval in which it happened. Never an input of a feature (I1)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from trading_platform.assets.bars import read_periods, write_periods
from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.inputs import Reads, Recipe
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import cell_frame, cells_of, panel_of, present_cells, scatter
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader, reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.research.labels import Labels

LABEL_CODE = ("research.labels", "matching", "market_data", "calendar", "assets.labels", "assets.panels")


def labels_recipe(pipeline: Pipeline) -> Recipe:
    """Labels are a function of bars, universe and horizon."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return {"horizon": pipeline.horizon, "vendor_delay_s": place.profile(pipeline).vendor_delay_s}

    return Recipe(pipeline.labels, LABEL_CODE, {pipeline.bars: Reads.WHOLE, pipeline.asset("universe"): Reads.WHOLE}, parameters)


def publish_labels(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Label every row: the raw forward return, and the one less the members' mean that the models learn."""
    from trading_platform.research.labels import demeaned, forward_return

    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    panel = panel_of(out, pipeline)
    raw = forward_return(panel, pipeline.horizon)
    relative = demeaned(raw, panel.member)
    cells = present_cells(panel)
    columns = {
        "label": relative.values[cells.row, cells.column],
        "forward_return": raw.values[cells.row, cells.column],
        "t0": raw.t0[cells.row],
        "t1": raw.t1[cells.row],
    }
    write_periods(out, out.recipe.asset, cell_frame(panel, cells, columns), pipeline)
    labelled = np.isfinite(columns["label"])
    metadata = {
        "horizon_rows": pipeline.horizon,
        "labelled": int(labelled.sum()),
        "without_label": int((~labelled).sum()),
        "mean_forward_return_bps": round(float(np.nanmean(columns["forward_return"])) * 1e4, 3) if labelled.any() else 0.0,
        "standard_deviation": round(float(np.nanstd(columns["label"])), 6) if labelled.any() else 0.0,
    }
    return out.result(metadata, facts={"horizon": pipeline.horizon, "name": relative.name})


def labels_array(out: Reader, pipeline: Pipeline, panel: Panel) -> "Labels":
    """The published labels the models learn, on the panel's axes."""
    from trading_platform.research.labels import NEVER, Labels

    frame = read_periods(out, pipeline.labels, pipeline)
    cells = cells_of(panel, frame)
    t1 = np.full(panel.shape[0], NEVER, np.int64)
    t1[cells.row] = frame["t1"].to_numpy()
    values = scatter(panel, cells, frame["label"].to_numpy())
    return Labels(values, panel.known_at.copy(), t1, pipeline.horizon, str(out.facts(pipeline.labels)["name"]))


def labels_asset(pipeline: Pipeline) -> Node:
    """labels_daily or labels_intraday with its check."""
    recipe = labels_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="labels",
        kinds={"numpy", "parquet"},
        description=f"Forward returns over {pipeline.horizon} rows from the next bar on",
    )
    def labels(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_labels(platform.publication(context, recipe), pipeline)

    @dg.asset_check(
        asset=recipe.asset, blocking=True, name="horizon", description="no label without its full horizon, none entered before its decision"
    )
    def horizon(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        return judge_labels(context.instance, platform.place, pipeline)

    return Node(recipe, labels, (horizon,))


def judge_labels(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> dg.AssetCheckResult:
    """Against the panel: the last horizon + 1 rows carry no label, and every outcome is known only after the horizon has passed (T7)."""
    seen = reader(instance, place, pipeline.bars, pipeline.asset("universe"), pipeline.labels)
    if not seen.holds(pipeline.labels):
        return dg.AssetCheckResult(passed=True, metadata=NOTHING_TO_JUDGE)
    panel = panel_of(seen, pipeline)
    labels = labels_array(seen, pipeline, panel)
    rows = np.flatnonzero(np.isfinite(labels.values).any(axis=1))
    last = panel.shape[0] - pipeline.horizon - 2
    late = rows[rows > last]
    early = rows[rows <= last]
    early = early[labels.t1[early] < panel.known_at[early + 1 + pipeline.horizon]]
    said = {"labelled_rows": len(rows), "without_full_horizon": len(late), "known_too_early": len(early)}
    return dg.AssetCheckResult(passed=not len(late) and not len(early), metadata=said)
