"""FLATTEN gets out of a falling market: one exit per name at a time, the stop back wherever it does not trade, and it says so (T17)."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from market import ACCOUNT, Exchange, World, make_world

from live_runner.broker import Answer, Verdict
from live_runner.cli import main
from live_runner.control import CommandFolder, new_command
from live_runner.runner import Runner
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.journal import JournalReader, Kind, Record

FEATURES = {"returns_15": 1.0, "returns_5": 0.5}
MINUTE = 60 * 10**9
HALTED = Answer(Verdict.REJECTED, status=403, reason="40310000: trading is halted")


class FlattenedInACrash(Runner):
    """Flattened after row 15, while quotes stand 15 % below the last bars and, for `refusing` rows, the venue takes no exit."""

    rows = 0
    refusing = 4
    at_row = 15

    def _build(self) -> None:
        super()._build()
        self.bare: list[dict[str, int]] = []
        submit, quotes = self.broker.submit, self.broker.quotes

        async def refused(intent: Any) -> Answer:
            return HALTED if intent.leg == "flatten" and self.rows < self.at_row + self.refusing else await submit(intent)

        async def fallen(symbols: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
            found = await quotes(symbols)
            fall = 0.85 if self.rows >= self.at_row else 1.0
            return {name: {**quote, "bp": quote["bp"] * fall, "ap": quote["ap"] * fall} for name, quote in found.items()}

        self.broker.submit, self.broker.quotes = refused, fallen  # type: ignore[method-assign]

    async def _act(self, wake: Any) -> None:
        await super()._act(wake)
        stops = {name: 0 for name in self.fold.positions()}
        for order in self.fold.book.open_orders():
            if order.intent.instrument_id in stops and order.intent.side == "sell":
                stops[order.intent.instrument_id] += order.open_lots
        self.bare.append({name: lots - stops[name] for name, lots in self.fold.positions().items() if lots != stops[name]})

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == self.at_row:
            CommandFolder(self.settings.journal).submit(new_command("flatten", "anna", "crash", self.clock.now_ns()))
        if self.rows == self.at_row + 2:
            status_of(self.settings.journal.parent.parent)


def status_of(home: Path) -> int:
    return main(["status", "--json", "--home", str(home), "--account", ACCOUNT])


def records(runner: Runner, kind: Kind, key: str | None = None) -> list[Record]:
    with JournalReader(runner.settings.journal) as reader:
        return list(reader.records(kind, key=key))


@pytest.fixture
def minutes(tmp_path: Path, redis_url: str) -> World:
    world = make_world(tmp_path / "home", "1Min", 30)
    world.stage(redis_url, *world.bundle("minutes", "1", FEATURES))
    return world


def test_a_refused_exit_is_tried_again_once_a_minute_with_the_stop_in_place_until_it_is_out(
    minutes: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    venue = exchange(minutes)
    runner = play(minutes, venue.url, FlattenedInACrash, redis_url=redis_url)
    assert venue.positions() == runner.fold.positions() == {} and venue.venue.orders.open() == []
    assert runner.fold.level is KillLevel.FLATTEN
    exits: dict[str, list[Record]] = {}
    for record in records(runner, Kind.INTENT):
        if record.body["leg"] == "flatten":
            exits.setdefault(record.body["instrument_id"], []).append(record)
    assert exits and {r.body["order_type"] for found in exits.values() for r in found} == {"market"}
    for found in exits.values():
        assert [r.body["attempt"] for r in found] == list(range(1, len(found) + 1)) and 3 <= len(found) <= 6
        assert all(b.at - a.at >= MINUTE for a, b in itertools.pairwise(found)), "one exit per name and minute, no more"
    assert not any(runner.bare), "after every wake a stop or an exit at the venue stood for each share"
    said = [r.body["not_flat"] for r in records(runner, Kind.STATE, "flatten")]
    assert set(said[0]) == set(exits) and said[-1] == {}
    midway = json.loads(capsys.readouterr().out)
    assert midway["flatten"].startswith("latched, not flat: us:") and "no exit works" in midway["flatten"]
    assert status_of(minutes.root) == 0 and json.loads(capsys.readouterr().out)["flatten"] == "latched, flat"
    assert [r.body["what"] for r in records(runner, Kind.BREAK)] == []


class ReturnsInTheEvening(Runner):
    """Flattened behind a daily row, while the market is closed; released again before it opens."""

    rows = 0

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == 5:
            await self.operator.carry_out(new_command("flatten", "anna", "fear", self.clock.now_ns()))
            await self.flattener.step()
            waiting = [o for o in self.fold.book.open_orders() if o.intent.leg == "flatten"]
            assert waiting and all(o.valid_from > self.clock.now_ns() for o in waiting)
            await self.operator.carry_out(new_command("resume", "anna", "calm", self.clock.now_ns(), confirm="FLATTEN"))


def test_a_release_before_the_open_takes_the_waiting_exits_back(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", {"returns_21d": 1.0, "returns_5d": 0.5}))
    venue = exchange(daily)
    runner = play(daily, venue.url, ReturnsInTheEvening, redis_url=redis_url)
    exits = {r.key for r in records(runner, Kind.INTENT) if r.body["leg"] == "flatten"}
    assert exits and not [r for r in records(runner, Kind.FILL) if r.body["client_order_id"] in exits]
    assert venue.positions() == runner.fold.positions() != {}
    stops = {f"us:{o.symbol}": o.left for o in venue.venue.orders.open() if o.kind == "stop"}
    assert stops == venue.positions()
