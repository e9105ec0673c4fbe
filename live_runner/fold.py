"""Everything the runner knows, as a fold of its journal: the live path and a restart apply the same records.

Rows are stepped through the signals, decisions are made again and compared; fills, actions and cash go through the engine's account.
Nothing here sends, reads or waits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live_runner.control import GUARD, command_of
from live_runner.loss_limit import LossLimit
from live_runner.orders import LiveOrder, OrderBook
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.activities import FLOWS, PAID_FOR_ACTIONS, SILENT
from trading_platform.contracts.canonical import canonical_bytes, content_hash, decode_array
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.instruments import Instrument, lots_of
from trading_platform.contracts.journal import Kind, Record, packed, unpacked
from trading_platform.contracts.journaled_row import panel_of
from trading_platform.contracts.ledger import GENESIS
from trading_platform.contracts.model import Model
from trading_platform.contracts.orders import Command, Leg, OrderStatus, Side
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Profile
from trading_platform.contracts.session_inputs import SessionInputs, decode_actions
from trading_platform.engine.account import empty_account
from trading_platform.engine.context import RowContext
from trading_platform.engine.engine import Engine
from trading_platform.engine.signals import SignalBlock
from trading_platform.features.catalog.registry import feature_set
from trading_platform.market_data.corporate_actions import ActionTable, CorporateAction, FactorState

SNAPSHOT_FORMAT = "runner-fold-1"
ModelLoader = Callable[[str, str], Model | None]


@dataclass(frozen=True, slots=True)
class ActiveModel:
    """What a slot runs: label and bundle id; empty strings for none."""

    label: str = ""
    bundle_id: str = ""


class Fold:
    """State of one account and pipeline. `load_model(label, bundle_id)` fetches the bundle of a journaled swap."""

    def __init__(self, engine: Engine, factors: FactorState, instruments: tuple[Instrument, ...], load_model: ModelLoader) -> None:
        self.engine = engine
        self.factors = factors
        self.instruments = {instrument.instrument_id: instrument for instrument in instruments}
        self._load_model = load_model
        self.book = OrderBook()
        self.level = KillLevel.NONE
        self.latched_by = ""  # the command that latched it last
        self.active = ActiveModel()
        self.previous = ActiveModel()
        self.failed: set[str] = set()  # labels that the runner itself has given up since the last swap a person or a publisher asked for
        self.barred: set[str] = set()  # entries, by client id, whose bundle lost its authority before they were sent
        self.ledger_head = GENESIS
        self.venue_account = ""
        self.last_activity = ""
        self.residual = 0.0  # paid by the venue for corporate actions, less what we booked: its rounding, or a payment still to come
        self.session = -1
        self.actions_until = -1  # ex-date of the newest corporate action folded
        self.session_id = ""
        self.session_number = 0
        self.in_session = False
        self.last_row = -1
        self.carried = False  # rows and models of another feature version or axis lie behind: the account counts, the signals start anew
        self.protect_origin: dict[str, str] = {}
        self.commands: set[str] = set()
        self.losses = LossLimit(engine.profile.limits.max_daily_drawdown)
        self.breaks: list[str] = []
        self.divergences: list[str] = []
        self.row: tuple[Panel, SignalBlock, RowContext] | None = None

    def apply(self, record: Record, decided: bool = False) -> None:
        """Fold one record. `decided`: the caller has stepped this row and made this decision already (the live path)."""
        body, kind = record.body, record.kind
        if kind is Kind.ROW:
            self._row(body, decided)
        elif kind is Kind.DECISION:
            self._decision(record, decided)
        elif kind is Kind.INTENT:
            self._touched(self.book.add_intent(body, record.at))
        elif kind is Kind.ORDER_EVENT:
            self._touched(self.book.add_event(body))
        elif kind is Kind.FILL:
            self._fill(body)
        elif kind is Kind.ACTIVITY:
            self._activity(body)
        elif kind is Kind.CORPORATE_ACTION:
            self.actions_until = max(self.actions_until, int(body["ex_date"]))
            self.residual -= float(
                self.engine.apply_action(body["instrument_id"], float(body["split_ratio"]), float(body["cash_dividend"]))
            )
        elif kind is Kind.SESSION_OPENED:
            self.session, self.session_id = int(body["session"]), record.session_id
            self.session_number, self.in_session = int(body["number"]), True
        elif kind is Kind.SESSION_CLOSED:
            self.in_session = False
        elif kind is Kind.STATE and record.key == "session_started":
            self.engine.start_session(int(body["session"]))
            self.losses.start(self.engine.equity())
        elif kind is Kind.STATE and record.key == "loss_limit":
            self.losses.spent = True
        elif kind is Kind.ACCOUNT and body.get("adopted"):
            self._adopt(body)
        elif kind is Kind.COMMAND and not body.get("refused"):
            self._command(command_of(body))
        elif kind is Kind.LATCH:
            self.level, self.latched_by = KillLevel[body["level"]], str(body.get("command_id", ""))
        elif kind is Kind.SWAP:
            self._swap(body)
        elif kind is Kind.SWAP_REFUSED:
            self._refused(body)
        elif kind is Kind.STATE and record.key == "authority":
            self.ledger_head = body.get("ledger_head", self.ledger_head)
        elif kind is Kind.BREAK:
            self._break(body)
        elif kind is Kind.SNAPSHOT and record.key == "signals":
            self._signals(body)

    # ------------------------------------------------------------------ rows

    def _row(self, body: Mapping[str, Any], decided: bool) -> None:
        panel = panel_of(body)
        self.carried = self.carried or panel.instrument_ids != self.engine.instrument_ids
        self.last_row = max(self.last_row, int(panel.timestamp[0]))
        if self.carried:
            self.row = None
            return
        self.factors.open_row(int(panel.session[0]))
        if not decided:
            self.note_naked()
            block = self.engine.signals.step(panel, failed=body.get("inference") == "failed")
            self.row = (panel, block, context_of(body["context"]))
        self.factors.close_row(panel.fields["close"][0], panel.present[0])

    def uncovered(self) -> dict[str, int]:
        """Lots held that no order working at the venue would close, by instrument; what is covered is left out (T16)."""
        left = {name: abs(lots) for name, lots in self.positions().items()}
        for order in self.book.open_orders():
            name = order.intent.instrument_id
            closes = order.intent.side.sign * self.position(name) < 0
            if closes and order.status in (OrderStatus.WORKING, OrderStatus.PARTIALLY_FILLED):
                left[name] -= order.open_lots
        return {name: lots for name, lots in left.items() if lots > 0}

    def note_naked(self) -> None:
        """Tell the engine which lots are uncovered; called before each decision, so it is a function of the records (T16)."""
        naked, state = self.uncovered(), self.engine.account
        for column in np.flatnonzero((state.position != 0) | (state.naked != 0)):
            name = self.engine.instrument_ids[column]
            self.engine.set_naked(name, naked.get(name, 0))

    def _decision(self, record: Record, decided: bool) -> None:
        if self.carried:
            return
        if self.row is None:
            raise CorruptionError(f"decision {record.key} has no row", "journal", "stop and verify the journal")
        if not decided and self.engine.decide(*self.row).to_bytes() != canonical_bytes(record.body["decision"]):
            self.divergences.append(record.key)
        panel, _, context = self.row
        self.losses.mark(panel, context, self.engine)

    # ---------------------------------------------------------------- orders

    def _touched(self, order: LiveOrder | None) -> None:
        if order is None:
            return
        name = order.intent.instrument_id
        mine = self.book.open_of(name)
        for side in Side:
            self.engine.set_working(name, side, sum(o.open_lots for o in mine if o.intent.side is side and not o.protects))
        self.engine.set_unknown(name, any(o.status is OrderStatus.UNKNOWN for o in mine))

    def _fill(self, body: Mapping[str, Any]) -> None:
        name, side, lots = body["instrument_id"], Side(body["side"]), int(body["lots"])
        before = self.position(name)
        order = self.book.add_fill(body)
        leg = order.intent.leg if order is not None else (Leg.ENTER if before * side.sign >= 0 else Leg.REDUCE)
        self.engine.apply_fill(name, side, lots, float(body["ticks"]), leg)
        after = self.position(name)
        if before == 0 or before * after < 0:
            self.protect_origin[name] = order.intent.origin_id if order is not None else str(body["execution_id"])
        if after == 0:
            self.protect_origin.pop(name, None)
        self._touched(order)
        if order is None:
            self.engine.set_hands_off(name, True)

    def position(self, instrument_id: str) -> int:
        """Signed lots held."""
        return self.engine.position(instrument_id)

    def positions(self) -> dict[str, int]:
        """Signed lots of every instrument held."""
        lots = self.engine.account.position
        return {self.engine.instrument_ids[s]: int(lots[s]) for s in np.flatnonzero(lots)}

    def hands_off(self) -> frozenset[str]:
        """Instruments that someone else trades, or whose position we did not open: only an operator acts on them (T18)."""
        return frozenset(self.engine.instrument_ids[s] for s in np.flatnonzero(self.engine.account.hands_off))

    @property
    def cash(self) -> float:
        """What the venue's cash should be."""
        return float(self.engine.account.cash[0]) + self.residual

    # ------------------------------------------------------------- the rest

    def _activity(self, body: Mapping[str, Any]) -> None:
        self.last_activity = str(body["id"])
        kind, amount = str(body["activity_type"]), float(body.get("net_amount") or 0.0)
        if kind == "FILL":
            self.book.read_fill(str(body["order_id"]), lots_of(str(body["cum_qty"])))
        if kind in PAID_FOR_ACTIONS:
            self.residual += amount
        elif kind in FLOWS:
            self.engine.apply_flow(amount)
            self.losses.flow(amount)
        elif kind not in SILENT:
            self.engine.apply_cash(amount)

    def _adopt(self, body: Mapping[str, Any]) -> None:
        """The venue's account as found at the first connection: the fold begins here, and no fill is invented for what it holds."""
        names = self.engine.signals.instrument_ids
        state = empty_account(len(names), float(body["cash"]))
        for name, (lots, cost) in body["positions"].items():
            column = names.index(name)
            state.position[column], state.avg_cost[column], state.hands_off[column] = int(lots), float(cost), True
            state.mark[column] = float(cost)
            self.protect_origin[name] = str(body["venue_account"])
        self.engine.account = state
        self.losses.start(self.engine.equity())
        self.book = OrderBook()
        self.venue_account, self.last_activity = str(body["venue_account"]), str(body["last_activity"])
        self.residual, self.session, self.in_session, self.last_row, self.actions_until = 0.0, -1, False, -1, -1
        self.active = self.previous = ActiveModel()
        self.failed, self.barred = set(), set()
        self.engine.signals.swap(None)
        self.row = None
        self.breaks.clear()

    def _command(self, command: Command) -> None:
        self.commands.add(command.command_id)
        name = dict(command.arguments).get("instrument_id", "")
        if command.name == "hands_on" and name in self.instruments:
            self.engine.set_hands_off(name, False)
        if command.name == "resume":
            self.breaks.clear()

    def _swap(self, body: Mapping[str, Any]) -> None:
        active = ActiveModel(body.get("label", ""), body.get("bundle_id", ""))
        self.engine.signals.swap(self._model(active))
        self.previous, self.active = self.active, active
        self.failed = self.failed | {str(body["replaces"])} if body.get("by") == GUARD else set()
        self.ledger_head = body.get("ledger_head", self.ledger_head)

    def _model(self, active: ActiveModel) -> Model | None:
        """The bundle of a slot; None for none, and for one of another feature version: the next look at its authority gives it up."""
        model = self._load_model(active.label, active.bundle_id) if active.bundle_id else None
        return model if model is not None and model.config.feature_hash == self.engine.signals.feature_set.hash else None

    def _refused(self, body: Mapping[str, Any]) -> None:
        if self.active.bundle_id and body.get("bundle_id") == self.active.bundle_id:
            self.barred = {order.intent.client_order_id for order in self.book.open_orders() if order.intent.leg is Leg.ENTER}

    def _break(self, body: Mapping[str, Any]) -> None:
        self.breaks.append(str(body["what"]))
        if body.get("instrument_id") in self.instruments:
            self.engine.set_hands_off(body["instrument_id"], True)

    def _signals(self, body: Mapping[str, Any]) -> None:
        self.carried = body.get("features") != self.engine.signals.feature_set.hash
        if not self.carried:
            self.engine.signals.load_state(unpacked(body["signals"]))
            self.factors.load_state(unpacked(body["factors"]))

    @property
    def stepped(self) -> int:
        """Timestamp of the newest row in the signals' state, 0 for none: that of `last_row`, or an earlier one where signals start anew."""
        return self.engine.signals.program.last_timestamp

    # ------------------------------------------------------------ snapshots

    def signals_body(self) -> dict[str, Any]:
        """State of signals and factors, for a SNAPSHOT record with key `signals`."""
        state = {"signals": packed(self.engine.signals.state_bytes()), "factors": packed(self.factors.state_bytes())}
        return {**state, "features": self.engine.signals.feature_set.hash}

    def hash(self) -> str:
        """Hash of the account's fold."""
        return content_hash(self._account())

    def _account(self) -> dict[str, Any]:
        account = self.engine.account_bytes().decode()
        return {"account": account, "residual": self.residual, "last_activity": self.last_activity, "level": self.level.name}

    def to_body(self) -> dict[str, Any]:
        """The whole fold, for a SNAPSHOT record with key `fold`: a start reads it instead of everything before."""
        kept = {name for name, lots in self.positions().items() if lots}
        return {
            "format": SNAPSHOT_FORMAT,
            **self._account(),
            **self.signals_body(),
            "book": self.book.to_body(kept),
            "active": [self.active.label, self.active.bundle_id],
            "previous": [self.previous.label, self.previous.bundle_id],
            "failed": sorted(self.failed),
            "barred": sorted(self.barred),
            "ledger_head": self.ledger_head,
            "venue_account": self.venue_account,
            "session": self.session,
            "actions_until": self.actions_until,
            "session_id": self.session_id,
            "session_number": self.session_number,
            "in_session": self.in_session,
            "last_row": self.last_row,
            "protect_origin": self.protect_origin,
            "losses": self.losses.to_body(),
            "breaks": self.breaks,
        }

    def load_body(self, body: Mapping[str, Any]) -> None:
        """Take over `to_body`. CorruptionError for another format."""
        if body.get("format") != SNAPSHOT_FORMAT:
            raise CorruptionError(f"snapshot format {body.get('format')!r}", "journal", "start with the runner that wrote it")
        self.engine.load_account(body["account"].encode())
        self.active, self.previous = ActiveModel(*body["active"]), ActiveModel(*body["previous"])
        self.failed, self.barred = set(body.get("failed", ())), set(body.get("barred", ()))
        self.engine.signals.swap(self._model(self.active))
        self._signals(body)
        self.losses.start(self.engine.equity())
        self.losses.load_body(body.get("losses", {}))
        self.book = OrderBook.from_body(body["book"])
        self.level = KillLevel[body["level"]]
        for name in (
            "residual",
            "last_activity",
            "ledger_head",
            "venue_account",
            "session",
            "session_id",
            "session_number",
            "in_session",
            "last_row",
        ):
            setattr(self, name, body[name])
        self.protect_origin, self.breaks = dict(body["protect_origin"]), list(body["breaks"])


def action_table(inputs: SessionInputs, lake: Path) -> ActionTable:
    """The published corporate actions."""
    return ActionTable([CorporateAction(*row) for row in decode_actions(inputs.corporate_actions.read(lake))])


def build_fold(inputs: SessionInputs, actions: ActionTable, calendar: MarketCalendar, profile: Profile, load_model: ModelLoader) -> Fold:
    """An empty fold for a pipeline's published inputs. InputError where the features here are not those that were published."""
    features = feature_set(inputs.feature_set)
    if features.hash != inputs.feature_hash:
        what = f"features {inputs.feature_set} are {features.hash[:12]}, published {inputs.feature_hash[:12]}"
        raise InputError(what, inputs.pipeline, "publish the session's inputs again with this version")
    # A universe's hash is that of its published bytes, which were verified when they were read; hashing it again costs a second.
    hashes = {"universe": inputs.universe.sha256, "corporate_actions": actions.hash, "calendar": calendar.hash}
    engine = Engine(profile, inputs.instruments, inputs.timeframe, features, None, hashes)
    return Fold(engine, FactorState(actions, engine.instrument_ids), inputs.instruments, load_model)


def context_of(body: Mapping[str, Any]) -> RowContext:
    """The context of a journaled row, to the bit."""
    plain: dict[str, Any] = {name: decode_array(value) if isinstance(value, dict) else value for name, value in body.items()}
    try:
        return RowContext(**plain)
    except TypeError as error:
        raise CorruptionError(f"not a row's context: {error}", "journal", "replay with the runner that wrote it") from error


def context_body(context: RowContext) -> dict[str, Any]:
    """The journal's form of a context."""
    return {name: getattr(context, name) for name in RowContext.__dataclass_fields__}
