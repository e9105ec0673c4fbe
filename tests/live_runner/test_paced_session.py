"""Without lock-step: a simulator that does not wait, a clock that follows it, rows that close when they are complete or late."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import settings_of
from market import PROFILE, Exchange, make_world

from live_runner.clock import PacedClock
from live_runner.runner import Runner
from trading_platform.contracts.journal import JournalReader, Kind

FEATURES = {"returns_15": 1.0, "returns_5": 0.5}
SPEED, MINUTES, ROWS = 60.0, 20, 6


class StopsAfterRows(Runner):
    rows = 0

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == ROWS:
            self.ask_to_stop()


def test_a_paced_minute_session_is_decided_in_time_and_its_orders_live_for_one_row(
    tmp_path: Path, exchange: Callable[..., Exchange], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("live_runner.simulator.server.BEFORE_OPEN", 4 * 60 * 10**9)  # four seconds to start in, not thirty
    profile = replace(PROFILE, grace_s=20.0, execution=replace(PROFILE.execution, opening_toxic_minutes=0))
    world = make_world(tmp_path / "home", "1Min", MINUTES, profile=profile)
    world.stage(redis_url, *world.bundle("minutes", "1", FEATURES))
    venue = exchange(world, clients=0, speed=SPEED)
    settings = settings_of(world, venue.url, lockstep=False, speed=SPEED, redis_url=redis_url)
    runner = StopsAfterRows(settings)
    asyncio.run(asyncio.wait_for(runner.run(), 60))
    with JournalReader(settings.journal) as reader:
        reader.verify()
        decisions = [record.body for record in reader.records(Kind.DECISION)]
        intents = [record.key for record in reader.records(Kind.INTENT)]
        ends = {record.key: record.body["status"] for record in reader.records(Kind.ORDER_EVENT)}
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert len(decisions) == ROWS
    for body in decisions:
        late = body["trace"]["decided_at"] - body["decision"]["known_at"]
        assert 0 <= late < 60 * 10**9, "a decision comes after its bar's end and before the next one's"
    # The bar matcher fills no order in a bar that had begun when it arrived, so here every order ends by our own cancel at the next row.
    last = [o.intent.client_order_id for o in runner.fold.book.open_orders()]
    assert len(intents) > 10 and {ends[key] for key in set(intents) - set(last)} == {"canceled"}
    assert sorted(last) == sorted(o.client_order_id for o in venue.venue.orders.open())
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
