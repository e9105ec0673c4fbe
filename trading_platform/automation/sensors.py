"""Sensors: retrain on new bars or drift, and ask the runner for what was promoted. Neither loses an event between two ticks."""

# No postponed annotations here: Dagster reads those of a sensor's resources as they stand.
import json

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from trading_platform.assets.drift import drift_asset_name
from trading_platform.assets.inputs import latest, read_manifest
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.manifest import Manifest

DATA_VERSION_TAG = "dagster/data_version"
BATCH = 100


def new_materializations(instance: dg.DagsterInstance, asset: str, cursor: str | None) -> list[dg.EventLogRecord]:
    """Materializations of an asset after the cursor (a storage id), oldest first, at most 100."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), after_storage_id=int(cursor or 0))
    return list(instance.fetch_materializations(wanted, ascending=True, limit=BATCH).records)


def retrain_sensor(pipeline: Pipeline, job: UnresolvedAssetJobDefinition) -> dg.SensorDefinition:
    """One retrain request per new version of the bars, and one per window in which the model's features drift.

    A run key is the bars' data version or the window, because Dagster never forgets a run key: the same bytes again need no second
    training, and drift that still holds after its refit asks again only when another window is over. The cursor holds the storage ids seen
    of both assets, so nothing is read twice and nothing is skipped.
    """
    drift = drift_asset_name(pipeline)

    @dg.sensor(name=f"retrain_on_new_{pipeline.bars}", job=job, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.STOPPED)
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = _cursors(context.cursor, pipeline.bars)
        requests: list[dg.RunRequest | None] = []
        news = False
        for asset, request_of in ((pipeline.bars, _bars_request), (drift, _drift_request)):
            records = new_materializations(context.instance, asset, seen.get(asset))
            requests += [request_of(asset, record) for record in records]
            if records:
                seen[asset], news = str(records[-1].storage_id), True
        if not news:
            return dg.SkipReason(f"no new materialization of {pipeline.bars} or {drift}")
        return dg.SensorResult(
            run_requests=[request for request in requests if request is not None], cursor=json.dumps(seen, sort_keys=True)
        )

    return sensor


def _cursors(cursor: str | None, bars: str) -> dict[str, str]:
    """Storage id seen of each asset. A cursor of one number is from the time when the sensor read the bars alone."""
    found = json.loads(cursor or "{}")
    return found if isinstance(found, dict) else {bars: str(found)}


def _bars_request(asset: str, record: dg.EventLogRecord) -> dg.RunRequest | None:
    event = record.asset_materialization
    if event is None or int(event.metadata["dagster/row_count"].value or 0) == 0:
        return None
    version = (event.tags or {})[DATA_VERSION_TAG]
    return dg.RunRequest(
        run_key=f"{asset}:{version}", tags={**_tags(record), "trigger/reason": "new bars", "trigger/data_version": version}
    )


def _drift_request(asset: str, record: dg.EventLogRecord) -> dg.RunRequest | None:
    event = record.asset_materialization
    if event is None or "drift_holds" not in event.metadata or not event.metadata["drift_holds"].value:
        return None
    said = {name: str(event.metadata[name].value) for name in ("window", "reason", "model")}
    tags = {"trigger/reason": f"drift: {said['reason']}", "trigger/window": said["window"], "trigger/model": said["model"]}
    return dg.RunRequest(run_key=f"{asset}:{said['window']}", tags={**_tags(record), **tags})


def _tags(record: dg.EventLogRecord) -> dict[str, str]:
    return {"trigger/storage_id": str(record.storage_id), "trigger/run_id": record.run_id}


def promotion_sensor(pipeline: Pipeline) -> dg.SensorDefinition:
    """Write each new promotion into `model:registry:pending` (T24: a request; the ledger stays the authority).

    Redis that does not answer raises before the cursor moves, so the next tick asks again.
    """

    @dg.sensor(
        name=pipeline.asset("publish_promotion"),
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.STOPPED,
    )
    def sensor(context: dg.SensorEvaluationContext, platform: Platform) -> dg.SensorResult | dg.SkipReason:
        records = new_materializations(context.instance, pipeline.asset("promotion"), context.cursor)
        if not records:
            return dg.SkipReason("no new promotion")
        staged = stage_newest(platform.place, [read_manifest(platform.place, _uri(record)) for record in records])
        context.log.info(f"staged {staged or 'nothing'}")
        return dg.SensorResult(run_requests=[], cursor=str(records[-1].storage_id))

    return sensor


def _uri(record: dg.EventLogRecord) -> str:
    event = record.asset_materialization
    assert event is not None
    return str(event.metadata["manifest"].value)


def stage_newest(place: Workplace, promotions: list[Manifest]) -> str:
    """Stage the newest of some promotions that did promote; return its label, empty where none did."""
    for manifest in reversed(promotions):
        if manifest.facts.get("promoted"):
            facts = {name: str(manifest.facts[name]) for name in ("slot", "label", "bundle_id", "account")}
            stage(place, **facts)
            return str(manifest.facts["label"])
    return ""


def stage(place: Workplace, slot: str, label: str, bundle_id: str, account: str = "") -> None:
    """Write the pending field of a slot in the settings' Redis, of the settings' account unless another is named.

    InputError without an address, TransientError where Redis does not answer.
    """
    import redis

    from trading_platform.contracts.errors import InputError
    from trading_platform.registry.slots import Slots

    settings = place.settings
    if not settings.redis_url:
        raise InputError("no Redis address", "sensor publish_promotion", "set TRADING_REDIS_URL to the runner's Redis")
    client = redis.Redis.from_url(settings.redis_url)
    try:
        Slots(client, account or settings.account, settings.mode).stage(slot, label, bundle_id)
    finally:
        client.close()


def current_promotion(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline, cutoff: str) -> Manifest | None:
    """The newest promotion of a training cutoff, or None."""
    found = latest(instance, place, pipeline.asset("promotion"), cutoff)
    return None if found is None else found.manifest
