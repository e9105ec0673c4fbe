"""What others see: copies in Redis streams and hashes, metrics on their port. Neither may hold up the runner."""

from __future__ import annotations

import json
import re
import socket
import time
import urllib.request
from collections.abc import Callable

import numpy as np
import redis
from market import ACCOUNT, Exchange, World

from live_runner.runner import Runner
from live_runner.shared_state import SharedState
from trading_platform.contracts import names
from trading_platform.contracts.canonical import decode_array
from trading_platform.contracts.journal import JournalReader, Kind, Record

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}
PREFIX = names.redis_prefix(ACCOUNT, "paper")


def records(runner: Runner, *kinds: Kind) -> list[Record]:
    with JournalReader(runner.settings.journal) as reader:
        return [record for record in reader.records() if record.kind in kinds]


def test_streams_carry_copies_of_what_is_on_disk(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    client = redis.Redis.from_url(redis_url, decode_responses=True)

    def entries(stream: str) -> list[dict]:
        return [fields for _, fields in client.xrange(PREFIX + stream)]

    rows, decisions = records(runner, Kind.ROW), records(runner, Kind.DECISION)
    bars, alphas, targets = entries(names.STREAM_BARS), entries(names.STREAM_ALPHA), entries(names.STREAM_TARGETS)
    assert [int(e["seq"]) for e in bars] == [r.seq for r in rows] and [int(e["seq"]) for e in alphas] == [r.seq for r in decisions]
    for entry, row in zip(bars, rows, strict=True):
        close, payload = decode_array(row.body["fields"]["close"]), json.loads(entry["payload"])
        assert [payload[name]["close"] for name in row.body["instrument_ids"]] == close.tolist()
    for entry, record in zip(alphas, decisions, strict=True):
        alpha = decode_array(record.body["decision"]["alpha"])
        assert list(json.loads(entry["payload"]).values()) == alpha[~np.isnan(alpha)].tolist()
        assert entry["decision_id"] == record.key
    moved = [r.key for r in decisions if not np.array_equal(*(decode_array(r.body["decision"][n]) for n in ("position", "target")))]
    assert [e["decision_id"] for e in targets] == moved != []
    told = records(runner, Kind.FILL, Kind.ORDER_EVENT)
    assert [(int(e["seq"]), e["key"]) for e in entries(names.STREAM_EXECUTION)] == [(r.seq, r.key) for r in told]
    signals = client.hgetall(PREFIX + names.REDIS_SIGNALS.format(model="momentum_v1"))
    assert signals["decision_id"] == decisions[-1].key and float(signals["us:AA"]) == json.loads(alphas[-1]["payload"])["us:AA"]
    performance = client.hgetall(PREFIX + names.REDIS_PERFORMANCE.format(model="momentum_v1"))
    assert float(performance["equity"]) == round(decisions[-1].body["decision"]["equity"], 2)
    assert runner.copies.dropped == 0


def test_a_redis_that_hangs_over_copies_holds_up_nothing(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, monkeypatch: object
) -> None:
    """Streams stay bounded, and a publish that takes its time delays no row: the queue overflows instead."""
    monkeypatch.setattr("live_runner.shared_state.STREAM_LENGTH", 2)  # type: ignore[attr-defined]
    monkeypatch.setattr("live_runner.copies.MOST_WAITING", 5)  # type: ignore[attr-defined]
    monkeypatch.setattr("live_runner.copies.BATCH", 1)  # type: ignore[attr-defined]
    publish, slept = SharedState.publish, []

    async def slow(self: SharedState, make: Callable) -> bool:
        def hanging() -> object:
            slept.append(time.sleep(0.5))
            return make()

        return await publish(self, hanging)

    monkeypatch.setattr(SharedState, "publish", slow)  # type: ignore[attr-defined]
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    made = len(records(runner, Kind.ROW, Kind.DECISION, Kind.FILL, Kind.ORDER_EVENT))
    assert len(records(runner, Kind.DECISION)) == 12 and len(records(runner, Kind.FILL)) > 10
    assert runner.copies.dropped + len(slept) == made and runner.copies.dropped > made / 2


def test_the_metrics_on_their_port_carry_every_name(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    scraped: list[str] = []

    class Scraped(Runner):
        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            scraped.append(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode())

    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    runner = play(daily, exchange(daily).url, Scraped, redis_url=redis_url, metrics_port=port)
    families = {match[0]: match[1] for match in re.findall(r"# TYPE (\S+) (\S+)", scraped[-1])}
    declared = {value for name, value in vars(names).items() if name.startswith("METRIC_")}
    assert declared <= set(families)
    values = dict(re.findall(r"^(\S+) (\S+)$", scraped[-1], re.M))
    last = records(runner, Kind.DECISION)[-1].body["decision"]
    accepted = {r.key for r in records(runner, Kind.ORDER_EVENT) if r.body["source"] == "post" and r.body["status"] == "working"}
    assert float(values[names.METRIC_ROWS]) == float(values[names.METRIC_DECISIONS]) == len(scraped) == 12
    assert float(values[names.METRIC_EQUITY]) == last["equity"]
    assert float(values[f'{names.METRIC_ORDERS}{{outcome="accepted"}}']) == len(accepted) > 10
    assert float(values[f'{names.METRIC_STATE}{{state="READY"}}']) == 1.0 and float(values[names.METRIC_KILL]) == 0.0
    assert float(values[f'{names.METRIC_LATENCY}_count{{stage="row"}}']) == 12
    with socket.socket() as closed:
        assert closed.connect_ex(("127.0.0.1", port)) != 0, "the port is not given back"
