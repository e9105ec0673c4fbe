"""An order that nobody could find is given up; if its request was only slow, it must not work at the venue unwatched."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from live_runner.broker import Answer, Verdict
from live_runner.desk import Desk
from live_runner.kill_points import KillPoint
from live_runner.metrics import Metrics
from live_runner.orders import OrderBook
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.journal import Kind
from trading_platform.contracts.orders import OrderStatus

ORDER = {"id": "venue-1", "client_order_id": "tp1", "symbol": "AAA", "side": "buy", "qty": "10", "type": "limit", "limit_price": "10.00"}
INTENT = {
    "client_order_id": "tp1", "origin_id": "d", "instrument_id": "us:AAA", "symbol": "AAA", "side": "buy", "lots": 10, "quantity": "10",
    "order_type": "limit", "time_in_force": "day", "leg": "enter", "attempt": 1, "created_at": 0, "limit_price": "10.00",
    "stop_price": None, "replaces": None, "expires_at": 0, "valid_from": 0, "good_until": 0,
}  # fmt: skip


class Venue:
    """A venue whose first POST is swallowed by the network and arrives later."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []
        self.posts = 0
        self.now = 60 * 10**9

    async def submit(self, intent: Any) -> Answer:
        self.posts += 1
        return Answer(Verdict.UNKNOWN, reason="ReadTimeout")

    async def look_up(self, client_order_id: str) -> Answer:
        return Answer(Verdict.REJECTED, status=404)

    async def cancel(self, venue_order_id: str) -> Answer:
        self.cancelled.append(venue_order_id)
        return Answer(Verdict.ACCEPTED, status=204)


def given_up(venue: Venue) -> tuple[Desk, OrderBook]:
    book = OrderBook()
    book.add_intent(INTENT, 0)

    def heard(kind: Kind, key: str, body: Any) -> None:
        if kind is Kind.ORDER_EVENT:
            book.add_event(parse(canonical_bytes(body)))
        elif kind is Kind.FILL:
            book.add_fill(body)

    async def note(kind: Kind, key: str, body: Any) -> None:
        heard(kind, key, body)

    async def drain() -> None:
        return None

    clock = SimpleNamespace(now_ns=lambda: venue.now)
    fold = SimpleNamespace(
        book=book,
        instruments={"us:AAA": SimpleNamespace(symbol="AAA", ticks_per_unit=100)},
        level=KillLevel.HALT_NEW,
        barred=set(),
        hands_off=frozenset,
        breaks=[],
    )
    desk = Desk(venue, fold, SimpleNamespace(note=note, heard=heard), clock, KillPoint(""), Metrics(), "acc", drain)  # type: ignore[arg-type]
    return desk, book


@pytest.mark.parametrize(("event", "status", "filled"), [("new", "new", "0"), ("partial_fill", "partially_filled", "4")])
def test_an_order_that_comes_to_life_after_it_was_given_up_is_cancelled_at_once(event: str, status: str, filled: str) -> None:
    venue = Venue()
    desk, book = given_up(venue)
    order = book.orders["tp1"]
    asyncio.run(desk.resolve(order))
    assert order.status is OrderStatus.CANCELED and not order.venue_order_id and venue.posts == 0
    fill = {"qty": "4", "price": "10", "execution_id": "e", "timestamp": "2020-01-02T15:00:00Z"}
    asyncio.run(desk.handle_update({"event": event, **fill, "order": {**ORDER, "status": status, "filled_qty": filled}}))
    assert order.filled_lots == int(filled)
    assert venue.cancelled == ["venue-1"] and order.venue_order_id == "venue-1"
    asyncio.run(desk.handle_update({"event": "new", "order": {**ORDER, "status": "new", "filled_qty": "0"}}))
    assert venue.cancelled == ["venue-1"], "an old message of an order the venue has confirmed asks for nothing"


def test_an_order_whose_request_may_still_travel_is_not_given_up() -> None:
    """A daily order is journaled the evening before: what counts is when it was sent, not when it was on disk."""
    venue = Venue()
    desk, book = given_up(venue)
    order, fold = book.orders["tp1"], desk._fold
    fold.level = KillLevel.NONE
    asyncio.run(desk.send([order]))
    assert venue.posts == 2 and order.status is OrderStatus.UNKNOWN  # asked for once, and sent again under the same id
    fold.level = KillLevel.HALT_NEW
    venue.now += 9 * 10**9
    asyncio.run(desk.resolve(order))
    assert order.status is OrderStatus.UNKNOWN and min(desk.timers()) <= venue.now + 10**9
    venue.now += 2 * 10**9
    asyncio.run(desk.resolve(order))
    assert order.status is OrderStatus.CANCELED and venue.posts == 2


def test_a_refused_exit_says_that_its_position_stands_uncovered() -> None:
    """Its stop has made room already, and no message of the venue may come to remind us."""
    venue = Venue()
    desk, book = given_up(venue)
    book.add_intent({**INTENT, "client_order_id": "tp2", "side": "sell", "leg": "reduce"}, 0)

    async def refused(intent: Any) -> Answer:
        return Answer(Verdict.REJECTED, status=403, reason="40310000: halted")

    venue.submit = refused  # type: ignore[method-assign]
    for name, uncovered in (("tp1", False), ("tp2", True)):
        asyncio.run(desk._post(book.orders[name]))
        assert book.orders[name].status is OrderStatus.REJECTED and desk.uncovered is uncovered
