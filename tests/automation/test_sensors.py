"""Sensors: nothing is lost between two ticks, nothing is asked twice, and Redis gets the request."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import redis
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData

from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.automation.jobs import refit_job, retrain_job
from trading_platform.automation.schedules import retrain_schedule
from trading_platform.automation.sensors import BATCH, bundle_sensor, promotion_sensor, retrain_sensor
from trading_platform.automation.upstream import Upstream, upstream_of_graph
from trading_platform.config import load_settings
from trading_platform.contracts.manifest import Manifest, inputs_hash
from trading_platform.definitions import build_definitions
from trading_platform.registry.redis_server import RedisServer
from trading_platform.registry.slots import Slots


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


RULES = Upstream({"bars_daily": ["prices"], "features_daily": ["causal"]}, {"feature_drift_daily": ["features_daily"]})


def bars(instance: dg.DagsterInstance, version: str, rows: int = 10, passed: bool | None = True) -> int:
    """A materialization of the bars with this data version, judged or not; its storage id."""
    return materialized(instance, "bars_daily", {"dagster/row_count": rows}, version, {} if passed is None else {"prices": passed})


def materialized(
    instance: dg.DagsterInstance,
    asset: str,
    metadata: Mapping[str, Any],
    version: str = "v",
    checks: Mapping[str, bool] | None = None,
    partition: str | None = None,
) -> int:
    """A materialization with these verdicts on it; its storage id."""
    tags = {"dagster/data_version": version}
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=partition, metadata=metadata, tags=tags))
    storage_id = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records[0].storage_id
    for name, passed in (checks or {}).items():
        judged(instance, asset, name, storage_id, passed)
    return storage_id


def judged(instance: dg.DagsterInstance, asset: str, name: str, storage_id: int, passed: bool) -> None:
    """A check's evaluation of one materialization."""
    target = AssetCheckEvaluationTargetMaterializationData(storage_id=storage_id, run_id="", timestamp=0.0)
    instance.report_runless_asset_event(
        dg.AssetCheckEvaluation(
            asset_key=dg.AssetKey(asset), check_name=name, passed=passed, metadata={}, target_materialization_data=target
        )
    )


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult | dg.SkipReason:
    """One evaluation of the retrain sensor."""
    sensor = retrain_sensor(DAILY, retrain_job(DAILY), RULES)
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


def test_a_burst_of_fifty_loses_none_and_a_tick_repeated_after_a_crash_asks_for_the_same(instance: dg.DagsterInstance) -> None:
    wanted = [f"bars_daily:v{number}" for number in range(50)]
    asked: list[str | None] = []
    cursor = None
    for number in range(50):
        bars(instance, f"v{number}")
        if number in (7, 8, 31):
            tick(instance, cursor)  # died before its cursor was kept: the next one repeats it, with the same run keys
            found = tick(instance, cursor)
            assert isinstance(found, dg.SensorResult)
            asked, cursor = asked + keys(found), found.cursor
    last = tick(instance, cursor)
    assert asked + keys(last) == wanted  # each once, in order


def test_bars_whose_checks_failed_train_nothing_until_they_pass(instance: dg.DagsterInstance) -> None:
    bad = bars(instance, "v1", passed=False)
    first = tick(instance)
    assert isinstance(first, dg.SensorResult) and not first.run_requests and first.cursor
    assert "prices failed" in str(first.skip_reason)
    assert isinstance(tick(instance, first.cursor), dg.SkipReason)
    judged(instance, "bars_daily", "prices", bad, True)  # a person repaired the check and ran it again
    second = tick(instance, first.cursor)
    assert keys(second) == ["bars_daily:v1"]
    assert isinstance(second, dg.SensorResult) and isinstance(tick(instance, second.cursor), dg.SkipReason)


def test_bars_that_nobody_judged_train_nothing(instance: dg.DagsterInstance) -> None:
    bars(instance, "v1", passed=None)
    found = tick(instance)
    assert isinstance(found, dg.SensorResult) and not found.run_requests and "prices was not run" in str(found.skip_reason)


def test_blocked_bars_are_forgotten_once_newer_ones_passed(instance: dg.DagsterInstance) -> None:
    bad = bars(instance, "v1", passed=False)
    first = tick(instance)
    bars(instance, "v2")
    assert isinstance(first, dg.SensorResult)
    second = tick(instance, first.cursor)
    assert keys(second) == ["bars_daily:v2"]
    judged(instance, "bars_daily", "prices", bad, True)
    assert isinstance(second, dg.SensorResult) and isinstance(tick(instance, second.cursor), dg.SkipReason)


def test_an_event_whose_run_still_goes_on_is_waited_for_and_comes_in_its_turn(instance: dg.DagsterInstance) -> None:
    @dg.asset(name="bars_daily")
    def running() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"dagster/row_count": 1}, data_version=dg.DataVersion("v2"))

    bars(instance, "v1")
    seen: list[dg.SensorResult | dg.SkipReason] = []

    @dg.asset(deps=["bars_daily"])
    def later() -> None:  # v2 is materialized, its run goes on, its check has not been run; v3 has overtaken it
        bars(instance, "v3")
        seen.append(tick(instance))

    dg.materialize([running, later], instance=instance)
    (during,) = seen
    assert isinstance(during, dg.SensorResult) and keys(during) == ["bars_daily:v1"]
    waiting = instance.fetch_materializations(dg.AssetKey("bars_daily"), limit=2).records[1].storage_id
    judged(instance, "bars_daily", "prices", waiting, True)
    assert keys(tick(instance, during.cursor)) == ["bars_daily:v2", "bars_daily:v3"]


def test_drift_found_in_features_whose_checks_failed_asks_for_nothing(instance: dg.DagsterInstance) -> None:
    features = materialized(instance, "features_daily", {}, checks={"causal": False})
    drift(instance, "2014-09")
    first = tick(instance)
    assert isinstance(first, dg.SensorResult) and not first.run_requests and "features_daily: causal failed" in str(first.skip_reason)
    judged(instance, "features_daily", "causal", features, True)
    assert keys(tick(instance, first.cursor)) == ["feature_drift_daily:2014-09"]


def watched(instance: dg.DagsterInstance, *alarms: str, age: int = 10, model: str = "alpha_lightgbm_v1") -> None:
    """A materialization of the watch over the promoted model."""
    materialized(instance, "model_monitor_daily", {"events": {"alarms": list(alarms), "model": model, "age": age, "max_age": 21}})


def test_each_alarm_asks_for_one_retrain_and_says_which_detector_rang(instance: dg.DagsterInstance) -> None:
    watched(instance)
    first = tick(instance)
    assert isinstance(first, dg.SensorResult) and not first.run_requests
    watched(instance, "pnl:2014-03-04")
    watched(instance, "pnl:2014-03-04", "cost:2014-03-06")
    second = tick(instance, first.cursor)
    assert keys(second) == ["model_monitor_daily:pnl:2014-03-04", "model_monitor_daily:cost:2014-03-06"]
    assert isinstance(second, dg.SensorResult) and second.run_requests
    tags = second.run_requests[1].tags
    assert (tags["trigger/reason"], tags["trigger/model"]) == ("degradation: cost rang on 2014-03-06", "alpha_lightgbm_v1")


def test_an_old_model_asks_again_only_when_another_max_age_has_passed(instance: dg.DagsterInstance) -> None:
    for age in (21, 22, 30, 41, 42):
        watched(instance, age=age)
    assert keys(tick(instance)) == ["model_monitor_daily:age:alpha_lightgbm_v1:1", "model_monitor_daily:age:alpha_lightgbm_v1:2"]


def test_a_breached_sharpe_alone_starts_nothing(instance: dg.DagsterInstance) -> None:
    materialized(instance, "model_monitor_daily", {"events": {"alarms": [], "model": "m", "age": 1, "max_age": 21}, "triggers": "breached"})
    found = tick(instance)
    assert isinstance(found, dg.SensorResult) and not found.run_requests


def test_the_weekly_retrain_is_blocked_like_any_other_and_never_repeats_a_data_version(tmp_path: Path) -> None:
    weekly = retrain_schedule(DAILY, retrain_job(DAILY), RULES)
    instance = dg.DagsterInstance.local_temp(str(tmp_path))  # a schedule opens its instance by reference

    def evaluated() -> dg.RunRequest | dg.SkipReason:
        return weekly(dg.build_schedule_context(instance=instance))  # type: ignore[return-value]

    assert isinstance(evaluated(), dg.SkipReason)
    bars(instance, "v1")
    first = evaluated()
    assert isinstance(first, dg.RunRequest) and first.run_key == "scheduled:bars_daily:v1" and first.tags["trigger/reason"] == "schedule"
    again = evaluated()
    assert isinstance(again, dg.RunRequest) and again.run_key == first.run_key  # Dagster launches a run key once
    bars(instance, "v2", passed=False)
    blocked = evaluated()
    assert isinstance(blocked, dg.SkipReason) and "prices failed" in str(blocked.skip_message)


def test_a_report_that_passed_asks_for_the_bundle_of_the_newest_cutoff(instance: dg.DagsterInstance) -> None:
    rules = Upstream({"walk_forward_report": ["leakage"]}, {})
    sensor = bundle_sensor(DAILY, refit_job(DAILY), rules)
    instance.add_dynamic_partitions("daily_cutoffs", ["2014-03-03", "2014-06-02"])
    materialized(instance, "walk_forward_report", {"dagster/row_count": 5}, "r1", {"leakage": False})
    first = sensor(dg.build_sensor_context(instance=instance))
    assert isinstance(first, dg.SensorResult) and not first.run_requests and "leakage failed" in str(first.skip_reason)
    materialized(instance, "walk_forward_report", {"dagster/row_count": 5}, "r2", {"leakage": True})
    second = sensor(dg.build_sensor_context(instance=instance, cursor=first.cursor))
    assert isinstance(second, dg.SensorResult) and second.run_requests
    assert [(request.run_key, request.partition_key) for request in second.run_requests] == [("2014-06-02:r2", "2014-06-02")]
    assert isinstance(sensor(dg.build_sensor_context(instance=instance, cursor=second.cursor)), dg.SkipReason)


def test_the_graphs_own_rules_name_every_blocking_check_of_the_bars() -> None:
    found = upstream_of_graph()
    assert {"prices", "schema", "ohlc"} <= set(found.checks["bars_daily"]) and "leakage" in found.checks["walk_forward_report"]
    assert set(found.inputs["feature_drift_daily"]) == {"features_daily", "universe"}


def test_the_retrain_job_is_everything_between_bars_and_report() -> None:
    job = build_definitions(tracking=False, profile="demo").resolve_job_def("retrain_daily")
    nodes = {key.to_user_string() for key in job.asset_layer.selected_asset_keys}
    expected = {"universe", "features_daily", "labels_daily", "session_inputs", "alpha_lightgbm", "walk_forward_report"}
    assert nodes == {*expected, "feature_drift_daily", "feature_shadow_daily", "null_models"}
    refit = build_definitions(tracking=False, profile="demo").resolve_job_def("refit_daily")
    assert {key.to_user_string() for key in refit.asset_layer.selected_asset_keys} == {"model_bundle", "promotion"}


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
        if any(word in sensor.name for word in ("retrain", "refit", "publish"))
    )
    assert all(schedule.default_status is dg.DefaultScheduleStatus.STOPPED for schedule in repository.schedule_defs)
