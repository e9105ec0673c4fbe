"""Someone else trades in our account: the engine lets go of the instrument, exits included, until an operator returns it (T18)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from market import Exchange, World, make_world

from live_runner.control import CommandFolder, new_command
from live_runner.replay import replay
from live_runner.runner import Runner
from trading_platform.contracts.journal import JournalReader, Kind

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}
KEYS = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}


def bodies(runner: Runner, kind: Kind) -> list[dict]:
    with JournalReader(runner.settings.journal) as reader:
        return [record.body for record in reader.records(kind)]


def someone_else_buys(url: str, symbol: str) -> None:
    order = {"symbol": symbol, "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
    requests.post(f"{url}/v2/orders", json=order, headers=KEYS, timeout=10).raise_for_status()


class Touched(Runner):
    """After `row` rows, with that row's orders waiting for the open, someone else buys a share of what the engine is about to reduce."""

    row = 6
    url = ""
    name = ""
    back_at = 0
    rows = 0

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == self.row:
            waiting = [o.intent for o in self.fold.book.open_orders() if o.intent.leg == "reduce"]
            type(self).name = waiting[0].instrument_id
            someone_else_buys(self.url, waiting[0].symbol)
        if self.rows == self.back_at:
            for command, arguments in (("hands_on", {"instrument_id": self.name}), ("resume", {})):
                CommandFolder(self.settings.journal).submit(new_command(command, "anna", "talked to bob", self.clock.now_ns(), **arguments))


def touched(url: str, **changes: Any) -> type[Touched]:
    return type("TouchedHere", (Touched,), {"url": url, **changes})


def test_the_engine_neither_enters_nor_leaves_what_someone_else_trades_until_it_is_returned(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    scene = touched(venue.url, back_at=9)
    runner = play(daily, venue.url, scene, redis_url=redis_url)
    with JournalReader(runner.settings.journal) as reader:
        (taken,) = (r.seq for r in reader.records(Kind.BREAK) if "an order that is not ours" in r.body["what"])
        (returned,) = (r.seq for r in reader.records(Kind.COMMAND) if r.body["name"] == "hands_on")
        decided = [(r.seq, r.body) for r in reader.records(Kind.DECISION)]
        waiting = {r.body["client_order_id"]: r.seq for r in reader.records(Kind.INTENT) if r.body["instrument_id"] == scene.name}
        legs = {r.body["client_order_id"]: r.body["leg"] for r in reader.records(Kind.INTENT)}
        ended = [r.body for r in reader.records(Kind.ORDER_EVENT) if r.seq > taken and r.body["client_order_id"] in waiting]
        fills = [r for r in reader.records(Kind.FILL) if r.body["instrument_id"] == scene.name and r.seq > taken]
    queued = [name for name, seq in waiting.items() if seq < taken and legs[name] == "reduce"]
    assert queued and any(e["client_order_id"] == queued[-1] and e["status"] == "canceled" for e in ended)
    quiet = [r.body for r in fills if r.seq < returned]
    assert [(b["client_order_id"], b["lots"]) for b in quiet] == [("", 1)], "only the stranger's own fill"
    assert not [name for name, seq in waiting.items() if taken < seq < returned and legs[name] != "protect"]
    wished = [body for seq, body in decided if taken < seq < returned and scene.name in body.get("held_back", ())]
    assert wished and all(o["leg"] == "reduce" for b in wished for o in b["decision"]["orders"] if o["instrument_id"] == scene.name)
    left = [name for name, seq in waiting.items() if seq > returned and legs[name] == "reduce"]
    assert left, "returned by an operator, the engine leaves it"
    assert venue.positions() == runner.fold.positions()
    again = replay(runner.settings.journal, daily.root / "lake", "daily", str(daily.root / "bundles"), daily.profile)
    assert (again.decisions, again.different) == (12, ())


def test_a_flatten_closes_what_is_left_alone_and_its_stop_stays_until_then(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    stops: dict[str, int] = {}

    class Flattened(touched(venue.url)):  # type: ignore[misc]
        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            if self.rows == 9:
                held = self.fold.positions()
                stops.update({o.intent.instrument_id: o.open_lots - held[o.intent.instrument_id] for o in self.fold.book.open_orders()})
                CommandFolder(self.settings.journal).submit(new_command("flatten", "anna", "enough", self.clock.now_ns()))

    runner = play(daily, venue.url, Flattened, redis_url=redis_url)
    name = Flattened.name
    assert stops[name] == 0, "the stop covers the position, no lot more or less"
    assert name in runner.fold.hands_off() and venue.positions() == runner.fold.positions() == {}
    assert [b["instrument_id"] for b in bodies(runner, Kind.INTENT) if b["leg"] == "flatten"].count(name) == 1


@pytest.mark.parametrize("scope", ["ours", "account"])
def test_orders_that_are_not_ours_are_touched_only_by_a_flatten_of_the_account(
    scope: str, daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)

    class Flattened(Runner):
        rows = 0

        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            self.rows += 1
            if self.rows == 5:
                order = {"symbol": "BB", "qty": "3", "side": "buy", "type": "limit", "limit_price": "1.00", "time_in_force": "gtc"}
                requests.post(f"{venue.url}/v2/orders", json=order, headers=KEYS, timeout=10).raise_for_status()
            if self.rows == 7:
                CommandFolder(self.settings.journal).submit(new_command("flatten", "anna", "out", self.clock.now_ns(), scope=scope))

    runner = play(daily, venue.url, Flattened, redis_url=redis_url)
    left = [(o.symbol, o.left) for o in venue.venue.orders.open()]
    assert left == ([("BB", 3)] if scope == "ours" else []) and venue.positions() == {} == runner.fold.positions()


def test_an_order_of_ours_that_works_where_someone_else_comes_in_is_cancelled_at_once(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world = make_world(tmp_path / "home", "1Min", 24)
    world.stage(redis_url, *world.bundle("minutes", "1", {"returns_15": 1.0, "returns_5": 0.5}))
    venue = exchange(world)
    seen: list[tuple[str, ...]] = []

    class Crowded(Runner):
        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            ours = [o for o in self.fold.book.open_orders() if o.status == "working" and not o.protects]
            if ours and not seen:
                someone_else_buys(venue.url, ours[0].intent.symbol)
                while not self.fold.hands_off():
                    await asyncio.sleep(0.001)
                    await self.drain()
                await self._cover()
                seen.append((ours[0].status, *(o.status for o in ours[1:])))

    play(world, venue.url, Crowded, redis_url=redis_url)
    assert seen and seen[0][0] == "canceled" and set(seen[0][1:]) <= {"working"}
