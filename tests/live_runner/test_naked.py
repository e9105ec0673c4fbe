"""A stop that the venue refuses is asked for again, and a position that stays bare is reported (T16)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from market import ACCOUNT, Exchange, World

from live_runner.broker import Answer, Verdict
from live_runner.cli import main
from live_runner.runner import Runner
from trading_platform.contracts.journal import JournalReader, Kind

SECOND = 10**9


class StopsRefused(Runner):
    """The venue takes no stop until `for_s` seconds after the first one was asked for."""

    for_s = 60

    def _build(self) -> None:
        super()._build()
        self.first = 0
        submit = self.broker.submit

        async def refused(intent: Any) -> Answer:
            now = self.clock.now_ns()
            if intent.leg == "protect":
                self.first = self.first or now
                if now < self.first + self.for_s * SECOND:
                    return Answer(Verdict.REJECTED, status=403, reason="40310000: not now")
            return await submit(intent)

        self.broker.submit = refused  # type: ignore[method-assign]


def test_a_refused_stop_is_asked_for_again_and_a_bare_position_is_reported(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", {"returns_21d": 1.0, "returns_5d": 0.5}))
    venue = exchange(daily)
    runner = play(daily, venue.url, StopsRefused, redis_url=redis_url)
    with JournalReader(runner.settings.journal) as reader:
        asked: dict[str, list[int]] = {}
        for record in reader.records(Kind.INTENT):
            if record.body["leg"] == "protect" and record.at <= runner.first + 200 * SECOND:
                asked.setdefault(record.body["instrument_id"], []).append((record.at - runner.first) // SECOND)
        told = [((record.at - runner.first) // SECOND, record.body["lots"]) for record in reader.records(Kind.STATE, key="naked")]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert len(asked) == 3 and {tuple(times) for times in asked.values()} == {(0, 2, 6, 14, 30, 62)}
    assert [at for at, _ in told] == [10, 62] and set(told[0][1]) == set(asked) and told[1][1] == {}
    stops = {f"us:{o.symbol}": o.left for o in venue.venue.orders.open() if o.kind == "stop"}
    assert stops == venue.positions() != {}
    assert main(["status", "--json", "--home", str(daily.root), "--account", ACCOUNT]) == 0
    assert json.loads(capsys.readouterr().out)["naked"] is None


def test_a_bare_position_takes_no_new_risk_and_stands_in_the_status(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", {"returns_21d": 1.0, "returns_5d": 0.5}))
    runner = play(daily, exchange(daily).url, type("Never", (StopsRefused,), {"for_s": 10**7}), redis_url=redis_url)
    with JournalReader(runner.settings.journal) as reader:
        decisions = [record.body["decision"] for record in reader.records(Kind.DECISION)]
    assert not any(order["leg"] == "enter" for decision in decisions[1:] for order in decision["orders"])
    assert any("NAKED_LIMIT" in decision["check_counts"] for decision in decisions)
    held = runner.fold.positions()
    assert main(["status", "--json", "--home", str(daily.root), "--account", ACCOUNT]) == 0
    assert json.loads(capsys.readouterr().out)["naked"] == held != {}
    value = sum(lots * runner.fold.engine.account.mark[runner.fold.engine.instrument_ids.index(name)] for name, lots in held.items())
    assert runner.metrics.registry.get_sample_value("trading_naked_value") == pytest.approx(value)
