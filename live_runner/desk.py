"""The order desk: sends what is journaled, reads what the venue says, keeps every position covered. It decides nothing.

An order is sent under the id its intent has on disk, as often as needed and never under another (T15). What cannot be known is UNKNOWN
until a look-up by that id tells (I6).
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from live_runner.broker import Answer, Broker, Verdict
from live_runner.clock import SECOND, Clock
from live_runner.fold import Fold
from live_runner.kill_points import KillPoint
from live_runner.metrics import Metrics
from live_runner.orders import TERMINAL, VENUE_STATUS, LiveOrder, event_body, fill_body, make_intent, same_order
from live_runner.protection import desired_stops
from live_runner.recorder import Recorder
from live_runner.wire_time import instant_ns
from trading_platform.contracts.activities import KNOWN
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.instruments import lots_of, price_string
from trading_platform.contracts.journal import Kind
from trading_platform.contracts.orders import Fill, Intent, Leg, OrderStatus, OrderType, PlannedOrder, Side, TimeInForce
from trading_platform.engine.engine import protective_side

THROTTLE_NS = SECOND
LOOK_UP_NS = 2 * SECOND
GONE_NS = 10 * SECOND  # an order the venue does not know this long after it was sent never reached it
CONFIRM_S = 3.0  # real seconds to wait for a cancel's confirmation
MOST_THROTTLES = 5
PUSHED = "trade_updates"
FILLS = ("fill", "partial_fill")
UNSENT = (OrderStatus.INTENT, OrderStatus.UNKNOWN)  # perhaps: nobody has seen it at the venue


class Desk:
    """Orders of one account. `drain` handles whatever the sockets have delivered; the desk calls it while it waits for confirmations."""

    def __init__(
        self,
        broker: Broker,
        fold: Fold,
        recorder: Recorder,
        clock: Clock,
        kill: KillPoint,
        metrics: Metrics,
        account: str,
        drain: Callable[[], Awaitable[None]],
    ) -> None:
        self._broker = broker
        self._fold = fold
        self._recorder = recorder
        self._clock = clock
        self._kill = kill
        self._metrics = metrics
        self._account = account
        self._drain = drain
        self._symbols = {instrument.symbol: name for name, instrument in fold.instruments.items()}
        self._later: list[tuple[int, str]] = []
        self._throttled: dict[str, int] = {}
        self._sent: dict[str, int] = {}  # when an order was handed to the network last
        self.uncovered = False  # a reduction was refused after its stop had made room for it
        self.gap = False  # a fill was missed: activities must be read
        self.before: Callable[[int], Awaitable[None]] | None = None  # brings corporate actions up to an instant
        self.splitting: Callable[[], frozenset[str]] = frozenset  # names that no stop may cover now, because a split is due
        self.halt: Callable[[str], Awaitable[None]]  # given by the runner: HALT_NEW, for a break of the whole account (T12)

    def now(self) -> int:
        """The clock's time, UTC ns."""
        return self._clock.now_ns()

    # --------------------------------------------------------------- intents

    def intent(self, planned: PlannedOrder, origin_id: str, replaces: str = "") -> Intent:
        """The intent of a planned order of this session."""
        instrument = self._fold.instruments[planned.instrument_id]
        attempt = self._fold.book.next_attempt(origin_id, planned.instrument_id, planned.leg)
        session = self._fold.session_id or self._fold.venue_account
        return make_intent(
            planned, instrument, instrument.symbol, self._account, session, origin_id, attempt, self._clock.now_ns(), replaces
        )

    def intent_entry(self, intent: Intent, valid_from: int, good_until: int) -> Any:
        """The journal entry of an intent with its sending times."""
        body = {name: getattr(intent, name) for name in Intent.__dataclass_fields__}
        return self._recorder.entry(Kind.INTENT, intent.client_order_id, {**body, "valid_from": valid_from, "good_until": good_until})

    # --------------------------------------------------------------- timers

    def schedule(self, order: LiveOrder, at: int) -> None:
        """Look at this order again at `at`."""
        heapq.heappush(self._later, (at, order.intent.client_order_id))

    def timers(self) -> list[int]:
        """When the desk wants to be woken next."""
        return [self._later[0][0]] if self._later else []

    async def run_due(self) -> None:
        """Send orders whose time has come, reductions first, and look up those that are UNKNOWN."""
        now, due = self._clock.now_ns(), []
        while self._later and self._later[0][0] <= now:
            order = self._fold.book.orders[heapq.heappop(self._later)[1]]
            if order.status.is_open and order not in due:
                due.append(order)
        fresh = [order for order in due if order.status is OrderStatus.INTENT and not order.venue_order_id]
        await self.send([order for order in fresh if order.intent.client_order_id not in self._throttled])
        for order in due:
            if order.intent.client_order_id in self._throttled and order.status is OrderStatus.INTENT:
                await self._post(order)
            elif order.status is OrderStatus.UNKNOWN:
                await self.resolve(order)

    # --------------------------------------------------------------- sending

    async def send(self, orders: Sequence[LiveOrder]) -> None:
        """POST journaled intents in order; before a reduction the stop is shrunk, because the venue holds shares per sell order."""
        for order in orders:
            if self._overdue(order):
                self._event(order, OrderStatus.CANCELED, "cancel", reason="its time was over before it was sent")
            elif reason := self._barred(order):
                self._event(order, OrderStatus.CANCELED, "cancel", reason=reason)
        ready = [order for order in orders if order.status in UNSENT]
        shrinking = {order.intent.instrument_id for order in ready if order.intent.leg in (Leg.REDUCE, Leg.FLATTEN)}
        if shrinking:
            await self.protect(shrinking, sending=ready)
        for order in ready:
            if order.status in UNSENT:
                await self._post(order)

    def _overdue(self, order: LiveOrder) -> bool:
        return 0 < order.good_until < self._clock.now_ns()

    def _barred(self, order: LiveOrder) -> str:
        """Why nobody wants an order any more, empty where it may be sent."""
        if order.intent.leg in (Leg.ENTER, Leg.REDUCE) and order.intent.instrument_id in self._fold.hands_off():
            return "hands off its instrument until an operator returns it"
        if order.intent.leg is not Leg.ENTER:
            return ""
        if self._fold.level is not KillLevel.NONE:
            return f"kill level {self._fold.level.name}"
        return "its bundle may not trade any more" if order.intent.client_order_id in self._fold.barred else ""

    async def withdraw(self) -> None:
        """Cancel every open order that nobody wants any more."""
        await self.cancel([order for order in self._fold.book.open_orders() if self._barred(order)])

    async def _post(self, order: LiveOrder) -> None:
        await self._settle(order, await self._transmit(order), "post")

    async def _transmit(self, order: LiveOrder) -> Answer:
        """POST an intent, or PATCH the order it replaces; always under the intent's own id."""
        replaced = self._fold.book.orders.get(order.intent.replaces or "")
        if order.intent.replaces and (replaced is None or not replaced.status.is_open):
            return Answer(Verdict.REJECTED, reason="the order it replaces is gone")
        self._sent[order.intent.client_order_id] = self._clock.now_ns()
        self._kill.reach("post", "before")
        if replaced is None:
            answer = await self._broker.submit(order.intent)
        else:
            answer = await self._broker.replace(replaced.venue_order_id, order.intent)
        self._kill.reach("post", "after")
        if replaced is not None and answer.verdict is Verdict.ACCEPTED:
            self._event(replaced, OrderStatus.REPLACED, "post")
        return answer

    async def _settle(self, order: LiveOrder, answer: Answer, source: str) -> None:
        """Journal what an answer to a POST or a look-up proves."""
        intent = order.intent
        if answer.verdict is Verdict.ACCEPTED:
            status = VENUE_STATUS.get(str(answer.order.get("status")), OrderStatus.WORKING)
            self._throttled.pop(intent.client_order_id, None)
            if not order.venue_order_id:
                self._metrics.orders.labels("accepted").inc()
            if lots_of(str(answer.order.get("filled_qty") or "0")) > order.filled_lots:
                self.gap = True
            self._event(order, status, source, str(answer.order["id"]))
        elif answer.verdict is Verdict.REJECTED:
            self._metrics.orders.labels("rejected").inc()
            self.uncovered |= intent.leg in (Leg.REDUCE, Leg.FLATTEN)
            self._event(order, OrderStatus.REJECTED, source, reason=answer.reason)
        elif answer.verdict is Verdict.NOT_UNIQUE:
            await self.resolve(order)
        elif answer.verdict is Verdict.THROTTLED and self._throttled.get(intent.client_order_id, 0) < MOST_THROTTLES:
            self._throttled[intent.client_order_id] = self._throttled.get(intent.client_order_id, 0) + 1
            self.schedule(order, self._clock.now_ns() + THROTTLE_NS)
        else:
            self._throttled.pop(intent.client_order_id, None)
            self._metrics.orders.labels("unknown").inc()
            self._event(order, OrderStatus.UNKNOWN, source, reason=answer.reason)
            await self.resolve(order)

    def _event(self, order: LiveOrder, status: OrderStatus, source: str, venue_id: str = "", reason: str = "") -> None:
        if order.status is status and (not venue_id or venue_id == order.venue_order_id):
            return
        body = event_body(order, status, source, self._clock.now_ns(), venue_id, reason)
        self._recorder.heard(Kind.ORDER_EVENT, order.intent.client_order_id, body)

    async def resolve(self, order: LiveOrder) -> None:
        """Ask the venue for an order by its client id; send it again under the same id only where the venue says it has none."""
        if await self.look_up(order):
            return
        now = self._clock.now_ns()
        if order.venue_order_id:
            await self._break(f"the venue lost order {order.intent.client_order_id}", order.intent.instrument_id)
        elif self._overdue(order) or self._barred(order):
            await self._given_up(order)
        else:
            again = await self._transmit(order)
            if again.verdict in (Verdict.ACCEPTED, Verdict.REJECTED):
                await self._settle(order, again, "post")
            else:
                self._event(order, OrderStatus.UNKNOWN, "post", reason=again.reason)
                self.schedule(order, now + LOOK_UP_NS)

    async def look_up(self, order: LiveOrder) -> bool:
        """Journal what the venue says about an order's id; False only where it says that it has none."""
        answer = await self._broker.look_up(order.intent.client_order_id)
        if answer.verdict is Verdict.REJECTED:
            return False
        if answer.verdict is not Verdict.ACCEPTED:
            self._event(order, OrderStatus.UNKNOWN, "look_up", reason=answer.reason)
            self.schedule(order, self._clock.now_ns() + LOOK_UP_NS)
            return True
        difference = same_order(order.intent, answer.order, order.journaled_at)
        if difference:
            self._event(order, OrderStatus.UNKNOWN, "look_up", reason=f"another order has our id: {difference}")
            await self._break(f"order {order.intent.client_order_id}: {difference}", order.intent.instrument_id)
        else:
            await self._settle(order, answer, "look_up")
        return True

    async def _given_up(self, order: LiveOrder) -> None:
        """Nobody wants this order any more and the venue has none; a request may still be on its way, so it is over only after a while."""
        since = max(order.journaled_at, order.valid_from, self._sent.get(order.intent.client_order_id, 0))
        if self._clock.now_ns() - since >= GONE_NS:
            self._event(order, OrderStatus.CANCELED, "look_up", reason="it never reached the venue")
        else:
            self.schedule(order, since + GONE_NS)

    async def _break(self, what: str, instrument_id: str = "") -> None:
        if what not in self._fold.breaks:
            await self._recorder.note(Kind.BREAK, instrument_id or "account", {"what": what, "instrument_id": instrument_id or None})
            if not instrument_id:
                await self.halt(what)

    # ------------------------------------------------------------- cancelling

    async def cancel(self, orders: Sequence[LiveOrder]) -> None:
        """Cancel orders and wait, for a bounded time, until the venue has confirmed; what it has not confirmed still counts as working."""
        asked = []
        for order in orders:
            if order.status is OrderStatus.INTENT and order.valid_from > self._clock.now_ns():
                self._event(order, OrderStatus.CANCELED, "cancel", reason="never sent")
                continue
            if order.status in UNSENT and not await self.look_up(order):
                await self._given_up(order)
            if order.status.is_open and order.venue_order_id:
                answer = await self._broker.cancel(order.venue_order_id)
                if answer.verdict is Verdict.ACCEPTED:
                    asked.append(order)
                else:
                    await self.resolve(order)
        await self._confirmed(asked)

    async def cancel_foreign(self) -> None:
        """Cancel the account's open orders that are not ours: only a flatten of the whole account does that (T17)."""
        try:
            for theirs in await self._broker.open_orders():
                if str(theirs["client_order_id"]) not in self._fold.book.orders:
                    await self._broker.cancel(str(theirs["id"]))
        except TransientError as error:
            await self._break(f"orders that are not ours may still be open: {error.what}; repeat the command")

    async def _confirmed(self, orders: Sequence[LiveOrder]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CONFIRM_S
        await self._drain()
        while any(order.status.is_open for order in orders) and loop.time() < deadline:
            await asyncio.sleep(0.001)
            await self._drain()
        for order in orders:
            if order.status.is_open:
                await self.resolve(order)

    # ------------------------------------------------------------ protection

    async def protect(self, only: set[str] | None = None, sending: Sequence[LiveOrder] = ()) -> None:
        """Make the venue's stops what the engine wants: one GTC stop per position, replaced where its lots or price changed (T16)."""
        if only is None:
            self.uncovered = False
        splitting = self.splitting()
        desired = {n: stop for n, stop in desired_stops(self._fold, self._clock.now_ns(), sending).items() if n not in splitting}
        names = sorted({*desired, *(o.intent.instrument_id for o in self._fold.book.open_orders() if o.protects)})
        for name in names:
            if only is None or name in only:
                await self._protect_one(name, *desired.get(name, (0, 0)))

    async def _protect_one(self, name: str, lots: int, stop_ticks: int) -> None:
        current = self._fold.book.protection_of(name)
        for order in current:
            if order.status in UNSENT:
                await self.resolve(order)
        current = self._fold.book.protection_of(name)
        if any(order.status is OrderStatus.UNKNOWN for order in current):
            return  # nobody knows what covers it: it counts as naked until the look-up tells
        if len(current) == 1 and lots > 0 and self._fits(current[0], name, lots, stop_ticks):
            return
        if len(current) == 1 and lots > 0 and await self._replace(current[0], name, lots, stop_ticks):
            return
        await self.cancel(current)
        if lots > 0 and not self._fold.book.protection_of(name):
            entry = self.intent_entry(self.intent(self._stop(name, lots, stop_ticks), self._origin(name)), 0, 0)
            (record,) = await self._recorder.record(entry)
            await self._post(self._fold.book.orders[record.key])

    def _fits(self, order: LiveOrder, name: str, lots: int, stop_ticks: int) -> bool:
        price = price_string(stop_ticks, self._fold.instruments[name].ticks_per_unit)
        side = protective_side(self._fold.position(name))
        return order.open_lots == lots and order.intent.stop_price == price and order.intent.side is side

    def _stop(self, name: str, lots: int, stop_ticks: int) -> PlannedOrder:
        side = protective_side(self._fold.position(name))
        return PlannedOrder(name, side, lots, OrderType.STOP, TimeInForce.GTC, Leg.PROTECT, stop_ticks=stop_ticks)

    def _origin(self, name: str) -> str:
        return self._fold.protect_origin.get(name, self._fold.venue_account)

    async def _replace(self, order: LiveOrder, name: str, lots: int, stop_ticks: int) -> bool:
        """Swap the working stop for another one without a gap; False where the venue refuses, so that cancel and new follow."""
        planned = self._stop(name, lots, stop_ticks)
        if order.intent.side is not planned.side or order.filled_lots or not order.venue_order_id:
            return False
        intent = self.intent(planned, self._origin(name), replaces=order.intent.client_order_id)
        (record,) = await self._recorder.record(self.intent_entry(intent, 0, 0))
        new = self._fold.book.orders[record.key]
        answer = await self._transmit(new)
        await self._settle(new, answer, "post")
        return new.status is not OrderStatus.REJECTED

    # ------------------------------------------------------------ the venue

    async def handle_update(self, data: Mapping[str, Any]) -> None:
        """One trade_updates message."""
        venue_order = data["order"]
        order = self._fold.book.orders.get(str(venue_order["client_order_id"]))
        if order is None:
            await self._foreign(data)
            return
        status = VENUE_STATUS.get(str(venue_order.get("status")))
        if order.status in TERMINAL and not order.venue_order_id and status is not None and status.is_open:
            self._event(order, status, PUSHED, str(venue_order["id"]), "it came to life after we had given it up")
            await self._broker.cancel(str(venue_order["id"]))
        if data["event"] in FILLS:
            await self._fill(order, data)
            return
        if lots_of(str(venue_order.get("filled_qty") or "0")) > order.filled_lots:
            self.gap = True
        if status is None:
            what = f"the venue says {data['event']!r}, {venue_order.get('status')!r}"
            body = event_body(order, order.status, PUSHED, self._clock.now_ns(), reason=what)
            self._recorder.heard(Kind.ORDER_EVENT, order.intent.client_order_id, body)
            await self.resolve(order)
        else:
            self._event(order, status, PUSHED, str(venue_order["id"]))

    async def _fill(self, order: LiveOrder, data: Mapping[str, Any]) -> None:
        self._kill.reach("fill", "before")
        venue_order, lots = data["order"], lots_of(str(data["qty"]))
        so_far = lots_of(str(venue_order["filled_qty"]))
        if str(data["execution_id"]) in self._fold.book.executions or order.filled_lots + lots > so_far:
            return  # told twice
        if order.filled_lots + lots < so_far:
            self.gap = True  # an earlier one never arrived; the activities bring them all, in order
            return
        body = self._fill_body(
            order, str(data["execution_id"]), str(venue_order["id"]), lots, str(data["price"]), instant_ns(data["timestamp"])
        )
        self._recorder.heard(Kind.FILL, str(data["execution_id"]), body)
        self._kill.reach("fill", "after")

    def _fill_body(self, order: LiveOrder, execution: str, venue_id: str, lots: int, price: str, at: int) -> dict[str, Any]:
        intent = order.intent
        fill = Fill(execution, intent.client_order_id, venue_id, intent.instrument_id, intent.side, lots, price, at)
        return self._with_ticks(fill)

    def _with_ticks(self, fill: Fill) -> dict[str, Any]:
        return fill_body(fill, self._fold.instruments[fill.instrument_id].ticks_per_unit)

    async def _foreign(self, data: Mapping[str, Any]) -> None:
        """Someone else's order in our account (T18): hands off its instrument; its fills come with the activities."""
        symbol = str(data["order"].get("symbol"))
        await self._break(f"an order that is not ours in {symbol}", self._symbols.get(symbol, ""))
        if data["event"] in FILLS:
            self.gap = True

    async def read_activities(self) -> None:
        """Fold every activity since the last known one, missed fills first among them (T12)."""
        self.gap = False
        told: list[Any] = []
        activities = await self._broker.activities(self._fold.last_activity)
        for activity in activities:
            if self.before is not None and "transaction_time" in activity:
                await self.before(instant_ns(activity["transaction_time"]))  # a split between two fills changes what a share is
            told.append(self._recorder.entry(Kind.ACTIVITY, str(activity["id"]), dict(activity)))
            missed = await self._missed(activity) if activity["activity_type"] == "FILL" else []
            if missed:  # the next one is judged by a fold that has it
                await self._recorder.record(*told, *missed)
                told = []
        await self._recorder.record(*told)
        for activity in (each for each in activities if each["activity_type"] not in KNOWN):
            amount = activity.get("net_amount") or "no"
            await self._break(f"an activity of the unknown kind {activity['activity_type']}, {amount} cash: {activity['id']}")
        if self.before is not None:
            await self.before(self._clock.now_ns())

    async def _missed(self, activity: Mapping[str, Any]) -> list[Any]:
        execution, price, lots = str(activity["id"]), str(activity["price"]), lots_of(str(activity["qty"]))
        at = instant_ns(activity["transaction_time"])
        order = self._fold.book.of_venue(str(activity["order_id"]))
        if order is not None:
            if lots_of(str(activity["cum_qty"])) <= order.filled_lots:
                return []
            return [self._recorder.entry(Kind.FILL, execution, self._fill_body(order, execution, order.venue_order_id, lots, price, at))]
        name = self._symbols.get(str(activity["symbol"]))
        if name is None:
            await self._break(f"a fill in {activity['symbol']}, which this pipeline does not trade")
            return []
        side = Side.BUY if str(activity["side"]) == "buy" else Side.SELL
        fill = Fill(execution, "", str(activity["order_id"]), name, side, lots, price, at)
        return [self._recorder.entry(Kind.FILL, execution, self._with_ticks(fill))]
