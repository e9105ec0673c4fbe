"""Redis as the runner uses it: model requests, the kill level's copy, the lease, copies for whoever watches. Never needed to trade (I9).

Every call runs in one thread with a short timeout; after a failure Redis is left alone for a while, so an unreachable server costs the loop
nothing. `answers` says whether the last call got through.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import redis

from live_runner.clock import SECOND, stopwatch_ns
from trading_platform.contracts import names
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.errors import InputError, TransientError
from trading_platform.registry.slots import Slots

TIMEOUT_S = 1.0
QUIET_NS = 2 * SECOND
LEASE_MS = 15_000
STREAM_LENGTH = 10_000
T = TypeVar("T")

_LEASE = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ''
"""


class SharedState:
    """The Redis keys of one account and mode. `url` empty: there is no Redis, every call returns its default."""

    def __init__(self, url: str, account: str, mode: str) -> None:
        self._thread, self._copying = ThreadPoolExecutor(1, "redis"), ThreadPoolExecutor(1, "redis-copies")
        self._quiet_until = 0
        self._prefix = names.redis_prefix(account, mode)
        self.configured = bool(url)
        self.answers = False
        self.fencing_epoch = 0
        self._holder = f"{socket.gethostname()}/{account}/{mode}"
        self._redis: Any = None
        if url:
            try:
                self._redis = redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, decode_responses=True)
            except ValueError as error:
                raise InputError(f"{error}", "redis url", "write redis://127.0.0.1:6379/0 or unix:///path/redis.sock") from error
            self.slots = Slots(self._redis, account, mode)

    async def start(self) -> None:
        """Claim the prefix and the lease. TransientError when Redis does not answer, InputError when another host or mode holds them."""
        if not self.configured:
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._claim)
        except redis.RedisError as error:
            raise TransientError(
                f"Redis does not answer: {error}", "redis url", "start Redis, correct the address, or run with --redis-url ''"
            ) from error
        self.answers = True

    def _claim(self) -> None:
        self._redis.ping()
        self.slots.claim_mode()
        held = self._renew()
        if held:
            raise InputError(f"another host trades this account: {held}", names.REDIS_LEASE, "stop it, or wait until its lease has run out")
        # The epoch fences: a holder that comes back late sees a higher number and knows it lost.
        self.fencing_epoch = int(self._redis.incr(self._prefix + names.REDIS_LEASE + ":epoch"))

    def _renew(self) -> str:
        # The same host may take its own lease over: the flock beside the journal already proved that the old process is gone.
        return str(self._redis.eval(_LEASE, 1, self._prefix + names.REDIS_LEASE, self._holder, LEASE_MS))

    async def call(self, function: Callable[[], T], default: T, thread: ThreadPoolExecutor | None = None) -> T:
        """Run `function` in Redis' thread (or another); `default` when there is no Redis, it failed just now, or it fails now."""
        if not self.configured or stopwatch_ns() < self._quiet_until:
            return default
        try:
            result = await asyncio.get_running_loop().run_in_executor(thread or self._thread, function)
        except (redis.RedisError, TransientError):
            self.answers, self._quiet_until = False, stopwatch_ns() + QUIET_NS
            return default
        self.answers = True
        return result

    async def heartbeat(self, now_ns: int) -> bool:
        """Renew the lease and write the heartbeat. False only when another host holds the lease by now."""

        def beat() -> bool:
            held = self._renew()
            self._redis.set(self._prefix + names.REDIS_HEARTBEAT, now_ns)
            epoch = int(self._redis.get(self._prefix + names.REDIS_LEASE + ":epoch") or 0)
            return not held and epoch <= self.fencing_epoch

        return await self.call(beat, True)

    async def kill_level(self) -> KillLevel:
        """The level in Redis; NONE when it cannot be read (the journal has its own)."""

        def read() -> KillLevel:
            text = self._redis.get(self._prefix + names.REDIS_KILL)
            return KillLevel[text] if text in KillLevel.__members__ else KillLevel.NONE

        return await self.call(read, KillLevel.NONE)

    async def write_kill_level(self, level: KillLevel) -> None:
        """Copy the journal's level."""
        await self.call(lambda: self._redis.set(self._prefix + names.REDIS_KILL, level.name), None)

    async def publish(self, make: Callable[[], tuple[Sequence[tuple[str, Mapping[str, str]]], Mapping[str, Mapping[str, str]]]]) -> bool:
        """Append what `make` returns to bounded streams and replace hashes, in one round trip; whether it arrived.

        make: ((stream, fields), ...) and key -> fields. It runs in a thread of the copies, so no lease and no swap waits behind them.
        """

        def send() -> bool:
            entries, hashes = make()
            pipe = self._redis.pipeline(transaction=True)
            for stream, fields in entries:
                pipe.xadd(self._prefix + stream, dict(fields), maxlen=STREAM_LENGTH, approximate=True)
            for key, fields in hashes.items():
                pipe.delete(self._prefix + key)
                pipe.hset(self._prefix + key, mapping=dict(fields))
            pipe.execute()
            return True

        return await self.call(send, False, self._copying)

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._copying.shutdown(wait=True, cancel_futures=True)
        if self._redis is not None:
            self._redis.close()
