"""Promotion: a bundle gets a stage in the ledger only if every gate and every blocking check passed for exactly what it is made of."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import Field

from trading_platform.assets.bundles import NO_DATA, created_at, partitions_of
from trading_platform.assets.evidence import Verdict, verdict, verdicts
from trading_platform.assets.inputs import Reads, Recipe
from trading_platform.assets.models import model_upstream
from trading_platform.assets.node import Node, of
from trading_platform.assets.operational_evidence import operational_gate
from trading_platform.assets.panels import set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.publish import Publication
from trading_platform.assets.recipes import bound_to, recipe_of
from trading_platform.assets.refits import refit_gate
from trading_platform.assets.resources import Bundles, Mlflow, Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.ledger import STAGES, LedgerReader, in_force, standing
from trading_platform.contracts.manifest import UNPARTITIONED
from trading_platform.contracts.model import parse_label
from trading_platform.contracts.model_recipe import Envelope, ModelRecipe
from trading_platform.registry.object_store import ObjectStore
from trading_platform.registry.promotion_rules import AUTOMATIC, OPERATIONAL_EVIDENCE, REFIT_ENVELOPE, Wanted, incumbent_of


class PromotionConfig(dg.Config):
    """To which stage, and who said so. The way to paper is automatic; live needs two people (T39)."""

    stage: str = "paper"
    approvals: list[str] = Field(default_factory=lambda: [AUTOMATIC])
    reason: str = "every technical gate passed"
    capital_share: float = 1.0
    loss_budget: float = 0.0


CODE = (
    "contracts.model_recipe",
    "registry.ledger",
    "registry.promotion_rules",
    "registry.operational_evidence",
    "assets.promotion",
    "assets.evidence",
    "assets.recipes",
    "assets.refits",
    "assets.operational_evidence",
    "research.refit",
)


def promotion_recipe(pipeline: Pipeline) -> Recipe:
    """A promotion is a function of the bundle, the report, and everything upstream whose checks it demands."""

    def parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
        return {"account": pipeline.account(place.settings.account), "mode": place.settings.mode}

    report, bundle = pipeline.asset("walk_forward_report"), pipeline.asset("model_bundle")
    upstream = {**model_upstream(pipeline), pipeline.asset("alpha_lightgbm"): Reads.WHOLE, report: Reads.WHOLE, bundle: Reads.SAME}
    return Recipe(pipeline.asset("promotion"), CODE, upstream, parameters)


def refuse_unproven(found: Sequence[Verdict], where: str) -> None:
    """Fail closed: a blocking check that failed, or never judged exactly this materialization, refuses."""
    wrong = [said.text for said in found if said.passed is not True]
    if wrong:
        raise InputError(
            f"promotion refused: {'; '.join(wrong)}", where, "an absent verdict counts as failed: run the checks and fix the cause"
        )


def beside_the_bundle(instance: dg.DagsterInstance, pipeline: Pipeline) -> list[Verdict]:
    """What a bundle is not made of and still stops it: inputs a runner could not read, a traded difference nobody can explain (T35)."""
    found = []
    for asset, check in ((pipeline.asset("session_inputs"), "readable"), ("live_parity", "unexplained")):
        key = dg.AssetKey(asset)
        for newest in instance.fetch_materializations(key, limit=1).records:
            partition = newest.partition_key or UNPARTITIONED
            found.append(verdict(instance, dg.AssetCheckKey(key, check), partition, newest.storage_id))
    return found


def refuse_other_features(out: Publication, pipeline: Pipeline, bundle: Mapping[str, Any]) -> None:
    """A model of features that are not in force, a disabled one among them perhaps, gets no stage (FEAT-27)."""
    wanted = set_of(out, pipeline)
    if bundle.get("feature_hash") != wanted.hash:
        has = f"{bundle.get('feature_set', 'unnamed')} ({str(bundle.get('feature_hash', ''))[:12]})"
        what = f"promotion refused: the bundle reads the features {has}, in force are {wanted.name} ({wanted.hash[:12]})"
        raise InputError(what, f"{out.recipe.asset}, partition {out.partition}", "materialize the features and the models after them again")


def gates_of(found: Sequence[Verdict], pipeline: Pipeline, report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Gates as the ledger keeps them: the report's and the bundle's, each with the storage id of what it was judged on."""
    bundle, walk_forward = pipeline.asset("model_bundle"), pipeline.asset("walk_forward_report")
    judged = next(said.storage_id for said in found if said.asset == walk_forward)
    gates = {name: {**gate, "storage_id": judged} for name, gate in report["gates"].items()}
    for said in found:
        if said.asset == bundle:
            gates[said.check] = {"kind": "technical", "passed": said.passed, "storage_id": said.storage_id}
    return gates


@dataclass(frozen=True, slots=True)
class Case:
    """A bundle that asks for a stage: what the ledger is told about it. at: UTC ns."""

    label: str
    bundle_id: str
    recipe: str
    bound: Mapping[str, str]
    gates: Mapping[str, Mapping[str, Any]]
    at: int

    def wanted(self, place: Workplace, pipeline: Pipeline, config: PromotionConfig, stage: str) -> Wanted:
        """The case as the ledger's request for a stage."""
        name, version = parse_label(self.label)
        live = stage == "live"
        return Wanted(
            name,
            version,
            self.bundle_id,
            pipeline.account(place.settings.account),
            "live" if live else place.settings.mode,
            stage,
            pipeline.slot,
            config.capital_share,
            self.recipe,
            self.bound,
            config.loss_budget if live else None,
        )


def write_ledger(place: Workplace, pipeline: Pipeline, config: PromotionConfig, case: Case) -> str:
    """Take the bundle through every stage up to the wanted one; return the ledger's head. Nothing is written twice.

    InputError where the ledger refuses: a gate, an order of stages, too few people.
    """
    from trading_platform.registry.ledger import promote

    path = place.settings.ledger_path
    last = case.wanted(place, pipeline, config, config.stage)
    now = standing(LedgerReader(path).entries(), case.bundle_id, last.account, last.mode)
    have = STAGES.index(now.stage) if now is not None and now.stage != "archived" else -1
    steps = ("live",) if config.stage == "live" else STAGES[: STAGES.index(config.stage) + 1]
    for stage in steps:
        grows = stage == "live" and now is not None and now.capital_share != config.capital_share
        if STAGES.index(stage) <= have and not grows:
            continue
        said: dict[str, Any] = {"at": case.at, "approvals": config.approvals, "reason": config.reason, "gates": case.gates}
        promote(path, expected_head=LedgerReader(path).head(), **case.wanted(place, pipeline, config, stage).subject(), **said)
    return LedgerReader(path).head()


def write_newest(place: Workplace, store: ObjectStore, wanted: Wanted) -> None:
    """Put the slot's newest bundle that may trade under the model's plain name (REGY-09); an older one promoted again moves nothing."""
    from trading_platform.registry.bundle import write_current

    newest = in_force(LedgerReader(place.settings.ledger_path).entries(), wanted.account, wanted.mode, wanted.slot)[-1:]
    if newest and newest[0].bundle_id == wanted.bundle_id:
        write_current(store, f"{wanted.name}_v{wanted.version}")


def beyond_the_report(
    out: Publication, pipeline: Pipeline, context: dg.AssetExecutionContext, store: ObjectStore, config: PromotionConfig, case: Case
) -> dict[str, dict[str, Any]]:
    """Gates about what happened since: the refit beside its incumbent of the same recipe (T25), and for live the operations (T26)."""
    from trading_platform.registry.bundle import load_bundle

    wanted = case.wanted(out.place, pipeline, config, config.stage)
    entries, found = LedgerReader(out.place.settings.ledger_path).entries(), dict[str, dict[str, Any]]()
    bundle, model = out.inputs.upstream[pipeline.asset("model_bundle"), out.partition], load_bundle(store, case.label, case.bundle_id)
    incumbent = incumbent_of(entries, wanted)
    if incumbent is not None:
        registered = [e for e in entries if e.action == "recipe" and e.recipe == case.recipe and e.document is not None]
        envelope = ModelRecipe.of(registered[-1].document or {}, "the promotion ledger").envelope if registered else Envelope()
        row = int(bundle.manifest.facts["first_row"])
        found[REFIT_ENVELOPE] = {**refit_gate(out, pipeline, store, model, row, incumbent, envelope), "storage_id": bundle.storage_id}
    if config.stage == "live":
        evidence = operational_gate(context.instance, out.place, pipeline, wanted, model)
        found |= {} if evidence is None else {OPERATIONAL_EVIDENCE: evidence}
    return found


def publish_promotion(
    out: Publication,
    pipeline: Pipeline,
    context: dg.AssetExecutionContext,
    config: PromotionConfig,
    store: ObjectStore,
    mlflow: Mlflow,
    checks: Mapping[str, Sequence[str]],
) -> dg.MaterializeResult:
    """Collect the evidence, ask the ledger, move MLflow's alias."""
    if out.partition == NO_DATA or not out.holds(pipeline.bars):
        return out.nothing(f"{pipeline.bars} holds no rows")
    if config.stage not in ("candidate", "shadow", "paper", "live"):
        raise InputError(f"stage {config.stage!r}", out.recipe.asset, "use candidate, shadow, paper or live")
    bundle = out.facts(pipeline.asset("model_bundle"), out.partition)
    refuse_other_features(out, pipeline, bundle)
    found = verdicts(context.instance, out.inputs.upstream, checks)
    refuse_unproven([*found, *beside_the_bundle(context.instance, pipeline)], f"{out.recipe.asset}, partition {out.partition}")
    gates = gates_of(found, pipeline, out.facts(pipeline.asset("walk_forward_report")))
    label, bundle_id = str(bundle["label"]), str(bundle["bundle_id"])
    manifests = (out.inputs.manifest(asset) for asset in (pipeline.features, pipeline.labels, pipeline.asset("universe")))
    report = out.inputs.manifest(pipeline.asset("walk_forward_report"))
    made_by = recipe_of(out.place, pipeline, *manifests).hash
    case = Case(label, bundle_id, made_by, bound_to(out.place, pipeline, report), gates, created_at(context))
    gates |= beyond_the_report(out, pipeline, context, store, config, case)
    head = write_ledger(out.place, pipeline, config, case)
    write_newest(out.place, store, case.wanted(out.place, pipeline, config, config.stage))
    mlflow.point_alias(label, config.stage, bundle_id, str(bundle.get("mlflow_run", "")))
    binding = ("statistical", "data", "operational")  # the seed gates are told beside them
    open_ = sorted(name for name, gate in gates.items() if gate.get("kind") in binding and gate.get("passed") is not True)
    out.file("promotion", _record(label, bundle_id, config, gates), ".json", rows=1)
    facts = {"promoted": True, "stage": config.stage, "label": label, "bundle_id": bundle_id, "slot": pipeline.slot}
    facts |= {"account": pipeline.account(out.place.settings.account), "ledger_head": head, "recipe": made_by}
    refit = gates.get(REFIT_ENVELOPE)
    judged = {"checks_demanded": len(found), "statistical_gates_open": ", ".join(open_)}
    judged |= {} if refit is None else {"refit": str(refit["text"])}
    return out.result({**facts, **judged, "checks": dg.MetadataValue.md(_table(found))}, facts=facts)


def _record(label: str, bundle_id: str, config: PromotionConfig, gates: Mapping[str, Mapping[str, Any]]) -> bytes:
    from trading_platform.contracts.canonical import canonical_bytes

    plain = {name: {k: v for k, v in gate.items() if k != "storage_id"} for name, gate in gates.items()}
    return canonical_bytes({"label": label, "bundle_id": bundle_id, "stage": config.stage, "approvals": config.approvals, "gates": plain})


def _table(found: Sequence[Verdict]) -> str:
    rows = [f"| {v.asset} | {v.partition} | {v.check} | {v.storage_id} |" for v in found]
    return "\n".join(["| asset | partition | passed check | storage id |", "|---|---|---|---|", *rows])


def blocking_checks(nodes: Sequence[Node]) -> dict[str, list[str]]:
    """Asset -> names of its blocking checks."""
    return {
        node.recipe.asset: sorted(spec.name for check in node.checks for spec in check.check_specs if spec.blocking)
        for node in nodes
        if node.checks
    }


def promotion_asset(pipeline: Pipeline, upstream: Sequence[Node]) -> Node:
    """promotion of a pipeline; `upstream` are the nodes whose blocking checks it demands."""
    recipe, checks = promotion_recipe(pipeline), blocking_checks(upstream)

    @dg.asset(
        **of(recipe),
        group_name="registry",
        kinds={"json"},
        partitions_def=partitions_of(pipeline),
        description="Stage of a bundle in the promotion ledger",
    )
    def promotion(
        context: dg.AssetExecutionContext, config: PromotionConfig, platform: Platform, bundles: Bundles, mlflow: Mlflow
    ) -> dg.MaterializeResult:
        return publish_promotion(platform.publication(context, recipe), pipeline, context, config, bundles.store(), mlflow, checks)

    @dg.asset_check(asset=recipe.asset, name="aliases", description="MLflow's aliases point where the ledger says")
    def aliases(context: dg.AssetCheckExecutionContext, platform: Platform, mlflow: Mlflow) -> dg.AssetCheckResult:
        return judge_aliases(platform.place, mlflow.tracking)

    return Node(recipe, promotion, (aliases,))


def judge_aliases(place: Workplace, tracking: bool) -> dg.AssetCheckResult:
    """A moved alias misleads people and lets nobody trade: it warns, and `trading-platform models reconcile --repair` puts it right."""
    from trading_platform.contracts.errors import TransientError
    from trading_platform.registry import aliases

    if not tracking:
        return dg.AssetCheckResult(passed=True, metadata={"verdict": "tracking is off"})
    entries = LedgerReader(place.settings.ledger_path).entries()
    try:
        found = aliases.drifts(entries, aliases.client(place.settings.mlflow_tracking_uri))
    except TransientError as error:
        return dg.AssetCheckResult(passed=False, severity=dg.AssetCheckSeverity.WARN, metadata={"error": error.what})
    said = {"elsewhere": "; ".join(drift.text for drift in found)}
    return dg.AssetCheckResult(passed=not found, severity=dg.AssetCheckSeverity.WARN, metadata=said)
