"""Kill it anywhere: before and after commits, POSTs and fill pushes. Nothing is lost, nothing is sent twice (I5)."""

from __future__ import annotations

import signal
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import redis
from lives import live
from market import Exchange, World, make_world, settings_of

from live_runner.replay import replay
from trading_platform.contracts.journal import JournalReader, Kind

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}
KILLED = -signal.SIGKILL
# One life each. The first commits of a life are its own start; later ones are rows, acknowledgements, fills, sessions.
COMMITS = [f"commit:{n}:{when}" for n in (4, 5, 7) for when in ("before", "after")]
OTHERS = [f"{what}:{n}:{when}" for n in (1, 2) for what in ("post", "fill") for when in ("after", "before")]


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("crashes") / "home", traded=6)
    world.bundle("momentum", "1", MOMENTUM)
    return world


@pytest.fixture(scope="module")
def minutes(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A market whose orders are valid at once: what a row decides leaves within the same wake."""
    world = make_world(tmp_path_factory.mktemp("minutes") / "home", "1Min", traded=8)
    world.bundle("momentum", "1", {"returns_15": 1.0, "returns_5": 0.5})
    return world


@pytest.fixture
def fresh(exchange: Callable[..., Exchange], redis_url: str, tmp_path: Path) -> Callable[..., tuple[Exchange, dict[str, Any]]]:
    """A new exchange for a market, an empty Redis with the request, and the settings of a journal of its own."""

    def make(market: World, name: str) -> tuple[Exchange, dict[str, Any]]:
        client = redis.Redis.from_url(redis_url)
        client.flushall()
        client.close()
        market.stage(redis_url, "momentum_v1", market.bundles["momentum_v1"])
        return exchange(market), {"redis_url": redis_url, "journal": tmp_path / name / "tester-paper.sqlite"}

    return make


def trades(venue: Exchange) -> list[tuple[Any, ...]]:
    """Every order of the venue that is no stop, and what became of it."""
    orders = venue.venue.orders.every()
    return sorted(
        (o.symbol, o.sign, o.kind, o.lots, o.limit_ticks, o.status, o.filled_lots, o.created_at) for o in orders if o.kind != "stop"
    )


def unknown_to_journal(venue: Exchange, journal: Path) -> set[str]:
    """Client ids of orders that the venue has and the journal has no intent for."""
    with JournalReader(journal) as reader:
        intents = {record.key for record in reader.records(Kind.INTENT)}
    return {order.client_order_id for order in venue.venue.orders.every()} - intents


def test_lives_that_end_anywhere_trade_what_one_life_trades(market: World, fresh: Callable[..., Any]) -> None:
    whole, settings = fresh(market, "whole")
    assert live(settings_of(market, whole.url, **settings)) == 0

    broken, settings = fresh(market, "broken")
    ends = []
    points = [point for pair in zip(COMMITS, cycle(OTHERS), strict=False) for point in pair]
    for point in [*points, ""]:
        ends.append(live(settings_of(market, broken.url, kill_at=point, **settings)))
        assert not unknown_to_journal(broken, settings["journal"]), f"killed at {point}"
        if broken.ended.is_set():
            break
    assert broken.ended.is_set() and ends.count(KILLED) >= 9, ends

    assert trades(broken) == trades(whole)
    assert broken.positions() == whole.positions() != {}
    assert broken.venue.account.cash_cents == whole.venue.account.cash_cents
    with JournalReader(settings["journal"]) as reader:
        reader.verify()
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    again = replay(settings["journal"], market.root / "lake", "daily", str(market.root / "bundles"), market.profile)
    assert (again.decisions, again.different) == (6, ())


@pytest.mark.parametrize("timeframe", ["1Day", "1Min"])
def test_a_commit_moved_behind_the_post_is_caught(timeframe: str, request: pytest.FixtureRequest, fresh: Callable[..., Any]) -> None:
    """The mutant of the issue: the same kill point, with the intents journaled after the POST. Daily orders wait for the next open, minute
    ones are sent by the very call that commits them."""
    market: World = request.getfixturevalue("market" if timeframe == "1Day" else "minutes")
    venue, settings = fresh(market, "right")
    assert live(settings_of(market, venue.url, kill_at="post:1:after", **settings)) == KILLED
    assert not unknown_to_journal(venue, settings["journal"])
    assert live(settings_of(market, venue.url, **settings)) == 0
    orders = [order.client_order_id for order in venue.venue.orders.every()]
    assert len(orders) == len(set(orders)) and not unknown_to_journal(venue, settings["journal"])
    with JournalReader(settings["journal"]) as reader:
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    venue, settings = fresh(market, "mutant")
    assert live(settings_of(market, venue.url, kill_at="post:1:after", **settings), mutant=True) == KILLED
    assert unknown_to_journal(venue, settings["journal"])
