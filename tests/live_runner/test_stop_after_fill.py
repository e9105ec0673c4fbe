"""A runner told to stop right behind a fill, before it has read the activity that repeats it: the next life must not book it twice."""

from __future__ import annotations

from collections.abc import Callable

from market import Exchange, World

from live_runner.runner import Runner
from trading_platform.contracts.journal import JournalReader, Kind

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}


class StopsBehindAFill(Runner):
    """An operator stops it in the wake that delivered its third fill; the venue's activities were not read since."""

    async def _cover(self) -> None:
        await super()._cover()
        if len(self.fold.book.executions) >= 3 and not self.desk.gap:
            self.ask_to_stop()


def test_a_fill_known_from_the_stream_is_not_folded_again_from_the_activities(
    daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    first = play(daily, venue.url, StopsBehindAFill, redis_url=redis_url)
    held = first.fold.positions()
    assert held
    with JournalReader(first.settings.journal) as reader:
        told = {record.body["execution_id"] for record in reader.records(Kind.FILL)}
        read = {str(record.body["order_id"]) for record in reader.records(Kind.ACTIVITY) if record.body["activity_type"] == "FILL"}
        unread = [record for record in reader.records(Kind.FILL) if record.body["venue_order_id"] not in read]
        assert told and unread, "the scene is not the one that is tested: every fill's activity was read before the stop"
        snapshot = reader.last(Kind.SNAPSHOT, "fold")
        assert snapshot is not None and snapshot.seq > unread[-1].seq
    second = play(daily, venue.url, redis_url=redis_url)
    with JournalReader(second.settings.journal) as reader:
        assert [record.body for record in reader.records(Kind.BREAK)] == []
        fills = [(r.body["venue_order_id"], r.body["lots"]) for r in reader.records(Kind.FILL)]
    assert len(fills) == len(set(fills))
    assert second.fold.positions() == venue.positions()
    assert not second.fold.engine.account.hands_off.any()
