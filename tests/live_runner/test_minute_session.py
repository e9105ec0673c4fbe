"""Minute rows: bars from the stream, leftovers cancelled before each row, the same bytes as the backtest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from market import PROFILE, Exchange, make_world

from live_runner.runner import Runner
from trading_platform.contracts.canonical import canonical_bytes
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
