"""The graph as a contract: what there is, what depends on what, and what loading it costs."""

from __future__ import annotations

import subprocess
import sys

import dagster as dg
from world import World

from trading_platform.assets.inputs import latest
from trading_platform.assets.pipelines import DAILY, INTRADAY

HEAVY = ("torch", "lightgbm", "mlflow", "polars", "numba", "pandas", "dbt", "dagster_mlflow", "dagster_aws", "dagster_dbt", "onnxruntime")


def test_loading_the_code_location_imports_nothing_heavy() -> None:
    probe = f"import dagster, sys; import trading_platform.definitions; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def expected(suffix: str, bars: str, name: str) -> dict[str, set[str]]:
    universe, features, labels = f"universe{suffix}", f"features_{name}", f"labels_{name}"
    training = {bars, universe, features, labels}
    report, alpha, bundle = f"walk_forward_report{suffix}", f"alpha_lightgbm{suffix}", f"model_bundle{suffix}"
    return {
        bars: set(),
        universe: {bars},
        features: {bars, universe},
        labels: {bars, universe},
        f"session_inputs{suffix}": {bars, universe, features},
        alpha: training,
        f"study{suffix}": training,
        report: {*training, alpha, f"null_models{suffix}"},
        f"shuffled_labels{suffix}": training,
        f"null_models{suffix}": {*training, alpha, f"shuffled_labels{suffix}"},
        bundle: {*training, report},
        f"promotion{suffix}": {*training, alpha, report, bundle},
        f"feature_drift_{name}": {universe, features, bundle},
        f"feature_shadow_{name}": {bars, universe, features},
        f"model_monitor_{name}": {bars, alpha, report, bundle, f"promotion{suffix}", "live_journal", "session_report"},
    }


def test_both_pipelines_have_the_same_assets_and_do_not_join(shared_world: World) -> None:
    graph = shared_world.definitions.resolve_asset_graph()
    found = {key.to_user_string(): {up.to_user_string() for up in graph.get(key).parent_keys} for key in graph.get_all_asset_keys()}
    live = {
        "live_journal": set(),
        "live_parity": {"live_journal", DAILY.features, INTRADAY.features},
        "feed_skew": {"live_journal", DAILY.bars, DAILY.features, INTRADAY.bars, INTRADAY.features},
        "feed_skew_reports": {"feed_skew"},
        "session_report": {"live_journal"},
        "bars_daily_rollup": {INTRADAY.bars},
        "session_orders": {"live_journal"},
        "session_pnl": {"session_report"},
    }
    assert found == {**expected("", DAILY.bars, "daily"), **expected("_intraday", INTRADAY.bars, "intraday"), **live}


def test_every_asset_says_who_owns_it_what_it_is_and_which_code_made_it(shared_world: World) -> None:
    graph = shared_world.definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners and node.group_name and node.kinds and node.description and node.code_version, key


def test_every_check_says_what_passes_it(shared_world: World) -> None:
    graph = shared_world.definitions.resolve_asset_graph()
    assert [key for key in graph.asset_check_keys if not graph.get_check_spec(key).description] == []


def test_a_materialization_carries_schema_counts_span_hash_manifest_and_plots(shared_world: World) -> None:
    event = shared_world.instance.get_latest_materialization_event(dg.AssetKey("alpha_lightgbm"))
    assert event is not None and event.asset_materialization is not None
    metadata, tags = event.asset_materialization.metadata, event.asset_materialization.tags or {}
    assert {"dagster/row_count", "dagster/column_schema", "span", "inputs_hash", "manifest", "sha256"} <= set(metadata)
    assert tags["dagster/data_version"] == shared_world.manifest("alpha_lightgbm").data_version
    plots = [str(metadata[name].value) for name in ("ic_over_time", "feature_importance")]
    assert all(plot.startswith("![") and "data:image/png;base64," in plot and len(plot) < 110_000 for plot in plots)


def test_without_minute_bars_the_intraday_pipeline_is_empty_and_says_why(shared_world: World) -> None:
    for asset in (INTRADAY.bars, INTRADAY.features, "alpha_lightgbm_intraday", "walk_forward_report_intraday"):
        found = latest(shared_world.instance, shared_world.place, asset)
        assert found is not None and not found.manifest.outputs
    assert "1Min" in str(shared_world.manifest(INTRADAY.bars).facts["empty"])
