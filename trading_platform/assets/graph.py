"""The whole graph: every node of both pipelines in the order in which they depend on each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trading_platform.assets.bars import bars_asset
from trading_platform.assets.bundles import bundle_asset
from trading_platform.assets.drift import drift_asset
from trading_platform.assets.feature_checks import feature_checks
from trading_platform.assets.feature_shadow import shadow_asset
from trading_platform.assets.features import features_asset
from trading_platform.assets.feed_skew import skew_assets
from trading_platform.assets.labels import labels_asset
from trading_platform.assets.live import journal_asset, report_asset
from trading_platform.assets.live_parity import parity_asset
from trading_platform.assets.models import alpha_asset
from trading_platform.assets.monitoring import monitor_asset
from trading_platform.assets.node import Node
from trading_platform.assets.nulls import nulls_asset, shuffled_asset
from trading_platform.assets.pipelines import PIPELINES
from trading_platform.assets.promotion import promotion_asset
from trading_platform.assets.session_inputs import inputs_asset
from trading_platform.assets.tuning import study_asset
from trading_platform.assets.universe import universe_asset
from trading_platform.assets.walk_forward import report_asset as walk_forward_asset
from trading_platform.assets.warehouse import warehouse_assets


@dataclass(frozen=True, slots=True)
class Graph:
    """All nodes by asset name, upstream first."""

    nodes: Mapping[str, Node]


def build_graph() -> Graph:
    """Every asset of the platform."""
    nodes: list[Node] = []
    for pipeline in PIPELINES:
        own = [bars_asset(pipeline), universe_asset(pipeline), features_asset(pipeline, [feature_checks(pipeline)]), labels_asset(pipeline)]
        own += [inputs_asset(pipeline), alpha_asset(pipeline), shuffled_asset(pipeline), nulls_asset(pipeline)]
        own += [walk_forward_asset(pipeline), bundle_asset(pipeline)]
        nodes += [*own, study_asset(pipeline), promotion_asset(pipeline, own), drift_asset(pipeline), shadow_asset(pipeline)]
    nodes += [journal_asset(), parity_asset(), *skew_assets(), report_asset(), *(monitor_asset(pipeline) for pipeline in PIPELINES)]
    nodes += warehouse_assets()
    return Graph({node.recipe.asset: node for node in nodes})
