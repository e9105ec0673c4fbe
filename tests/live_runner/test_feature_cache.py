"""The feature cache on a real Redis: exact values, no wrong bar, no wrong version, and nothing that trades depends on it."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import redis
from market import ACCOUNT, PROFILE, Exchange, World, make_world, settings_of

from live_runner.cli import main
from live_runner.runner import Runner
from trading_platform.contracts import names
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.program import Program
from trading_platform.registry.feature_cache import (
    TTL_S,
    FeatureCache,
    FeatureCacheWriter,
    FeatureRow,
    FeatureVector,
    Miss,
    Outcome,
    feature_client,
)
from trading_platform.registry.redis_server import RedisServer, free_port

MINUTE = 60 * 10**9
AT = 1_400_000_000 * 10**9
PREFIX = names.redis_prefix(ACCOUNT, "paper")
TRADED = {"us:AA": 1e5, "us:BB": 7e5, "us:CC": 2e5, "us:DD": 9e6, "us:EE": 4e5, "us:FF": 3e5, "us:HH": 6e5}
WEIGHTS = {"returns_15": 1.0, "returns_5": 0.5}


def row(values: np.ndarray, at: int = AT, version: str = "a" * 64, present: tuple[bool, ...] = (True, True)) -> FeatureRow:
    ids, columns = ("us:AA", "us:BB"), tuple(f"f{n}" for n in range(values.shape[1]))
    return FeatureRow("1Min", at, at + MINUTE, version, "test v1.0", ("AA", "BB"), ids, columns, values, np.array(present))


def numbers(seed: int = 1) -> np.ndarray:
    """Float32 of every size, with the extremes and an undefined cell."""
    bits = np.random.default_rng(seed).integers(0, 2**32, (2, 400), dtype=np.uint32).view(np.float32)
    found = np.where(np.isfinite(bits), bits, np.float32(1))
    found[0, :5] = [np.finfo(np.float32).max, np.finfo(np.float32).tiny / 3, -np.finfo(np.float32).max, np.nan, 0.1]
    return found.astype(np.float32)


def cache(url: str, version: str = "") -> FeatureCache:
    return FeatureCache(feature_client(url), ACCOUNT, "paper", version)


def writer(url: str, stream: bool = False) -> FeatureCacheWriter:
    return FeatureCacheWriter(feature_client(url), ACCOUNT, "paper", stream)


def outcome(found: FeatureVector | Miss) -> Outcome:
    return found.outcome if isinstance(found, Miss) else Outcome.HIT


def test_a_vector_comes_back_to_the_bit_and_expires(redis_url: str) -> None:
    values = numbers()
    writer(redis_url).write(row(values), [0, 1])
    for column, symbol in enumerate(("AA", "BB")):
        found = cache(redis_url).get_features(symbol, "1Min", AT)
        assert isinstance(found, FeatureVector) and (found.timestamp, found.known_at, found.version) == (AT, AT + MINUTE, "a" * 64)
        again = np.array([found.features.get(f"f{n}", np.nan) for n in range(values.shape[1])], np.float32)
        defined = ~np.isnan(values[column])
        assert again[defined].tobytes() == values[column][defined].tobytes() and len(found.features) == defined.sum()
        assert defined.sum() == 400 - (column == 0)
    client = redis.Redis.from_url(redis_url)
    key = f"{PREFIX}feature:AA:1Min:{'a' * 16}"
    assert TTL_S - 5 <= client.ttl(key) <= TTL_S
    stored = client.get(key)
    assert canonical_bytes(parse(stored)) == stored and parse(stored)["ttl"] == 300
    assert client.get(PREFIX + "feature_pipeline_version") == b"test v1.0 " + b"a" * 64
    assert client.get(PREFIX + "last_market_data_update") == str(AT).encode()


def test_only_the_bar_that_is_wanted_is_served(redis_url: str) -> None:
    reader = cache(redis_url)
    assert outcome(reader.get_features("AA", "1Min")) is Outcome.ABSENT
    writer(redis_url).write(row(numbers()), [0, 1])
    wanted = {None: Outcome.HIT, AT: Outcome.HIT, AT - MINUTE: Outcome.STALE, AT + MINUTE: Outcome.STALE}
    assert {at: outcome(reader.get_features("AA", "1Min", at)) for at in wanted} == wanted
    assert outcome(reader.get_features("ZZ", "1Min")) is outcome(reader.get_features("AA", "1Day")) is Outcome.ABSENT
    writer(redis_url).write(row(numbers(2), AT + MINUTE, present=(False, True)), [0, 1])  # AA printed nothing in this minute
    assert [outcome(reader.get_features(symbol, "1Min")) for symbol in ("AA", "BB")] == [Outcome.STALE, Outcome.HIT]


def test_a_change_of_version_outdates_everything_written_before_it(redis_url: str) -> None:
    old, any_version = cache(redis_url, "a" * 64), cache(redis_url)
    writer(redis_url).write(row(numbers()), [0, 1])
    assert outcome(old.get_features("AA", "1Min")) is outcome(any_version.get_features("AA", "1Min")) is Outcome.HIT
    writer(redis_url).write(row(numbers(2), version="b" * 64), [0])
    assert redis.Redis.from_url(redis_url).exists(f"{PREFIX}feature:AA:1Min:{'a' * 16}")
    assert outcome(old.get_features("AA", "1Min")) is Outcome.OTHER_VERSION
    found = any_version.get_features("AA", "1Min")
    assert isinstance(found, FeatureVector) and found.version == "b" * 64
    assert outcome(any_version.get_features("BB", "1Min")) is Outcome.ABSENT


@pytest.mark.parametrize("planted", [b"{", b"[1]", b"{}", None])
def test_a_value_that_is_no_vector_of_this_name_is_refused(redis_url: str, planted: bytes | None) -> None:
    writer(redis_url).write(row(numbers()), [0, 1])
    client = redis.Redis.from_url(redis_url)
    key = PREFIX + "feature:{}:1Min:" + "a" * 16
    client.set(key.format("AA"), client.get(key.format("BB")) if planted is None else planted)
    assert outcome(cache(redis_url).get_features("AA", "1Min")) is Outcome.DAMAGED


def test_every_read_is_counted_by_its_outcome_even_those_that_redis_did_not_see(redis_url: str) -> None:
    down = free_port()
    reader = cache(f"redis://127.0.0.1:{down}/0")
    assert outcome(reader.get_features("AA", "1Min")) is Outcome.NO_REDIS
    with RedisServer(port=down) as server:
        writer(server.url).write(row(numbers()), [0, 1])
        for at in (AT, AT, AT - MINUTE):
            reader.get_features("AA", "1Min", at)
        reader.close()
        totals = writer(server.url).write(row(numbers()), [])
    assert totals == {"no_redis": 1, "hit": 2, "stale": 1}


def test_the_stream_has_one_event_per_vector(redis_url: str) -> None:
    writer(redis_url, stream=True).write(row(numbers(), present=(True, False)), [1, 0])
    client = redis.Redis.from_url(redis_url)
    ((_, event),) = client.xrange(PREFIX + names.STREAM_FEATURES)
    assert (event[b"type"], event[b"symbol"]) == (b"FEATURES_READY", b"AA")
    assert event[b"payload"] == client.get(f"{PREFIX}feature:AA:1Min:{'a' * 16}")
    writer(redis_url).write(row(numbers()), [0, 1])
    writer(redis_url, stream=True).write(row(numbers()), [0, 1], told=False)
    assert client.xlen(PREFIX + names.STREAM_FEATURES) == 1


# ------------------------------------------------------------------ the runner


@pytest.fixture
def minutes(tmp_path: Path) -> World:
    profile = replace(PROFILE, execution=replace(PROFILE.execution, limit_offset_bps=1.0))
    return make_world(tmp_path / "home", "1Min", 20, profile=profile)


def decisions(runner: Runner) -> list[bytes]:
    with JournalReader(runner.settings.journal) as reader:
        return [canonical_bytes(record.body["decision"]) for record in reader.records(Kind.DECISION)]


def features_of(world: World) -> np.ndarray:
    """Features of every row, by another program."""
    return Program(feature_set(world.inputs.feature_set), world.panel.instrument_ids).step(world.panel)


class Reading(Runner):
    """Between rows, somebody reads the cache as soon as it is filled."""

    def _build(self) -> None:
        super()._build()
        self.found: list[dict[str, FeatureVector | Miss]] = []
        self.reader = cache(self.settings.feature_cache_url or self.settings.redis_url)

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        await self.features._task  # type: ignore[misc]
        timeframe = self.inputs.timeframe
        self.found.append({i.symbol: self.reader.get_features(i.symbol, timeframe, self.fold.last_row) for i in self.inputs.instruments})


def test_after_each_row_the_cache_holds_what_the_row_was_decided_on(
    minutes: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    minutes.stage(redis_url, *minutes.bundle("minutes", "1", WEIGHTS))
    runner = play(minutes, exchange(minutes).url, Reading, redis_url=redis_url)
    assert isinstance(runner, Reading) and len(runner.found) == 20
    expected, chosen = features_of(minutes), feature_set(minutes.inputs.feature_set)
    for number, found in enumerate(runner.found):
        at = minutes.first_row + number
        for column, name in enumerate(minutes.panel.instrument_ids):
            vector = found[name[3:]]
            if not minutes.panel.present[at, column]:
                assert outcome(vector) is Outcome.STALE
                continue
            assert isinstance(vector, FeatureVector) and vector.timestamp == minutes.panel.timestamp[at]
            again = np.array([vector.features.get(feature, np.nan) for feature in chosen.names], np.float32)
            np.testing.assert_array_equal(again, expected[at, column])
    said = runner.metrics.registry.get_sample_value
    reads = {o.value: said(names.METRIC_CACHE_READS, {"outcome": o.value}) for o in (Outcome.HIT, Outcome.STALE)}
    assert said(names.METRIC_CACHE_WRITES, {"outcome": "written"}) == minutes.panel.present[minutes.first_row :].sum()
    assert reads == {"hit": 149.0, "stale": 2.0}, "all reads of 19 rows but the last, whose count is still on its way"
    assert said(names.METRIC_CACHE_HIT_RATE) == 149 / 151
    home = ["--home", str(minutes.root), "--account", ACCOUNT, "--redis-url", redis_url, "--pipeline", "intraday"]
    assert main(["features", "AA", "--json", *home]) == 0
    shown = orjson.loads(capsys.readouterr().out)
    assert shown["features"] == runner.found[-1]["AA"].features and shown["timestamp"] == minutes.panel.timestamp[-1]  # type: ignore[union-attr]
    assert main(["features", "AA", "--at", "2013-01-03T14:30:00Z", *home]) == 1
    assert "stale" in capsys.readouterr().out


@contextmanager
def mute_server() -> Iterator[str]:
    """Takes connections and bytes, and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        taken: list[socket.socket] = []

        def accept() -> None:
            while True:
                try:
                    taken.append(listener.accept()[0])
                except OSError:
                    return

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(10)
    for each in taken:
        each.close()


def test_a_cache_that_dies_or_hangs_changes_no_decision_and_delays_no_row(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trading_platform.registry.feature_cache.TIMEOUT_S", 5.0)
    waited: list[float] = []

    class Timed(Runner):
        async def _between_rows(self, session: int) -> None:
            began = time.perf_counter()
            await super()._between_rows(session)
            waited.append(time.perf_counter() - began)

    def life(name: str, runner_class: type[Runner] = Timed, **changes: Any) -> tuple[list[bytes], Callable[..., float | None]]:
        profile = replace(PROFILE, execution=replace(PROFILE.execution, limit_offset_bps=1.0))
        world = make_world(tmp_path / name, "1Min", 20, profile=profile)
        redis.Redis.from_url(redis_url).flushall()
        world.stage(redis_url, *world.bundle("minutes", "1", WEIGHTS))
        runner = play(world, exchange(world).url, runner_class, redis_url=redis_url, **changes)
        return decisions(runner), runner.metrics.registry.get_sample_value

    dying = RedisServer().start()

    class Killing(Timed):
        rows = 0

        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            Killing.rows += 1
            if Killing.rows == 6:
                await self.features._task  # type: ignore[misc]
                dying.stop()

    with mute_server() as url:
        killed, of_killed = life("killed", Killing, feature_cache_url=dying.url)
        hung, of_hung = life("hung", feature_cache_url=url)
    whole, _ = life("whole")
    without, _ = life("without", feature_cache_url=f"redis://127.0.0.1:{free_port()}/0")
    assert killed == hung == whole == without and len(whole) == 20
    assert of_killed(names.METRIC_CACHE_WRITES, {"outcome": "written"}) == 6 * 8
    assert of_killed(names.METRIC_CACHE_WRITES, {"outcome": "failed"}) > 0
    assert of_hung(names.METRIC_CACHE_WRITES, {"outcome": "written"}) is None
    assert of_hung(names.METRIC_CACHE_WRITES, {"outcome": "failed"}) >= 8
    assert of_hung(names.METRIC_CACHE_WRITES, {"outcome": "superseded"}) > 8 * 10, "one row waits at most"
    assert len(waited) == 80 and max(waited) < 2.5, "rows waited for the cache's time-out"


class LeavesNoSnapshot(Runner):
    """As one that was killed."""

    async def stop(self) -> None:
        self.fold.venue_account = ""
        await super().stop()


class StartsOnly(Runner):
    """Starts, fills the cache, and stops."""

    def _build(self) -> None:
        super()._build()
        universe = self.features._universe
        self.features._universe = replace(universe, adv_lots={day: TRADED for day in universe.adv_lots})

    async def loop(self) -> None:
        await self.features._task  # type: ignore[misc]


@pytest.mark.parametrize("before", [Runner, LeavesNoSnapshot])
def test_a_start_warms_the_cache_with_the_last_row_the_most_traded_first(
    minutes: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str,
    before: type[Runner], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Where the fold comes from a snapshot the row itself is not stepped again, otherwise it is."""
    minutes.stage(redis_url, *minutes.bundle("minutes", "1", WEIGHTS))
    venue = exchange(minutes)
    first = play(minutes, venue.url, before, redis_url=redis_url)
    redis.Redis.from_url(redis_url).delete(*redis.Redis.from_url(redis_url).keys(f"{PREFIX}feature*"))
    batches: list[list[int]] = []
    write, served = FeatureCacheWriter.write, []

    def watched(self: FeatureCacheWriter, given: FeatureRow, columns: Any, told: bool = True) -> dict[str, int]:
        batches.append(list(columns))
        reads = write(self, given, columns, told)
        served.append({s for s in given.symbols if outcome(cache(redis_url).get_features(s, "1Min")) is Outcome.HIT})
        return reads

    monkeypatch.setattr(FeatureCacheWriter, "write", watched)
    monkeypatch.setattr("live_runner.feature_cache.WARM_BATCH", 3)
    runner = play(minutes, venue.url, StartsOnly, redis_url=redis_url)
    at = minutes.panel.shape[0] - 1
    assert first.fold.last_row == minutes.panel.timestamp[at] == runner.fold.last_row
    lots = np.array([TRADED.get(name, 0.0) for name in minutes.panel.instrument_ids])
    order = np.argsort(-lots * minutes.panel.fields["close"][at], kind="stable").tolist()
    assert order[0] == 3 and order[-1] == 6, "of GG nobody knows how much is traded"
    assert batches == [order[:3], order[3:6], order[6:]]
    assert [len(names_) for names_ in served] == [3, 6, 8], "what is there already is served while the rest waits"
    vector = cache(redis_url).get_features("AA", "1Min", int(minutes.panel.timestamp[at]))
    assert isinstance(vector, FeatureVector)
    again = np.array([vector.features.get(name, np.nan) for name in feature_set("intraday").names], np.float32)
    np.testing.assert_array_equal(again, features_of(minutes)[at, 0])
    assert redis.Redis.from_url(redis_url).xlen(PREFIX + names.STREAM_FEATURES) == 0


def test_a_vector_outlives_its_five_minutes_while_its_runner_lives(
    minutes: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a restarted Redis is filled again; neither is news for the stream."""
    monkeypatch.setattr("live_runner.feature_cache.AGAIN_S", 0.05)
    client, stream = redis.Redis.from_url(redis_url), PREFIX + names.STREAM_FEATURES
    lives: list[int] = []

    class Idles(Runner):
        async def loop(self) -> None:
            await super().loop()
            await self.features._task  # type: ignore[misc]
            told = client.xlen(stream)
            client.delete(*client.keys(f"{PREFIX}feature:*"))
            for _ in range(100):
                await asyncio.sleep(0.05)
                if len(client.keys(f"{PREFIX}feature:*")) == 8:
                    break
            lives.extend(client.ttl(key) for key in client.keys(f"{PREFIX}feature:*"))
            assert client.xlen(stream) == told == int(minutes.panel.present[minutes.first_row :].sum())

    play(minutes, exchange(minutes).url, Idles, redis_url=redis_url, feature_stream=True)
    assert len(lives) == 8 and min(lives) >= TTL_S - 5


def test_the_command_wants_to_know_which_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("TRADING_REDIS_URL", "TRADING_FEATURE_CACHE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert main(["features", "AA", "--home", str(tmp_path)]) == 2 and "no Redis is named" in capsys.readouterr().err
    assert main(["features", "AA", "--home", str(tmp_path), "--at", "noon"]) == 2 and "'noon' is no instant" in capsys.readouterr().err
    assert main(["features", "AA", "--home", str(tmp_path), "--redis-url", f"redis://127.0.0.1:{free_port()}/0"]) == 1
    assert "no_redis" in capsys.readouterr().out


def test_without_redis_there_is_no_cache(daily: World, exchange: Callable[..., Exchange]) -> None:
    runner = Runner(settings_of(daily, exchange(daily).url))
    runner.features.row_closed()
    runner.features.warm(runner.settings.journal)
    assert runner.features._task is None
    runner._lock.release()
