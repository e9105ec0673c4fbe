"""A runner that was stopped goes on where it was: from its own snapshot, and over rows that passed without it."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable

import pytest
from market import Exchange, World

from live_runner.clock import Inbox, LockstepClock
from live_runner.control import CommandFolder, new_command
from live_runner.replay import replay
from live_runner.runner import Runner
from trading_platform.contracts.canonical import canonical_bytes, decode_array
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.expression import adj, pct_change
from trading_platform.features.program import FeatureSet

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}


class StopsAfterFour(Runner):
    """An operator stops it behind the fourth row."""

    rows = 0

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == 4:
            CommandFolder(self.settings.journal).submit(new_command("stop", "anna", "night", self.clock.now_ns()))


def test_a_restart_from_the_snapshot_decides_what_one_life_decides(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    daily.stage(redis_url, label, bundle_id)
    venue = exchange(daily)
    first = play(daily, venue.url, StopsAfterFour, redis_url=redis_url)
    assert first.operator.stop
    with JournalReader(first.settings.journal) as reader:
        snapshot = reader.last(Kind.SNAPSHOT, "fold")
        assert snapshot is not None and len(list(reader.records(Kind.DECISION))) == 4
    second = play(daily, venue.url, redis_url=redis_url)
    expected = daily.concluded([(0, label, bundle_id)])
    with JournalReader(second.settings.journal) as reader:
        decisions = [canonical_bytes(record.body["decision"]) for record in reader.records(Kind.DECISION)]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert decisions == [decision.to_bytes() for decision in expected.decisions]
    assert second.fold.positions() == venue.positions() != {}
    again = replay(second.settings.journal, daily.root / "lake", "daily", str(daily.root / "bundles"), daily.profile)
    assert (again.decisions, again.different) == (12, ())


def pass_sessions(url: str, closes: int) -> None:
    """Let the market go on without the runner: another client says done until so many sessions have closed, then leaves."""

    async def watch() -> None:
        clock, seen = LockstepClock(url.replace("http", "ws") + "/control", "watcher-key", "watcher"), 0
        await clock.start()
        while seen < closes:
            wake = await clock.next([], Inbox())
            seen += wake.kind == "close"
        await clock.next([clock.now_ns() + 3600 * 10**9 * 15], Inbox())  # the night, so that the row of the last close is known
        await clock.close()

    thread = threading.Thread(target=lambda: asyncio.run(watch()))
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


def test_rows_that_passed_without_the_runner_move_the_state_and_decide_nothing(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    daily.stage(redis_url, label, bundle_id)
    venue = exchange(daily)
    play(daily, venue.url, StopsAfterFour, redis_url=redis_url)
    pass_sessions(venue.url, 3)
    second = play(daily, venue.url, redis_url=redis_url)
    expected = daily.concluded([(0, label, bundle_id)])
    with JournalReader(second.settings.journal) as reader:
        rows = [record.body["provenance"] for record in reader.records(Kind.ROW)]
        decisions = [record.body["decision"] for record in reader.records(Kind.DECISION)]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert rows == ["live"] * 4 + ["backfilled"] * 3 + ["live"] * 5
    theirs = {decision.timestamp: decision for decision in expected.decisions}
    for mine in decisions:
        assert canonical_bytes(mine["alpha"]) == canonical_bytes(theirs[mine["timestamp"]].alpha)
    assert len(decisions) == 9
    assert second.fold.positions() == venue.positions()


def test_another_feature_version_carries_the_account_and_gives_up_the_old_bundle(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    first = play(daily, venue.url, StopsAfterFour, redis_url=redis_url)
    held = first.fold.positions()
    core = feature_set("core")
    newer = FeatureSet("core", "v-next", {**core.features, "returns_3d": pct_change(adj("close"), 3)}, core.level_features)
    monkeypatch.setattr("live_runner.fold.feature_set", lambda name: newer)
    monkeypatch.setattr("market.feature_set", lambda name: newer)
    daily.publish(feature_hash=newer.hash, states=(daily.state(0, newer), daily.state(3, newer)))  # row four must come by REST
    label, bundle_id = daily.bundle("momentum", "2", MOMENTUM)
    daily.stage(redis_url, label, bundle_id)
    second = play(daily, venue.url, redis_url=redis_url)
    with JournalReader(second.settings.journal) as reader:
        swaps = [record.body["label"] for record in reader.records(Kind.SWAP)]
        refused = [record.body["reason"] for record in reader.records(Kind.SWAP_REFUSED)]
        decisions = [record.body["decision"] for record in reader.records(Kind.DECISION)]
        rows = [(record.key, record.body["provenance"]) for record in reader.records(Kind.ROW)]
        assert [record.body for record in reader.records(Kind.BREAK)] == []
    assert swaps == ["momentum_v1", "", "momentum_v2"] and any("feature hash" in reason for reason in refused)
    assert rows[4] == (rows[3][0], "backfilled") and len(rows) == 13 and len(decisions) == 12
    carried = dict(zip(daily.panel.instrument_ids, decode_array(decisions[4]["position"]).tolist(), strict=True))
    assert carried["us:AA"] == 4 * held["us:AA"] > 0 and carried["us:CC"] == held["us:CC"] > 0  # a split came in between
    theirs = {decision.timestamp: decision for decision in daily.concluded([(0, label, bundle_id)]).decisions}
    for mine in decisions[4:]:
        assert canonical_bytes(mine["alpha"]) == canonical_bytes(theirs[mine["timestamp"]].alpha)
    assert second.fold.positions() == venue.positions()


def test_a_start_takes_the_state_of_the_final_bars_where_it_has_seen_every_row(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    daily.stage(redis_url, label, bundle_id)
    venue = exchange(daily)
    play(daily, venue.url, StopsAfterFour, redis_url=redis_url)
    fields = {name: values.copy() for name, values in daily.panel.fields.items()}
    fields["close"][daily.first_row + 3, 4] = fields["low"][daily.first_row + 3, 4]  # the vendor corrected a close overnight
    final = dataclasses.replace(daily.panel, fields=fields)
    before = daily.inputs.states
    daily.publish(states=(*before, daily.state(3, panel=final)))  # not all rows: the runner's own state knows more
    daily.publish(states=(*before, daily.state(4, panel=final)))
    second = play(daily, venue.url, redis_url=redis_url)
    with JournalReader(second.settings.journal) as reader:
        decisions = [record.body["decision"] for record in reader.records(Kind.DECISION)]
    daily.panel = final
    theirs = {decision.timestamp: decision for decision in daily.concluded([(0, label, bundle_id)]).decisions}
    same = [canonical_bytes(mine["alpha"]) == canonical_bytes(theirs[mine["timestamp"]].alpha) for mine in decisions]
    assert same == [True] * 3 + [False] + [True] * 8
