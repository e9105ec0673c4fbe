"""The feature cache in Redis: the newest feature vector of each name, for whoever shows or serves it (SPEC FEAT-19 to FEAT-22, FEAT-28).

Nothing that trades reads it; its loss costs latency, never correctness. The key has no time in it, so a reader always says which bar it
wants and is refused any other. Key and value are made and judged in this module alone, by the runner that writes and by those who read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import orjson
import redis
from numpy.typing import NDArray
from redis.backoff import NoBackoff
from redis.retry import Retry

from trading_platform.contracts import names
from trading_platform.contracts.canonical import parse
from trading_platform.contracts.errors import CorruptionError, InputError

TTL_S = 300
TIMEOUT_S = 1.0
STREAM_LENGTH = 10_000  # vectors
VERSION_DIGITS = 16


class Outcome(StrEnum):
    """What a read came to: `hit`, or why the cache does not answer."""

    HIT = "hit"
    ABSENT = "absent"
    STALE = "stale"
    OTHER_VERSION = "other_version"
    DAMAGED = "damaged"
    NO_REDIS = "no_redis"


@dataclass(frozen=True, slots=True)
class Miss:
    """The cache has no answer: compute it, or wait for the next row. `why` is for people."""

    outcome: Outcome
    why: str


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """The features of one name at one bar, as the runner computed them.

    timestamp: the bar's start, known_at: when it could be used, both UTC ns. version: feature hash, 64 hex digits; label: for people.
    features: name -> float32 value as a float; an undefined feature is absent.
    """

    symbol: str
    instrument_id: str
    timeframe: str
    timestamp: int
    known_at: int
    version: str
    label: str
    features: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """The features of one row over S instruments, as the writer gets them.

    symbols, instrument_ids: S strings each. names: F feature names. values: float32 (S, F), NaN undefined. present: bool (S,), who had a
    bar; the others have no vector at this row.
    """

    timeframe: str
    timestamp: int
    known_at: int
    version: str
    label: str
    symbols: Sequence[str]
    instrument_ids: Sequence[str]
    names: Sequence[str]
    values: NDArray[np.float32]
    present: NDArray[np.bool_]

    def vector_bytes(self, column: int) -> bytes:
        """Canonical JSON of one instrument's vector (contracts.canonical). Exact to the bit, but for -0.0, which is 0.0 there."""
        values = self.values[column].astype(np.float64) + 0.0
        defined = np.isfinite(values)
        numbers = zip(np.flatnonzero(defined).tolist(), values[defined].tolist(), strict=True)
        vector = {
            "features": {self.names[number]: value for number, value in numbers},
            "instrument_id": self.instrument_ids[column],
            "known_at": self.known_at,
            "label": self.label,
            "symbol": self.symbols[column],
            "timeframe": self.timeframe,
            "timestamp": self.timestamp,
            "ttl": TTL_S,
            "version": self.version,
        }
        return orjson.dumps(vector, option=orjson.OPT_SORT_KEYS)


def feature_client(url: str) -> redis.Redis:
    """A client with short timeouts that asks once. InputError for an address that is none."""
    try:
        return redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0))
    except ValueError as error:
        raise InputError(f"{error}", "feature cache url", "write redis://127.0.0.1:6379/0 or unix:///path/redis.sock") from error


class _Keys:
    """The cache's keys of one account and mode."""

    def __init__(self, account: str, mode: str) -> None:
        prefix = names.redis_prefix(account, mode)
        self._vector = prefix + names.REDIS_FEATURES
        self.version, self.last_update = prefix + names.REDIS_FEATURE_VERSION, prefix + names.REDIS_LAST_UPDATE
        self.reads, self.stream = prefix + names.REDIS_FEATURE_READS, prefix + names.STREAM_FEATURES

    def vector(self, symbol: str, timeframe: str, version: str) -> str:
        return self._vector.format(symbol=symbol, timeframe=timeframe, version=version[:VERSION_DIGITS])


class FeatureCacheWriter:
    """Writes rows. redis.RedisError where Redis fails; the caller decides what that is worth. stream: FEAT-28, one event per vector."""

    def __init__(self, client: redis.Redis, account: str, mode: str, stream: bool = False) -> None:
        self._redis: Any = client
        self._keys = _Keys(account, mode)
        self._stream = stream

    def write(self, row: FeatureRow, columns: Sequence[int], told: bool = True) -> dict[str, int]:
        """Replace the vectors of these columns that are present, in this order and in one round trip; returns all reads so far by outcome.

        Version and newest bar come first, so that what they outdate is refused from then on. told: the row is news, for the stream.
        """
        pipe = self._redis.pipeline(transaction=False)
        pipe.set(self._keys.version, f"{row.label} {row.version}")
        pipe.set(self._keys.last_update, row.timestamp)
        for column in columns:
            if row.present[column]:
                self._one(pipe, row, column, told)
        pipe.hgetall(self._keys.reads)
        return {outcome.decode(): int(count) for outcome, count in pipe.execute()[-1].items()}

    def _one(self, pipe: Any, row: FeatureRow, column: int, told: bool) -> None:
        data, symbol = row.vector_bytes(column), row.symbols[column]
        pipe.set(self._keys.vector(symbol, row.timeframe, row.version), data, ex=TTL_S)
        if self._stream and told:
            head = {"type": "FEATURES_READY", "symbol": symbol, "timeframe": row.timeframe, "timestamp": row.timestamp}
            pipe.xadd(self._keys.stream, {**head, "payload": data}, maxlen=STREAM_LENGTH, approximate=True)


class FeatureCache:
    """Reads vectors of one account and mode. Every read is counted in Redis by its outcome; the runner shows the counts (FEAT-21).

    version: the feature hash to insist on; empty for whatever the runner publishes now.
    """

    def __init__(self, client: redis.Redis, account: str, mode: str, version: str = "") -> None:
        self._redis: Any = client
        self._keys = _Keys(account, mode)
        self._wanted = version
        self._seen = version  # the published version at the last look
        self._uncounted: dict[str, int] = {}

    def get_features(self, symbol: str, timeframe: str, timestamp: int | None = None) -> FeatureVector | Miss:
        """The vector of a name at the bar that starts at `timestamp` (UTC ns), or why there is none.

        timestamp: None for the newest bar that the runner has closed a row for. Raises nothing: a Redis that is gone is a miss.
        """
        try:
            found = self._read(symbol, timeframe, timestamp)
        except redis.RedisError as error:
            found = Miss(Outcome.NO_REDIS, f"Redis does not answer: {error}")
        outcome = found.outcome if isinstance(found, Miss) else Outcome.HIT
        self._uncounted[outcome] = self._uncounted.get(outcome, 0) + 1
        return found

    def _read(self, symbol: str, timeframe: str, timestamp: int | None) -> FeatureVector | Miss:
        published, newest, data = self._fetch(symbol, timeframe)
        if not self._wanted and published != self._seen:  # the key was made with another version
            self._seen = published
            published, newest, data = self._fetch(symbol, timeframe)
        version = self._wanted or self._seen
        if not published:
            return Miss(Outcome.ABSENT, "no runner has published features here")
        if published != version:
            return Miss(Outcome.OTHER_VERSION, f"the runner computes version {published[:12]}, wanted {version[:12]}")
        if data is None:
            return Miss(Outcome.ABSENT, f"no vector of {symbol} {timeframe} in the last {TTL_S} s")
        return _judged(data, symbol, timeframe, version, newest if timestamp is None else timestamp)

    def _fetch(self, symbol: str, timeframe: str) -> tuple[str, int, bytes | None]:
        """(published version, start of the newest bar, stored vector); reads that are not counted yet travel with the question."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.mget(self._keys.version, self._keys.last_update, self._keys.vector(symbol, timeframe, self._seen))
        counted = self._count(pipe)
        published, newest, data = pipe.execute()[0]
        self._counted(counted)
        return (published or b"").decode().rpartition(" ")[2], int(newest or 0), data

    def _count(self, pipe: Any) -> dict[str, int]:
        for outcome, count in self._uncounted.items():
            pipe.hincrby(self._keys.reads, outcome, count)
        return dict(self._uncounted)

    def _counted(self, counts: Mapping[str, int]) -> None:
        for outcome in counts:
            del self._uncounted[outcome]

    def close(self) -> None:
        """Leave the counts of the last reads behind and the connection. What cannot be counted any more is not."""
        with contextlib.suppress(redis.RedisError):
            pipe = self._redis.pipeline(transaction=False)
            self._count(pipe)
            pipe.execute()
        self._redis.close()


def _judged(data: bytes, symbol: str, timeframe: str, version: str, wanted: int) -> FeatureVector | Miss:
    try:
        stored = parse(data)
        stored.pop("ttl")
        vector = FeatureVector(**stored)
        said = (vector.symbol, vector.timeframe, vector.version) == (symbol, timeframe, version)
        sound = said and all(type(value) is float for value in vector.features.values()) and type(vector.timestamp) is int
    except (AttributeError, CorruptionError, KeyError, TypeError) as error:
        return Miss(Outcome.DAMAGED, f"the stored value is no feature vector: {error}")
    if not sound:
        return Miss(Outcome.DAMAGED, f"the stored value is not the vector of {symbol} {timeframe} {version[:12]}")
    if vector.timestamp != wanted:
        return Miss(Outcome.STALE, f"the stored vector is of the bar at {vector.timestamp}, wanted {wanted}")
    return vector
