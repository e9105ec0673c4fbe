"""Orders at the venue: the record, its life, its form on the wire, and the book that finds it. Matching and money are elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from live_runner.simulator.wire import Json, asset_id, instant, not_found, price

OPEN = ("accepted", "new", "partially_filled")


@dataclass(slots=True)
class VenueOrder:
    """One order. sign: +1 buy, -1 sell. Prices in ticks, 0 where there is none. session: the day a DAY order is good for."""

    order_id: str
    client_order_id: str
    symbol: str
    sign: int
    kind: str
    time_in_force: str
    lots: int
    limit_ticks: int
    stop_ticks: int
    created_at: int
    session: int
    arrival: int
    status: str
    updated_at: int = 0
    filled_lots: int = 0
    filled_ticks: int = 0  # sum of lots x ticks
    filled_at: int = 0
    canceled_at: int = 0
    expired_at: int = 0
    replaced_at: int = 0
    replaces: str | None = None
    replaced_by: str | None = None

    @property
    def is_open(self) -> bool:
        """It may still trade."""
        return self.status in OPEN

    @property
    def left(self) -> int:
        """Shares not yet filled."""
        return self.lots - self.filled_lots

    @property
    def average_price(self) -> str | None:
        """Average fill price with up to six decimals, None before the first fill."""
        if not self.filled_lots:
            return None
        exact = (Decimal(self.filled_ticks) / self.filled_lots / 100).quantize(Decimal("0.000001"))
        return f"{exact.normalize():f}"

    def to_wire(self) -> Json:
        """The order object of REST and trade_updates."""

        def at(ns: int) -> str | None:
            return instant(ns) if ns else None

        return {
            "id": self.order_id,
            "client_order_id": self.client_order_id,
            "created_at": instant(self.created_at),
            "updated_at": instant(self.updated_at or self.created_at),
            "submitted_at": instant(self.created_at),
            "filled_at": at(self.filled_at),
            "expired_at": at(self.expired_at),
            "canceled_at": at(self.canceled_at),
            "failed_at": None,
            "replaced_at": at(self.replaced_at),
            "replaced_by": self.replaced_by,
            "replaces": self.replaces,
            "asset_id": asset_id(self.symbol),
            "symbol": self.symbol,
            "asset_class": "us_equity",
            "notional": None,
            "qty": str(self.lots),
            "filled_qty": str(self.filled_lots),
            "filled_avg_price": self.average_price,
            "order_class": "",
            "order_type": self.kind,
            "type": self.kind,
            "side": "buy" if self.sign > 0 else "sell",
            "time_in_force": self.time_in_force,
            "limit_price": price(self.limit_ticks),
            "stop_price": price(self.stop_ticks),
            "status": self.status,
            "extended_hours": False,
            "legs": None,
            "trail_percent": None,
            "trail_price": None,
            "hwm": None,
        }


@dataclass(slots=True)
class OrderBook:
    """Every order there ever was, by id and by client id, and the open ones."""

    _by_id: dict[str, VenueOrder] = field(default_factory=dict)
    _by_client: dict[str, VenueOrder] = field(default_factory=dict)
    _open: dict[str, VenueOrder] = field(default_factory=dict)

    def add(self, order: VenueOrder) -> None:
        """Take a new open order."""
        self._by_id[order.order_id] = order
        self._by_client[order.client_order_id] = order
        self._open[order.order_id] = order

    def close(self, order: VenueOrder, status: str) -> None:
        """It will not trade again."""
        order.status = status
        self._open.pop(order.order_id, None)

    def has_client_id(self, client_order_id: str) -> bool:
        """A client id is unique for ever, after a cancel too."""
        return client_order_id in self._by_client

    def get(self, order_id: str) -> VenueOrder:
        """RefusedError 404 when unknown."""
        order = self._by_id.get(order_id)
        if order is None:
            raise not_found(f"order not found for {order_id}")
        return order

    def get_client(self, client_order_id: str) -> VenueOrder:
        """RefusedError 404 when unknown."""
        order = self._by_client.get(client_order_id)
        if order is None:
            raise not_found(f"order not found for {client_order_id}")
        return order

    def open(self, symbol: str | None = None) -> list[VenueOrder]:
        """Open orders in order of arrival."""
        return sorted((o for o in self._open.values() if symbol in (None, o.symbol)), key=lambda o: o.arrival)

    def every(self) -> list[VenueOrder]:
        """All orders in order of arrival."""
        return list(self._by_id.values())

    def held(self, symbol: str, position: int, without: VenueOrder | None = None) -> int:
        """Shares of a position claimed by open orders that reduce it."""
        return sum(o.left for o in self._open.values() if o.symbol == symbol and o.sign * position < 0 and o is not without)
