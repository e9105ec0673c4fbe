"""The venue: takes orders, keeps the books, matches bars, opens and closes sessions. No sockets and no clock: time is given to it.

Within one bar instruments trade in ascending symbol order, inside one instrument stops first, then the others in order of arrival; what
they trade is in `fills`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import groupby

import numpy as np

from live_runner.simulator.account import Account
from live_runner.simulator.activities import ActivityLog
from live_runner.simulator.event_log import EventLog
from live_runner.simulator.fills import executions
from live_runner.simulator.order_entry import order_uuid, parse_change, parse_new
from live_runner.simulator.orders import OrderBook, VenueOrder
from live_runner.simulator.settings import VenueSettings
from live_runner.simulator.tape import Action, Tape
from live_runner.simulator.wire import Ids, Json, RefusedError, asset_id, forbidden, instant, missing, money, unprocessable
from trading_platform.contracts.instruments import price_string

UpdateSink = Callable[[Json], None]


class Venue:
    """One account at one exchange. `on_update` receives the data of each trade_updates message, in order.

    session: the current market day, is_open: between its open and its close. now: UTC ns, set by whoever owns time through `begin`.
    """

    def __init__(self, settings: VenueSettings, tape: Tape, start_ns: int, session: int, log: EventLog, on_update: UpdateSink) -> None:
        self.settings = settings
        self.tape = tape
        self.now = start_ns
        self.session = session
        self.is_open = False
        self.log = log
        self.ids = Ids(settings.account_key)
        self.orders = OrderBook()
        self.account = Account(settings, start_ns)
        self.activities = ActivityLog(self.ids, asset_id(f"account:{settings.account_key}"))
        self._on_update = on_update
        self._costs = np.array([settings.half_spread_bps, settings.impact_bps, settings.participation])
        self._arrivals = 0
        self._next_session = session
        self._deposit()
        self._mark_before(start_ns)

    def _deposit(self) -> None:
        self.account.cash_cents = self.settings.cash_cents
        self.account.last_equity_micro = self.account.equity_micro
        amount = money(self.settings.cash_cents)
        self._activity("CSD", net_amount=amount, description="opening deposit")

    def _mark_before(self, start_ns: int) -> None:
        for symbol, bars in self.tape.bars.items():
            last = int(np.searchsorted(bars.end, start_ns, side="right")) - 1
            if last >= 0:
                self.account.mark(symbol, float(bars.close[last]))
        self.account.closes = dict(self.account.marks)

    # ------------------------------------------------------------------ time

    def begin(self, event_seq: int, now: int) -> None:
        """An event starts: ids and the log count from here."""
        self.now = now
        self.ids.begin(event_seq)
        self.log.seq, self.log.now = event_seq, now

    def open_session(self, session: int, previous: int, following: int) -> int:
        """The open: corporate actions with previous < ex-date <= session, then queued orders become live. Returns the number of actions."""
        self.session, self._next_session = session, following
        actions = self.tape.actions_between(previous, session)
        for action in actions:
            self._apply(action)
        self.is_open = True
        for order in self.orders.open():
            if order.status == "accepted":
                order.status, order.updated_at = "new", self.now
                self._update("new", order)
        return len(actions)

    def match(self, start: int) -> int:
        """Match every open order that came in time against the bars that began at `start` and just ended; returns the number of fills."""
        bars, latest = self.tape.at(start), start + self.settings.arrival_allowance_ns
        eligible = [o for o in self.orders.open() if self.tape.timeframe == "1Day" or o.created_at <= latest]
        queues = {symbol: list(group) for symbol, group in groupby(sorted(eligible, key=_priority), key=lambda o: o.symbol)}
        fills = 0
        for symbol, index in bars:
            if symbol in queues:
                fills += self._match_symbol(queues[symbol], symbol, index)
            self.account.mark(symbol, float(self.tape.bars[symbol].close[index]))
        return fills

    def close_session(self) -> int:
        """The close: what is left of the day's DAY orders expires, then the closing equity is noted. Returns the number expired."""
        expired = [o for o in self.orders.open() if o.time_in_force == "day" and o.session <= self.session]
        for order in expired:
            order.expired_at = order.updated_at = self.now
            self.orders.close(order, "expired")
            self._update("expired", order)
        self.is_open = False
        self.account.end_session()
        return len(expired)

    # ---------------------------------------------------------------- orders

    @property
    def reserved_cents(self) -> int:
        """Buying power that open orders hold."""
        return self._reserved(None)

    def _reserved(self, without: VenueOrder | None) -> int:
        growing = (o for o in self.orders.open() if o is not without and self.account.lots(o.symbol) * o.sign >= 0)
        return sum(self.account.reserve_cents(o.symbol, o.sign, o.left, o.limit_ticks, o.stop_ticks) for o in growing)

    def submit(self, body: Json) -> Json:
        """POST /v2/orders. RefusedError is the venue's definitive no and leaves nothing behind."""
        new = parse_new(body, self.tape.bars, self.tape.indexes)
        client_id = new.client_order_id or self.ids.next("client")
        order = VenueOrder(
            self.ids.next("order"), client_id, new.symbol, new.sign, new.kind, new.time_in_force, new.lots, new.limit_ticks, new.stop_ticks,
            self.now, self._day(), self._arrive(), "new" if self.is_open else "accepted",
        )  # fmt: skip
        self._admit(order, None)
        self.log.add("submit", order=order.to_wire())
        answer = order.to_wire() | {"status": "pending_new" if self.is_open else "accepted"}
        self._update(order.status, order)
        return answer

    def replace(self, order_id: str, body: Json) -> Json:
        """PATCH /v2/orders/{id}: a new order takes the old one's place and loses its turn. Returns the new order.

        Without `qty` it asks for the old order's whole quantity again, fills or not, as the real venue does.
        """
        old = self.orders.get(order_uuid(order_id))
        change = parse_change(body, old.symbol, old.kind)
        if old.status not in ("new", "partially_filled"):
            raise unprocessable(f"cannot replace order in {old.status} status")
        client_id = change.client_order_id or self.ids.next("client")
        new = VenueOrder(
            self.ids.next("order"), client_id, old.symbol, old.sign, old.kind, change.time_in_force or old.time_in_force,
            old.lots if change.lots is None else change.lots,
            old.limit_ticks if change.limit_ticks is None else change.limit_ticks,
            old.stop_ticks if change.stop_ticks is None else change.stop_ticks,
            self.now, self._day(), self._arrive(), "new" if self.is_open else "accepted", replaces=old.order_id,
        )  # fmt: skip
        self._admit(new, old)
        old.replaced_at = old.updated_at = self.now
        old.replaced_by = new.order_id
        self.orders.close(old, "replaced")
        self.log.add("replace", order=new.to_wire())
        answer = new.to_wire() | {"status": "pending_new" if self.is_open else "accepted"}
        self._update("replaced", old)
        self._update(new.status, new)
        return answer

    def cancel(self, order_id: str) -> None:
        """DELETE /v2/orders/{id}. RefusedError 404 when unknown, 422 when it is over."""
        order = self.orders.get(order_uuid(order_id))
        if not order.is_open:
            raise unprocessable(f'order is already in "{order.status}" state')
        self.log.add("cancel", order_id=order.order_id)
        self._cancel(order)

    def cancel_all(self, symbol: str | None = None) -> list[Json]:
        """DELETE /v2/orders: one entry per order that was open."""
        chosen = self.orders.open(symbol)
        for order in chosen:
            self.log.add("cancel", order_id=order.order_id)
            self._cancel(order)
        return [{"id": order.order_id, "status": 200, "body": order.to_wire()} for order in chosen]

    def close_position(self, symbol: str, lots: int | None = None) -> Json:
        """DELETE /v2/positions/{symbol}: a DAY market order for `lots` shares, by default all."""
        held = self.account.lots(symbol)
        if held == 0:
            raise RefusedError(404, 40410000, "position does not exist")
        side = "sell" if held > 0 else "buy"
        quantity = abs(held) if lots is None else lots
        return self.submit({"symbol": symbol, "side": side, "type": "market", "time_in_force": "day", "qty": quantity})

    def held_for_orders(self) -> dict[str, int]:
        """Shares of each position that open orders claim."""
        return {symbol: self.orders.held(symbol, position.lots) for symbol, position in self.account.positions.items()}

    def _admit(self, order: VenueOrder, replaced: VenueOrder | None) -> None:
        if self.orders.has_client_id(order.client_order_id):
            raise missing("client_order_id must be unique")
        position = self.account.lots(order.symbol)
        held = self.orders.held(order.symbol, position, replaced)
        reserve = self.account.reserve_cents(order.symbol, order.sign, order.lots, order.limit_ticks, order.stop_ticks)
        self._refuse_wash(order, replaced)
        self.account.check(order.symbol, order.sign, order.lots, held, reserve, self._reserved(replaced))
        self.orders.add(order)

    def _refuse_wash(self, order: VenueOrder, replaced: VenueOrder | None) -> None:
        """Refuse an order that could trade with our own resting limit order. Resting stops are let be, so a protected position can grow."""
        for other in self.orders.open(order.symbol):
            if other is replaced or other.sign == order.sign or order.kind == "stop" or other.kind == "stop":
                continue
            buy, sell = (order, other) if order.sign > 0 else (other, order)
            if not buy.limit_ticks or not sell.limit_ticks or buy.limit_ticks >= sell.limit_ticks:
                raise forbidden("potential wash trade detected. use complex orders", existing_order_id=other.order_id)

    def _cancel(self, order: VenueOrder) -> None:
        order.canceled_at = order.updated_at = self.now
        self.orders.close(order, "canceled")
        self._update("canceled", order)

    def _arrive(self) -> int:
        self._arrivals += 1
        return self._arrivals

    def _day(self) -> int:
        return self.session if self.is_open else self._next_session

    # --------------------------------------------------------------- trading

    def _match_symbol(self, queue: list[VenueOrder], symbol: str, index: int) -> int:
        bars = self.tape.bars[symbol]
        there_by = int(bars.end[index] if self.tape.timeframe == "1Day" else bars.start[index])
        filled = executions(queue, bars, index, there_by, self._costs)
        for each in filled:
            self._fill(each.order, each.lots, each.ticks)
        return len(filled)

    def _fill(self, order: VenueOrder, lots: int, ticks: int) -> None:
        order.filled_lots += lots
        order.filled_ticks += lots * ticks
        order.updated_at = self.now
        position = self.account.apply_fill(order.symbol, order.sign, lots, ticks)
        whole = order.left == 0
        event = "fill" if whole else "partial_fill"
        if whole:
            order.filled_at = self.now
            self.orders.close(order, "filled")
        else:
            order.status = "partially_filled"
        execution, price = self.ids.next("execution"), price_string(ticks)
        side = "buy" if order.sign > 0 else "sell"
        self._activity(
            "FILL", transaction_time=instant(self.now), type=event, price=price, qty=str(lots), side=side, symbol=order.symbol,
            leaves_qty=str(order.left), order_id=order.order_id, cum_qty=str(order.filled_lots), order_status=order.status,
        )  # fmt: skip
        self._update(event, order, execution_id=execution, price=price, qty=str(lots), position_qty=str(position))

    def _apply(self, action: Action) -> None:
        if action.split_ratio != 1.0:
            for order in self.orders.open(action.symbol):
                self._cancel(order)
        effect = self.account.apply_action(action.symbol, action.split_ratio, action.cash_dividend)
        if effect is None:
            return
        symbol = action.symbol
        if effect.share_change:
            text = f"{Decimal(str(action.split_ratio)).normalize():f} new shares per old share"
            self._activity("SPLIT", symbol=symbol, qty=str(effect.share_change), net_amount="0", description=text)
        if effect.cash_in_lieu_cents:
            self._activity("CIL", symbol=symbol, net_amount=money(effect.cash_in_lieu_cents), description="cash in lieu of a fraction")
        if effect.dividend_cents:
            self._activity(
                "DIV", symbol=symbol, net_amount=money(effect.dividend_cents), qty=f"{effect.entitled.normalize():f}",
                per_share_amount=f"{Decimal(str(action.cash_dividend)):f}", description="cash dividend",
            )  # fmt: skip

    def _activity(self, kind: str, **fields: str) -> None:
        self.log.add("activity", body=self.activities.add(kind, self.now, self.session, **fields))

    def _update(self, event: str, order: VenueOrder, **fields: str) -> None:
        data: Json = {"event": event, "timestamp": instant(self.now), "order": order.to_wire(), **fields}
        data["event_id"] = self.ids.next("update")
        self.log.add("update", data=data)
        self._on_update(data)


def _priority(order: VenueOrder) -> tuple[str, bool, int]:
    return order.symbol, order.kind != "stop", order.arrival
