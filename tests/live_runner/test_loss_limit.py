"""The daily loss limit latches on confirmed marks only, once a session, and an operator's release holds (T19, I7)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from market import PROFILE, Exchange, World, make_world

from live_runner.control import CommandFolder, new_command
from live_runner.replay import replay
from live_runner.runner import Runner
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.journal import JournalReader, Kind

STRICT = replace(PROFILE, limits=replace(PROFILE.limits, max_daily_drawdown=0.02))


class Marked(Runner):
    """Quotes of row n (from 0) stand `moves[n]` away from the bars; `equity`: what the venue says it is, None for the truth."""

    moves: Mapping[int, float] = {}
    resume_at = 0
    equity: float | None = None
    rows = 0
    watching = False

    def _build(self) -> None:
        super()._build()
        self.levels: list[KillLevel] = []
        self.highs: list[float] = []
        self.asked = 0
        quotes, account = self.broker.quotes, self.broker.account

        async def moved(symbols: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
            factor = 1.0 + self.moves.get(self.rows, 0.0)
            return {name: {**q, "bp": q["bp"] * factor, "ap": q["ap"] * factor} for name, q in (await quotes(symbols)).items()}

        async def told() -> Mapping[str, Any]:
            found = dict(await account())
            if self.watching:
                self.asked += 1
                if self.asked == 1:
                    raise TransientError("the venue does not answer", "test")
                found["equity"] = found["equity"] if self.equity is None else str(self.equity)
            return found

        self.broker.quotes, self.broker.account = moved, told  # type: ignore[method-assign]

    async def _watch_losses(self) -> None:
        self.watching = True
        try:
            await super()._watch_losses()
        finally:
            self.watching = False

    async def _act(self, wake: Any) -> None:
        before = self.rows
        await super()._act(wake)
        if self.rows != before:
            self.levels.append(self.fold.level)
            self.highs.append(self.fold.losses.high)

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == self.resume_at:
            command = new_command("resume", "anna", "looked at it", self.clock.now_ns(), confirm="REDUCE")
            CommandFolder(self.settings.journal).submit(command)


def marked(**changes: Any) -> type[Marked]:
    return type("MarkedHere", (Marked,), changes)


def bodies(runner: Runner, kind: Kind, key: str | None = None) -> list[dict]:
    with JournalReader(runner.settings.journal) as reader:
        return [record.body for record in reader.records(kind, key=key)]


@pytest.fixture
def minutes(tmp_path: Path, redis_url: str) -> World:
    world = make_world(tmp_path / "home", "1Min", 36, profile=STRICT)
    world.stage(redis_url, *world.bundle("minutes", "1", {"returns_15": 1.0, "returns_5": 0.5}))
    return world


def test_two_good_marks_latch_and_one_alone_or_one_outside_the_band_does_not(
    minutes: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    """Row 15: one bad mark. 18: far up, within the band, alone. 21: outside the band, no mark. From 24 it has fallen, 25 is no mark."""
    low = {**{row: -0.15 for row in (15, *range(24, 36))}, 25: -0.5}
    scene = marked(moves={**low, 18: 0.15, 21: 0.5}, resume_at=30)
    runner = play(minutes, exchange(minutes).url, scene, redis_url=redis_url)
    none, reduced = KillLevel.NONE, KillLevel.REDUCE
    assert runner.levels[:26] == [none] * 26 and runner.levels[26:29] == [reduced] * 3
    assert runner.levels[-4:] == [none] * 4, "what an operator released stays released for the session"
    assert max(runner.highs) < 1_005_000.0, "no single mark raised the high-water mark"
    (command,) = (body for body in bodies(runner, Kind.COMMAND) if body["name"] == "reduce")
    assert command["by"] == "guard" and "daily loss limit 2.0%: two good marks" in command["reason"]
    assert [body["level"] for body in bodies(runner, Kind.LATCH)] == ["REDUCE", "NONE"] and runner.asked == 0
    assert [body["proof"] for body in bodies(runner, Kind.STATE, "loss_limit")] == ["two good marks"]
    again = replay(runner.settings.journal, minutes.root / "lake", "intraday", str(minutes.root / "bundles"), STRICT)
    assert again.different == ()


@pytest.mark.parametrize("equity", [None, 900_000.0])
def test_at_session_bars_the_venues_own_equity_decides(
    equity: float | None, tmp_path: Path, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    world = make_world(tmp_path / "home", profile=STRICT)
    world.stage(redis_url, *world.bundle("momentum", "1", {"returns_21d": 1.0, "returns_5d": 0.5}))
    scene = marked(moves={5: -0.15}, equity=equity)
    runner = play(world, exchange(world).url, scene, redis_url=redis_url)
    assert runner.asked == 2, "asked again after it had not answered, and then no more"
    latched = [] if equity is None else ["REDUCE"]
    assert [body["level"] for body in bodies(runner, Kind.LATCH)] == latched
    assert [body["proof"] for body in bodies(runner, Kind.STATE, "loss_limit")] == ["the venue's equity 900000.00"] * len(latched)
    if latched:
        late = [o["leg"] for body in bodies(runner, Kind.DECISION)[6:] for o in body["decision"]["orders"]]
        assert "enter" not in late and runner.fold.level is KillLevel.REDUCE


def test_a_breach_is_remembered_over_a_restart(
    minutes: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    """The first good mark in one life, the second in the next: together they confirm."""

    class Stops(marked(moves={15: -0.15})):  # type: ignore[misc]
        async def _between_rows(self, session: int) -> None:
            await super()._between_rows(session)
            if self.rows == 16:
                self.ask_to_stop()

    venue = exchange(minutes)
    first = play(minutes, venue.url, Stops, redis_url=redis_url)
    assert first.fold.level is KillLevel.NONE and first.fold.losses.breached
    second = play(minutes, venue.url, marked(moves={0: -0.15}), redis_url=redis_url)
    assert second.levels[0] is KillLevel.REDUCE
