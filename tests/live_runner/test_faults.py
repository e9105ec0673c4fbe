"""A venue that misbehaves: what cannot be known is UNKNOWN, is looked up, and is never sent under another id (I6)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from market import Exchange, World

from live_runner.broker import Verdict, verdict_of
from live_runner.runner import Runner
from live_runner.simulator.faults import Rule
from trading_platform.contracts.journal import JournalReader, Kind

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}


def trades(venue: Exchange) -> list[tuple[Any, ...]]:
    orders = venue.venue.orders.every()
    return sorted((o.symbol, o.sign, o.kind, o.lots, o.limit_ticks, o.status, o.filled_lots) for o in orders if o.kind != "stop")


def play_with(rules: tuple[Rule, ...], daily: World, exchange: Any, play: Any, redis_url: str) -> tuple[Exchange, Runner]:
    daily.stage(redis_url, "momentum_v1", daily.bundles["momentum_v1"])
    venue = exchange(daily, rules=rules)
    return venue, play(daily, venue.url, redis_url=redis_url, journal=daily.root / "journals" / f"{len(rules)}.sqlite")


@pytest.mark.parametrize(
    "rules",
    [
        (Rule("post_order", "504_after_accept", 2), Rule("post_order", "504_after_accept", 5)),
        (Rule("post_order", "500", 1), Rule("post_order", "html_401", 4)),
        (Rule("post_order", "429", 3),),
        (Rule("patch_order", "504_after_accept", 1), Rule("patch_order", "500", 3)),
        (Rule("trade_update", "drop_update", 9), Rule("trade_update", "duplicate_update", 5)),
        (Rule("trade_update", "disconnect", 6),),
        (Rule("get", "500", 9), Rule("get", "500", 16), Rule("get", "500", 17), Rule("get", "429", 31)),
        (Rule("data_get", "500", 2), Rule("data_get", "500", 5), Rule("data_get", "429", 8)),
    ],
    ids=lambda rules: "+".join(f"{rule.at}:{rule.kind}" for rule in rules),
)
def test_faults_change_nothing_of_what_is_traded(
    rules: tuple[Rule, ...], daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.bundle("momentum", "1", MOMENTUM)
    calm, _ = play_with((), daily, exchange, play, redis_url)
    import redis

    redis.Redis.from_url(redis_url).flushall()
    stormy, runner = play_with(rules, daily, exchange, play, redis_url)
    assert trades(stormy) == trades(calm)
    assert stormy.positions() == calm.positions() == runner.fold.positions() != {}
    with JournalReader(runner.settings.journal) as reader:
        intents = {record.key for record in reader.records(Kind.INTENT)}
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert {order.client_order_id for order in stormy.venue.orders.every()} <= intents


@pytest.mark.parametrize(
    ("status", "text", "verdict"),
    [
        (403, '{"code":40310000,"message":"insufficient buying power"}', Verdict.REJECTED),
        (422, '{"code":42210000,"message":"invalid limit_price"}', Verdict.REJECTED),
        (422, '{"code":40010001,"message":"client_order_id must be unique"}', Verdict.NOT_UNIQUE),
        (429, '{"message":"too many requests."}', Verdict.THROTTLED),
        (504, '{"code":50410000,"message":"request timed out"}', Verdict.UNKNOWN),
        (500, '{"code":50010000,"message":"internal"}', Verdict.UNKNOWN),
        (401, "<html>nobody home</html>", Verdict.UNKNOWN),
        (403, "<html>proxy</html>", Verdict.UNKNOWN),
        (422, '{"message":"words without a code"}', Verdict.UNKNOWN),
        (422, "[]", Verdict.UNKNOWN),
    ],
)
def test_only_the_venues_own_words_reject(status: int, text: str, verdict: Verdict) -> None:
    assert verdict_of(status, text).verdict is verdict
