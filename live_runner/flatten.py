"""FLATTEN (T17): while it is latched, every position gets one market exit after the other until it is gone. No other order leaves then.

Per instrument: what else works there is cancelled and verified, the stop is swapped for the exit, and where the exit does not trade the
stop is put back before anything else is tried. What is under way is never sent twice; what is not flat is in the journal.
"""

from __future__ import annotations

from live_runner.clock import SECOND
from live_runner.desk import Desk
from live_runner.fold import Fold
from live_runner.orders import LiveOrder
from live_runner.recorder import Recorder
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.journal import Kind
from trading_platform.contracts.orders import Leg, OrderStatus, OrderType, PlannedOrder, TimeInForce
from trading_platform.contracts.panel import TIMEFRAME_NS
from trading_platform.engine.engine import protective_side

AGAIN_NS = 60 * SECOND  # between two exits of one instrument, and between two cancels of one order


class Flattener:
    """Closes every position of the fold, those that we did not open among them. `step` may be called as often as one likes."""

    def __init__(self, fold: Fold, recorder: Recorder, desk: Desk, calendar: MarketCalendar) -> None:
        self._fold = fold
        self._recorder = recorder
        self._desk = desk
        self._calendar = calendar
        self._origin = ""
        self._not_before: dict[str, int] = {}  # instrument or client id -> when it may be tried again, UTC ns
        self._told: dict[str, str] | None = None

    def timers(self) -> list[int]:
        """When the next exit may be tried."""
        if self._fold.level is not KillLevel.FLATTEN:
            return []
        waiting = [self._not_before.get(name, 0) for name in self._fold.positions() if self._exit_of(name) is None]
        return [at for at in waiting if at > self._desk.now()]

    async def step(self) -> None:
        """One look: cancel what else works, send the exits that are due, cover what stays, say what is not flat."""
        if self._fold.level is not KillLevel.FLATTEN:
            self._told = None
            return
        if self._origin != self._fold.latched_by:  # a new command tries at once
            self._origin, self._not_before, self._told = self._fold.latched_by, {}, None
        open_orders = self._fold.book.open_orders()
        others = [o for o in open_orders if o.intent.leg in (Leg.ENTER, Leg.REDUCE) and self._due(o.intent.client_order_id)]
        await self._desk.cancel(others)
        await self._send_exits()
        if self._desk.uncovered:
            await self._desk.protect()
        await self._tell()

    def _due(self, name: str) -> bool:
        """Whether this may be tried now; if so, the next time is a while away."""
        now = self._desk.now()
        if self._not_before.get(name, 0) > now:
            return False
        self._not_before[name] = now + AGAIN_NS
        return True

    def _exit_of(self, name: str) -> LiveOrder | None:
        return next((order for order in self._fold.book.open_of(name) if order.intent.leg is Leg.FLATTEN), None)

    async def _send_exits(self) -> None:
        now, valid_from, entries = self._desk.now(), self._trades_from(), []
        for name, held in self._fold.positions().items():
            side = protective_side(held)
            working = sum(o.open_lots for o in self._fold.book.open_of(name) if o.intent.side is side and not o.protects)
            lots = abs(held) - working  # a reduction whose cancel is not confirmed may still fill (T14)
            if self._exit_of(name) is None and lots > 0 and self._due(name):
                planned = PlannedOrder(name, side, lots, OrderType.MARKET, TimeInForce.DAY, Leg.FLATTEN, valid_from=valid_from)
                entries.append(self._desk.intent_entry(self._desk.intent(planned, self._origin), valid_from, 0))
        orders = [self._fold.book.orders[record.key] for record in await self._recorder.record(*entries)]
        for order in orders:
            if order.valid_from > now:
                self._desk.schedule(order, order.valid_from)
        await self._desk.send([order for order in orders if order.valid_from <= now])

    def _trades_from(self) -> int:
        """Now in a session, otherwise the next open, UTC ns."""
        now = self._desk.now()
        session = self._calendar.previous_session(now // TIMEFRAME_NS["1Day"] + 1)
        if now < self._calendar.close_ns(session):
            return max(now, self._calendar.open_ns(session))
        return self._calendar.open_ns(self._calendar.next_session(session))

    async def _tell(self) -> None:
        """Journal what is not flat and why, whenever it changes; an empty map is `latched, flat`."""
        found = {name: f"{lots} lots, {self._why(name)}" for name, lots in self._fold.positions().items()}
        if found != self._told:
            self._told = found
            await self._recorder.note(Kind.STATE, "flatten", {"not_flat": found})

    def _why(self, name: str) -> str:
        order = self._exit_of(name)
        if order is None:
            return "no exit works, the next one is tried within a minute"
        if order.status is OrderStatus.INTENT and order.valid_from > self._desk.now():
            return "its exit waits for the open"
        return f"its exit is {order.status}"
