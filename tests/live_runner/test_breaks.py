"""The account is true: what the venue has and the journal cannot explain is a named break, and a break stops new risk (I13, T12)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from market import Exchange, World, make_world

from live_runner.clock import Wake
from live_runner.runner import Runner
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.journal import JournalReader, Kind, Record

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}
ROWS, ROW = 12, 5


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = make_world(tmp_path_factory.mktemp("breaks") / "home", traded=ROWS)
    world.bundle("momentum", "1", MOMENTUM)
    return world


def a_cent_from_nowhere(venue: Exchange) -> None:
    venue.venue.account.cash_cents += 1


def a_share_too_many(venue: Exchange) -> None:
    next(iter(venue.venue.account.positions.values())).lots += 1


def a_share_too_few(venue: Exchange) -> None:
    next(iter(venue.venue.account.positions.values())).lots -= 1


def a_mark_of_its_own(venue: Exchange) -> None:
    symbol = next(iter(venue.venue.account.positions))
    venue.venue.account.marks[symbol] += 1_000_000


def a_kind_nobody_knows(venue: Exchange) -> None:
    venue.venue.account.cash_cents -= 123
    venue.venue._activity("LEVY", net_amount="-1.23", description="a new kind of fee")


def a_fee(venue: Exchange) -> None:
    venue.venue.account.cash_cents -= 123
    venue.venue._activity("FEE", net_amount="-1.23", description="regulatory fee")


class Tampered(Runner):
    """After the fifth row, whose entries wait for the open, something happens to the venue's books: before the close, or over night."""

    rows = 0
    over_night = False
    happens: Callable[[], None]

    async def _between_rows(self, session: int) -> None:
        await super()._between_rows(session)
        self.rows += 1
        if self.rows == ROW and not self.over_night:
            type(self).happens()

    async def _act(self, wake: Wake) -> None:
        if self.rows == ROW and self.over_night and wake.kind == "open":
            type(self).happens()
        await super()._act(wake)


def played(
    what: Callable[[Exchange], None],
    market: World,
    exchange: Callable[..., Exchange],
    play: Callable[..., Runner],
    url: str,
    journal: Path,
    over_night: bool = False,
) -> tuple[Exchange, Runner, list[Record]]:
    market.stage(url, "momentum_v1", market.bundles["momentum_v1"])
    venue = exchange(market)
    scene = type("Scene", (Tampered,), {"happens": staticmethod(lambda: what(venue)), "over_night": over_night})
    runner = play(market, venue.url, scene, redis_url=url, journal=journal / "tester-paper.sqlite")
    with JournalReader(runner.settings.journal) as reader:
        return venue, runner, list(reader.records())


def of(records: list[Record], kind: Kind) -> list[Record]:
    return [record for record in records if record.kind is kind]


@pytest.mark.parametrize(
    ("what", "over_night", "named"),
    [
        (a_cent_from_nowhere, False, "cash: the venue has"),
        (a_cent_from_nowhere, True, "cash: the venue has"),
        (a_share_too_many, True, ": the venue holds"),
        (a_share_too_few, True, ": the venue holds"),
        (a_mark_of_its_own, False, "equity: the venue has"),
        (a_kind_nobody_knows, True, "an activity of the unknown kind LEVY"),
    ],
)
def test_what_the_journal_cannot_explain_is_a_named_break_that_opens_nothing_more(
    what: Callable[[Exchange], None],
    over_night: bool,
    named: str,
    market: World,
    exchange: Callable[..., Exchange],
    play: Callable[..., Runner],
    redis_url: str,
    tmp_path: Path,
) -> None:
    venue, runner, records = played(what, market, exchange, play, redis_url, tmp_path, over_night)
    found = of(records, Kind.BREAK)
    assert any(named in record.body["what"] for record in found), [record.body for record in found]
    decisions = [record.body["decision"] for record in of(records, Kind.DECISION)]
    assert any(order["leg"] == "enter" for order in decisions[ROW - 1]["orders"]), "nothing waited for the open: another scene"
    latches = of(records, Kind.LATCH)
    assert [latch.body["level"] for latch in latches] == ["HALT_NEW"] and runner.fold.level is KillLevel.HALT_NEW
    entries = {record.key for record in of(records, Kind.INTENT) if record.body["leg"] == "enter"}
    assert not [r for r in of(records, Kind.FILL) if r.seq > found[0].seq and r.body["client_order_id"] in entries]
    assert len(decisions) == ROWS and not [o for d in decisions[ROW:] for o in d["orders"] if o["leg"] == "enter"]
    assert runner.fold.positions(), "what is held is kept and protected"
    assert {o.symbol for o in venue.venue.orders.open() if o.kind == "stop"} == {name[3:] for name in runner.fold.positions()}


def test_a_fee_of_a_known_kind_is_booked_and_is_no_break(
    market: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str, tmp_path: Path
) -> None:
    venue, runner, records = played(a_fee, market, exchange, play, redis_url, tmp_path)
    assert of(records, Kind.BREAK) == [] and runner.fold.level is KillLevel.NONE
    assert f"{runner.fold.cash:.2f}" == f"{venue.venue.account.cash_cents / 100:.2f}"
    assert not any("break" in record.body for record in of(records, Kind.SESSION_CLOSED))
