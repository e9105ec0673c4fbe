from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from trading_platform.contracts.errors import InputError, TransientError
from trading_platform.registry.slots import Slots

BUNDLE = "ab" * 32
OTHER = "cd" * 32


def test_an_empty_redis_has_nothing_active_and_nothing_pending(client: redis.Redis) -> None:
    slots = Slots(client, "default", "paper")
    assert slots.active("daily") is None and slots.pending("daily") is None and slots.epoch() == 0 and slots.fallback_model() is None


def test_a_request_typed_in_redis_cli_is_read_without_a_bundle(client: redis.Redis) -> None:
    client.hset("model:registry:pending", "high_frequency", "tlob_tiny_v1.2")
    assert Slots(client, "default", "paper").pending("high_frequency") == ("tlob_tiny_v1.2", None)


def test_activation_switches_by_epoch_and_takes_the_request_away(client: redis.Redis) -> None:
    slots = Slots(client, "demo", "paper")
    slots.stage("daily", "alpha_v1", BUNDLE)
    assert slots.pending("daily") == ("alpha_v1", BUNDLE)
    assert slots.activate("daily", "alpha_v1", BUNDLE, 0) == 1
    assert slots.active("daily") == ("alpha_v1", BUNDLE, 1) and slots.pending("daily") is None
    assert slots.activate("daily", "alpha_v2", OTHER, 1) == 2
    with pytest.raises(TransientError, match="epoch is 2"):
        slots.activate("daily", "alpha_v3", BUNDLE, 1)
    assert slots.active("daily") == ("alpha_v2", OTHER, 2)


def test_a_newer_request_survives_the_activation_and_the_refusal_of_an_older_one(client: redis.Redis) -> None:
    slots = Slots(client, "default", "paper")
    slots.stage("daily", "alpha_v2", OTHER)
    slots.activate("daily", "alpha_v1", BUNDLE, 0)
    assert slots.pending("daily") == ("alpha_v2", OTHER)
    assert slots.refuse("daily", "alpha_v1", "too old") is False
    assert slots.pending("daily") == ("alpha_v2", OTHER)


def test_the_same_label_with_another_bundle_is_a_newer_request(client: redis.Redis) -> None:
    slots = Slots(client, "default", "paper")
    slots.stage("daily", "alpha_v1", OTHER)
    slots.activate("daily", "alpha_v1", BUNDLE, 0)
    assert slots.pending("daily") == ("alpha_v1", OTHER)


def test_a_refusal_deletes_the_request_and_keeps_the_reason(client: redis.Redis) -> None:
    slots = Slots(client, "default", "paper")
    slots.stage("daily", "alpha_v1", BUNDLE)
    assert slots.refuse("daily", "alpha_v1", "no ledger entry") is True
    assert slots.pending("daily") is None and slots.rejected("daily") == ("alpha_v1", "no ledger entry")
    assert client.hlen("model:registry:pending") == 0
    slots.stage("daily", "alpha_v1", BUNDLE)
    assert slots.rejected("daily") is None


def test_staging_by_hand_over_a_staged_bundle_drops_its_bundle_id(client: redis.Redis) -> None:
    slots = Slots(client, "default", "paper")
    slots.stage("daily", "alpha_v1", BUNDLE)
    slots.stage("daily", "alpha_v2", None)
    assert slots.pending("daily") == ("alpha_v2", None)


def test_of_many_writers_with_one_expected_epoch_exactly_one_wins(client: redis.Redis) -> None:
    slots = Slots(client, "default", "paper")

    def attempt(number: int) -> bool:
        try:
            slots.activate("daily", f"alpha_v{number}", BUNDLE, 0)
        except TransientError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(32))) == 1
    assert slots.epoch() == 1


def test_another_modes_marker_is_refused(client: redis.Redis) -> None:
    Slots(client, "default", "paper").claim_mode()
    Slots(client, "default", "paper").claim_mode()
    with pytest.raises(InputError, match="default:paper"):
        Slots(client, "default", "live").claim_mode()
    Slots(client, "alice", "live").claim_mode()


def test_accounts_do_not_see_each_other(client: redis.Redis) -> None:
    Slots(client, "alice", "paper").stage("daily", "alpha_v1", BUNDLE)
    assert Slots(client, "bob", "paper").pending("daily") is None and Slots(client, "alice", "live").pending("daily") is None


def test_swaps_are_acknowledged_on_a_stream(client: redis.Redis) -> None:
    slots = Slots(client, "default", "paper")
    assert "-" in slots.acknowledge({"slot": "daily", "label": "alpha_v1", "outcome": "active"})
    assert client.xlen("model.swaps") == 1


def test_an_unknown_slot_is_bad_input_and_a_dead_redis_is_transient(client: redis.Redis) -> None:
    with pytest.raises(InputError, match="weekly"):
        Slots(client, "default", "paper").stage("weekly", "alpha_v1", None)
    dead = Slots(redis.Redis(port=1, socket_connect_timeout=0.2, retry=Retry(NoBackoff(), 0)), "default", "paper")
    with pytest.raises(TransientError, match="Redis did not answer"):
        dead.active("daily")
