"""Whole sessions against the simulator: what the runner journals is what the backtest concludes, byte for byte."""

from __future__ import annotations

from collections.abc import Callable

from market import Exchange, World

from live_runner.runner import Runner
from trading_platform.contracts.journal import JournalReader, Kind

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}


def test_a_daily_stretch_trades(daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str) -> None:
    label, bundle_id = daily.bundle("momentum", "1", MOMENTUM)
    daily.stage(redis_url, label, bundle_id)
    venue = exchange(daily)
    runner = play(daily, venue.url, redis_url=redis_url)
    with JournalReader(runner.settings.journal) as reader:
        reader.verify()
        kinds = [record.kind for record in reader.records()]
        breaks = [record.body for record in reader.records(Kind.BREAK)]
    print({kind: kinds.count(kind) for kind in sorted(set(kinds))})
    assert breaks == []
    assert kinds.count(Kind.DECISION) == 12
    assert kinds.count(Kind.FILL) > 5
    assert runner.fold.positions() == venue.positions()
