"""The venue's books: cash in cents, positions in whole shares, marks; what an account and a position look like on the wire.

Every change is one of `apply_fill`, `apply_action`, `mark`. Cash is an exact sum of integers, so the account equals the fold of its
activities to the cent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from live_runner.simulator.settings import VenueSettings
from live_runner.simulator.wire import (
    MICRO_PER_CENT,
    Json,
    asset_id,
    cents_of,
    forbidden,
    instant,
    micro_money,
    micro_price,
    money,
)

MICRO = 1_000_000
MARKET_RESERVE = Decimal("1.025")  # a market buy reserves the last price and 2.5 %
SHORT_RESERVE = Decimal("1.03")


@dataclass(slots=True)
class Position:
    """Shares held, signed, and what they cost in micro-dollars, signed like the shares."""

    lots: int
    cost_micro: int

    @property
    def average_micro(self) -> int:
        """Average entry price in micro-dollars, rounded half up."""
        return (2 * abs(self.cost_micro) + abs(self.lots)) // (2 * abs(self.lots))


@dataclass(frozen=True, slots=True)
class ActionEffect:
    """What a corporate action did to a held position: change of shares, cash in lieu and dividend in cents, shares entitled."""

    share_change: int
    cash_in_lieu_cents: int
    dividend_cents: int
    entitled: Decimal


def _cents(amount: Decimal) -> int:
    return int((amount * 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))


@dataclass(slots=True)
class Account:
    """One margin account. marks, closes: micro-dollars per share, the newest price and the previous session's close."""

    settings: VenueSettings
    created_at: int
    cash_cents: int = 0
    positions: dict[str, Position] = field(default_factory=dict)
    marks: dict[str, int] = field(default_factory=dict)
    closes: dict[str, int] = field(default_factory=dict)
    last_equity_micro: int = 0

    def lots(self, symbol: str) -> int:
        """Signed shares held."""
        held = self.positions.get(symbol)
        return held.lots if held else 0

    def apply_fill(self, symbol: str, sign: int, lots: int, ticks: int) -> int:
        """Book one execution (sign +1 buy, -1 sell); return the position after it."""
        signed = sign * lots
        self.cash_cents -= signed * ticks
        held = self.positions.get(symbol) or Position(0, 0)
        value = ticks * MICRO_PER_CENT
        if held.lots * signed >= 0:
            held.cost_micro += signed * value
        elif abs(signed) <= abs(held.lots):
            held.cost_micro = held.cost_micro * (abs(held.lots) - lots) // abs(held.lots)
        else:
            held.cost_micro = (held.lots + signed) * value
        held.lots += signed
        self.marks.setdefault(symbol, value)
        self._keep(symbol, held)
        return held.lots

    def apply_action(self, symbol: str, split_ratio: float, cash_dividend: float) -> ActionEffect | None:
        """Rescale and pay before the ex-date's open; the mark is rescaled too, so equity moves by the dividend alone. None if nothing held.

        Shares round toward zero; the fraction left over is paid at the last mark. 1e-9 of a share is binary noise.
        """
        before = self.marks.get(symbol, 0)
        ratio = Decimal(str(split_ratio))
        for table in (self.marks, self.closes):
            if symbol in table:
                table[symbol] = int((Decimal(table[symbol]) / ratio).to_integral_value())
        held = self.positions.get(symbol)
        if held is None:
            return None
        exact = held.lots * ratio
        if abs(exact - exact.to_integral_value()) <= Decimal("1e-9") * max(Decimal(1), abs(exact)):
            exact = exact.to_integral_value()
        whole = int(exact)
        in_lieu = _cents((exact - whole) * Decimal(before) / MICRO / ratio)
        dividend = _cents(exact * Decimal(str(cash_dividend)))
        change = whole - held.lots
        if whole and exact != whole:
            held.cost_micro = int(held.cost_micro * whole / exact)
        held.lots = whole
        self.cash_cents += in_lieu + dividend
        self._keep(symbol, held)
        return ActionEffect(change, in_lieu, dividend, exact)

    def mark(self, symbol: str, close: float) -> None:
        """The newest price, kept to a micro-dollar."""
        self.marks[symbol] = round(close * MICRO)

    def end_session(self) -> None:
        """Remember the closing prices and the closing equity."""
        self.closes = dict(self.marks)
        self.last_equity_micro = self.equity_micro

    def _keep(self, symbol: str, held: Position) -> None:
        if held.lots:
            self.positions[symbol] = held
        else:
            self.positions.pop(symbol, None)

    def _value(self, symbol: str) -> int:
        return self.positions[symbol].lots * self.marks[symbol]

    @property
    def long_micro(self) -> int:
        """Market value of the long positions."""
        return sum(max(self._value(symbol), 0) for symbol in self.positions)

    @property
    def short_micro(self) -> int:
        """Market value of the short positions, negative."""
        return sum(min(self._value(symbol), 0) for symbol in self.positions)

    @property
    def equity_micro(self) -> int:
        """Cash plus positions at their marks, micro-dollars."""
        return self.cash_cents * MICRO_PER_CENT + self.long_micro + self.short_micro

    def buying_power_cents(self, reserved_cents: int) -> int:
        """What may still be opened: (equity - initial margin) x multiplier, or cash for a cash account, less what open orders reserve."""
        gross = self.long_micro - self.short_micro
        if self.settings.multiplier == 1:
            return max(self.cash_cents - reserved_cents, 0)
        return max(cents_of(self.equity_micro * 2 - gross) - reserved_cents, 0)

    def reserve_cents(self, symbol: str, sign: int, lots: int, limit_ticks: int, stop_ticks: int) -> int:
        """What an order that opens or grows a position holds of the buying power, in cents."""
        last = Decimal(self.marks.get(symbol, 0)) / MICRO_PER_CENT
        price = Decimal(limit_ticks) if limit_ticks else (Decimal(stop_ticks) or last) * MARKET_RESERVE
        if sign < 0:
            price = max(price, last * SHORT_RESERVE)
        return int((lots * price).to_integral_value(ROUND_HALF_UP))

    def check(self, symbol: str, sign: int, lots: int, held_for_orders: int, reserve: int, reserved: int) -> None:
        """Refuse an order the account cannot carry: RefusedError 403 with the body Alpaca sends.

        held_for_orders: shares of this position that open orders on the same side already claim. reserve: buying power this order takes,
        reserved: what all others took.
        """
        position = self.lots(symbol)
        if position * sign < 0:
            available = abs(position) - held_for_orders
            if lots > available:
                raise forbidden(
                    f"insufficient qty available for order (requested: {lots}, available: {max(available, 0)})",
                    available=str(max(available, 0)),
                    existing_qty=str(abs(position)),
                    held_for_orders=str(held_for_orders),
                    symbol=symbol,
                )
            return
        if sign < 0 and not self.settings.shorts:
            raise forbidden("account is not allowed to short")
        power = self.buying_power_cents(reserved)
        if reserve > power:
            raise forbidden("insufficient buying power", buying_power=money(power), cost_basis=money(reserve))

    def to_wire(self, reserved_cents: int) -> Json:
        """GET /v2/account."""
        equity, long, short = self.equity_micro, self.long_micro, self.short_micro
        power = money(self.buying_power_cents(reserved_cents))
        return {
            "id": asset_id(f"account:{self.settings.account_key}"),
            "account_number": f"PA{self.settings.seed:05d}{self.settings.account:05d}",
            "status": "ACTIVE",
            "crypto_status": "INACTIVE",
            "currency": "USD",
            "buying_power": power,
            "regt_buying_power": power,
            "non_marginable_buying_power": money(max(self.cash_cents - reserved_cents, 0)),
            "cash": money(self.cash_cents),
            "accrued_fees": "0",
            "pending_transfer_in": "0",
            "pending_transfer_out": "0",
            "portfolio_value": micro_money(equity),
            "equity": micro_money(equity),
            "last_equity": micro_money(self.last_equity_micro),
            "long_market_value": micro_money(long),
            "short_market_value": micro_money(short),
            "initial_margin": micro_money((long - short) // 2),
            "maintenance_margin": micro_money((long - short) * 3 // 10),
            "last_maintenance_margin": "0",
            "sma": "0",
            "multiplier": str(self.settings.multiplier),
            "shorting_enabled": self.settings.shorts,
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": False,
            "created_at": instant(self.created_at),
        }

    def position_to_wire(self, symbol: str, held_for_orders: int) -> Json:
        """GET /v2/positions/{symbol}."""
        held, now = self.positions[symbol], self.marks[symbol]
        before = self.closes.get(symbol, now)
        value, gain, day = held.lots * now, held.lots * now - held.cost_micro, held.lots * (now - before)
        return {
            "asset_id": asset_id(symbol),
            "symbol": symbol,
            "exchange": "NASDAQ",
            "asset_class": "us_equity",
            "asset_marginable": True,
            "qty": str(held.lots),
            "qty_available": str((1 if held.lots > 0 else -1) * max(abs(held.lots) - held_for_orders, 0)),
            "side": "long" if held.lots > 0 else "short",
            "avg_entry_price": micro_price(held.average_micro),
            "market_value": micro_money(value),
            "cost_basis": micro_money(held.cost_micro),
            "unrealized_pl": micro_money(gain),
            "unrealized_plpc": _share(gain, abs(held.cost_micro)),
            "unrealized_intraday_pl": micro_money(day),
            "unrealized_intraday_plpc": _share(day, abs(held.lots * before)),
            "current_price": micro_price(now),
            "lastday_price": micro_price(before),
            "change_today": _share(now - before, before),
        }

    def positions_to_wire(self, held_for_orders: dict[str, int]) -> list[Json]:
        """GET /v2/positions, ascending by symbol."""
        return [self.position_to_wire(symbol, held_for_orders.get(symbol, 0)) for symbol in sorted(self.positions)]

    def state(self) -> dict[str, Any]:
        """Closing books for the state file: cash, positions and marks, and the cash left when the positions are settled at their marks."""
        return {
            "account": self.settings.account,
            "cash": money(self.cash_cents),
            "closing_cash": micro_money(self.equity_micro),
            "positions": {s: {"qty": str(p.lots), "price": micro_price(self.marks[s])} for s, p in sorted(self.positions.items())},
        }


def _share(part: int, whole: int) -> str:
    return f"{Decimal(part) / Decimal(whole):.6f}" if whole else "0"
