"""MLflow and S3 through the resources: one tracked run per asset partition under one parent per job, bundles in any S3."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from world import World

from trading_platform.assets.resources import Bundles, Platform
from trading_platform.registry.object_store import FileStore, S3Store


@pytest.fixture
def tracked(world: World, materialised: tuple[Path, Path]) -> Iterator[dg.Definitions]:
    from trading_platform.definitions import build_definitions

    yield build_definitions(**{**world.overrides, "max_folds": 2})


def test_a_retrain_job_leaves_one_parent_and_one_run_per_asset(world: World, tracked: dg.Definitions) -> None:
    job = tracked.resolve_job_def("retrain_daily")
    result = job.execute_in_process(instance=world.instance, raise_on_error=False)
    assert result.success
    script = (
        "import mlflow, sys; c = mlflow.MlflowClient(sys.argv[1]); e = c.get_experiment_by_name('trading');"
        "print([(r.data.tags.get('level'), r.data.tags.get('asset', ''), r.info.status, r.data.tags.get('job', ''))"
        " for r in c.search_runs([e.experiment_id], order_by=['attributes.start_time ASC'])])"
    )
    command = [sys.executable, "-W", "ignore", "-c", script, world.settings.mlflow_tracking_uri]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    runs = sorted(eval(said))
    assert runs == [
        ("child", "alpha_lightgbm", "FINISHED", ""),
        ("child", "walk_forward_report", "FINISHED", ""),
        ("parent", "", "FINISHED", "retrain_daily"),
    ]
    assert not (world.settings.mlflow_dir / "unsent").exists()


def test_the_store_is_a_folder_unless_the_address_says_s3(tmp_path: Path) -> None:
    platform = Platform(settings={"home": str(tmp_path), "profile": "demo"})
    with dg.build_resources({"bundles": Bundles(platform=platform)}) as resources:
        assert isinstance(resources.bundles.store(), FileStore)


def test_bundles_go_to_any_s3_through_dagster_aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for name, value in (("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_DEFAULT_REGION", "us-east-1")):
            monkeypatch.setenv(name, value)
        endpoint = f"http://{host}:{port}"
        bundles = Bundles(
            url="s3://bundles/prefix", endpoint_url=endpoint, platform=Platform(settings={"home": str(tmp_path), "profile": "demo"})
        )
        with dg.build_resources({"bundles": bundles}) as resources:
            store = resources.bundles.store()
            assert isinstance(store, S3Store)
            store._client.create_bucket(Bucket="bundles")
            store.put("trading-models/a/card.md", b"card")
            assert store.get("trading-models/a/card.md") == b"card" and store.list("") == ("trading-models/a/card.md",)
    finally:
        server.stop()


def test_without_tracking_nothing_of_mlflow_is_written(shared_world: World) -> None:
    assert not shared_world.settings.mlflow_dir.exists()
