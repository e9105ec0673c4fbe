"""Model slots in Redis: hashes `model:registry:active`, `:pending`, `:rejected` (SPEC SWAP-02..12). A request, never the authority (T24).

Only the runner writes `active`, by compare-and-set on its `epoch`; people and sensors write `pending`, also by hand in redis-cli. Only
commands of Redis 6.2. A Redis that does not answer raises TransientError; the runner goes on without it (I9).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from trading_platform.contracts import names
from trading_platform.contracts.errors import InputError, TransientError

_ACTIVATE = """
local epoch = tonumber(redis.call('HGET', KEYS[1], 'epoch') or '0')
if epoch ~= tonumber(ARGV[4]) then return -1 - epoch end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2], ARGV[1] .. ARGV[5], ARGV[3])
local asked = redis.call('HMGET', KEYS[2], ARGV[1], ARGV[1] .. ARGV[5])
if asked[1] == ARGV[2] and (not asked[2] or asked[2] == '' or asked[2] == ARGV[3]) then
  redis.call('HDEL', KEYS[2], ARGV[1], ARGV[1] .. ARGV[5])
end
return redis.call('HINCRBY', KEYS[1], 'epoch', 1)
"""
_REFUSE = """
local asked = redis.call('HGET', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2], ARGV[1] .. ':reason', ARGV[3])
if asked == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1], ARGV[1] .. ARGV[4])
  return 1
end
return 0
"""
_STAGE = """
redis.call('HDEL', KEYS[1], ARGV[1] .. ARGV[4])
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[1] .. ARGV[4], ARGV[3]) end
redis.call('HDEL', KEYS[2], ARGV[1], ARGV[1] .. ':reason')
return 1
"""
STREAM_LENGTH = 10_000


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)


class Slots:
    """The slots of one account and mode. `client` is a redis-py client, with or without decode_responses."""

    def __init__(self, client: redis.Redis, account: str, mode: str) -> None:
        self._redis: Any = client
        self._owner = f"{account}:{mode}"
        self._prefix = names.redis_prefix(account, mode)
        self.active_key = self._prefix + names.REDIS_ACTIVE
        self.pending_key = self._prefix + names.REDIS_PENDING
        self.rejected_key = self._prefix + names.REDIS_REJECTED
        self.stream_key = self._prefix + names.STREAM_SWAPS
        self._activate = self._redis.register_script(_ACTIVATE)
        self._refuse = self._redis.register_script(_REFUSE)
        self._stage = self._redis.register_script(_STAGE)

    def _call(self, function: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except redis.RedisError as error:
            raise TransientError(
                f"Redis did not answer: {type(error).__name__}: {error}", "registry.slots", "check that the Redis server runs"
            ) from error

    @staticmethod
    def _check(slot: str) -> str:
        if slot not in names.SLOTS:
            raise InputError(f"unknown slot {slot!r}", "registry.slots", f"use one of {', '.join(names.SLOTS)}")
        return slot

    def claim_mode(self) -> None:
        """Mark this Redis prefix as this account and mode's; raise InputError where another's marker stands (T24)."""
        key = self._prefix + names.REDIS_MODE_MARKER
        self._call(self._redis.set, key, self._owner, nx=True)
        found = _text(self._call(self._redis.get, key))
        if found != self._owner:
            fix = "give each account and mode its own Redis database, or remove the marker if it is stale"
            raise InputError(f"these Redis keys belong to {found}, not to {self._owner}", key, fix)

    def active(self, slot: str) -> tuple[str, str | None, int] | None:
        """(label, bundle_id or None, epoch) of the slot's active model, or None when nothing is active."""
        fields = [self._check(slot), slot + names.SLOT_BUNDLE_SUFFIX, "epoch"]
        label, bundle_id, epoch = (_text(v) for v in self._call(self._redis.hmget, self.active_key, fields))
        return None if not label else (label, bundle_id or None, int(epoch or 0))

    def epoch(self) -> int:
        """Current epoch of the active hash, 0 when it was never written. The expected value of the next `activate`."""
        return int(_text(self._call(self._redis.hget, self.active_key, "epoch")) or 0)

    def pending(self, slot: str) -> tuple[str, str | None] | None:
        """(label, bundle_id or None when typed by hand) asked for in the slot, or None."""
        fields = [self._check(slot), slot + names.SLOT_BUNDLE_SUFFIX]
        label, bundle_id = (_text(v) for v in self._call(self._redis.hmget, self.pending_key, fields))
        return None if not label else (label, bundle_id or None)

    def rejected(self, slot: str) -> tuple[str, str] | None:
        """(label, reason) of the slot's last refusal, or None."""
        label, reason = (_text(v) for v in self._call(self._redis.hmget, self.rejected_key, [self._check(slot), f"{slot}:reason"]))
        return None if label is None else (label, reason or "")

    def fallback_model(self) -> str | None:
        """Label in the active hash's `fallback_model` field, or None."""
        return _text(self._call(self._redis.hget, self.active_key, "fallback_model"))

    def stage(self, slot: str, label: str, bundle_id: str | None) -> None:
        """Ask for a model: write the pending field (a newer request replaces an older one) and clear the slot's last refusal."""
        keys = [self.pending_key, self.rejected_key]
        self._call(self._stage, keys=keys, args=[self._check(slot), label, bundle_id or "", names.SLOT_BUNDLE_SUFFIX])

    def activate(self, slot: str, label: str, bundle_id: str, expected_epoch: int) -> int:
        """Switch the slot if the epoch is still the expected one; return the new epoch.

        The request that asked for this very bundle is removed in the same step, a newer one stays. Raises TransientError when another
        writer moved the epoch.
        """
        keys = [self.active_key, self.pending_key]
        arguments = [self._check(slot), label, bundle_id, expected_epoch, names.SLOT_BUNDLE_SUFFIX]
        epoch = int(self._call(self._activate, keys=keys, args=arguments))
        if epoch < 0:
            what = f"slot {slot}: the epoch is {-1 - epoch}, expected {expected_epoch}"
            raise TransientError(what, self.active_key, "read the active slot again and decide again")
        return epoch

    def refuse(self, slot: str, label: str, reason: str) -> bool:
        """Write the refusal and its reason; delete the request if it still asks for this label. False where a newer request stands."""
        keys = [self.pending_key, self.rejected_key]
        return bool(self._call(self._refuse, keys=keys, args=[self._check(slot), label, reason, names.SLOT_BUNDLE_SUFFIX]))

    def acknowledge(self, entry: Mapping[str, str]) -> str:
        """Add an entry to the stream of swaps (slot, label, bundle_id, outcome, reason, ...); return its stream id."""
        identifier = self._call(self._redis.xadd, self.stream_key, dict(entry), maxlen=STREAM_LENGTH, approximate=True)
        return _text(identifier) or ""
