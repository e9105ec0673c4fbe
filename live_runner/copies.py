"""Copies of rows, alphas, targets and executions for whoever watches Redis. Never the record, never waited for (DESIGN 8).

They leave after the commit, in the order of the journal, made and sent in a thread of their own; when Redis is slow or gone, what does not
fit the queue is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import orjson

from live_runner.metrics import Metrics
from live_runner.shared_state import SharedState
from trading_platform.contracts import names
from trading_platform.contracts.canonical import canonical_bytes, decode_array
from trading_platform.contracts.journal import Kind, Record

MOST_WAITING = 2_000  # records
BATCH = 100
COPIED = frozenset({Kind.ROW, Kind.DECISION, Kind.FILL, Kind.ORDER_EVENT})
BAR_FIELDS = ("open", "high", "low", "close", "volume")
EVENT_OF = {Kind.FILL: "ORDER_FILLED", Kind.ORDER_EVENT: "ORDER_UPDATE"}
Texts = dict[str, str]


class Copies:
    """Sends copies of committed records in the background. `label()` names the model in use. Without Redis it does nothing."""

    def __init__(self, shared: SharedState, metrics: Metrics, label: Callable[[], str]) -> None:
        self._shared, self._metrics, self._label = shared, metrics, label
        self._waiting: deque[tuple[Record, str]] = deque()
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0

    def of(self, records: Iterable[Record]) -> None:
        """Take records that are on disk and folded; returns at once."""
        if not self._shared.configured:
            return
        label = self._label()
        self._waiting.extend((record, label) for record in records if record.kind in COPIED)
        while len(self._waiting) > MOST_WAITING:
            self._waiting.popleft()
            self.dropped += 1
        if self._waiting and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), BATCH))]
            if not await self._shared.publish(lambda batch=batch: _made(batch)):  # type: ignore[misc]
                self.dropped += len(batch)
            self._metrics.copies_dropped.set(self.dropped)

    async def finish(self) -> None:
        """Send what waits; bounded by the time that Redis is given to answer."""
        if self._task is not None:
            await self._task


def _made(batch: list[tuple[Record, str]]) -> tuple[list[tuple[str, Texts]], dict[str, Texts]]:
    entries = [entry for record, _ in batch for entry in entries_of(record)]
    hashes: dict[str, Texts] = {}
    for record, label in batch:
        if record.kind is Kind.DECISION and label:
            hashes[names.REDIS_SIGNALS.format(model=label)] = _signals(record.body["decision"])
            hashes[names.REDIS_PERFORMANCE.format(model=label)] = _performance(record)
    return entries, hashes


def entries_of(record: Record) -> list[tuple[str, Texts]]:
    """(stream, fields) of a record's copies: one entry per row, its alphas and its changed targets, one per fill and order event.

    Every entry carries `seq`, the record's place in the journal, and `type`; `payload` is JSON, by instrument id for rows.
    """
    head = {"seq": str(record.seq), "session_id": record.session_id}
    if record.kind is Kind.ROW:
        return [(names.STREAM_BARS, {**head, **_bars(record.body)})]
    if record.kind is Kind.DECISION:
        return [(stream, {**head, **fields}) for stream, fields in _decided(record.body["decision"])]
    if record.kind in EVENT_OF:
        payload = canonical_bytes(record.body).decode()
        return [(names.STREAM_EXECUTION, {**head, "type": EVENT_OF[record.kind], "key": record.key, "payload": payload})]
    return []


def _bars(body: Mapping[str, Any]) -> Texts:
    values = {name: decode_array(body["fields"][name]).tolist() for name in BAR_FIELDS}
    columns = np.flatnonzero(decode_array(body["present"])).tolist()
    bars = {body["instrument_ids"][s]: {name: values[name][s] for name in BAR_FIELDS} for s in columns}
    head = {"type": "CANDLE", "timeframe": str(body["timeframe"]), "timestamp": str(body["timestamp"]), "provenance": body["provenance"]}
    return {**head, "payload": orjson.dumps(bars).decode()}


def _decided(decision: Mapping[str, Any]) -> list[tuple[str, Texts]]:
    ids, position, target = decision["instrument_ids"], decode_array(decision["position"]), decode_array(decision["target"])
    head = {"decision_id": decision["decision_id"], "known_at": str(decision["known_at"]), "bundle_ids": ",".join(decision["bundle_ids"])}
    changed = {ids[s]: {"position": int(position[s]), "target": int(target[s])} for s in np.flatnonzero(position != target)}
    found = [(names.STREAM_ALPHA, {"type": "SIGNAL", **head, "payload": orjson.dumps(_alphas(decision)).decode()})]
    if changed:
        found.append((names.STREAM_TARGETS, {"type": "ORDER_REQUEST", **head, "payload": orjson.dumps(changed).decode()}))
    return found


def _alphas(decision: Mapping[str, Any]) -> dict[str, float]:
    alpha = decode_array(decision["alpha"])
    return {decision["instrument_ids"][s]: float(alpha[s]) for s in np.flatnonzero(~np.isnan(alpha))}


def _signals(decision: Mapping[str, Any]) -> Texts:
    latest = {name: repr(value) for name, value in _alphas(decision).items()}
    return {"decision_id": decision["decision_id"], "known_at": str(decision["known_at"]), **latest}


def _performance(record: Record) -> Texts:
    decision, trace = record.body["decision"], record.body["trace"]
    return {
        "decision_id": decision["decision_id"],
        "known_at": str(decision["known_at"]),
        "session_id": record.session_id,
        "equity": f"{decision['equity']:.2f}",
        "coverage": repr(decision["coverage"]),
        "orders": str(len(decision["orders"])),
        "denied": str(sum(decision["check_counts"].values())),
        "latency_ms": f"{trace['latency_ns'] / 1e6:.3f}",
    }
