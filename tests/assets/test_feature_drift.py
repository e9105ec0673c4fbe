"""The drift asset on the small world: quiet on a market that does not change, loud where features were shifted, and heard by the sensor."""

from __future__ import annotations

import dagster as dg
import polars as pl
from world import World

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.pipelines import DAILY
from trading_platform.automation.jobs import retrain_job
from trading_platform.automation.sensors import retrain_sensor

ASSET = "feature_drift_daily"


def materialize(world: World) -> dict:
    bring_current(world.definitions, world.graph, world.place, world.instance, assets=[ASSET])
    return dict(world.manifest(ASSET).facts)


def table(world: World) -> pl.DataFrame:
    (output,) = [output for output in world.manifest(ASSET).outputs if output.partition == "drift"]
    return pl.read_parquet(world.place.lake.root / output.uri)


def requests(world: World) -> list[dg.RunRequest]:
    found = retrain_sensor(DAILY, retrain_job(DAILY))(dg.build_sensor_context(instance=world.instance))
    assert isinstance(found, dg.SensorResult)
    return [request for request in found.run_requests or [] if str(request.run_key).startswith(ASSET)]


def outcome(world: World) -> bool:
    """What the check said last."""
    key = dg.AssetCheckKey(dg.AssetKey(ASSET), "stable")
    record = world.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0]
    assert record.event is not None and record.event.dagster_event is not None
    return bool(record.event.dagster_event.asset_check_evaluation_data.passed)


def shifted(frame: pl.DataFrame) -> pl.DataFrame:
    """Twelve features moved by four of their standard deviations from July 2013 on."""
    names = [name for name in frame.columns if name not in ("instrument_id", "timestamp", "known_at", "session")][:12]
    late = pl.col("session") >= pl.date(2013, 7, 1)
    moved = [
        pl.when(late).then(pl.col(n) + 4.0 * pl.col(n).fill_nan(None).std()).otherwise(pl.col(n)).cast(pl.Float32).alias(n) for n in names
    ]
    return frame.with_columns(moved)


def test_a_market_that_does_not_change_does_not_drift(world: World) -> None:
    facts = materialize(world)
    assert facts["holds"] is False and facts["model"].startswith("alpha_lightgbm_v") and requests(world) == [] and outcome(world)
    found = table(world)
    after = world.manifest("model_bundle", sorted(world.manifest("features_daily").facts["cutoffs"])[0]).facts["trained_through"]
    assert found["first_session"].to_physical().min() > after
    assert found["window"].unique().sort().to_list() == sorted({str(day)[:7] for day in found["first_session"]})
    assert not set(found["feature"]) & {"price", "ema_12", "macd"}  # no model reads a level
    assert (found["cells"] > 0).all() and set(found["state"]) <= {"stable", "watch", "drift", "unknown"}


def test_shifted_features_drift_hold_and_ask_for_a_refit_once(world: World) -> None:
    before = table(world) if materialize(world) else None
    world.replant("features_daily", "year=2013", shifted)
    facts = materialize(world)
    assert facts["holds"] is True, facts
    found = table(world)
    assert before is not None and found.filter(state="drift").height > before.filter(state="drift").height
    (request,) = requests(world)
    assert request.run_key == f"{ASSET}:{facts['window']}" and "features drifted in" in request.tags["trigger/reason"]
    assert outcome(world) is False


def test_without_a_model_there_is_nothing_to_compare(world: World) -> None:
    empty = world.manifest("feature_drift_intraday")
    assert empty.facts["empty"] and not empty.outputs
