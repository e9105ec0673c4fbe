"""Without lock-step: a simulator that does not wait, a clock that follows it, rows that close when they are complete or late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from market import PROFILE, Exchange, World, make_world, settings_of

from live_runner.clock import PacedClock
from live_runner.feed import BarStream
from live_runner.runner import Runner
from live_runner.simulator.faults import Rule
from live_runner.simulator.settings import arrival_allowance
from trading_platform.contracts.canonical import decode_array
from trading_platform.contracts.journal import JournalReader, Kind

FEATURES = {"returns_15": 1.0, "returns_5": 0.5}
SPEED, MINUTE = 60.0, 60 * 10**9


class StopsBehindTheLastRow(Runner):
    """The tape is over then: nothing fills any more, whatever the time."""

    last_row = 0

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        if self.fold.last_row == self.last_row:
            self.ask_to_stop()


def play_paced(world: World, exchange: Callable[..., Exchange], redis_url: str, **plan: Any) -> tuple[Exchange, Runner]:
    world.stage(redis_url, *world.bundle("minutes", "1", FEATURES))
    settings = {"arrival_allowance_ns": arrival_allowance(SPEED)}
    venue = exchange(world, clients=0, speed=SPEED, settings=settings, **plan)
    runner = StopsBehindTheLastRow(settings_of(world, venue.url, lockstep=False, speed=SPEED, redis_url=redis_url))
    runner.last_row = int(world.panel.timestamp[-1])
    asyncio.run(asyncio.wait_for(runner.run(), 60))
    return venue, runner


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("live_runner.simulator.server.BEFORE_OPEN", 3 * MINUTE)  # three seconds to start in, not thirty


def market(tmp_path: Path, minutes: int, **more: Any) -> World:
    profile = replace(PROFILE, grace_s=20.0, execution=replace(PROFILE.execution, opening_toxic_minutes=0))
    return make_world(tmp_path / "home", "1Min", minutes, profile=profile, **more)


@pytest.mark.usefixtures("soon")
def test_a_paced_minute_session_is_decided_in_time_and_its_orders_fill_in_the_next_bar(
    tmp_path: Path, exchange: Callable[..., Exchange], redis_url: str
) -> None:
    minutes = 6
    world = market(tmp_path, minutes)
    venue, runner = play_paced(world, exchange, redis_url)
    with JournalReader(runner.settings.journal) as reader:
        reader.verify()
        decisions = {record.key: record.body for record in reader.records(Kind.DECISION)}
        intents = {record.key: record.body for record in reader.records(Kind.INTENT)}
        fills = [record.body for record in reader.records(Kind.FILL)]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert len(decisions) == minutes
    for body in decisions.values():
        late = body["trace"]["decided_at"] - body["decision"]["known_at"]
        assert 0 <= late < MINUTE, "a decision comes after its bar's end and before the next one's"
    entered = [fill for fill in fills if intents[fill["client_order_id"]]["leg"] == "enter"]
    assert len(entered) >= 3
    for fill in entered:
        order = venue.venue.orders.get_client(fill["client_order_id"])
        known_at = decisions[intents[fill["client_order_id"]]["origin_id"]]["decision"]["known_at"]
        assert fill["at"] == known_at + MINUTE, "decided on one bar, filled at the end of the next"
        assert known_at < order.created_at <= known_at + arrival_allowance(SPEED)
        assert fill["ticks"] * order.sign >= attainable(world, fill["instrument_id"], known_at, order.sign) * order.sign
    assert runner.fold.positions() == venue.positions() != {}


def attainable(world: World, name: str, start: int, sign: int) -> float:
    """The worse of the open and the typical price of the bar that starts then, in ticks."""
    row, column = int(np.searchsorted(world.panel.timestamp, start)), world.panel.instrument_ids.index(name)
    open_, high, low, close = (float(world.panel.fields[field][row, column]) for field in ("open", "high", "low", "close"))
    return 100.0 * (max if sign > 0 else min)(open_, (high + low + close) / 3.0)


@pytest.mark.usefixtures("soon")
def test_minutes_missed_while_the_socket_was_down_are_backfilled_marked_and_open_nothing(
    tmp_path: Path, exchange: Callable[..., Exchange], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BarStream, "_reconnect_delay", lambda self, retries: 2.3)  # more than two minutes of the market
    world = market(tmp_path, 9, vix=(0, 5, 6))
    fifth_minute = 4 * 9  # eight names and VIX a minute, VIX not in the first
    venue, runner = play_paced(world, exchange, redis_url, rules=(Rule("bar", "disconnect", fifth_minute),))
    with JournalReader(runner.settings.journal) as reader:
        rows = [record.body for record in reader.records(Kind.ROW)]
        decided = [record.body["decision"]["timestamp"] for record in reader.records(Kind.DECISION)]
        intents = [record for record in reader.records(Kind.INTENT) if record.body["leg"] == "enter"]
        known_at = {record.key: record.body["decision"]["known_at"] for record in reader.records(Kind.DECISION)}
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    traded = world.panel.rows(world.first_row, world.panel.shape[0])
    assert [row["timestamp"] for row in rows] == traded.timestamp.tolist(), "no row is missing or double"
    missed = [row["timestamp"] for row in rows if row["provenance"] == "backfilled"]
    assert len(missed) >= 2 and missed[-1] < rows[-1]["timestamp"]
    assert decided == [row["timestamp"] for row in rows if row["timestamp"] not in missed]
    for name in ("close", "vix"):
        assert [decode_array(row["fields"][name]).tobytes() for row in rows] == [line.tobytes() for line in traded.fields[name]], name
    assert intents and all(record.at - known_at[record.body["origin_id"]] < MINUTE for record in intents)
    assert runner.fold.positions() == venue.positions()


def test_a_paced_clock_follows_what_it_was_told() -> None:
    async def told() -> int:
        return 1_000_000_000_000

    async def go() -> tuple[int, int]:
        clock = PacedClock(100.0, told)
        await clock.start()
        before = clock.now_ns()
        await clock.sleep_until(before + 5 * 10**9)
        return before, clock.now_ns()

    before, after = asyncio.run(go())
    assert before == pytest.approx(1_000_000_000_000, abs=5 * 10**9)
    assert 5 * 10**9 <= after - before < 60 * 10**9
