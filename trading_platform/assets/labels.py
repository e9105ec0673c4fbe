"""Labels: what happened after each row, with the interval in which it happened. Never an input of a feature (I1)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import read_periods, write_periods
from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.feature_policy import in_force
from trading_platform.assets.inputs import Reads, Recipe
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import cell_frame, cells_of, panel_of, present_cells, scatter
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader, reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.panel import Panel
from trading_platform.research.label_rules import parse

if TYPE_CHECKING:
    from trading_platform.research.labels import Labels
    from trading_platform.research.sample_weights import SampleWeights

LABEL_CODE = (
    "research.labels",
    "research.label_rules",
    "research.barriers",
    "research.primary_signals",
    "research.sample_weights",
    "research.label_overview",
    "matching",
    "market_data",
    "calendar",
    "assets.labels",
    "assets.panels",
)


def labels_recipe(pipeline: Pipeline) -> Recipe:
    """Labels are a function of bars, universe and rule; of the feature algebra where the rule computes volatilities or signals.

    Prices are the bars' vwap only where the features in force read it (`panel_of`), so that is a parameter, too.
    """

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        price = "vwap" if "vwap" in in_force(place, pipeline).fields else "typical"
        return {"rule": pipeline.label_rule.text, "price": price, "vendor_delay_s": place.profile(pipeline).vendor_delay_s}

    code = (*LABEL_CODE, "features") if pipeline.label_rule.reads_features else LABEL_CODE
    return Recipe(pipeline.labels, code, {pipeline.bars: Reads.WHOLE, pipeline.asset("universe"): Reads.WHOLE}, parameters)


def publish_labels(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Label every row: what the models learn, the raw return behind it, when each outcome was known, how unique each label is."""
    from trading_platform.research import label_overview
    from trading_platform.research.labels import make
    from trading_platform.research.sample_weights import sample_weights

    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    panel, rule = panel_of(out, pipeline), pipeline.label_rule
    labels = make(panel, rule, sectors_of(out, pipeline, panel))
    weights = sample_weights(labels, panel)
    _write_labels(out, pipeline, panel, labels, weights)
    seen = label_overview.overview(panel, labels, weights)
    labelled, cells = np.isfinite(labels.values), int(panel.present.sum())
    metadata = {
        "rule": rule.text,
        "rule_hash": rule.hash,
        "horizon_rows": rule.horizon,
        "labelled": int(labelled.sum()),
        "without_label": cells - int(labelled.sum()),
        "mean_raw_return_bps": round(float(np.mean(labels.raw[labelled])) * 1e4, 3),
        "standard_deviation": round(float(np.std(labels.values[labelled])), 6),
        "mean_concurrency": round(float(weights.concurrency[weights.concurrency > 0].mean()), 3),
        "independent_labels": round(weights.independent, 1),
        "by_period": dg.MetadataValue.md(label_overview.markdown(seen, labels)),
    }
    plots = {"overview": label_overview.plot(seen, labels)}
    return out.result(metadata, plots, {"horizon": rule.horizon, "name": labels.name, "rule": rule.text, "rule_hash": rule.hash})


def sectors_of(out: Reader, pipeline: Pipeline, panel: Panel) -> NDArray[np.int64]:
    """A number per instrument, int64 (S,), equal within a sector, -1 where the source states none. Sources state no history of it."""
    frame = out.read(pipeline.bars, "sectors")
    sector = dict(zip(frame["instrument_id"].to_list(), frame["sector"].to_list(), strict=True))
    places = {name: place for place, name in enumerate(sorted({name for name in sector.values() if name is not None}))}
    return np.array([places.get(sector.get(instrument), -1) for instrument in panel.instrument_ids], np.int64)


def _write_labels(out: Publication, pipeline: Pipeline, panel: Panel, labels: "Labels", weights: "SampleWeights") -> None:
    """One row per present cell. Weights are those of the whole sample, to look at: a fold computes its own from its own rows."""
    cells = present_cells(panel)
    cell = cells.row, cells.column
    columns = {
        "label": labels.values[cell],
        "raw": labels.raw[cell],
        "t0": labels.t0[cells.row],
        "t1": labels.t1[cells.row],
        "known": labels.ends[cell],
        "exit_row": labels.exits[cell],
        "uniqueness": weights.uniqueness[cell],
        "attribution": weights.attribution[cell],
    }
    write_periods(out, out.recipe.asset, cell_frame(panel, cells, columns), pipeline)


def labels_array(out: Reader, pipeline: Pipeline, panel: Panel) -> "Labels":
    """The published labels the models learn, on the panel's axes."""
    from trading_platform.research.labels import NEVER, Labels

    frame = read_periods(out, pipeline.labels, pipeline)
    cells = cells_of(panel, frame)
    cell = cells.row, cells.column
    t1 = np.full(panel.shape[0], NEVER, np.int64)
    t1[cells.row] = frame["t1"].to_numpy()
    ends, exits = np.full(panel.shape, NEVER, np.int64), np.full(panel.shape, -1, np.int64)
    ends[cell], exits[cell] = frame["known"].to_numpy(), frame["exit_row"].to_numpy()
    values, raw = (scatter(panel, cells, frame[name].to_numpy()) for name in ("label", "raw"))
    facts = out.facts(pipeline.labels)
    rule = parse(str(facts["rule"]))
    return Labels(values, panel.known_at.copy(), t1, rule.horizon, str(facts["name"]), ends, exits, raw, rule)


def labels_asset(pipeline: Pipeline) -> Node:
    """labels_daily or labels_intraday with its check."""
    recipe = labels_recipe(pipeline)

    @dg.asset(**of(recipe), group_name="labels", kinds={"numpy", "parquet"}, description=f"What models learn: {pipeline.label_rule.text}")
    def labels(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_labels(platform.publication(context, recipe), pipeline)

    @dg.asset_check(
        asset=recipe.asset, blocking=True, name="horizon", description="no label without its full horizon, none entered before its decision"
    )
    def horizon(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        return judge_labels(context.instance, platform.place, pipeline)

    return Node(recipe, labels, (horizon,))


def judge_labels(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> dg.AssetCheckResult:
    """Against the panel: no label in the last horizon + 1 rows, each outcome known no earlier than the rule allows and no later than its
    horizon, and no row's interval over before its last cell's outcome was known (T7)."""
    seen = reader(instance, place, pipeline.bars, pipeline.asset("universe"), pipeline.labels)
    if not seen.holds(pipeline.labels):
        return dg.AssetCheckResult(passed=True, metadata=NOTHING_TO_JUDGE)
    panel = panel_of(seen, pipeline)
    labels = labels_array(seen, pipeline, panel)
    row, column = np.nonzero(np.isfinite(labels.values))
    known, newest = labels.ends[row, column], panel.shape[0] - 1
    complete = row <= newest - labels.horizon - 1
    first, last = (panel.known_at[np.minimum(row + ahead, newest)] for ahead in (pipeline.label_rule.earliest, labels.horizon + 1))
    said = {
        "labelled_rows": int(np.unique(row).size),
        "without_full_horizon": int(np.unique(row[~complete]).size),
        "known_too_early": int((known < first).sum()),
        "known_after_the_horizon": int((complete & (known > last)).sum()),
        "outlive_their_row": int((known > labels.t1[row]).sum()),
    }
    wrong = sum(said[name] for name in said if name != "labelled_rows")
    return dg.AssetCheckResult(passed=not wrong, metadata=said)
