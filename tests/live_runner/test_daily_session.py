"""Whole sessions against the simulator: what the runner journals is what the backtest concludes, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from market import Exchange, World

from live_runner.replay import replay
from live_runner.runner import Runner
from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.orders import Leg

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}


class SleepsOnlySettled(Runner):
    """Looks whether anything it folded is not on disk yet when it goes to sleep."""

    slept = 0

    def _build(self) -> None:
        super()._build()
        sleep = self.clock.next

        async def watched(*words: Any) -> Any:
            with self.journal.reader() as reader:
                told = sum(1 for _ in reader.records(Kind.FILL))
            assert told == len(self.fold.book.executions) and not self.recorder.unsettled
            self.slept += 1
            return await sleep(*words)

        self.clock.next = watched  # type: ignore[method-assign]


def test_what_the_venue_said_is_on_disk_before_the_runner_sleeps(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    runner = play(daily, exchange(daily).url, SleepsOnlySettled, redis_url=redis_url)
    assert runner.slept > 24 and len(runner.fold.book.executions) > 10


def test_a_daily_stretch_is_what_the_backtest_concludes(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    daily.stage(redis_url, label, bundle_id)
    venue = exchange(daily)
    runner = play(daily, venue.url, redis_url=redis_url)
    expected = daily.concluded([(0, label, bundle_id)])
    with JournalReader(runner.settings.journal) as reader:
        reader.verify()
        decisions = [canonical_bytes(record.body["decision"]) for record in reader.records(Kind.DECISION)]
        fills = [(r.body["instrument_id"], r.body["side"], r.body["lots"], r.body["ticks"]) for r in reader.records(Kind.FILL)]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    for mine, theirs in zip(decisions, expected.decisions, strict=True):
        assert mine == theirs.to_bytes()
    names, sides = daily.panel.instrument_ids, {1: "buy", -1: "sell"}
    assert fills == [(names[f["column"]], sides[int(f["side"])], f["lots"], f["ticks"]) for f in expected.fills]
    assert len(fills) > 10
    assert runner.fold.positions() == venue.positions()
    assert abs(runner.fold.cash - venue.venue.account.cash_cents / 100) < 0.005

    again = replay(runner.settings.journal, daily.root / "lake", "daily", str(daily.root / "bundles"), daily.profile)
    assert (again.decisions, again.different, again.same_code, again.verdict) == (12, (), True, "re-executed")

    # Another profile is another program (T39): what it concludes is told, and that it proves nothing is told, too.
    stricter = replace(daily.profile, limits=replace(daily.profile.limits, max_position=0.05))
    other = replay(runner.settings.journal, daily.root / "lake", "daily", str(daily.root / "bundles"), stricter)
    assert other.different and (other.same_code, other.changed) == (False, ("limits", "profile"))
    assert other.verdict == "hash-verified, not re-executed"


@pytest.mark.parametrize("what", ["engine", "lock"])
def test_a_replay_by_other_code_says_so(
    what: str, daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    if what == "engine":
        monkeypatch.setattr("trading_platform.engine.engine.engine_hash", lambda: "0" * 64)
    else:
        monkeypatch.setattr("live_runner.replay.package_lock", lambda: "0" * 64)
    again = replay(runner.settings.journal, daily.root / "lake", "daily", str(daily.root / "bundles"), daily.profile)
    assert (again.decisions, again.same_code, again.changed) == (12, False, (what,))


def test_every_share_is_covered_at_the_venue(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    """Through fills, partial reductions, a 4:1 split: open sell stops of the venue equal the position."""
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    runner = play(daily, venue.url, redis_url=redis_url)
    stops: dict[str, int] = {}
    for order in venue.venue.orders.open():
        if order.kind == "stop":
            stops[f"us:{order.symbol}"] = stops.get(f"us:{order.symbol}", 0) + order.left
    assert stops == venue.positions() != {}
    assert all(o.intent.time_in_force == "gtc" for o in runner.fold.book.open_orders() if o.intent.leg is Leg.PROTECT)


def test_no_order_of_a_splitting_name_stands_over_its_open(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    """The venue rescales the shares, not the stop: at four times the new price it would sell everything (T10)."""
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    with JournalReader(runner.settings.journal) as reader:
        (split,) = (r for r in reader.records(Kind.CORPORATE_ACTION) if r.body["split_ratio"] == 4.0)
        name = split.body["instrument_id"]
        stops = [r for r in reader.records(Kind.INTENT) if r.body["instrument_id"] == name and r.body["leg"] == "protect"]
        mine = {r.key for r in stops}
        last = {r.key: r.body["status"] for r in reader.records(Kind.ORDER_EVENT) if r.seq < split.seq and r.key in mine}
        before, behind = [r for r in stops if r.seq < split.seq], [r for r in stops if r.seq > split.seq]
    assert before and all(r.at < split.at - 300 * 10**9 for r in before), "a stop was armed again while the split was due"
    assert last and set(last.values()) <= {"canceled", "replaced", "filled"}
    assert behind[0].at == split.at and behind[0].body["lots"] == 4 * before[-1].body["lots"]
    assert float(behind[0].body["stop_price"]) == pytest.approx(float(before[-1].body["stop_price"]) / 4, abs=0.01)
