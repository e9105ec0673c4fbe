"""The READY gate: the venue's account and our fold are made to meet before anything is risked, at start, reconnect and recovery alike.

Order (DESIGN 8): activities, open orders, orders nobody knows about, positions and cash, protection. A difference that stays is a named
break; it blocks new risk until a person has looked (T12, I13).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from live_runner.broker import Broker
from live_runner.desk import Desk
from live_runner.fold import Fold
from live_runner.orders import TERMINAL
from live_runner.recorder import Recorder
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import lots_of
from trading_platform.contracts.journal import Kind
from trading_platform.contracts.orders import OrderStatus

CENT = 0.005
CASH_NOISE = 1e-6
RETRIES = 3
RETRY_S = 0.5  # the venue's positions may lag behind its orders (alpaca.md 3, 11); the simulator's never do


class Gate:
    """Compares and repairs; `retries` bounds how often a difference is looked at again before it is a break."""

    def __init__(self, broker: Broker, fold: Fold, recorder: Recorder, desk: Desk, patient: bool) -> None:
        self._broker = broker
        self._fold = fold
        self._recorder = recorder
        self._desk = desk
        self._retries = RETRIES if patient else 1
        self._symbols = {instrument.symbol: name for name, instrument in fold.instruments.items()}
        self._names = {name: instrument.symbol for name, instrument in fold.instruments.items()}
        self.trading_blocked = False

    async def adopt(self, account: Mapping[str, Any]) -> None:
        """Begin the fold with the venue's account as it is. InputError where it holds what this pipeline does not trade."""
        positions = {}
        for position in await self._broker.positions():
            name = self._symbols.get(str(position["symbol"]))
            if name is None:
                fix = "close it, or use an account of its own for this pipeline"
                raise InputError(f"the account holds {position['symbol']}, which this pipeline does not trade", "adoption", fix)
            positions[name] = [lots_of(str(position["qty"])), float(position["avg_entry_price"])]
        if await self._broker.open_orders():
            raise InputError("the account has open orders that are not ours", "adoption", "cancel them first")
        activities = await self._broker.activities("")
        body = {
            "adopted": True,
            "venue_account": str(account["id"]),
            "cash": float(account["cash"]),
            "positions": positions,
            "last_activity": str(activities[-1]["id"]) if activities else "",
        }
        await self._recorder.note(Kind.ACCOUNT, str(account["id"]), body)

    async def run(self, reason: str) -> None:
        """Meet the venue; the breaks found now are journaled and latch HALT_NEW until a person has looked."""
        await self._desk.read_activities()
        await self._orders()
        if self._desk.gap:
            await self._desk.read_activities()
        found = await self._differences()
        for what, name in found:
            if what not in self._fold.breaks:
                await self._recorder.note(Kind.BREAK, name or "account", {"what": what, "instrument_id": name or None, "at": reason})
        if found:
            await self._desk.halt(f"breaks at {reason}")
        await self._desk.protect()

    async def _orders(self) -> None:
        """Every open order of either side is known to both."""
        at_venue = {str(order["client_order_id"]): order for order in await self._broker.open_orders()}
        for identity, theirs in at_venue.items():
            ours = self._fold.book.orders.get(identity)
            if ours is None:
                name = self._symbols.get(str(theirs["symbol"]), "")
                what = f"an open order that is not ours in {theirs['symbol']}"
                if what not in self._fold.breaks:
                    await self._recorder.note(Kind.BREAK, name or "account", {"what": what, "instrument_id": name or None})
            elif ours.status in TERMINAL:
                await self._broker.cancel(str(theirs["id"]))  # it came to life after we had given it up
        absent = []
        for order in self._fold.book.open_orders():
            waits = order.status is OrderStatus.INTENT and order.valid_from > self._desk.now()
            if waits:
                self._desk.schedule(order, order.valid_from)
            elif order.status in (OrderStatus.INTENT, OrderStatus.UNKNOWN):
                if not await self._desk.look_up(order):
                    absent.append(order)
            elif order.intent.client_order_id not in at_venue:
                await self._desk.resolve(order)
        # Like any other orders: reductions first make room under their stops. An id the venue has never seen is safe to send again.
        await self._desk.send(absent)

    async def _differences(self) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = []
        for attempt in range(self._retries):
            if attempt:
                await asyncio.sleep(RETRY_S)
                await self._desk.read_activities()
            account = await self._broker.account()
            self.trading_blocked = any(account.get(flag) for flag in ("trading_blocked", "account_blocked", "trade_suspended_by_user"))
            theirs = {str(p["symbol"]): lots_of(str(p["qty"])) for p in await self._broker.positions()}
            ours = {self._names[name]: lots for name, lots in self._fold.positions().items()}
            found = [
                (f"{symbol}: the venue holds {theirs.get(symbol, 0)}, the journal {ours.get(symbol, 0)}", self._symbols.get(symbol, ""))
                for symbol in sorted({*theirs, *ours})
                if theirs.get(symbol, 0) != ours.get(symbol, 0)
            ]
            if cash := self._cash_difference(account):
                found.append((cash, ""))
            if not found:
                return []
        return found

    def _cash_difference(self, account: Mapping[str, Any]) -> str:
        equal = abs(float(account["cash"]) - self._fold.cash) <= CENT + CASH_NOISE
        return "" if equal else f"cash: the venue has {account['cash']}, the journal {self._fold.cash:.2f}"

    async def equity_break(self) -> str:
        """The session's end (T12): our cash and equity against the venue's, empty when they agree to the cent."""
        account = await self._broker.account()
        if cash := self._cash_difference(account):
            return cash
        ours = self._fold.engine.equity() + self._fold.residual
        theirs = float(account["equity"])
        # The venue rounds its equity to the cent after marking each position to a micro-dollar.
        noise = CASH_NOISE * (1 + sum(abs(lots) for lots in self._fold.positions().values()))
        return "" if abs(theirs - ours) <= CENT + noise else f"equity: the venue has {account['equity']}, the journal {ours:.2f}"
