"""Bundles: one model per training cutoff, trained on rows before it alone, exported, compared with its native form, stored."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
import time
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.inputs import Materialization, Reads, Recipe, inputs_now, latest
from trading_platform.assets.models import SEED, TrainingSet, learner_of, model_upstream, training_set
from trading_platform.assets.node import Node, of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import Reader, read_file
from trading_platform.assets.resources import Bundles, Mlflow, Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.manifest import UNPARTITIONED
from trading_platform.contracts.model import Model, ModelConfig
from trading_platform.registry.object_store import ObjectStore

NO_DATA = "none"  # the partition that says why there is no bundle
PARITY_CELLS = 50_000
# As `research.gates` judges them (docs/gates.md), on the bundle as it is stored.
CHECKS = {
    "integrity": "every file of the stored bundle has its sha256",
    "parity": "native LightGBM and ONNX agree on real rows",
    "golden": "the golden rows replay to the bit",
    "latency": "one cross-section through the runner's own path: p99 within its budget",
    "batch_invariance": "the same bits for every batch size",
}
SIZING = {"1Day": ("volatility_20d", "atr_20_pct"), "1Min": ("volatility_60", "atr_20_pct")}
BUNDLE_CODE = (
    "research.walk_forward",
    "research.splits",
    "research.models",
    "research.export",
    "registry.bundle",
    "engine.inference",
    "assets.bundles",
    "assets.models",
    "assets.panels",
    "assets.pipelines",
)


def cutoffs_of(place: Workplace, instance: dg.DagsterInstance, pipeline: Pipeline) -> list[str]:
    """Training cutoffs the published features imply, ascending; `none` where there are no rows. Registers them as partitions."""
    found = latest(instance, place, pipeline.features)
    keys = sorted(found.manifest.facts.get("cutoffs", {})) if found is not None else []
    instance.add_dynamic_partitions(pipeline.cutoffs, keys or [NO_DATA])
    return keys or [NO_DATA]


def partitions_of(pipeline: Pipeline) -> dg.DynamicPartitionsDefinition:
    """Dynamic partitions: training cutoff dates (ISO)."""
    return dg.DynamicPartitionsDefinition(name=pipeline.cutoffs)


def bundle_recipe(pipeline: Pipeline) -> Recipe:
    """A bundle is a function of the training set, its cutoff, and the report whose numbers its card shows."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        windows = {"cutoff": partition, "train": pipeline.train, "embargo": pipeline.embargo}
        recipe = learner_of(place, pipeline).recipe
        learns = {"learner": recipe["learner"], "parameters": dict(recipe["parameters"])}
        return {**windows, "seed": SEED, "model": pipeline.model, **learns}

    upstream = {**model_upstream(pipeline), pipeline.asset("walk_forward_report"): Reads.WHOLE}
    return Recipe(pipeline.asset("model_bundle"), BUNDLE_CODE, upstream, parameters)


def version_of(cutoff: str, inputs_hash: str, code: str) -> str:
    """Version of a bundle: its cutoff, and a number that follows from inputs and code: another making never meets an old version."""
    return f"{cutoff.replace('-', '')}.{int(content_hash([inputs_hash, code])[:6], 16)}"


def cutoff_row(out: Reader, pipeline: Pipeline, cutoff: str) -> int:
    """First row the bundle may trade. InputError for a date that is no cutoff of the published features."""
    known = out.facts(pipeline.features).get("cutoffs", {})
    if cutoff not in known:
        raise InputError(
            f"{cutoff} is no training cutoff", pipeline.asset("model_bundle"), f"the features allow {', '.join(known) or 'none'}"
        )
    return int(known[cutoff])


def config_of(out: Publication, pipeline: Pipeline, given: TrainingSet, rows: NDArray[np.int64]) -> ModelConfig:
    """The bundle's config.json."""
    volatility, atr = SIZING[pipeline.timeframe]
    return ModelConfig(
        name=pipeline.model,
        version=version_of(out.partition, out.inputs.hash, out.recipe.code_version),
        slot=pipeline.slot,
        timeframe=pipeline.timeframe,
        feature_set=str(out.facts(pipeline.features)["feature_set"]),
        feature_hash=str(out.facts(pipeline.features)["feature_hash"]),
        features=given.names,
        volatility=volatility,
        atr=atr,
        horizon=pipeline.horizon,
        target=given.labels.name,
        trained_from=int(given.panel.session[rows[0]]),
        trained_through=int(out.place.calendar.session_of(int(given.labels.t1[rows].max()))),
        feed=dict(out.facts(pipeline.bars)["feed"]),
    )


def parity_cells(given: TrainingSet, until: int) -> tuple[NDArray[np.float32], list[int]]:
    """The newest usable cells before a row, float32 (N, F), cross-section after cross-section of the sizes returned."""
    from trading_platform.research.walk_forward import usable_cells

    usable = usable_cells(given.panel, given.features)[:until]
    sizes = usable.sum(axis=1)
    first = int(np.searchsorted(-np.cumsum(sizes[::-1])[::-1], -PARITY_CELLS)) if sizes.sum() > PARITY_CELLS else 0
    return np.ascontiguousarray(given.features[first:until][usable[first:]]), [int(size) for size in sizes[first:] if size]


def publish_bundle(
    out: Publication, pipeline: Pipeline, context: dg.AssetExecutionContext, store: ObjectStore, mlflow: Mlflow
) -> dg.MaterializeResult:
    """Train on the last rows whose labels were known before the cutoff, export, and write the bundle."""
    from trading_platform.registry.bundle import write_bundle
    from trading_platform.research import export
    from trading_platform.research.splits import training_rows
    from trading_platform.research.walk_forward import fit

    if out.partition == NO_DATA or not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    given = training_set(out, pipeline)
    row = cutoff_row(out, pipeline, out.partition)
    rows = training_rows(given.labels.t0, given.labels.t1, row, pipeline.train, pipeline.embargo)
    if rows.size < pipeline.train:
        raise InputError(
            f"{rows.size} rows have labels before {out.partition}, {pipeline.train} are needed", out.recipe.asset, "read a longer span"
        )
    native, _ = fit(given.panel, given.features, given.names, given.labels, rows, seed=SEED, learner=learner_of(out.place, pipeline))
    cells, sizes = parity_cells(given, row)
    exported = export.export(native, config_of(out, pipeline, given, rows), cells, sizes, time.perf_counter_ns)
    report = out.facts(pipeline.asset("walk_forward_report"))
    with mlflow.session(out, context) as run:
        run.log_params({"cutoff": out.partition, "rows": int(rows.size), "version": exported.config.version})
        run.log_metrics({"parity_max_abs": exported.parity.max_abs, "latency_p99_ms": exported.latency.p99_ms})
        metadata = metadata_of(out, exported, report, {"dagster": context.run.run_id, "mlflow": run.run_id}, created_at(context))
        bundle_id = write_bundle(
            store, exported.config, exported.onnx, exported.golden_input, exported.golden_output, metadata, card_of(exported, report)
        )
        run.set_tags({"bundle_id": bundle_id})
    out.file("native", native, ".txt", rows=len(cells))
    facts = {
        "label": f"{exported.config.name}_v{exported.config.version}",
        "bundle_id": bundle_id,
        "slot": pipeline.slot,
        "first_row": row,
        "mlflow_run": run.run_id,
        "trained_rows": int(rows.size),
        "trained_from": exported.config.trained_from,
        "trained_through": exported.config.trained_through,
        "feature_set": exported.config.feature_set,
        "feature_hash": exported.config.feature_hash,
    }
    shown = {"latency_p50_ms": exported.latency.p50_ms, "latency_p99_ms": exported.latency.p99_ms, "onnx_bytes": len(exported.onnx)}
    span = {name: str(np.datetime64(getattr(exported.config, name), "D")) for name in ("trained_from", "trained_through")}
    return out.result({**{k: v for k, v in facts.items() if v != ""}, **shown, **span}, facts=facts)


def metadata_of(out: Publication, exported: Any, report: Mapping[str, Any], runs: Mapping[str, str], at: int) -> dict[str, Any]:
    """metadata.json. The trial registry's head says when it was made, not what it is: it stands with the runs."""
    from trading_platform.research import export

    trials = {name: value for name, value in report["trials"].items() if name != "head"}
    head = str(report["trials"].get("head", ""))
    return export.metadata(
        exported,
        created_at=at,
        metrics=report["metrics"],
        gates=report["gates"],
        lineage=lineage_of(out),
        runs={**runs, "trials_head": head},
        trials=trials,
    )


def created_at(context: dg.AssetExecutionContext) -> int:
    """When the run was created, UTC ns: Dagster's clock, so that asset code reads none."""
    record = context.instance.get_run_record_by_id(context.run.run_id)
    if record is None:
        raise CorruptionError(f"run {context.run.run_id} is not in the instance", "Dagster instance", "run the asset again")
    return int(record.create_timestamp.timestamp() * 1e9)


def lineage_of(out: Publication) -> dict[str, Any]:
    """What the model was made of: manifests, data versions and the commit. Equal for an equal model, so no run and no time is in it."""
    versions = {f"{asset}/{partition}": found.manifest.data_version for (asset, partition), found in sorted(out.inputs.upstream.items())}
    return {"inputs_hash": out.inputs.hash, "data_versions": versions, "code_version": out.recipe.code_version, "asset": out.recipe.asset}


def card_of(exported: Any, report: Mapping[str, Any]) -> str:
    """card.md."""
    from trading_platform.research import export
    from trading_platform.research.gates import GateResult

    gates = [
        GateResult(name, g["kind"], g.get("passed"), g.get("value"), g.get("threshold"), g["text"]) for name, g in report["gates"].items()
    ]
    numbers = {name: value for name, value in report["metrics"].items() if not isinstance(value, (dict, list))}
    notes = [str(report["warning"])] if report.get("warning") else []
    return export.card(exported, numbers, gates, notes)


def bundle_asset(pipeline: Pipeline) -> Node:
    """model_bundle of a pipeline with its checks."""
    recipe, partitions = bundle_recipe(pipeline), partitions_of(pipeline)

    @dg.asset(
        **of(recipe),
        group_name="models",
        kinds={"lightgbm", "onnx"},
        partitions_def=partitions,
        description="ONNX bundle trained on rows before the cutoff",
    )
    def bundle(context: dg.AssetExecutionContext, platform: Platform, bundles: Bundles, mlflow: Mlflow) -> dg.MaterializeResult:
        return publish_bundle(platform.publication(context, recipe), pipeline, context, bundles.store(), mlflow)

    specs = [
        dg.AssetCheckSpec(name, asset=recipe.asset, blocking=True, partitions_def=partitions, description=said)
        for name, said in CHECKS.items()
    ]

    @dg.multi_asset_check(specs=specs, name=f"{recipe.asset}_checks")
    def checks(context: dg.AssetCheckExecutionContext, platform: Platform, bundles: Bundles) -> Iterable[dg.AssetCheckResult]:
        yield from judge_bundle(context.instance, platform.place, bundles.store(), pipeline, context.partition_key)

    return Node(recipe, bundle, (checks,))


def judge_bundle(
    instance: dg.DagsterInstance, place: Workplace, store: ObjectStore, pipeline: Pipeline, partition: str
) -> Iterable[dg.AssetCheckResult]:
    """Load the stored bundle as a runner would and judge it again: sha256s, native parity on real rows, golden rows, latency, batches."""
    from trading_platform.registry.bundle import load_bundle

    asset = pipeline.asset("model_bundle")
    found = latest(instance, place, asset, partition)
    if found is None or "bundle_id" not in found.manifest.facts:
        yield from (dg.AssetCheckResult(check_name=name, asset_key=asset, passed=True, metadata=NOTHING_TO_JUDGE) for name in CHECKS)
        return
    facts = found.manifest.facts
    try:
        model = load_bundle(store, str(facts["label"]), str(facts["bundle_id"]))
    except (CorruptionError, InputError) as error:
        yield from (dg.AssetCheckResult(check_name=name, asset_key=asset, passed=False, metadata={"error": error.what}) for name in CHECKS)
        return
    yield dg.AssetCheckResult(check_name="integrity", asset_key=asset, passed=True, metadata={"bundle_id": model.bundle_id})
    for gate in technical_gates_of(instance, place, pipeline, partition, found, model):
        said = {"text": gate.text, "verdict": gate.verdict}
        yield dg.AssetCheckResult(check_name=gate.name, asset_key=asset, passed=gate.passed is True, metadata=said)


def technical_gates_of(
    instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline, partition: str, found: Materialization, model: Model
) -> list[Any]:
    """The technical gates of a stored bundle except leakage, which is the report's."""
    from trading_platform.engine.inference import Inference
    from trading_platform.registry.bundle import replay_golden
    from trading_platform.research import export
    from trading_platform.research.gates import Technical, Thresholds, technical_gates

    upstream = model_upstream(pipeline)
    seen = Reader(place, inputs_now(instance, place, Recipe("a check", (), upstream), UNPARTITIONED))
    given = training_set(seen, pipeline)
    cells, sizes = parity_cells(given, int(found.manifest.facts["first_row"]))
    native = read_file(place, found.manifest, f"native/{partition}")
    inference = Inference(model)
    evidence = Technical(
        leaks=None,
        parity=export.parity(native, inference, cells, sizes),
        golden_difference=replay_golden(model),
        latency=export.latency(inference, np.ascontiguousarray(cells[: max(sizes)]), time.perf_counter_ns),
    )
    return [gate for gate in technical_gates(evidence, Thresholds()) if gate.name != "leakage"]
