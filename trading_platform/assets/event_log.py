"""Dagster's SQLite event log with what a range of partitions needs: a batch is one transaction, connections and parsed events stay.

Dagster's own opens, commits and closes two databases for each event of a batch, compiles each statement anew, and parses an event again for
each question about it: measured, half the time of lifting 121 sessions. Files, tables and contents are Dagster's own; either class reads
what the other wrote.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dagster import AssetKey, AssetRecordsFilter, EventLogEntry, EventLogRecord, EventRecordsResult
from dagster._core.event_api import EventLogCursor
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import INDEX_SHARD_NAME
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from sqlalchemy import Connection, Engine, QueuePool, create_engine

BATCHES = {"DAGSTER_EVENT_BATCH_SIZE": "2000"}  # the only switch Dagster has for it: its environment
PARSED_EVENTS = 4096
OPEN_RUNS = 4


class SqliteEventLog(SqliteEventLogStorage):
    """See the module."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._batch: ExitStack | None = None
        self._connections: dict[str, Connection] = {}
        self._parsed: dict[int, EventLogRecord] = {}
        super().__init__(base_dir, inst_data)  # connects already
        self._db_lock = threading.RLock()  # type: ignore[assignment]  # a batch holds a run's database and the index together

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if self._batch is None:
                with self._engine(shard).begin() as connection:
                    yield connection
                return
            if shard not in self._connections:
                self._connections[shard] = self._batch.enter_context(self._engine(shard).begin())
            yield self._connections[shard]

    def _engine(self, shard: str) -> Engine:
        """The engine of a database, with its connection kept open; of the runs' databases only the newest are."""
        if shard not in self._engines:
            runs = [name for name in self._engines if name != INDEX_SHARD_NAME]
            for oldest in runs[: max(len(runs) - OPEN_RUNS + 1, 0)]:
                self._engines.pop(oldest).dispose()
            arguments = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}  # one thread at a time: `_db_lock`
            self._engines[shard] = create_engine(
                self.conn_string_for_shard(shard), poolclass=QueuePool, pool_size=1, connect_args=arguments
            )
        if shard not in self._initialized_dbs:
            self._initdb(self._engines[shard])
            self._initialized_dbs.add(shard)
        return self._engines[shard]

    def dispose(self) -> None:
        """Close what is open."""
        with self._db_lock:
            for engine in self._engines.values():
                engine.dispose()
            self._engines.clear()
        super().dispose()

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store all of the events or none."""
        with self._db_lock, ExitStack() as stack:
            self._batch = stack
            try:
                for event in events:
                    self.store_event(event)
            finally:
                self._batch = None
                self._connections = {}

    def fetch_materializations(
        self, records_filter: AssetKey | AssetRecordsFilter, limit: int, cursor: str | None = None, ascending: bool = False
    ) -> EventRecordsResult:
        """As Dagster's; events asked for by their ids alone are parsed once, for they never change."""
        if not _by_ids_alone(records_filter) or cursor is not None:
            return super().fetch_materializations(records_filter, limit, cursor, ascending)
        assert isinstance(records_filter, AssetRecordsFilter) and records_filter.storage_ids is not None
        wanted = sorted(set(records_filter.storage_ids), reverse=not ascending)[:limit]
        absent = [number for number in wanted if number not in self._parsed]
        if absent:
            missing = AssetRecordsFilter(asset_key=records_filter.asset_key, storage_ids=absent)
            self._remember(super().fetch_materializations(missing, len(absent), None, ascending).records)
        records = [self._parsed[number] for number in wanted if number in self._parsed]
        last = records[-1].storage_id if records else -1
        return EventRecordsResult(records, cursor=EventLogCursor.from_storage_id(last).to_string(), has_more=len(records) == limit)

    def _remember(self, records: Sequence[EventLogRecord]) -> None:
        if len(self._parsed) + len(records) > PARSED_EVENTS:
            self._parsed.clear()
        self._parsed |= {record.storage_id: record for record in records}


def _by_ids_alone(wanted: AssetKey | AssetRecordsFilter) -> bool:
    if not isinstance(wanted, AssetRecordsFilter) or not wanted.storage_ids:
        return False
    others = (wanted.asset_partitions, wanted.after_timestamp, wanted.before_timestamp, wanted.after_storage_id, wanted.before_storage_id)
    return all(other is None for other in others)


class SqliteStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage with this event log. dagster.yaml names it (`assets.instance`)."""

    def __init__(self, base_dir: str, inst_data: Any = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = SqliteEventLog(str(Path(base_dir) / "history" / "runs"))

    @classmethod
    def from_config_value(cls, inst_data: Any, config_value: Any) -> SqliteStorage:
        """What Dagster calls with the values of dagster.yaml."""
        return cls.from_local(inst_data=inst_data, **config_value)
