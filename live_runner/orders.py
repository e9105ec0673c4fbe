"""Our orders as a fold of journaled intents, order events and fills. No I/O, no clock: the same records make the same book.

An order's status moves forward only, and only on evidence: an intent is INTENT until the venue speaks or nobody can say (UNKNOWN).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from live_runner.wire_time import instant_ns
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.ids import client_order_id
from trading_platform.contracts.instruments import Instrument, price_string, quantity_string
from trading_platform.contracts.orders import Fill, Intent, Leg, OrderEvent, OrderStatus, OrderType, PlannedOrder, Side, TimeInForce

TERMINAL = frozenset(
    {OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED, OrderStatus.REPLACED, OrderStatus.DENIED}
)

# The venue's words (alpaca.md 4.4). What is not here is journaled and looked up, never guessed.
VENUE_STATUS: dict[str, OrderStatus] = {
    "new": OrderStatus.WORKING,
    "accepted": OrderStatus.WORKING,
    "pending_new": OrderStatus.WORKING,
    "accepted_for_bidding": OrderStatus.WORKING,
    "held": OrderStatus.WORKING,
    "pending_cancel": OrderStatus.WORKING,
    "pending_replace": OrderStatus.WORKING,
    "stopped": OrderStatus.WORKING,
    "calculated": OrderStatus.WORKING,
    "suspended": OrderStatus.WORKING,
    "partially_filled": OrderStatus.PARTIALLY_FILLED,
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "expired": OrderStatus.EXPIRED,
    "done_for_day": OrderStatus.EXPIRED,
    "rejected": OrderStatus.REJECTED,
    "replaced": OrderStatus.REPLACED,
}


@dataclass(slots=True)
class LiveOrder:
    """One of our orders: the intent as journaled, its status, what the venue calls it, lots filled so far.

    journaled_at: when the intent was on disk; valid_from, good_until: when it may be sent, UTC ns, good_until 0 = for ever. read_lots: lots
    filled as far as the account's activities have told; the stream of updates may be ahead of them.
    """

    intent: Intent
    status: OrderStatus = OrderStatus.INTENT
    venue_order_id: str = ""
    filled_lots: int = 0
    journaled_at: int = 0
    valid_from: int = 0
    good_until: int = 0
    read_lots: int = 0

    @property
    def open_lots(self) -> int:
        """Lots that may still trade."""
        return max(self.intent.lots - self.filled_lots, 0) if self.status.is_open else 0

    @property
    def protects(self) -> bool:
        """It is a catastrophe stop."""
        return self.intent.leg is Leg.PROTECT


def intent_of(body: Mapping[str, Any]) -> Intent:
    """The intent of its canonical form."""
    plain = {f.name: body[f.name] for f in fields(Intent) if f.name in body}
    plain["side"], plain["order_type"] = Side(plain["side"]), OrderType(plain["order_type"])
    plain["time_in_force"], plain["leg"] = TimeInForce(plain["time_in_force"]), Leg(plain["leg"])
    return Intent(**plain)


class OrderBook:
    """All orders of the account since its adoption."""

    def __init__(self) -> None:
        self.orders: dict[str, LiveOrder] = {}
        self.executions: set[str] = set()
        # Both may hold orders that have closed since the last look; a closed one never opens again.
        self._open: dict[str, LiveOrder] = {}
        self._open_of: dict[str, list[LiveOrder]] = {}
        self._by_venue: dict[str, str] = {}
        self._attempts: dict[tuple[str, str, str], int] = {}
        self._unread: dict[str, LiveOrder] = {}  # filled, and an activity that repeats the fill is still to come

    def add_intent(self, body: Mapping[str, Any], at: int) -> LiveOrder:
        """An INTENT record. A second one with the same client id is damage."""
        intent = intent_of(body)
        if intent.client_order_id in self.orders:
            raise CorruptionError(f"two intents {intent.client_order_id}", "journal", "stop and verify the journal")
        order = LiveOrder(intent, journaled_at=at, valid_from=int(body["valid_from"]), good_until=int(body["good_until"]))
        self._take(order)
        key = (intent.origin_id, intent.instrument_id, str(intent.leg))
        self._attempts[key] = max(self._attempts.get(key, 0), intent.attempt)
        return order

    def _take(self, order: LiveOrder) -> None:
        identity = order.intent.client_order_id
        self.orders[identity] = self._open[identity] = order
        self._open_of.setdefault(order.intent.instrument_id, []).append(order)

    def add_event(self, body: Mapping[str, Any]) -> LiveOrder | None:
        """An ORDER_EVENT record; None where the order is not ours. A terminal status never changes back."""
        order = self.orders.get(body["client_order_id"])
        if order is None:
            return None
        venue_id = body.get("venue_order_id")
        if venue_id:
            order.venue_order_id = venue_id
            self._by_venue[venue_id] = order.intent.client_order_id
        status = OrderStatus(body["status"])
        # UNKNOWN means that we lost sight of an intent; an order the venue has already confirmed is not lost by a failed cancel.
        if order.status in TERMINAL or (status is OrderStatus.UNKNOWN and order.status is not OrderStatus.INTENT):
            return order
        if status in (OrderStatus.WORKING, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED):
            # Fills have records of their own: a status alone never makes lots disappear from what is working.
            status = OrderStatus.PARTIALLY_FILLED if order.filled_lots > 0 else OrderStatus.WORKING
        order.status = status
        return order

    def add_fill(self, body: Mapping[str, Any]) -> LiveOrder | None:
        """A FILL record; None where the order is not ours."""
        self.executions.add(body["execution_id"])
        order = self.orders.get(body["client_order_id"])
        if order is None:
            return None
        order.filled_lots += int(body["lots"])
        self._unread[order.intent.client_order_id] = order
        if order.filled_lots >= order.intent.lots:
            order.status = OrderStatus.FILLED
        elif order.status in (OrderStatus.INTENT, OrderStatus.UNKNOWN, OrderStatus.WORKING):
            order.status = OrderStatus.PARTIALLY_FILLED
        return order

    def read_fill(self, venue_order_id: str, cumulative_lots: int) -> None:
        """An ACTIVITY record of a fill: what the order has filled with it."""
        order = self.of_venue(venue_order_id)
        if order is not None:
            order.read_lots = max(order.read_lots, cumulative_lots)

    def of_venue(self, venue_order_id: str) -> LiveOrder | None:
        """The order the venue calls this, if it is ours."""
        return self.orders.get(self._by_venue.get(venue_order_id, ""))

    def open_orders(self) -> list[LiveOrder]:
        """Orders that may still trade, in the order of their intents."""
        self._open = {identity: order for identity, order in self._open.items() if order.status.is_open}
        return list(self._open.values())

    def open_of(self, instrument_id: str) -> list[LiveOrder]:
        """Open orders of one instrument, in the order of their intents."""
        found = self._open_of.get(instrument_id)
        if found is None:
            return []
        kept = [order for order in found if order.status.is_open]
        if kept:
            self._open_of[instrument_id] = kept
        else:
            del self._open_of[instrument_id]
        return kept

    def protection_of(self, instrument_id: str) -> list[LiveOrder]:
        """Open catastrophe stops of an instrument."""
        return [order for order in self.open_of(instrument_id) if order.protects]

    def to_body(self, held: set[str]) -> dict[str, Any]:
        """What a later fold still needs: open orders, those whose fills activities will repeat, attempts of origins that may send again.

        held: instruments with a position, whose protection may be renewed.
        """
        self._unread = {identity: order for identity, order in self._unread.items() if order.filled_lots > order.read_lots}
        kept = list({**{order.intent.client_order_id: order for order in self.open_orders()}, **self._unread}.values())
        origins = {order.intent.origin_id for order in kept}
        attempts = [[*key, count] for key, count in sorted(self._attempts.items()) if key[0] in origins or key[1] in held]
        orders = [
            {
                "intent": o.intent,
                "status": o.status,
                "venue_order_id": o.venue_order_id,
                "filled_lots": o.filled_lots,
                "at": o.journaled_at,
                "valid_from": o.valid_from,
                "good_until": o.good_until,
                "read_lots": o.read_lots,
            }
            for o in kept
        ]
        return {"orders": orders, "attempts": attempts}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> OrderBook:
        """The book of `to_body`."""
        book = cls()
        for stored in body["orders"]:
            order = LiveOrder(
                intent_of(stored["intent"]),
                OrderStatus(stored["status"]),
                stored["venue_order_id"],
                int(stored["filled_lots"]),
                int(stored["at"]),
                int(stored["valid_from"]),
                int(stored["good_until"]),
                int(stored.get("read_lots", 0)),
            )
            book._take(order)
            if order.venue_order_id:
                book._by_venue[order.venue_order_id] = order.intent.client_order_id
            if order.filled_lots > order.read_lots:
                book._unread[order.intent.client_order_id] = order
        book._attempts = {(origin, name, leg): int(count) for origin, name, leg, count in body["attempts"]}
        return book

    def next_attempt(self, origin_id: str, instrument_id: str, leg: Leg) -> int:
        """The attempt number of the next intent of this origin, instrument and leg (T15)."""
        return self._attempts.get((origin_id, instrument_id, str(leg)), 0) + 1


def make_intent(
    planned: PlannedOrder,
    instrument: Instrument,
    symbol: str,
    account: str,
    session: str,
    origin_id: str,
    attempt: int,
    at: int,
    replaces: str = "",
) -> Intent:
    """The intent of a planned order: decimal strings on the instrument's grid and the id that T15 prescribes."""
    identity = client_order_id(account, session, origin_id, planned.instrument_id, str(planned.leg), attempt)
    return Intent(
        client_order_id=identity,
        origin_id=origin_id,
        instrument_id=planned.instrument_id,
        symbol=symbol,
        side=planned.side,
        lots=planned.lots,
        quantity=quantity_string(planned.lots, instrument.lots_per_unit),
        order_type=planned.order_type,
        time_in_force=planned.time_in_force,
        leg=planned.leg,
        attempt=attempt,
        created_at=at,
        limit_price=price_string(planned.limit_ticks, instrument.ticks_per_unit) if planned.order_type is OrderType.LIMIT else None,
        stop_price=price_string(planned.stop_ticks, instrument.ticks_per_unit) if planned.order_type is OrderType.STOP else None,
        replaces=replaces or None,
        expires_at=planned.expires_at,
    )


def same_order(intent: Intent, order: Mapping[str, Any], journaled_at: int) -> str:
    """Why a venue's order with our client id is not ours, empty when it is (T15: symbol, side, quantity, type, price, submission time)."""
    expected = {"symbol": intent.symbol, "side": str(intent.side), "type": str(intent.order_type)}
    for name, value in expected.items():
        if str(order.get(name)) != value:
            return f"{name} is {order.get(name)}, the intent says {value}"
    for name, text in (("qty", intent.quantity), ("limit_price", intent.limit_price), ("stop_price", intent.stop_price)):
        found = order.get(name)
        if (found is None) != (text is None) or (text is not None and float(found) != float(text)):  # type: ignore[arg-type]
            return f"{name} is {found}, the intent says {text}"
    if instant_ns(order.get("submitted_at")) < journaled_at:
        return f"submitted at {order.get('submitted_at')}, before the intent was on disk"
    return ""


def event_body(order: LiveOrder, status: OrderStatus, source: str, at: int, venue_order_id: str = "", reason: str = "") -> OrderEvent:
    """An order event with the fill count of the book."""
    return OrderEvent(
        order.intent.client_order_id, status, source, at, venue_order_id or order.venue_order_id or None, reason or None, order.filled_lots
    )


def fill_body(fill: Fill, ticks_per_unit: int) -> dict[str, Any]:
    """The journal's form of a fill: as the venue told it, and its price in ticks."""
    return {**{name: getattr(fill, name) for name in Fill.__dataclass_fields__}, "ticks": ticks_exact(fill.price, ticks_per_unit)}


def ticks_exact(price: str, ticks_per_unit: int) -> float:
    """A venue's price in ticks, fractions kept. InputError where it is no positive number."""
    try:
        value = float(price) * ticks_per_unit
    except ValueError as error:
        raise InputError(f"{price!r} is no price", "the venue's answer", "look at the raw message in the journal") from error
    nearest = round(value)
    if not (math.isfinite(value) and value > 0.0):
        raise InputError(f"{price!r} is no price", "the venue's answer", "look at the raw message in the journal")
    return float(nearest) if abs(value - nearest) < 1e-6 else value
