"""Orders as values: what we mean to send (Intent), what happened to it (OrderEvent), what was traded (Fill), what a person asked (Command).

Quantities are integer lots and prices integer ticks inside, decimal strings in `to_wire`-like edges. Times are UTC ns.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1


class OrderType(StrEnum):
    LIMIT = "limit"
    MARKET = "market"
    STOP = "stop"


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"


class Leg(StrEnum):
    """What the order is for. `enter` opens or grows a position; `reduce` shrinks it; `protect` is the catastrophe stop (T16)."""

    ENTER = "enter"
    REDUCE = "reduce"
    PROTECT = "protect"
    FLATTEN = "flatten"


class OrderStatus(StrEnum):
    """Our view of an order. UNKNOWN: nobody can say yet; it counts as filled on the side that hurts (I6)."""

    INTENT = "intent"
    UNKNOWN = "unknown"
    WORKING = "working"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    REPLACED = "replaced"
    DENIED = "denied"

    @property
    def is_open(self) -> bool:
        """The order may still trade."""
        return self in OPEN


OPEN = frozenset({OrderStatus.INTENT, OrderStatus.UNKNOWN, OrderStatus.WORKING, OrderStatus.PARTIALLY_FILLED})


@dataclass(frozen=True, slots=True)
class PlannedOrder:
    """One order of a decision's plan, before it has a client id. limit_ticks is 0 for market and stop, stop_ticks 0 otherwise."""

    instrument_id: str
    side: Side
    lots: int
    order_type: OrderType
    time_in_force: TimeInForce
    leg: Leg
    limit_ticks: int = 0
    stop_ticks: int = 0
    valid_from: int = 0
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class Intent:
    """An order we are about to send; on disk before its POST (I5). `origin_id` is the decision's or the command's id."""

    client_order_id: str
    origin_id: str
    instrument_id: str
    symbol: str
    side: Side
    lots: int
    quantity: str
    order_type: OrderType
    time_in_force: TimeInForce
    leg: Leg
    attempt: int
    created_at: int
    limit_price: str | None = None
    stop_price: str | None = None
    replaces: str | None = None
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """A change of an order's status, with the evidence: `source` is trade_updates, post, look_up, cancel or operator."""

    client_order_id: str
    status: OrderStatus
    source: str
    at: int
    venue_order_id: str | None = None
    reason: str | None = None
    filled_lots: int = 0


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution. `execution_id` is the venue's and unique; lots > 0; price in quote currency as a decimal string."""

    execution_id: str
    client_order_id: str
    venue_order_id: str
    instrument_id: str
    side: Side
    lots: int
    price: str
    at: int


@dataclass(frozen=True, slots=True)
class Command:
    """An operator's or a watchdog's order to the runner: halt, reduce, flatten, resume, swap, confirm. `by` names who."""

    command_id: str
    name: str
    by: str
    reason: str
    at: int
    arguments: tuple[tuple[str, str], ...] = ()
