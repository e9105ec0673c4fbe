"""Jobs: what a sensor, a schedule or a person starts as one run."""

from __future__ import annotations

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from trading_platform.assets.drift import drift_asset_name
from trading_platform.assets.feature_shadow import shadow_asset_name
from trading_platform.assets.pipelines import Pipeline


def retrain_job(pipeline: Pipeline) -> UnresolvedAssetJobDefinition:
    """Everything between the bars and the report, drift and shadow run included; bundles and promotions follow per training cutoff."""
    names = [pipeline.asset("universe"), pipeline.features, pipeline.labels]
    names += [drift_asset_name(pipeline), shadow_asset_name(pipeline)]
    names += [pipeline.asset(name) for name in ("session_inputs", "alpha_lightgbm", "null_models", "walk_forward_report")]
    return dg.define_asset_job(
        f"retrain_{pipeline.name}",
        selection=dg.AssetSelection.assets(*names),
        tags={"trading/heavy": "1"},
        description="Universe to walk-forward report, with MLflow runs under one parent",
    )


def refit_job(pipeline: Pipeline) -> UnresolvedAssetJobDefinition:
    """Bundle and promotion of one training cutoff; a blocking check of the bundle stops the promotion."""
    return dg.define_asset_job(
        f"refit_{pipeline.name}",
        selection=dg.AssetSelection.assets(pipeline.asset("model_bundle"), pipeline.asset("promotion")),
        tags={"trading/heavy": "1"},
        description="Bundle of a training cutoff, and its stage in the ledger as far as its gates allow",
    )
