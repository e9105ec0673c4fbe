"""Sensors: nothing is lost between two ticks, nothing is asked twice, and Redis gets the request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import redis

from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.automation.jobs import retrain_job
from trading_platform.automation.sensors import BATCH, promotion_sensor, retrain_sensor
from trading_platform.config import load_settings
from trading_platform.contracts.manifest import Manifest, inputs_hash
from trading_platform.definitions import build_definitions
from trading_platform.registry.redis_server import RedisServer
from trading_platform.registry.slots import Slots


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def bars(instance: dg.DagsterInstance, version: str, rows: int = 10) -> None:
    """A materialization of the bars with this data version."""
    tags = {"dagster/data_version": version}
    instance.report_runless_asset_event(dg.AssetMaterialization("bars_daily", metadata={"dagster/row_count": rows}, tags=tags))


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    """One evaluation of the retrain sensor."""
    sensor = retrain_sensor(DAILY, retrain_job(DAILY))
    found = sensor(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(found, (dg.SensorResult, dg.SkipReason))
    return found


def keys(result: dg.SensorResult | dg.SkipReason) -> list[str | None]:
    assert isinstance(result, dg.SensorResult)
    return [request.run_key for request in result.run_requests or []]


def test_every_event_between_two_ticks_is_seen(instance: dg.DagsterInstance) -> None:
    for number in range(7):
        bars(instance, f"v{number}")
    assert keys(tick(instance)) == [f"bars_daily:v{number}" for number in range(7)]


def test_more_events_than_one_batch_come_with_the_next_ticks(instance: dg.DagsterInstance) -> None:
    for number in range(BATCH + 3):
        bars(instance, f"v{number}")
    first = tick(instance)
    assert isinstance(first, dg.SensorResult)
    second = tick(instance, first.cursor)
    assert keys(first) + keys(second) == [f"bars_daily:v{number}" for number in range(BATCH + 3)]


def test_a_tick_without_news_skips_and_an_old_event_never_comes_back(instance: dg.DagsterInstance) -> None:
    assert isinstance(tick(instance), dg.SkipReason)
    bars(instance, "v1")
    first = tick(instance)
    assert isinstance(first, dg.SensorResult)
    assert isinstance(tick(instance, first.cursor), dg.SkipReason)


def test_the_same_bytes_again_ask_for_no_second_training(instance: dg.DagsterInstance) -> None:
    bars(instance, "v1")
    bars(instance, "v1")
    assert set(keys(tick(instance))) == {"bars_daily:v1"}


def test_bars_without_rows_train_nothing_and_are_passed_over(instance: dg.DagsterInstance) -> None:
    bars(instance, "v0", rows=0)
    bars(instance, "v1")
    assert keys(tick(instance)) == ["bars_daily:v1"]


def drift(instance: dg.DagsterInstance, window: str, holds: bool = True) -> None:
    """A materialization of the drift asset with this verdict."""
    said = {"drift_holds": holds, "window": window, "reason": "9 of 40 features drifted: rsi_14", "model": "alpha_lightgbm_v1"}
    instance.report_runless_asset_event(dg.AssetMaterialization("feature_drift_daily", metadata=said))


def test_drift_that_holds_asks_for_one_refit_per_window_and_says_why(instance: dg.DagsterInstance) -> None:
    drift(instance, "2014-08", holds=False)
    drift(instance, "2014-09")
    drift(instance, "2014-09")
    bars(instance, "v1")
    first = tick(instance)
    assert isinstance(first, dg.SensorResult)
    assert sorted(set(map(str, keys(first)))) == ["bars_daily:v1", "feature_drift_daily:2014-09"]
    tags = next(request.tags for request in first.run_requests or [] if "drift" in str(request.run_key))
    assert (tags["trigger/window"], tags["trigger/model"]) == ("2014-09", "alpha_lightgbm_v1")
    assert tags["trigger/reason"] == "drift: 9 of 40 features drifted: rsi_14"
    drift(instance, "2014-10")
    assert keys(tick(instance, first.cursor)) == ["feature_drift_daily:2014-10"]


def test_a_sensor_that_read_the_bars_alone_goes_on_where_it_was(instance: dg.DagsterInstance) -> None:
    bars(instance, "v1")
    seen = instance.fetch_materializations(dg.AssetKey("bars_daily"), limit=1).records[0].storage_id
    bars(instance, "v2")
    assert keys(tick(instance, str(seen))) == ["bars_daily:v2"]


def test_the_retrain_job_is_everything_between_bars_and_report() -> None:
    job = build_definitions(tracking=False, profile="demo").resolve_job_def("retrain_daily")
    nodes = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    expected = {"universe", "features_daily", "labels_daily", "session_inputs", "alpha_lightgbm", "walk_forward_report"}
    assert nodes == {*expected, "feature_drift_daily", "feature_shadow_daily"}


def test_a_promotion_reaches_redis_as_a_request(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    with RedisServer() as server:
        settings = {"home": str(tmp_path), "redis_url": server.url, "profile": "demo"}
        place = Workplace(load_settings(**settings))
        for number in (1, 2):
            promoted(instance, place, f"alpha_lightgbm_v2014.{number}", f"{number}" * 64)
        context = dg.build_sensor_context(instance=instance, resources={"platform": Platform(settings=settings)})
        result = promotion_sensor(DAILY)(context)
        assert isinstance(result, dg.SensorResult) and result.cursor
        client = redis.Redis.from_url(server.url)
        assert Slots(client, "default", "paper").pending("daily") == ("alpha_lightgbm_v2014.2", "2" * 64)
        assert Slots(client, "default", "paper").active("daily") is None
        client.close()


def promoted(instance: dg.DagsterInstance, place: Workplace, label: str, bundle_id: str) -> None:
    """A materialization of the promotion asset."""
    facts = {"promoted": True, "label": label, "bundle_id": bundle_id, "slot": "daily", "account": "default"}
    manifest = Manifest("promotion", label, "c", "d", inputs_hash((), {}), {}, (), (), facts=facts)
    stored = place.lake.write_file("manifests/promotion", label, manifest.to_bytes(), ".json")
    instance.report_runless_asset_event(dg.AssetMaterialization("promotion", partition=label, metadata={"manifest": stored.uri}))


def test_a_redis_that_does_not_answer_keeps_the_cursor(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    from trading_platform.contracts.errors import TransientError

    settings = {"home": str(tmp_path), "redis_url": "redis://127.0.0.1:1/0", "profile": "demo"}
    promoted(instance, Workplace(load_settings(**settings)), "alpha_lightgbm_v1", "1" * 64)
    context = dg.build_sensor_context(instance=instance, resources={"platform": Platform(settings=settings)})
    with pytest.raises(TransientError):
        promotion_sensor(DAILY)(context)


def test_everything_automatic_is_stopped_until_someone_starts_it() -> None:
    repository = build_definitions(tracking=False, profile="demo").get_repository_def()
    assert all(
        sensor.default_status is dg.DefaultSensorStatus.STOPPED
        for sensor in repository.sensor_defs
        if "retrain" in sensor.name or "publish" in sensor.name
    )
    assert all(schedule.default_status is dg.DefaultScheduleStatus.STOPPED for schedule in repository.schedule_defs)
