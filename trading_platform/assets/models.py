"""Models of a pipeline: out-of-sample predictions of the walk-forward (`alpha_lightgbm`), and bundles for the runner (`model_bundle`)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.features import features_array
from trading_platform.assets.inputs import Reads, Recipe
from trading_platform.assets.labels import labels_array
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import Cells, cell_frame, panel_of, set_of, stretch_start
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader
from trading_platform.assets.resources import Mlflow, Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.research.labels import Labels
    from trading_platform.research.models.learner import Learner
    from trading_platform.research.splits import Fold
    from trading_platform.research.walk_forward import WalkForward

SEED = 7
ALPHA_CODE = (
    "research.walk_forward",
    "research.splits",
    "research.metrics",
    "research.models",
    "assets.models",
    "assets.panels",
    "assets.pipelines",
)


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingSet:
    """What every model of a pipeline learns from: panel, the scale-free features (T, S, F), labels. `start`: first row of the stretch."""

    panel: Panel
    features: NDArray[np.float32]
    names: tuple[str, ...]
    labels: "Labels"
    start: int


class FoldFiles:
    """What is kept of folds as files of the lake, by content hash of everything that went into it (research.models.folds.FoldStore)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        path = self.root / f"{key}.fold"
        return path.read_bytes() if path.is_file() else None

    def put(self, key: str, model: bytes) -> None:
        """Keep the bytes."""
        from trading_platform.market_data.lake import write_atomically

        self.root.mkdir(parents=True, exist_ok=True)
        write_atomically(self.root / f"{key}.fold", model)


def training_set(out: Reader, pipeline: Pipeline) -> TrainingSet:
    """Read bars, universe, features and labels. Features that change when prices are rescaled (level) are no model inputs (T1)."""
    panel = panel_of(out, pipeline)
    values, names = features_array(out, pipeline, panel)
    level = set(set_of(out, pipeline).level)
    kept = [index for index, name in enumerate(names) if name not in level]
    start = stretch_start(panel.session, pipeline, out.place.settings.stretch_rows)
    labels = labels_array(out, pipeline, panel)
    return TrainingSet(panel, np.ascontiguousarray(values[..., kept]), tuple(names[index] for index in kept), labels, start)


def before_stretch(given: TrainingSet) -> TrainingSet:
    """The rows before the stretch, with the labels that were known before it: nothing of the stretch is left."""
    start = given.start
    return dataclasses.replace(given, panel=given.panel.rows(0, start), features=given.features[:start], labels=given.labels.before(start))


def folds_of(place: Workplace, pipeline: Pipeline, known: TrainingSet) -> "list[Fold]":
    """The folds with mostly warm training rows and tests that no chosen parameters saw: the last `max_folds` where there is a limit."""
    from trading_platform.registry.parameter_choices import ParameterChoices
    from trading_platform.research.splits import walk_forward, warm_folds
    from trading_platform.research.tuning import out_of_sample
    from trading_platform.research.walk_forward import usable_cells

    folds = walk_forward(known.labels.t0, known.labels.t1, pipeline.train, pipeline.test, pipeline.step, pipeline.embargo)
    chosen = ParameterChoices(place.settings.parameter_choices_path).now(pipeline.name)
    folds = folds if chosen is None else out_of_sample(folds, known.labels.t0, chosen.known_until)
    warm = usable_cells(known.panel, known.features).any(axis=1)
    return warm_folds(folds, warm)[-(place.settings.max_folds or 0) :]


def learner_of(place: Workplace, pipeline: Pipeline) -> "Learner":
    """What the pipeline trains: its learner, with the parameters that a named person took from a study, if there is such a choice."""
    from trading_platform.registry.parameter_choices import ParameterChoices
    from trading_platform.research.models.catalog import learner, with_parameters

    chosen = ParameterChoices(place.settings.parameter_choices_path).now(pipeline.name)
    return learner(pipeline.learner) if chosen is None else with_parameters(learner(pipeline.learner), chosen.learner, chosen.parameters)


def model_upstream(pipeline: Pipeline) -> dict[str, Reads]:
    """What a training set reads."""
    return dict.fromkeys((pipeline.bars, pipeline.asset("universe"), pipeline.features, pipeline.labels), Reads.WHOLE)


def windows_of(place: Workplace, pipeline: Pipeline) -> Mapping[str, Any]:
    """The settings of the walk-forward, as parameters: windows, seed, and the learner with its own parameters."""
    settings, recipe = place.settings, learner_of(place, pipeline).recipe
    kept = {"train": pipeline.train, "test": pipeline.test, "step": pipeline.step, "embargo": pipeline.embargo, "seed": SEED}
    kept |= {"learner": recipe["learner"], "parameters": dict(recipe["parameters"])}
    return {**kept, "max_folds": settings.max_folds or 0, "stretch_rows": settings.stretch_rows}


def alpha_recipe(pipeline: Pipeline) -> Recipe:
    """Predictions are a function of the training set and the windows."""
    return Recipe(
        pipeline.asset("alpha_lightgbm"), ALPHA_CODE, model_upstream(pipeline), lambda place, partition: windows_of(place, pipeline)
    )


def publish_alpha(out: Publication, pipeline: Pipeline, context: dg.AssetExecutionContext, mlflow: Mlflow) -> dg.MaterializeResult:
    """Refit on every fold and keep what the newest model said about each row (T31)."""
    from trading_platform.research import walk_forward
    from trading_platform.research.report import plots as report

    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    known = before_stretch(training_set(out, pipeline))
    folds = folds_of(out.place, pipeline, known)

    def progress(done: int, total: int) -> None:
        if done == total or done % 10 == 0:
            context.log.info(f"fold {done} of {total}")

    store = FoldFiles(out.place.lake.root / "fold-cache")
    found = walk_forward.run(
        known.panel, known.features, known.names, known.labels, folds, None, SEED, progress, store, learner=learner_of(out.place, pipeline)
    )
    _write_predictions(out, known.panel, found)
    _write_folds(out, known, folds, found)
    mean_ic = float(np.nanmean(found.ic)) if np.isfinite(found.ic).any() else 0.0
    with mlflow.session(out, context) as run:
        run.log_params({**windows_of(out.place, pipeline), "features": len(known.names)})
        run.log_metrics({"mean_ic": mean_ic, "folds": len(folds)})
    metadata = {"folds": len(folds), "folds_reused": found.reused, "mean_rank_ic": round(mean_ic, 5), "features": len(known.names)}
    metadata |= {"learner": pipeline.learner, "chain": found.chain[-1].link}
    plots = {
        "ic_over_time": report.ic_over_time(known.panel.timestamp, found.ic, "Rank IC of each row"),
        "feature_importance": report.feature_importance(found.names, found.shapley, "Share of |Shapley value|, out of sample"),
    }
    facts = {"names": list(known.names), "folds": len(folds), "mean_ic": mean_ic, "start": known.start, "chain": found.chain[-1].link}
    return out.result(metadata, plots, facts)


def _write_folds(out: Publication, known: TrainingSet, folds: "list[Fold]", found: "WalkForward") -> None:
    """One row per fold: when it learned and spoke, and its link of the hash chain (research.models.folds.Link)."""
    import polars as pl

    def days(rows: list[int]) -> pl.Series:
        return pl.Series(known.panel.session[rows].astype(np.int32)).cast(pl.Date)

    frame = {
        "fold": list(range(len(folds))),
        "trained_from": days([int(fold.train[0]) for fold in folds]),
        "trained_to": days([int(fold.train[-1]) for fold in folds]),
        "speaks_from": days([int(fold.speaks[0]) for fold in folds]),
        "speaks_to": days([int(fold.speaks[-1]) for fold in folds]),
        **{name: [getattr(link, name) for link in found.chain] for name in ("trained", "model", "tested", "predicted", "link")},
    }
    out.table("folds", pl.DataFrame(frame), sort_by=())


def _write_predictions(out: Publication, panel: Panel, found: "WalkForward") -> None:
    import polars as pl

    column, row = np.nonzero(np.isfinite(found.predictions).T)
    cells = Cells(row.astype(np.int64), column.astype(np.int64))
    out.table("predictions", cell_frame(panel, cells, {"alpha": found.predictions[row, column], "fold": found.fold[row]}))
    days = pl.Series("session", panel.session.astype(np.int32)).cast(pl.Date)
    out.table("ic", pl.DataFrame({"session": days, "timestamp": panel.timestamp, "ic": found.ic, "fold": found.fold}), sort_by=())
    curve = found.age_curve
    out.table("age_curve", pl.DataFrame({"age": curve.age, "ic": curve.ic, "t": curve.t, "rows": curve.count}), sort_by=())
    shares = {"gain_share": found.importance, "shapley_share": found.shapley}
    out.table("importance", pl.DataFrame({"feature": list(found.names), **shares}), sort_by=())


def predictions_array(out: Reader, pipeline: Pipeline, panel: Panel) -> NDArray[np.float64]:
    """The published predictions, float64 (T, S) on the panel's axes, NaN where nobody spoke."""
    from trading_platform.assets.panels import cells_of, scatter

    frame = out.read(pipeline.asset("alpha_lightgbm"), "predictions")
    return scatter(panel, cells_of(panel, frame), frame["alpha"].to_numpy())


def alpha_asset(pipeline: Pipeline) -> Node:
    """alpha_lightgbm of a pipeline."""
    recipe = alpha_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="models",
        kinds={"lightgbm", "mlflow"},
        op_tags={"trading/heavy": "1"},
        description="Walk-forward out-of-sample alphas",
    )
    def alpha(context: dg.AssetExecutionContext, platform: Platform, mlflow: Mlflow) -> dg.MaterializeResult:
        return publish_alpha(platform.publication(context, recipe), pipeline, context, mlflow)

    return Node(recipe, alpha)
