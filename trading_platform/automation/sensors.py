"""Sensors: retrain on new bars, drift, degradation or age, and ask the runner for what was promoted. No event is lost between two ticks."""

# No postponed annotations here: Dagster reads those of a sensor's resources as they stand.
import dataclasses
import json

import dagster as dg
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition

from trading_platform.assets.inputs import latest, read_manifest
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.resources import Platform
from trading_platform.assets.workplace import Workplace
from trading_platform.automation.triggers import DATA_VERSION_TAG, Requests, tags_of, triggers_of
from trading_platform.automation.upstream import Standing, Upstream, upstream_of_graph
from trading_platform.contracts.manifest import Manifest

BATCH = 100
BLOCKED_KEPT = 20


def new_materializations(instance: dg.DagsterInstance, asset: str, cursor: str | None) -> list[dg.EventLogRecord]:
    """Materializations of an asset after the cursor (a storage id), oldest first, at most 100."""
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), after_storage_id=int(cursor or 0))
    return list(instance.fetch_materializations(wanted, ascending=True, limit=BATCH).records)


@dataclasses.dataclass(slots=True)
class Seen:
    """A sensor's memory. newest: asset -> storage id up to which everything was read. blocked: asset -> ids read whose checks failed."""

    newest: dict[str, str]
    blocked: dict[str, list[int]]

    @classmethod
    def of(cls, cursor: str | None, bars: str) -> "Seen":
        """A cursor of one number is from the time when the sensor read the bars alone."""
        found = json.loads(cursor or "{}")
        if not isinstance(found, dict):
            return cls({bars: str(found)}, {})
        blocked = {asset: [int(one) for one in ids] for asset, ids in found.pop("blocked", {}).items()}
        return cls({asset: str(number) for asset, number in found.items()}, blocked)

    @property
    def cursor(self) -> str:
        """As Dagster keeps it."""
        kept = {asset: ids for asset, ids in self.blocked.items() if ids}
        return json.dumps({**self.newest, **({"blocked": kept} if kept else {})}, sort_keys=True)


def retrain_sensor(pipeline: Pipeline, job: UnresolvedAssetJobDefinition, upstream: Upstream | None = None) -> dg.SensorDefinition:
    """One retrain request per new version of the bars, window in which drift holds, alarm of a detector, and `max_age` of the model.

    A run key names its cause, because Dagster never forgets a run key: the same bytes again need no second training, and a tick that is
    repeated after a crash asks for nothing new. The cursor holds the storage ids seen of each asset, so nothing is read twice and nothing
    is skipped. An event whose checks failed asks for nothing and is remembered: it is judged again at every tick, until its checks pass or
    a newer one of its asset has passed; an event whose checks are still running stops the reading of its asset until the next tick.
    upstream: the graph's own, unless given.
    """
    rules, triggers = upstream or upstream_of_graph(), triggers_of(pipeline)

    @dg.sensor(name=f"retrain_on_new_{pipeline.bars}", job=job, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.STOPPED)
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = Seen.of(context.cursor, pipeline.bars)
        before = seen.cursor
        requests: dict[str, dg.RunRequest] = {}
        reasons: list[str] = []
        for asset, requests_of in triggers.items():
            made, why = _read(context.instance, rules, seen, asset, requests_of)
            requests |= {str(request.run_key): request for request in made}
            reasons += why
        if seen.cursor == before and not requests:
            return dg.SkipReason("; ".join(reasons) or f"no new materialization of {', '.join(triggers)}")
        if not requests:
            return dg.SensorResult(skip_reason="; ".join(reasons) or "nothing asks for a retrain", cursor=seen.cursor)
        return dg.SensorResult(run_requests=list(requests.values()), cursor=seen.cursor)

    return sensor


def _read(
    instance: dg.DagsterInstance, rules: Upstream, seen: Seen, asset: str, requests_of: Requests
) -> tuple[list[dg.RunRequest], list[str]]:
    """Requests of an asset's blocked and new events, and why others ask for nothing. Moves `seen` on."""
    requests: list[dg.RunRequest] = []
    reasons: list[str] = []
    held: list[int] = []
    for record in [*_records(instance, asset, seen.blocked.get(asset, [])), *new_materializations(instance, asset, seen.newest.get(asset))]:
        judgement = rules.judge(instance, asset, record) if (asked := requests_of(asset, record)) else None
        if judgement is not None and judgement.standing is Standing.WAITING and record.storage_id > int(seen.newest.get(asset, 0)):
            reasons.append(judgement.why)
            break
        if judgement is not None and judgement.standing is Standing.PASSED:
            requests += asked
            held = []  # what was blocked is out of date: a newer event has passed
        elif judgement is not None:
            held.append(record.storage_id)
            reasons.append(judgement.why)
        seen.newest[asset] = str(max(record.storage_id, int(seen.newest.get(asset, 0))))
    seen.blocked[asset] = held[-BLOCKED_KEPT:]
    return requests, reasons


def _records(instance: dg.DagsterInstance, asset: str, storage_ids: list[int]) -> list[dg.EventLogRecord]:
    """Materializations with these ids, oldest first."""
    if not storage_ids:
        return []
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), storage_ids=storage_ids)
    return list(instance.fetch_materializations(wanted, ascending=True, limit=len(storage_ids)).records)


def bundle_sensor(pipeline: Pipeline, job: UnresolvedAssetJobDefinition, upstream: Upstream | None = None) -> dg.SensorDefinition:
    """After a walk-forward report whose checks passed: the bundle of the newest training cutoff, and its promotion as far as gates allow.

    A report that brings no new cutoff asks for nothing new: the run key is the cutoff and the report's data version.
    """
    rules, report = upstream or upstream_of_graph(), pipeline.asset("walk_forward_report")

    @dg.sensor(name=f"refit_after_{report}", job=job, minimum_interval_seconds=30, default_status=dg.DefaultSensorStatus.STOPPED)
    def sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        seen = Seen.of(context.cursor, report)
        before = seen.cursor
        cutoffs = sorted(context.instance.get_dynamic_partitions(pipeline.cutoffs))

        def requests_of(asset: str, record: dg.EventLogRecord) -> list[dg.RunRequest]:
            event = record.asset_materialization
            if event is None or not cutoffs or int(event.metadata["dagster/row_count"].value or 0) == 0:
                return []
            version = (event.tags or {})[DATA_VERSION_TAG]
            key = f"{cutoffs[-1]}:{version}"
            return [dg.RunRequest(run_key=key, partition_key=cutoffs[-1], tags=tags_of(record, "new walk-forward report"))]

        requests, reasons = _read(context.instance, rules, seen, report, requests_of)
        if requests:  # several reports between two ticks: the newest speaks for the newest cutoff
            return dg.SensorResult(run_requests=requests[-1:], cursor=seen.cursor)
        why = "; ".join(reasons) or f"no new materialization of {report} for a training cutoff"
        return dg.SkipReason(why) if seen.cursor == before else dg.SensorResult(skip_reason=why, cursor=seen.cursor)

    return sensor


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
