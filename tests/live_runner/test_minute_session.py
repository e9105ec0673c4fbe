"""Minute rows: bars from the stream, leftovers cancelled before each row, the same bytes as the backtest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from market import PROFILE, Exchange, make_world

from live_runner.control import CommandFolder, new_command
from live_runner.runner import Runner
from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.journal import JournalReader, Kind

FEATURES = {"returns_15": 1.0, "returns_5": 0.5}
MINUTES = 45


def test_a_minute_session_is_what_the_backtest_concludes(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    profile = replace(PROFILE, execution=replace(PROFILE.execution, limit_offset_bps=1.0))
    world = make_world(tmp_path / "home", "1Min", MINUTES, profile=profile)
    label, bundle_id = world.bundle("minutes", "1", FEATURES)
    world.stage(redis_url, label, bundle_id)
    venue = exchange(world)
    runner = play(world, venue.url, redis_url=redis_url)
    expected = world.concluded([(0, label, bundle_id)])
    with JournalReader(runner.settings.journal) as reader:
        decisions = [canonical_bytes(record.body["decision"]) for record in reader.records(Kind.DECISION)]
        fills = [(r.body["instrument_id"], r.body["side"], r.body["lots"], r.body["ticks"]) for r in reader.records(Kind.FILL)]
        ends = [record.body["status"] for record in reader.records(Kind.ORDER_EVENT)]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    for number, (mine, theirs) in enumerate(zip(decisions, expected.decisions, strict=True)):
        assert mine == theirs.to_bytes(), f"row {number}"
    names, sides = world.panel.instrument_ids, {1: "buy", -1: "sell"}
    assert fills == [(names[f["column"]], sides[int(f["side"])], f["lots"], f["ticks"]) for f in expected.fills]
    assert len(fills) > 10 and ends.count("canceled") > 3
    assert runner.fold.positions() == venue.positions()


class FlattenedInTheSession(Runner):
    """An operator flattens after the fifteenth row, while orders work and stops protect."""

    rows = 0
    held: ClassVar[dict[str, int]] = {}

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == 15:
            type(self).held = self.fold.positions()
            CommandFolder(self.settings.journal).submit(new_command("flatten", "anna", "enough", self.clock.now_ns()))


def test_flatten_in_an_open_session_closes_everything_within_the_next_minute(
    tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world = make_world(tmp_path / "home", "1Min", 24)
    world.stage(redis_url, *world.bundle("minutes", "1", FEATURES))
    venue = exchange(world)
    runner = play(world, venue.url, FlattenedInTheSession, redis_url=redis_url)
    assert FlattenedInTheSession.held and venue.positions() == runner.fold.positions() == {}
    assert venue.venue.orders.open() == [] and runner.fold.level is KillLevel.FLATTEN
    with JournalReader(runner.settings.journal) as reader:
        (command,) = (record.body for record in reader.records(Kind.COMMAND))
        exits = [record.body for record in reader.records(Kind.INTENT) if record.body["leg"] == "flatten"]
        mine = {body["client_order_id"] for body in exits}
        fills = [record.body for record in reader.records(Kind.FILL) if record.body["client_order_id"] in mine]
        later = [d.body["decision"]["orders"] for d in reader.records(Kind.DECISION) if d.body["decision"]["known_at"] > command["at"]]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert {e["instrument_id"]: e["lots"] for e in exits} == FlattenedInTheSession.held and {e["origin_id"] for e in exits} == {
        command["command_id"]
    }
    assert sum(f["lots"] for f in fills) == sum(FlattenedInTheSession.held.values())
    assert max(f["at"] for f in fills) <= command["at"] + 2 * 60 * 10**9
    assert len(later) > 5 and not any(order["leg"] == "enter" for orders in later for order in orders)
