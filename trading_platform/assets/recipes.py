"""The recipe of a pipeline as it stands now (T25), and what an approval of its bundles rests on beside it (T39)."""

from __future__ import annotations

import dagster as dg

from trading_platform.assets.bundles import bundle_recipe
from trading_platform.assets.inputs import Materialization, latest
from trading_platform.assets.models import learner_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.trials import thresholds_of
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import canonical_bytes, content_hash
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.manifest import Manifest
from trading_platform.contracts.model_recipe import ModelRecipe
from trading_platform.registry.promotion_rules import Wanted

MADE_BY = ("features", "labels", "universe")  # whose code makes a recipe, beside the bundle's own


def _newest(instance: dg.DagsterInstance, place: Workplace, asset: str, partition: str | None = None) -> Materialization:
    found = latest(instance, place, asset) if partition is None else latest(instance, place, asset, partition)
    if found is None:
        raise InputError(f"{asset} was never materialized", asset, f"materialize {asset} first")
    return found


def recipe_of(
    place: Workplace, pipeline: Pipeline, features: Manifest, labels: Manifest, universe: Manifest, author: str = ""
) -> ModelRecipe:
    """How the pipeline's bundles are made, from the manifests of what they are made of."""
    profile, learner = place.profile(pipeline), learner_of(place, pipeline).recipe
    sources = [bundle_recipe(pipeline).code_version, *(made.code_version for made in (features, labels, universe))]
    return ModelRecipe(
        name=pipeline.model,
        slot=pipeline.slot,
        code_version=content_hash(sources),
        feature_set=str(features.facts["feature_set"]),
        feature_hash=str(features.facts["feature_hash"]),
        label=str(labels.facts["rule"]),
        horizon=pipeline.horizon,
        universe=canonical_bytes(profile.universe).decode(),
        learner=str(learner["learner"]),
        parameters=dict(learner["parameters"]),
        training_rows=pipeline.train,
        embargo=pipeline.embargo,
        refit_every=pipeline.step,
        max_age=profile.models.max_age_sessions,
        hard_max_age=profile.models.hard_max_age_sessions,
        author=author,
        commit=place.git_commit,
    )


def recipe_now(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline, author: str = "") -> ModelRecipe:
    """The recipe of what is published now. InputError where something it is made of never was."""
    names = (pipeline.features, pipeline.labels, pipeline.asset("universe"))
    features, labels, universe = (_newest(instance, place, asset).manifest for asset in names)
    return recipe_of(place, pipeline, features, labels, universe, author)


def bound_to(place: Workplace, pipeline: Pipeline, report: Manifest) -> dict[str, str]:
    """Hashes of the report that was read, of every number that decisions depend on, and of the gates' thresholds."""
    return {"report": report.data_version, "config": place.profile(pipeline).hash, "thresholds": thresholds_of(place).hash}


def live_request(
    instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline, cutoff: str, capital_share: float, loss_budget: float
) -> Wanted:
    """What an approval for live says yes to: the newest bundle of a cutoff, with everything it rests on as it is now."""
    bundle = _newest(instance, place, pipeline.asset("model_bundle"), cutoff).manifest.facts
    report = _newest(instance, place, pipeline.asset("walk_forward_report")).manifest
    label = str(bundle.get("label", ""))
    if not label:
        raise InputError(f"no bundle of {cutoff}", pipeline.asset("model_bundle"), "give a cutoff that has one")
    name, version = label.rsplit("_v", 1)
    return Wanted(
        name,
        version,
        str(bundle["bundle_id"]),
        pipeline.account(place.settings.account),
        "live",
        "live",
        pipeline.slot,
        capital_share,
        recipe_now(instance, place, pipeline).hash,
        bound_to(place, pipeline, report),
        loss_budget,
    )
