"""Hyper-parameter studies of a pipeline: one partition per study, made when somebody asks for it and never by itself (TUNE-01).

The partition's key is the plan, `lightgbm-40x5-s7`: 40 trials on 5 inner folds with seed 7. A study sees the training span of the first
walk-forward fold and nothing after it, so no test row of the walk-forward is spent on it; `lightgbm-40x5-s7-u2007-12-31` sees all that was
known by then, and the walk-forward has to begin later. Each trial goes into the trial registry.
"""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import dataclasses
import io
import math
import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bundles import created_at
from trading_platform.assets.inputs import Recipe, latest
from trading_platform.assets.models import SEED, TrainingSet, before_stretch, model_upstream, training_set
from trading_platform.assets.node import Node, of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import read_table
from trading_platform.assets.resources import Mlflow, Platform
from trading_platform.assets.trials import scope_of
from trading_platform.assets.walk_forward import arena_of
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.registry.parameter_choices import ParameterChoice
    from trading_platform.research.evaluate import Arena
    from trading_platform.research.inner_folds import InnerFolds
    from trading_platform.research.splits import Fold
    from trading_platform.research.tuning import Gain, Study, StudyPlan, TrialResult

KEY = re.compile(
    r"(?P<learner>[a-z]+)-(?P<trials>[1-9]\d{0,3})x(?P<folds>[2-9]|[1-4]\d)-s(?P<seed>\d{1,6})(-u(?P<until>\d{4}-\d{2}-\d{2}))?"
)
WORKERS = 2
STUDY_CODE = (
    "research.tuning",
    "research.inner_folds",
    "research.tuning_plots",
    "research.splits",
    "research.metrics",
    "research.models",
    "research.walk_forward",
    "research.evaluate",
    "backtest",
    "engine",
    "matching",
    "assets.tuning",
    "assets.models",
    "assets.panels",
    "assets.pipelines",
)


def studies_of(pipeline: Pipeline) -> dg.DynamicPartitionsDefinition:
    """Dynamic partitions: the keys of the studies that somebody asked for."""
    return dg.DynamicPartitionsDefinition(name=f"{pipeline.name}_studies")


def plan_of(key: str) -> "StudyPlan":
    """The plan that a partition key names. InputError for a key that names none."""
    from trading_platform.research.models.lightgbm import Parameters
    from trading_platform.research.tuning import LIGHTGBM, StudyPlan

    found = KEY.fullmatch(key)
    spaces = {"lightgbm": (LIGHTGBM, Parameters())}
    if found is None or found["learner"] not in spaces:
        fix = f"write LEARNER-TRIALSxFOLDS-sSEED, such as lightgbm-40x5-s7, with -uDATE to look further; learners: {', '.join(spaces)}"
        raise InputError(f"{key!r} is no plan of a study", "partition", fix)
    space, start = spaces[found["learner"]]
    defaults = {name: getattr(start, name) for name in space}
    return StudyPlan(found["learner"], space, defaults, int(found["trials"]), int(found["folds"]), int(found["seed"]))


def study_recipe(pipeline: Pipeline) -> Recipe:
    """A study is a function of its plan, the training set, the windows, and the profile whose costs the trials pay."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        windows = {"train": pipeline.train, "test": pipeline.test, "step": pipeline.step, "embargo": pipeline.embargo, "seed": SEED}
        return {**windows, "stretch_rows": place.settings.stretch_rows, "plan": partition, "profile": place.profile(pipeline).hash}

    return Recipe(pipeline.asset("study"), STUDY_CODE, model_upstream(pipeline), parameters)


def first_fold(pipeline: Pipeline, known: TrainingSet) -> "Fold":
    """The first fold of the whole walk-forward, however few of its folds the settings evaluate."""
    from trading_platform.research.splits import walk_forward, warm_folds
    from trading_platform.research.walk_forward import usable_cells

    folds = walk_forward(known.labels.t0, known.labels.t1, pipeline.train, pipeline.test, pipeline.step, pipeline.embargo)
    return warm_folds(folds, usable_cells(known.panel, known.features).any(axis=1))[0]


def span_of(pipeline: Pipeline, known: TrainingSet, key: str) -> tuple[NDArray[np.int64], int]:
    """(rows a study sees, first row after them): the first fold's training rows, or all whose label was known by the key's date.

    InputError for a date that is none, or that leaves nothing on one of its sides.
    """
    from trading_platform.research.splits import training_rows

    found = KEY.fullmatch(key)
    if found is None or not found["until"]:
        outer = first_fold(pipeline, known)
        return outer.train, int(outer.test[0])
    try:
        day = date.fromisoformat(found["until"])
    except ValueError:
        raise InputError(f"{found['until']} is no date", f"study {key}", "write it as 2007-12-31") from None
    at = int(np.searchsorted(known.panel.session, (day - date(1970, 1, 1)).days, side="right"))
    if not 0 < at < known.panel.shape[0]:
        days = [str(np.datetime64(int(known.panel.session[row]), "D")) for row in (0, -1)]
        raise InputError(f"{day} leaves nothing before or after it", f"study {key}", f"choose a session between {days[0]} and {days[1]}")
    rows = training_rows(known.labels.t0, known.labels.t1, at, at, pipeline.embargo)
    if not rows.size:
        raise InputError(f"no label is known by {day}", f"study {key}", "choose a later session")
    return rows, at


def inner_folds(pipeline: Pipeline, known: TrainingSet, key: str) -> "InnerFolds":
    """The rows that a study sees, split as its plan says."""
    from trading_platform.research.inner_folds import InnerFolds

    plan = plan_of(key)
    rows, at = span_of(pipeline, known, key)
    until = int(known.labels.t0[at])
    return InnerFolds(known.panel, known.features, known.names, known.labels, rows, until, plan.folds, plan.embargo, SEED)


def recorder(
    out: Publication, pipeline: Pipeline, plan: "StudyPlan", inner: "InnerFolds", arena: "Arena", at: int
) -> "Callable[[TrialResult], None]":
    """What puts each trial on record (T30): net returns over the folds it ran, through the backtest; none where it failed."""
    from trading_platform.research.evaluate import net_result
    from trading_platform.research.trials import TrialRegistry

    registry = TrialRegistry(out.place.settings.trials_path)
    span = (int(inner.panel.session[0]), int(inner.panel.session[-1]))
    shared = {
        "features": out.facts(pipeline.features)["feature_hash"],
        "label": inner.labels.name,
        "learner": plan.learner,
        "inner_folds": [plan.folds, plan.embargo],
        "seed": SEED,
        "profile": out.place.profile(pipeline).hash,
    }

    def returns_of(result: "TrialResult") -> NDArray[np.float64] | None:
        if result.state == "failed":
            return None
        predictions = inner.predictions(result.outcomes)
        last = int(np.flatnonzero(np.isfinite(predictions).any(axis=1))[-1]) + 1
        return net_result(arena.rows(0, last), predictions[:last]).returns

    def record(result: "TrialResult") -> None:
        registry.record(
            scope=scope_of(out.place, pipeline),
            recipe=content_hash({**shared, "parameters": dict(result.values)}),
            span=span,
            data_version=out.inputs.hash,
            at=at,
            returns=returns_of(result),
            note=f"study {out.partition} trial {result.number}: {result.state} after {len(result.running)} of {plan.folds} folds",
        )

    return record


def publish_study(out: Publication, pipeline: Pipeline, context: dg.AssetExecutionContext, mlflow: Mlflow) -> dg.MaterializeResult:
    """Run the study, or go on with it, and say what it found beside what searching alone finds."""
    from trading_platform.research import tuning, tuning_plots
    from trading_platform.research.study_storage import study_storage

    plan = plan_of(out.partition)
    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    known = before_stretch(training_set(out, pipeline))
    inner = inner_folds(pipeline, known, out.partition)
    arena = arena_of(out, pipeline, known).rows(int(inner.rows[0]), int(inner.rows[-1]) + 1)
    record = recorder(out, pipeline, plan, inner, arena, created_at(context))
    name = plan.identity({"inputs": out.inputs.hash, "code": out.recipe.code_version})[:32]
    settings = out.place.settings

    def progress(done: int, total: int) -> None:
        context.log.info(f"trial {done} of {total}")

    with study_storage(settings.studies_dir, name, settings.optuna_url) as storage:
        study = tuning.search(plan, name, storage, inner, record, WORKERS, progress)
    gain, weights = tuning.gain(plan, study, inner, pipeline.horizon), tuning.importance(study)
    frame = trials_frame(study)
    out.table("trials", frame, sort_by=())
    timed = with_seconds(frame, study)
    (settings.studies_dir / f"{name}.parquet").write_bytes(timed)
    warning = "SURVIVORSHIP BIASED" if out.facts(pipeline.asset("universe")).get("survivorship_biased") else ""  # T33
    warning = warning or ("" if pipeline.statistical_power else "NO POWER")
    plots = {"history": tuning_plots.history(study, gain, warning), "importance": tuning_plots.shares(weights, warning)}
    facts = facts_of(study, gain, inner)
    with mlflow.session(out, context) as run:
        run.set_tags({"data_version": out.manifest({}).data_version, "study": name})
        run.log_params({**study.best.values, "study": out.partition, "best_trial": study.best.number})
        run.log_metrics(numbers_of(study, gain))
        for trial in study.trials:
            run.log_metrics({"mean_rank_ic": trial.value}, step=trial.number)
        run.log_artifact("trials.parquet", timed)
        for plot, png in plots.items():
            run.log_artifact(f"plots/{plot}.png", png)
    said = {**numbers_of(study, gain), "best_trial": study.best.number, "verdict": verdict_of(facts), "study": name}
    return out.result({**said, "parameters": dg.MetadataValue.json(dict(study.best.values)), "warning": warning}, plots, facts)


def trials_frame(study: "Study") -> "pl.DataFrame":
    """One row per trial: number, state, mean rank IC, the values, the running mean after each fold, the error. Undefined is null."""
    import polars as pl

    trials, plan = study.trials, study.plan
    columns: dict[str, Any] = {"trial": [t.number for t in trials], "state": [t.state for t in trials]}
    columns["mean_rank_ic"] = [None if math.isnan(t.value) else t.value for t in trials]
    columns |= {name: [t.values[name] for t in trials] for name in sorted(plan.space)}
    for fold in range(plan.folds):
        values = [t.running[fold] if fold < len(t.running) else None for t in trials]
        columns[f"after_fold_{fold + 1}"] = pl.Series(values, dtype=pl.Float64)
    return pl.DataFrame({**columns, "error": [t.error for t in trials]})


def with_seconds(frame: "pl.DataFrame", study: "Study") -> bytes:
    """The same as Parquet bytes with each trial's duration: beside the lake, because times are no part of a result."""
    import polars as pl

    buffer = io.BytesIO()
    frame.with_columns(pl.Series("seconds", [t.seconds for t in study.trials])).write_parquet(buffer)
    return buffer.getvalue()


def numbers_of(study: "Study", gain: "Gain") -> dict[str, float]:
    """A study in numbers, undefined ones left out."""
    numbers = {
        "best_mean_rank_ic": study.best.value,
        "untuned_mean_rank_ic": study.trials[0].value,
        "gain": gain.difference,
        "gain_t": gain.t,
        "gain_t_of_noise": gain.t_of_noise,
        **{state: float(study.count(state)) for state in ("complete", "pruned", "failed")},
    }
    return {name: value for name, value in numbers.items() if math.isfinite(value)}


def verdict_of(facts: Mapping[str, Any]) -> str:
    """What the gain of a study says, in a sentence. facts: `numbers_of` at least."""
    t, noise = facts.get("gain_t"), facts["gain_t_of_noise"]
    if t is None or not facts["gain"] > 0.0:
        return "no trial is better than no tuning"
    if t <= noise:
        return f"t {t:.2f}: not above what searching alone gives ({noise:.2f}); keep the parameters you have"
    return f"t {t:.2f}: above what searching alone gives ({noise:.2f})"


def facts_of(study: "Study", gain: "Gain", inner: "InnerFolds") -> dict[str, Any]:
    """What a decision about the study needs."""
    return {
        **numbers_of(study, gain),
        "learner": study.plan.learner,
        "best_trial": study.best.number,
        "known_until": int(inner.labels.t1.max()),
        "rows": gain.rows,
        "span": [int(inner.panel.session[0]), int(inner.panel.session[-1])],
    }


def study_asset(pipeline: Pipeline) -> Node:
    """study of a pipeline."""
    recipe = study_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="models",
        kinds={"optuna", "lightgbm", "mlflow"},
        partitions_def=studies_of(pipeline),
        op_tags={"trading/heavy": "1"},
        description="Hyper-parameter search on inner purged folds, one partition per plan",
    )
    def study(context: dg.AssetExecutionContext, platform: Platform, mlflow: Mlflow) -> dg.MaterializeResult:
        return publish_study(platform.publication(context, recipe), pipeline, context, mlflow)

    return Node(recipe, study)


def choose(
    instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline, key: str, trial: int, who: str, why: str, at: int
) -> "ParameterChoice":
    """Put one trial's values in force, by number. InputError for a study that was not run, or a trial that did not complete."""
    from trading_platform.registry.parameter_choices import ParameterChoices

    plan, asset = plan_of(key), pipeline.asset("study")
    found = latest(instance, place, asset, key)
    if found is None or "known_until" not in found.manifest.facts:
        raise InputError(f"the study {key} of {pipeline.name} was not run", asset, f"run it first: tune run {pipeline.name} {key}")
    rows = read_table(place, found.manifest, "trials").filter(trial=trial).to_dicts()
    if not rows or rows[0]["state"] != "complete":
        state = rows[0]["state"] if rows else "not there"
        raise InputError(f"trial {trial} is {state}", f"study {key}", "choose a completed trial")
    choices = ParameterChoices(place.settings.parameter_choices_path)
    return choices.append(
        choices.head(),
        at=at,
        who=who,
        why=why,
        pipeline=pipeline.name,
        action="choose",
        learner=plan.learner,
        study=key,
        data_version=found.manifest.data_version,
        trial=trial,
        known_until=int(found.manifest.facts["known_until"]),
        parameters={name: rows[0][name] for name in sorted(plan.space)},
    )


def back_to_default(place: Workplace, pipeline: Pipeline, who: str, why: str, at: int) -> "ParameterChoice":
    """Put the code's own parameters in force again. InputError where they are."""
    from trading_platform.registry.parameter_choices import ParameterChoices

    choices = ParameterChoices(place.settings.parameter_choices_path)
    now = choices.now(pipeline.name)
    if now is None:
        raise InputError("no choice is in force", f"parameters of {pipeline.name}", "there is nothing to take back")
    values = {**dataclasses.asdict(now), "action": "default", "who": who, "why": why, "at": at, "parameters": {}}
    del values["seq"], values["prev"]
    return choices.append(choices.head(), **values)
