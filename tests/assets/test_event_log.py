"""The event log of the instance: Dagster's own, with batches that are whole or absent and events that are parsed once."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage

from trading_platform.assets.event_log import SqliteEventLog
from trading_platform.assets.instance import prepare_instance
from trading_platform.config import load_settings

KEYS = [f"p{number:03d}" for number in range(40)]
SESSIONS = dg.DynamicPartitionsDefinition(name="keys")


@dg.asset(partitions_def=SESSIONS, backfill_policy=dg.BackfillPolicy.single_run())
def many(context: dg.AssetExecutionContext) -> None:
    for key in context.partition_keys:
        context.add_asset_metadata({"key": key}, partition_key=key)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with prepare_instance(load_settings(home=str(tmp_path / "home"), profile="demo")) as found:
        found.add_dynamic_partitions("keys", KEYS)
        yield found


def materialize(instance: dg.DagsterInstance) -> str:
    tags = {"dagster/asset_partition_range_start": KEYS[0], "dagster/asset_partition_range_end": KEYS[-1]}
    job = dg.Definitions([many]).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, tags=tags, asset_selection=[many.key]).run_id


def test_dagsters_own_log_reads_what_a_batch_wrote(instance: dg.DagsterInstance) -> None:
    log = instance.event_log_storage
    assert isinstance(log, SqliteEventLog)
    run_id = materialize(instance)
    plain = SqliteEventLogStorage(log._base_dir)
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    found = plain.get_latest_storage_id_by_partition(many.key, kind)
    assert sorted(found) == KEYS
    wanted = dg.AssetRecordsFilter(asset_key=many.key, storage_ids=list(found.values()))
    theirs = plain.fetch_materializations(wanted, limit=100).records
    assert sorted(str(record.partition_key) for record in theirs) == KEYS
    assert all(record.asset_materialization.metadata["key"].value == record.partition_key for record in theirs)  # type: ignore[union-attr]
    for limit, ascending in ((100, False), (100, True), (7, False)):
        expected = plain.fetch_materializations(wanted, limit=limit, ascending=ascending)
        for _ in range(2):  # parsed, and remembered
            assert log.fetch_materializations(wanted, limit=limit, ascending=ascending) == expected
    assert len(plain.get_records_for_run(run_id, of_type=kind).records) == len(KEYS)


def test_a_batch_that_fails_leaves_nothing(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    log = instance.event_log_storage
    run_id = materialize(instance)
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    entries = [record.event_log_entry for record in log.get_records_for_run(run_id, of_type=kind).records]
    before = log.get_latest_storage_id_by_partition(many.key, kind)
    store, count = SqliteEventLogStorage.store_event, []

    def third_fails(self: SqliteEventLogStorage, event: dg.EventLogEntry) -> None:
        count.append(event)
        if len(count) == 3:
            raise OSError("the disk is full")
        store(self, event)

    monkeypatch.setattr(SqliteEventLogStorage, "store_event", third_fails)
    with pytest.raises(OSError, match="disk is full"):
        log.store_event_batch(entries)
    monkeypatch.undo()
    assert log.get_latest_storage_id_by_partition(many.key, kind) == before
    assert len(log.get_records_for_run(run_id, of_type=kind).records) == len(KEYS)
    log.store_event_batch(entries[:2])  # the log goes on
    assert len(log.get_records_for_run(run_id, of_type=kind).records) == len(KEYS) + 2
