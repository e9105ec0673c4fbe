"""What each session of a journal was worth, by instrument: a fold of rows, fills, corporate actions and activities (T12, T36).

Pure: records in, values out. The parts of a name's P&L, for a fill of q signed lots at price p, decided at mid m, with a the attainable
price of the bar it was filled in and c the session's last close:

    alpha  = lots held before x (c - previous close) + q x (c - m)      what the forecast earned, had it traded at the decision's price
    delay  = q x (m - a)                                                what the price did before the order could trade
    cost   = q x (a - p)                                                spread and impact

Fees and what the venue paid differently from what was booked stand under the account itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trading_platform.contracts.activities import FLOWS, PAID_FOR_ACTIONS, SILENT
from trading_platform.contracts.canonical import decode_array
from trading_platform.contracts.journal import Kind, Record
from trading_platform.contracts.panel import TIMEFRAME_NS

ACCOUNT = "(account)"
PARTS = ("alpha", "delay", "cost", "fees", "dividends", "residual")


@dataclass(frozen=True, slots=True)
class Trade:
    """One fill with its three prices: signed lots, paid, decided at (mid of the decision's row), attainable (of the bar of the fill).

    volume: lots traded in that bar, 0 where no bar says it.
    """

    instrument_id: str
    lots: int
    price: float
    decided: float
    attainable: float
    leg: str
    volume: float = 0.0


@dataclass(slots=True)
class SessionAccount:
    """One session. pnl: instrument (or `(account)`) -> part -> quote currency. engine_equity, venue_cash: as the runner journaled them when
    it closed the session, having met the venue (T12); NaN while it is open.

    positions: lots at the end; marks: last closes. flows: deposits less withdrawals. working: open orders at the end.
    """

    session_id: str
    session: int
    equity_before: float = float("nan")
    equity_after: float = float("nan")
    engine_equity: float = float("nan")
    venue_cash: float = float("nan")
    cash: float = float("nan")
    flows: float = 0.0
    rows: int = 0
    decisions: int = 0
    orders: int = 0
    denials: dict[str, int] = field(default_factory=dict)
    breaks: list[str] = field(default_factory=list)
    working: int = 0
    positions: dict[str, int] = field(default_factory=dict)
    marks: dict[str, float] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    pnl: dict[str, dict[str, float]] = field(default_factory=dict)

    def book(self, instrument_id: str, part: str, amount: float) -> None:
        """Add to a part of a name's P&L."""
        parts = self.pnl.setdefault(instrument_id, dict.fromkeys(PARTS, 0.0))
        parts[part] += amount

    @property
    def total(self) -> float:
        """Sum of all parts."""
        return sum(sum(parts.values()) for parts in self.pnl.values())

    @property
    def gross(self) -> float:
        """Sum of |position value| at the end."""
        return sum(abs(lots) * self.marks.get(name, 0.0) for name, lots in self.positions.items())

    @property
    def net(self) -> float:
        """Sum of position value at the end."""
        return sum(lots * self.marks.get(name, 0.0) for name, lots in self.positions.items())


@dataclass(frozen=True, slots=True)
class _Fill:
    instrument_id: str
    lots: int
    price: float
    at: int
    client_order_id: str


@dataclass(frozen=True, slots=True)
class _Bar:
    timestamp: int
    close: float
    attainable: float
    volume: float


class AccountFold:
    """The fold of one journal over its sessions. Feed every record in order; `finished` holds one SessionAccount per session met."""

    def __init__(self, ticks_per_unit: int = 100) -> None:
        self._ticks = ticks_per_unit
        self.finished: dict[str, SessionAccount] = {}
        self.positions: dict[str, int] = {}
        self.marks: dict[str, float] = {}
        self.cash = 0.0
        self._residual = 0.0
        self._open: SessionAccount | None = None
        self._fills: list[_Fill] = []
        self._bars: dict[str, list[_Bar]] = {}
        self._start: dict[str, tuple[int, float]] = {}
        self._decided: dict[str, dict[str, float]] = {}
        self._origin: dict[str, tuple[str, str]] = {}
        self._live: set[str] = set()
        self._filled: dict[str, int] = {}
        self._wanted: dict[str, int] = {}
        self._bar_ns = TIMEFRAME_NS["1Day"]

    def apply(self, record: Record) -> None:
        """Fold one record."""
        body = record.body
        if record.kind is Kind.SESSION_OPENED:
            self._begin(record.session_id, int(body["session"]))
        elif record.kind is Kind.SESSION_CLOSED and self._open is not None:
            # The engine books a corporate action on its ex-date; cash here moves when the venue pays, so the two differ by what is unpaid.
            self._open.engine_equity = float(body["equity"]) + self._residual
            self._open.venue_cash = float(body["cash"])
        elif record.kind is Kind.ACCOUNT:
            self._account(body)
        elif record.kind is Kind.CORPORATE_ACTION:
            self._action(body)
        elif record.kind is Kind.ACTIVITY:
            self._activity(body)
        elif record.kind is Kind.FILL:
            self._fill(body)
        elif record.kind is Kind.ROW:
            self._row(body)
        elif record.kind is Kind.DECISION:
            self._decision(body["decision"])
        elif record.kind is Kind.INTENT:
            self._intent(body)
        elif record.kind is Kind.ORDER_EVENT:
            if body["status"] in ("canceled", "expired", "rejected", "replaced", "denied"):
                self._live.discard(body["client_order_id"])
        elif record.kind is Kind.BREAK and self._open is not None:
            self._open.breaks.append(str(body["what"]))

    def end(self) -> dict[str, SessionAccount]:
        """All sessions, the open one as far as it has come."""
        if self._open is not None:
            self._finish()
        return self.finished

    def _begin(self, session_id: str, session: int) -> None:
        if self._open is not None and self._open.session_id == session_id:
            return  # the same session again, after a restart
        if self._open is not None:
            self._finish()
        self._open = SessionAccount(session_id, session, equity_before=self._equity())
        self._start = {name: (lots, self.marks.get(name, float("nan"))) for name, lots in self.positions.items() if lots}
        self._fills, self._bars = [], {}

    def _equity(self) -> float:
        return self.cash + sum(lots * self.marks[name] for name, lots in self.positions.items() if lots)

    def _account(self, body: Mapping[str, Any]) -> None:
        if body.get("adopted"):
            self.cash, self._residual = float(body["cash"]), 0.0  # the new account owes and is owed nothing
            held = {name: (int(lots), float(cost)) for name, (lots, cost) in body["positions"].items()}
            self.positions = {name: lots for name, (lots, _) in held.items()}
            self.marks |= {name: cost for name, (_, cost) in held.items()}
            self._start = {name: (lots, cost) for name, (lots, cost) in held.items()}
            if self._open is not None:
                self._open.equity_before = self._equity()

    def _action(self, body: Mapping[str, Any]) -> None:
        from trading_platform.market_data.corporate_actions import CorporateAction, apply_to_position  # compiled: not at load

        name = str(body["instrument_id"])
        lots, mark = self.positions.get(name, 0), self.marks.get(name, float("nan"))
        action = CorporateAction(int(body.get("ex_date", 0)), name, float(body["split_ratio"]), float(body["cash_dividend"]))
        if lots:
            after = apply_to_position(lots, mark, 0.0, action, mark)
            paid = after.cash_in_lieu + after.dividend_cash
            self.positions[name] = after.lots
            self._residual -= paid
            if self._open is not None:
                self._open.book(ACCOUNT, "residual", -paid)  # until the venue pays it: cash moves with its activity alone
                # The mark's fall by the split's ratio and the dividend is no loss of the forecast: it is paid in shares and cash.
                self._open.book(name, "dividends", paid)
                self._start[name] = (after.lots, mark * lots / after.lots) if after.lots else (0, mark)
                if after.lots == 0:
                    self._open.book(name, "alpha", -lots * mark)
        if mark == mark:
            self.marks[name] = mark / action.split_ratio

    def _activity(self, body: Mapping[str, Any]) -> None:
        kind, amount = str(body["activity_type"]), float(body.get("net_amount") or 0.0)
        if kind in SILENT:
            return
        self.cash += amount
        self._residual += amount if kind in PAID_FOR_ACTIONS else 0.0
        if self._open is None:
            return
        if kind in FLOWS:
            self._open.flows += amount
        elif kind in PAID_FOR_ACTIONS:
            self._open.book(ACCOUNT, "residual", amount)
        else:
            self._open.book(ACCOUNT, "fees", amount)

    def _fill(self, body: Mapping[str, Any]) -> None:
        name, side = str(body["instrument_id"]), 1 if body["side"] == "buy" else -1
        lots, price = side * int(body["lots"]), float(body["ticks"]) / self._ticks
        self.positions[name] = self.positions.get(name, 0) + lots
        self.cash -= lots * price
        self.marks.setdefault(name, price)
        identity = str(body["client_order_id"])
        self._filled[identity] = self._filled.get(identity, 0) + abs(lots)
        if self._filled[identity] >= self._wanted.get(identity, 0):
            self._live.discard(identity)
        self._fills.append(_Fill(name, lots, price, int(body["at"]), identity))

    def _row(self, body: Mapping[str, Any]) -> None:
        self._bar_ns = TIMEFRAME_NS[str(body["timeframe"])]
        present = decode_array(body["present"])
        fields = {
            name: decode_array(values) for name, values in body["fields"].items() if name in ("high", "low", "close", "vwap", "volume")
        }
        typical = (fields["high"] + fields["low"] + fields["close"]) / 3.0
        vwap = fields.get("vwap", np.full(len(typical), np.nan))
        attainable = np.where(np.isfinite(vwap) & (vwap > 0.0), vwap, typical)
        volume = np.nan_to_num(fields.get("volume", np.zeros(len(typical))))
        for column in np.flatnonzero(present):
            name = str(body["instrument_ids"][column])
            close = float(fields["close"][column])
            bar = _Bar(int(body["timestamp"]), close, float(attainable[column]), float(volume[column]))
            self._bars.setdefault(name, []).append(bar)
            self.marks[name] = close
        if self._open is not None:
            self._open.rows += 1

    def _decision(self, decision: Mapping[str, Any]) -> None:
        self._decided[str(decision["decision_id"])] = dict(self.marks)
        if self._open is not None:
            self._open.decisions += 1
            for code, count in decision["check_counts"].items():
                self._open.denials[code] = self._open.denials.get(code, 0) + int(count)

    def _intent(self, body: Mapping[str, Any]) -> None:
        identity = str(body["client_order_id"])
        self._origin[identity] = (str(body["origin_id"]), str(body["leg"]))
        self._wanted[identity] = int(body["lots"])
        self._live.add(identity)
        if self._open is not None:
            self._open.orders += 1

    def _finish(self) -> None:
        """Close the books of the open session: every fill's three prices, every name's parts."""
        account = self._open
        assert account is not None
        for fill in self._fills:
            account.trades.append(self._trade(fill))
        for name, (lots, before) in self._start.items():
            account.book(name, "alpha", lots * (self.marks[name] - before))
        for trade in account.trades:
            close = self.marks[trade.instrument_id]
            account.book(trade.instrument_id, "alpha", trade.lots * (close - trade.decided))
            account.book(trade.instrument_id, "delay", trade.lots * (trade.decided - trade.attainable))
            account.book(trade.instrument_id, "cost", trade.lots * (trade.attainable - trade.price))
        account.positions = {name: lots for name, lots in sorted(self.positions.items()) if lots}
        account.marks = dict(self.marks)
        account.cash, account.equity_after = self.cash, self._equity()
        account.working = len(self._live)
        self.finished[account.session_id] = account
        self._open = None

    def _trade(self, fill: _Fill) -> Trade:
        origin, leg = self._origin.get(fill.client_order_id, ("", "foreign"))
        bars = self._bars.get(fill.instrument_id, [])
        # The bar a fill lies in ends at or after it; a fill after the session's last bar is measured against that one.
        inside = next((bar for bar in bars if bar.timestamp + self._bar_ns >= fill.at), bars[-1] if bars else None)
        attainable = fill.price if inside is None else inside.attainable
        before = self._start.get(fill.instrument_id, (0, float("nan")))[1]
        decided = self._decided.get(origin, {}).get(fill.instrument_id, before) if leg in ("enter", "reduce") else before
        return Trade(
            fill.instrument_id,
            fill.lots,
            fill.price,
            decided if decided == decided else attainable,
            attainable,
            leg,
            inside.volume if inside else 0.0,
        )


def session_accounts(records: Iterable[Record], ticks_per_unit: int = 100) -> dict[str, SessionAccount]:
    """The accounts of every session of a journal, by session id, in order."""
    fold = AccountFold(ticks_per_unit)
    for record in records:
        fold.apply(record)
    return fold.end()
