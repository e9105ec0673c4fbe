"""The walk-forward report: net results from the backtest over the engine's own functions, gates, nulls, and the trial on record."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np

from trading_platform.assets.bundles import SIZING, created_at
from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.features import features_array
from trading_platform.assets.inputs import Reads, Recipe, latest
from trading_platform.assets.leaks import leaks_of
from trading_platform.assets.models import (
    SEED,
    FoldFiles,
    TrainingSet,
    before_stretch,
    folds_of,
    learner_of,
    model_upstream,
    predictions_array,
    training_set,
    windows_of,
)
from trading_platform.assets.node import Node, of
from trading_platform.assets.panels import actions_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader
from trading_platform.assets.resources import Mlflow, Platform
from trading_platform.assets.trials import scope_of, search_of, thresholds_of, told, walk_forward_trial
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.instruments import Instrument, symbol_of
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.research.evaluate import Arena, Evaluation, NetResult
    from trading_platform.research.gates import GateResult, Power
    from trading_platform.research.nulls import NullComparison
    from trading_platform.research.report.attribution import Attribution
    from trading_platform.research.report.findings import Findings
    from trading_platform.research.splits import Fold
    from trading_platform.research.thresholds import Thresholds
    from trading_platform.research.trials import TrialCount
    from trading_platform.research.walk_forward import WalkForward

REPORT_CODE = (
    "research",
    "backtest",
    "engine",
    "matching",
    "assets.walk_forward",
    "assets.leaks",
    "assets.models",
    "assets.trials",
    "assets.panels",
    "assets.pipelines",
)
STATISTICAL_CHECK = "statistical_gates"


def report_recipe(pipeline: Pipeline) -> Recipe:
    """The report is a function of the predictions, what they were made of, the profile's numbers and the windows."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return {**windows_of(place, pipeline), "profile": place.profile(pipeline).hash, "thresholds": thresholds_of(place).hash}

    upstream = {**model_upstream(pipeline), pipeline.asset("alpha_lightgbm"): Reads.WHOLE, pipeline.asset("null_models"): Reads.WHOLE}
    return Recipe(pipeline.asset("walk_forward_report"), REPORT_CODE, upstream, parameters)


def comparison_of(out: Reader, pipeline: Pipeline) -> "NullComparison | None":
    """What null_models found, None where it found nothing."""
    from trading_platform.research.nulls import NullComparison

    told = out.facts(pipeline.asset("null_models")).get("comparison")
    return None if not told or "model_ic" not in told else NullComparison(**{"random_95": math.nan, "momentum_ic": math.nan, **told})


def instruments_of(panel: Panel) -> tuple[Instrument, ...]:
    """The panel's columns as instruments of US equities: whole shares, cents."""
    return tuple(Instrument(name, symbol_of(name)) for name in panel.instrument_ids)


def sectors_of(out: Reader, pipeline: Pipeline) -> dict[str, str]:
    """Instrument id -> sector name, where known."""
    frame = out.read(pipeline.bars, "sectors")
    return dict(zip(frame["instrument_id"].to_list(), frame["sector"].to_list(), strict=True))


def sector_names(sectors: Mapping[str, str]) -> tuple[str, ...]:
    """The names of an arena's sector codes, in their order."""
    return tuple(sorted(set(sectors.values())))


def arena_of(out: Reader, pipeline: Pipeline, known: TrainingSet) -> "Arena":
    """Everything the backtests share, on the rows before the stretch."""
    from trading_platform.backtest.run import Sessions
    from trading_platform.research.evaluate import Arena

    panel, profile = known.panel, out.place.profile(pipeline)
    whole, names = features_array(out, pipeline, training_panel(out, pipeline))
    volatility, atr = (whole[: known.start, :, names.index(name)].astype(np.float64) for name in SIZING[pipeline.timeframe])
    sectors = sectors_of(out, pipeline)
    order = {name: code for code, name in enumerate(sector_names(sectors))}
    codes = np.array([order[sectors[name]] if name in sectors else -1 for name in panel.instrument_ids], dtype=np.int64)
    return Arena(
        profile,
        panel,
        Sessions.of(panel, out.place.calendar),
        actions_of(out, pipeline).actions,
        instruments_of(panel),
        np.ascontiguousarray(volatility),
        np.ascontiguousarray(atr),
        profile.starting_cash,
        codes,
    )


def training_panel(out: Reader, pipeline: Pipeline) -> Panel:
    """The whole panel, the stretch included: published tables cover all of it."""
    from trading_platform.assets.panels import panel_of

    return panel_of(out, pipeline)


def published_walk_forward(out: Reader, pipeline: Pipeline, known: TrainingSet) -> "WalkForward":
    """The predictions, folds and ICs of `alpha_lightgbm` as published; models are not kept there."""
    from trading_platform.research.walk_forward import AgeCurve, WalkForward

    alpha = pipeline.asset("alpha_lightgbm")
    curve, importance, ic = (out.read(alpha, name) for name in ("age_curve", "importance", "ic"))
    return WalkForward(
        predictions=predictions_array(out, pipeline, known.panel),
        fold=ic["fold"].to_numpy().astype(np.int64),
        ic=ic["ic"].to_numpy(),
        fold_ic=np.empty(0),
        age_curve=AgeCurve(*(curve[name].to_numpy() for name in ("age", "ic", "t", "rows"))),
        importance=importance["gain_share"].to_numpy(),
        names=known.names,
        models=(),
        reused=0,
    )


def publish_report(out: Publication, pipeline: Pipeline, context: dg.AssetExecutionContext, mlflow: Mlflow) -> dg.MaterializeResult:
    """Judge the out-of-sample predictions: net of costs, beside the nulls, against every gate; write the page and the plots."""
    from trading_platform.research import gates
    from trading_platform.research.evaluate import evaluate
    from trading_platform.research.report.tear_sheet import tear_sheet

    if not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    known = before_stretch(training_set(out, pipeline))
    found, folds, arena = (
        published_walk_forward(out, pipeline, known),
        folds_of(out.place, pipeline, known),
        arena_of(out, pipeline, known),
    )
    net, count, trials = _registered(out, pipeline, known, found, folds, arena, created_at(context))
    limits = thresholds_of(out.place)
    evaluation = evaluate(arena, found, folds, known.labels, count, net=net, comparison=comparison_of(out, pipeline))
    evaluation = _searched(out, pipeline, arena, evaluation, limits)
    technical = gates.Technical(leaks_of(out, pipeline, known, folds, net.backtest.fills), None, None, None)
    results = [
        gate
        for gate in gates.evaluate(technical, evaluation.evidence, limits)
        if gate.name == "leakage" or gate.kind != "technical"  # the others are judged on the bundle
    ]
    warning = warning_of(out, pipeline)
    numbers = {name: value for name, value in metrics_of(evaluation).items() if math.isfinite(value)}
    with mlflow.session(out, context) as run:
        run.log_metrics(numbers)
        run.set_tags({f"gate.{gate.name}": gate.verdict for gate in results})
    _write_curves(out, evaluation)
    power = ()
    if pipeline.statistical_power:
        power = gates.power_table(len(net.returns), pipeline.periods_per_year, max(count.trials, 1), limits, runs=POWER_RUNS)
    findings = findings_of(out, pipeline, known, found, folds, arena, evaluation, (results, trials, power, warning))
    page = out.file("page", tear_sheet(findings), ".html")
    metadata = {
        "report": dg.MetadataValue.path(str(out.place.lake.root / page.uri)),
        "report_sha256": page.sha256,
        **numbers,
        **{f"gate_{gate.name}": f"{gate.verdict}: {gate.text}" for gate in results},
        "trials": dg.MetadataValue.json(trials),
    }
    metadata |= {"gates": dg.MetadataValue.md(gates_table(results)), "warning": warning}
    if power:
        metadata["power"] = dg.MetadataValue.md("\n".join(gates.power_lines(power)))
    facts = {"metrics": numbers, "gates": gates.as_record(results), "trials": trials, "warning": warning, "report_sha256": page.sha256}
    out.file("report", report_bytes(facts), ".json")
    return out.result(metadata, plots_of(known, findings, evaluation), facts)


def _registered(
    out: Publication,
    pipeline: Pipeline,
    known: TrainingSet,
    found: "WalkForward",
    folds: "list[Fold]",
    arena: "Arena",
    at: int,
) -> "tuple[NetResult, TrialCount, dict[str, Any]]":
    """The model's own backtest, on record before it begins, and the scope's count with it: one that fails or dies counts, too (T30)."""
    from trading_platform.research.evaluate import model_age, net_result
    from trading_platform.research.trials import TrialRegistry

    registry, scope = TrialRegistry(out.place.settings.trials_path), scope_of(out.place, pipeline)
    recipe, version = walk_forward_trial(out, pipeline), out.inputs.manifest(pipeline.asset("alpha_lightgbm")).data_version
    span = (int(known.panel.session[0]), int(known.panel.session[-1]))
    with registry.attempt(scope=scope, recipe=recipe, span=span, data_version=version, at=at) as attempt:
        net = net_result(arena, found.predictions, model_age(known.panel, found.fold, folds))
        attempt.finish(net.returns, net.session)
    count = registry.count(scope)
    return net, count, {"scope": scope, "recipe": recipe, **told(count), "head": registry.head()}


def _searched(out: Publication, pipeline: Pipeline, arena: "Arena", evaluation: "Evaluation", limits: "Thresholds") -> "Evaluation":
    """The evidence with what only the whole scope and the fills tell: PBO of the search, capacity beside the capital to be run."""
    from trading_platform.research.report.holdings import capacity
    from trading_platform.research.trials import TrialRegistry

    search = search_of(TrialRegistry(out.place.settings.trials_path), scope_of(out.place, pipeline), limits)
    room = capacity(arena, evaluation.net)
    evidence = dataclasses.replace(
        evaluation.evidence, pbo=search, capacity=room if math.isfinite(room) else None, capital=arena.starting_cash
    )
    return dataclasses.replace(evaluation, evidence=evidence)


def warning_of(out: Reader, pipeline: Pipeline) -> str:
    """What must stand across every chart (T33), or nothing."""
    if out.facts(pipeline.asset("universe")).get("survivorship_biased"):
        return "SURVIVORSHIP BIASED"
    return "" if pipeline.statistical_power else "NO POWER: too few sessions for any statistical gate"


def findings_of(
    out: Publication,
    pipeline: Pipeline,
    known: TrainingSet,
    found: "WalkForward",
    folds: "list[Fold]",
    arena: "Arena",
    evaluation: "Evaluation",
    judged: "tuple[list[GateResult], dict[str, Any], Sequence[Power], str]",
) -> "Findings":
    """Everything the page and the plots say. Its hashes are those of the inputs, never of this run."""
    from trading_platform.research.report.findings import Identity, Judgement, collect

    results, trials, power, warning = judged
    versions = {f"data version of {asset}": item.manifest.data_version for (asset, _), item in sorted(out.inputs.upstream.items())}
    made_of = {
        **versions,
        "inputs": out.inputs.hash,
        "code": out.recipe.code_version,
        "features": str(out.facts(pipeline.features)["feature_hash"]),
        "profile": f"{out.place.profile(pipeline).name} {out.place.profile(pipeline).hash}",
    }
    scope = {name: value for name, value in trials.items() if name != "head"}  # the head is a mere time
    identity = Identity(pipeline.model, pipeline.name, pipeline.timeframe, known.labels.name, made_of)
    judgement = Judgement(results, scope, power, warning)
    sectors = sector_names(sectors_of(out, pipeline))
    return collect(identity, judgement, arena, evaluation, found, known.labels, sectors, attribution_of(out, pipeline, known, folds))


def attribution_of(out: Reader, pipeline: Pipeline, known: TrainingSet, folds: "list[Fold]") -> "Attribution":
    """Exact Shapley values of the newest folds' models on cells they had not seen; the models come from the fold store."""
    from trading_platform.research.report.attribution import attribute, sampled
    from trading_platform.research.walk_forward import fit, usable_cells

    usable, learner = usable_cells(known.panel, known.features), learner_of(out.place, pipeline)
    store, pairs = FoldFiles(out.place.lake.root / "fold-cache"), []
    for fold in folds[-SHAP_FOLDS:]:
        row, column = sampled(fold.speaks, usable, SHAP_CELLS // SHAP_FOLDS)
        if row.size:
            model, _ = fit(known.panel, known.features, known.names, known.labels, fold.train, None, SEED, store, learner)
            pairs.append((model, np.ascontiguousarray(known.features[row, column])))
    return attribute(known.names, pairs)


SHAP_FOLDS, SHAP_CELLS = 4, 1200
POWER_RUNS = 200


def report_bytes(facts: Mapping[str, Any]) -> bytes:
    """The report's judgement as a file, so that another judgement is another data version; without the registry's head, a mere time."""
    trials = {name: value for name, value in facts["trials"].items() if name != "head"}
    return canonical_bytes({**facts, "trials": trials})


def metrics_of(evaluation: "Evaluation") -> dict[str, float]:
    """The numbers of a report, net of costs."""
    numbers = {k: float(v) for k, v in dataclasses.asdict(evaluation.net.performance).items() if isinstance(v, (int, float))}
    numbers["stressed_annual_sharpe"] = evaluation.stressed.performance.annual_sharpe
    numbers["delayed_annual_sharpe"] = evaluation.delayed.performance.annual_sharpe
    if evaluation.momentum is not None:
        numbers["momentum_annual_sharpe"] = evaluation.momentum.performance.annual_sharpe
    nulls = evaluation.evidence.nulls
    if nulls is not None:
        numbers |= {"mean_rank_ic": nulls.model_ic, "random_95_ic": nulls.random_95}
    return {**numbers, "names_left": evaluation.evidence.names_left, "effective_bets": evaluation.evidence.effective_bets}


def gates_table(results: "list[GateResult]") -> str:
    """The gates as a Markdown table."""
    rows = [f"| {gate.name} | {gate.kind} | {gate.verdict} | {gate.text} |" for gate in results]
    return "\n".join(["| gate | kind | result | |", "|---|---|---|---|", *rows])


def _write_curves(out: Publication, evaluation: "Evaluation") -> None:
    import polars as pl

    net = evaluation.net
    days = pl.Series("session", net.session.astype(np.int32)).cast(pl.Date)
    named = {name.replace(" ", "_").replace("-", "_"): values for name, values in evaluation.curves().items()}
    out.table("net_returns", pl.DataFrame({"session": days, **named, "turnover": net.turnover, "exposure": net.exposure}), sort_by=())


def plots_of(known: TrainingSet, findings: "Findings", evaluation: "Evaluation") -> dict[str, bytes]:
    """The report at a glance, as PNGs."""
    from trading_platform.research.report import plots
    from trading_platform.research.report.breakdown import sharpe_error

    days, warning = findings.session * 86_400_000_000_000, findings.judgement.warning
    found = findings.walk_forward
    names, seen = [name for name, _ in findings.stress], [performance for _, performance in findings.stress]
    stressed = np.array([p.annual_sharpe for p in seen]), np.array([sharpe_error(p) for p in seen])
    drawn = {
        "equity_curve": plots.equity_curve(days, evaluation.curves(), "Out of sample, net of costs", warning),
        "monthly_returns": plots.monthly_returns(findings.months, "Net return per month, percent", warning),
        "ic_over_time": plots.ic_over_time(known.panel.timestamp, found.ic, "Rank IC of each row", warning),
        "ic_decay": plots.ic_decay(findings.decay, "Rank IC by horizon", warning),
        "quantile_returns": plots.quantile_returns(findings.quantiles, f"Return over {findings.horizon} rows by quantile", warning),
        "age_curve": plots.age_curve(found.age_curve, "Rank IC against model age", warning),
        "exposures": plots.exposures(days, findings.exposures, "Exposure at each session's end", warning),
        "stress": plots.sharpe_bars(names, *stressed, "Dearer and later", warning),
    }
    if findings.attribution is not None:
        drawn["feature_importance"] = plots.shap_importance(findings.attribution, "What moves the predictions", warning)
    return drawn


def report_asset(pipeline: Pipeline) -> Node:
    """walk_forward_report of a pipeline with its checks."""
    recipe = report_recipe(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="walk_forward",
        kinds={"numba", "mlflow"},
        op_tags={"trading/heavy": "1"},
        description="Net results, nulls, gates and plots",
    )
    def report(context: dg.AssetExecutionContext, platform: Platform, mlflow: Mlflow) -> dg.MaterializeResult:
        return publish_report(platform.publication(context, recipe), pipeline, context, mlflow)

    specs = [
        dg.AssetCheckSpec("leakage", asset=recipe.asset, blocking=True, description="none of the leakage checks finds anything"),
        dg.AssetCheckSpec(
            STATISTICAL_CHECK, asset=recipe.asset, description="binds from paper to live; a gate without power is not passed"
        ),
    ]

    @dg.multi_asset_check(specs=specs, name=f"{recipe.asset}_gates")
    def judged(context: dg.AssetCheckExecutionContext, platform: Platform):  # type: ignore[no-untyped-def]
        yield from judge_report(context.instance, platform.place, pipeline)

    return Node(recipe, report, (judged,))


def judge_report(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> list[dg.AssetCheckResult]:
    """The report's gates as checks: leakage blocks; the statistical ones warn here and refuse at live."""
    asset = pipeline.asset("walk_forward_report")
    found = latest(instance, place, asset)
    gates = {} if found is None else dict(found.manifest.facts.get("gates", {}))
    if not gates:
        return [
            dg.AssetCheckResult(check_name=name, asset_key=asset, passed=True, metadata=NOTHING_TO_JUDGE)
            for name in ("leakage", STATISTICAL_CHECK)
        ]
    leakage = gates.get("leakage", {})
    open_ = sorted(name for name, gate in gates.items() if gate["kind"] in ("statistical", "data") and gate.get("passed") is not True)
    said = {"not_passed": ", ".join(open_), "judged": len(gates)}
    return [
        dg.AssetCheckResult(
            check_name="leakage",
            asset_key=asset,
            passed=leakage.get("passed") is True,
            metadata={"text": str(leakage.get("text", "not judged"))},
        ),
        dg.AssetCheckResult(
            check_name=STATISTICAL_CHECK, asset_key=asset, passed=not open_, severity=dg.AssetCheckSeverity.WARN, metadata=said
        ),
    ]
