"""Checks of the features asset: the published table against the bars it was made from."""

# No postponed annotations here: Dagster reads those of a check's context as they stand.
import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.evidence import NOTHING_TO_JUDGE
from trading_platform.assets.features import compute, features_array
from trading_platform.assets.panels import panel_of, set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.features.program import FeatureSet

FUTURE_ROWS = 64  # replaced rows that the causality check feeds after the half it compares
DEFINED_SHARE = 0.5  # a feature that is undefined in more than half of the warm cells says nothing


def feature_checks(pipeline: Pipeline) -> dg.AssetChecksDefinition:
    """The checks of features_daily or features_intraday."""
    asset = pipeline.features
    specs = [
        dg.AssetCheckSpec("finite", asset=asset, blocking=True, description="no infinite value; no feature undefined in most warm cells"),
        dg.AssetCheckSpec("causal", asset=asset, blocking=True, description="the future, changed, moves no earlier feature (I1)"),
    ]

    @dg.multi_asset_check(specs=specs, name=f"{pipeline.features}_checks")
    def checks(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterable[dg.AssetCheckResult]:
        yield from judge_features(context.instance, platform.place, pipeline)

    return checks


def judge_features(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> Iterable[dg.AssetCheckResult]:
    """The published table against a second computation over bars whose future was changed, and its share of defined cells."""
    seen = reader(instance, place, pipeline.bars, pipeline.asset("universe"), pipeline.features)
    asset = pipeline.features
    if not seen.holds(asset):
        yield from (
            dg.AssetCheckResult(check_name=name, asset_key=asset, passed=True, metadata=NOTHING_TO_JUDGE) for name in ("finite", "causal")
        )
        return
    panel, chosen = panel_of(seen, pipeline), set_of(seen, pipeline)
    published, _ = features_array(seen, pipeline, panel)
    warm = np.cumsum(panel.present, axis=0) > chosen.warm_up
    share = (
        {name: float(np.isfinite(published[..., i][warm & panel.present]).mean()) for i, name in enumerate(chosen.names)}
        if warm.any()
        else {}
    )
    infinite = int(np.isinf(published).sum())
    empty = sorted(name for name, defined in share.items() if defined < DEFINED_SHARE)
    said = {"infinite_cells": infinite, "mostly_undefined": ", ".join(empty), "least_defined": min(share.values(), default=1.0)}
    yield dg.AssetCheckResult(check_name="finite", asset_key=asset, passed=infinite == 0 and not empty, metadata=said)
    moved = moved_by_the_future(panel, chosen, published)
    said = {"features_that_moved": ", ".join(moved), "rows_compared": panel.shape[0] // 2}
    yield dg.AssetCheckResult(check_name="causal", asset_key=asset, passed=not moved, metadata=said)


def moved_by_the_future(panel: Panel, feature_set: "FeatureSet", published: NDArray[np.float32]) -> list[str]:
    """Features whose published first half differs in any bit from one computed with every later bar replaced."""
    half = panel.shape[0] // 2
    end = min(panel.shape[0], half + FUTURE_ROWS)
    generator = np.random.default_rng(0)
    fields = {name: values[:end].copy() for name, values in panel.fields.items()}
    for values in fields.values():
        values[half:] *= generator.uniform(0.5, 2.0, values[half:].shape)
    changed = dataclasses.replace(panel.rows(0, end), fields=fields)
    again = compute(changed, feature_set)
    same = (again[:half] == published[:half]) | (np.isnan(again[:half]) & np.isnan(published[:half]))
    return [name for index, name in enumerate(feature_set.names) if not bool(same[..., index].all())]
