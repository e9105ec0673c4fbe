"""Null models in the model's own graph (T29): refits on shuffled labels in blocks of runs, and every null beside the model in one table.

`shuffled_labels` has one partition per block of ten runs. A block is a function of the training set alone, so it runs once, in any order,
beside others; `null_models` counts the blocks that were made of what the model was made of.
"""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.inputs import Reads, Recipe, latest
from trading_platform.assets.models import SEED, before_stretch, folds_of, model_upstream, training_set, windows_of
from trading_platform.assets.node import Node, of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.resources import Platform
from trading_platform.assets.walk_forward import arena_of, published_walk_forward
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import content_hash

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.research.null_models import NullRun

RUNS = 10  # of one block
BLOCKS = dg.StaticPartitionsDefinition([f"{block:02d}" for block in range(10)])
RANDOM_RUNS = 100
CODE = (
    "research.nulls",
    "research.null_models",
    "research.evaluate",
    "research.metrics",
    "research.models",
    "research.splits",
    "research.walk_forward",
    "backtest",
    "engine",
    "matching",
    "assets.nulls",
    "assets.models",
    "assets.walk_forward",
    "assets.panels",
    "assets.pipelines",
)


def _parameters(place: Workplace, pipeline: Pipeline) -> Mapping[str, Any]:
    return {**windows_of(place, pipeline), "profile": place.profile(pipeline).hash}


def shuffled_recipe(pipeline: Pipeline) -> Recipe:
    """A block of refits is a function of the training set, the windows, the profile they are traded under, and its deals."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return {**_parameters(place, pipeline), "deals": list(_deals(partition))}

    return Recipe(pipeline.asset("shuffled_labels"), CODE, model_upstream(pipeline), parameters)


def nulls_recipe(pipeline: Pipeline) -> Recipe:
    """The comparison is a function of the predictions, what they were made of, and the blocks there are."""
    upstream = {**model_upstream(pipeline), pipeline.asset("alpha_lightgbm"): Reads.WHOLE, pipeline.asset("shuffled_labels"): Reads.EVERY}
    return Recipe(
        pipeline.asset("null_models"), CODE, upstream, lambda place, partition: {**_parameters(place, pipeline), "random": RANDOM_RUNS}
    )


def _deals(partition: str) -> range:
    return range(int(partition) * RUNS, (int(partition) + 1) * RUNS)


def made_of(out: Publication, pipeline: Pipeline) -> str:
    """Hash of what refits of this pipeline are made of now; a block of another one says nothing about this model."""
    versions = [out.inputs.manifest(asset).data_version for asset in sorted(model_upstream(pipeline))]
    return content_hash([versions, _parameters(out.place, pipeline), shuffled_recipe(pipeline).code_version])


class KeptRefits:
    """Predictions of refits as files of the lake (research.walk_forward.FoldStore): a killed block goes on, changed code refits nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> bytes | None:
        """The predictions, or None."""
        path = self.root / f"{key}.f32"
        return path.read_bytes() if path.is_file() else None

    def put(self, key: str, model: bytes) -> None:
        """Keep predictions."""
        from trading_platform.market_data.lake import write_atomically

        self.root.mkdir(parents=True, exist_ok=True)
        write_atomically(self.root / f"{key}.f32", model)


def publish_shuffled(out: Publication, pipeline: Pipeline, context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Refit the whole walk-forward on the block's deals, trade each as the model is traded."""
    from trading_platform.research import null_models, nulls
    from trading_platform.research.evaluate import model_age

    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    known = before_stretch(training_set(out, pipeline))
    folds = folds_of(out.place, pipeline, known)
    deals = _deals(out.partition)

    def progress(done: int, total: int) -> None:
        if done == total or done % 10 == 0:
            context.log.info(f"fold {done} of {total}, {len(deals)} deals each")

    given = (known.panel, known.features, known.names, known.labels, folds, deals)
    signals = nulls.shuffled_refits(*given, seed=SEED, progress=progress, store=KeptRefits(out.place.lake.root / "null-cache"))
    arena = arena_of(out, pipeline, known)
    outcome = null_models.member_outcome(arena, known.labels)
    spoke = np.full(known.panel.shape[0], -1, dtype=np.int64)
    for number, fold in enumerate(folds):
        spoke[fold.speaks] = number
    age, name = model_age(known.panel, spoke, folds), null_models.POPULATIONS[1]
    runs = [null_models.traded(arena, name, deal, signal, outcome, age) for deal, signal in zip(deals, signals, strict=True)]
    _write_runs(out, runs)
    said = {"runs": len(runs), "folds": len(folds), "mean_rank_ic": round(float(np.mean([run.ic for run in runs])), 5)}
    return out.result(said, facts={"made_of": made_of(out, pipeline), "runs": len(runs)})


def _write_runs(out: Publication, runs: "list[NullRun]") -> None:
    import polars as pl

    plain = [{"null": r.null, "number": r.number, "ic": r.ic, "sharpe": r.sharpe, "turnover": r.turnover} for r in runs]
    out.table("runs", pl.DataFrame(plain), sort_by=())
    days = [
        pl.DataFrame({"null": r.null, "number": r.number, "session": r.session.astype(np.int32), "net_return": r.returns}).with_columns(
            pl.col("session").cast(pl.Date)
        )
        for r in runs
    ]
    out.table("returns", pl.concat(days), sort_by=())


def _runs_of(runs: "pl.DataFrame", returns: "pl.DataFrame") -> "list[NullRun]":
    """The runs of two published tables."""
    from trading_platform.research.null_models import NullRun

    series = {key: part for key, part in returns.group_by("null", "number", maintain_order=True)}
    found = []
    for row in runs.iter_rows(named=True):
        part = series[row["null"], row["number"]]
        session = part["session"].to_physical().to_numpy().astype(np.int64)
        found.append(NullRun(**row, session=session, returns=part["net_return"].to_numpy()))
    return found


def shuffled_runs(out: Publication, pipeline: Pipeline) -> "list[NullRun]":
    """The published refits on shuffled labels that were made of what this pipeline's model is made of, ascending by deal."""
    asset, wanted = pipeline.asset("shuffled_labels"), made_of(out, pipeline)
    found: list[NullRun] = []
    for name, partition in sorted(out.inputs.upstream):
        if name == asset and out.facts(asset, partition).get("made_of") == wanted:
            found += _runs_of(out.read(asset, "runs", partition=partition), out.read(asset, "returns", partition=partition))
    return found


def publish_nulls(out: Publication, pipeline: Pipeline) -> dg.MaterializeResult:
    """Trade the random signals and the rules beside the model; compare all pairs."""
    from trading_platform.research import null_models
    from trading_platform.research.evaluate import model_age, net_result
    from trading_platform.research.null_plot import null_distribution

    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    known = before_stretch(training_set(out, pipeline))
    found, folds, arena = published_walk_forward(out, pipeline, known), folds_of(out.place, pipeline, known), arena_of(out, pipeline, known)
    outcome, age = null_models.member_outcome(arena, known.labels), model_age(known.panel, found.fold, folds)
    net, ic = net_result(arena, found.predictions, age), null_models.mean_ic(found.predictions, outcome)
    runs = null_models.random_runs(arena, found.predictions, outcome, age, range(RANDOM_RUNS if pipeline.statistical_power else 0))
    runs += [*shuffled_runs(out, pipeline), *null_models.rule_runs(arena, found.predictions, outcome)]
    pairs, left = null_models.compared(net, ic, runs), null_models.intercept(arena, net, runs)
    told = null_models.comparison(net, ic, runs, left[1])
    _write_runs(out, runs)
    plain = {name: value for name, value in dataclasses.asdict(told).items() if value is not None and math.isfinite(value)}
    facts = {"comparison": plain, "pairs": [_defined(dataclasses.asdict(pair)) for pair in pairs]}
    warning = "" if pipeline.statistical_power else "NO POWER: too few sessions"
    said: dict[str, Any] = {"nulls": dg.MetadataValue.md("\n".join(null_models.table_lines(net, ic, pairs, left)))}
    said |= {"random_runs": told.random_runs, "shuffled_runs": told.shuffled_runs, "warning": warning}
    return out.result(said, {"null_distribution": null_distribution(net, ic, runs, warning)}, facts)


def _defined(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def shuffled_asset(pipeline: Pipeline) -> Node:
    """shuffled_labels of a pipeline: ten partitions of ten runs."""
    recipe = shuffled_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        partitions_def=BLOCKS,
        group_name="walk_forward",
        kinds={"lightgbm", "numba"},
        op_tags={"trading/heavy": "1"},
        description="The walk-forward refitted on labels dealt anew, ten deals a block",
    )
    def shuffled(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_shuffled(platform.publication(context, recipe), pipeline, context)

    return Node(recipe, shuffled)


def nulls_asset(pipeline: Pipeline) -> Node:
    """null_models of a pipeline with its check, which warns: the gate `beats_nulls` refuses at live."""
    recipe = nulls_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="walk_forward",
        kinds={"numba", "parquet"},
        op_tags={"trading/heavy": "1"},
        description="The model beside every null: IC, net Sharpe ratio, turnover, paired intervals",
    )
    def null_models(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return publish_nulls(platform.publication(context, recipe), pipeline)

    @dg.asset_check(
        asset=recipe.asset, name="complete", description="as many random and shuffled-label runs as the gate beats_nulls demands"
    )
    def complete(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        from trading_platform.research.thresholds import Thresholds

        found = latest(context.instance, platform.place, recipe.asset)
        told = {} if found is None else dict(found.manifest.facts.get("comparison", {}))
        if not told:
            return dg.AssetCheckResult(passed=True, metadata=NOTHING_TO_JUDGE)
        there = min(int(told["random_runs"]), int(told["shuffled_runs"]))
        said = {"random_runs": told["random_runs"], "shuffled_runs": told["shuffled_runs"], "needed": Thresholds().null_runs}
        return dg.AssetCheckResult(passed=there >= Thresholds().null_runs, severity=dg.AssetCheckSeverity.WARN, metadata=said)

    return Node(recipe, null_models, (complete,))
