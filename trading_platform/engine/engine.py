"""The engine as its users see it: signals and account of one pipeline behind plain Python values.

`decide` is a pure function of state, row, signals and context (I3). `conclude` is the one place that makes a Decision; the backtest's audit
mode uses it too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform import kernel_cache
from trading_platform.contracts import ids
from trading_platform.contracts.checks import CheckCode
from trading_platform.contracts.decision import CheckOutcome, Decision
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.model import Model
from trading_platform.contracts.orders import Leg, OrderType, PlannedOrder, Side, TimeInForce
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Profile
from trading_platform.engine import account as accounts
from trading_platform.engine.account import AccountState, Grid, grid_of
from trading_platform.engine.context import RowContext, row_hash
from trading_platform.engine.decide import decide_row
from trading_platform.engine.rows import DENIED, ENTER, FLATTEN, NOT_APPLIED, REDUCE, Plan, Row, empty_book, empty_plan, numbers_of
from trading_platform.engine.signals import SignalBlock, Signals
from trading_platform.features.program import FeatureSet

LEGS = {ENTER: Leg.ENTER, REDUCE: Leg.REDUCE, FLATTEN: Leg.FLATTEN}
CODE_NAMES = tuple(code.name for code in CheckCode)


@functools.cache
def engine_hash() -> str:
    """sha256 of the sources of features, matching and engine, read once: what the code of this process's decisions was."""
    return kernel_cache.source_hash()


def decision_hashes(profile: Profile, feature_hash: str, given: Mapping[str, str]) -> dict[str, str]:
    """Hashes every decision carries (T37): the caller's (universe, corporate_actions, calendar) and those known here."""
    return {**given, "profile": profile.hash, "limits": profile.limits_hash, "features": feature_hash, "engine": engine_hash()}


def _own(values: NDArray[Any], dtype: type) -> NDArray[Any]:
    """The array as the compiled row wants it; a read-only or strided one would compile a second version of everything."""
    return np.require(values, dtype, ["C", "W"])


def row_inputs(panel_row: Panel, block: SignalBlock, context: RowContext) -> Row:
    """One row's inputs as compiled code reads them. panel_row and block have T = 1."""
    return Row(
        close=_own(panel_row.fields["close"][0], np.float64),
        present=_own(panel_row.present[0], np.bool_),
        member=_own(panel_row.member[0], np.bool_),
        alpha=_own(block.alpha[0], np.float64),
        held=_own(block.held[0], np.bool_),
        ready=_own(block.ready[0], np.bool_),
        volatility=_own(block.volatility[0], np.float64),
        atr=_own(block.atr[0], np.float64),
        quote_mid=_own(context.quote_mid, np.float64),
        quote_age_s=_own(context.quote_age_s, np.float64),
        adv_lots=_own(context.adv_lots, np.float64),
        sector=_own(context.sector, np.int64),
        coverage=float(block.coverage[0]),
        known_at=int(panel_row.known_at[0]),
        session_open=int(context.session_open_ns),
        session_close=int(context.session_close_ns),
        next_open=int(context.next_open_ns),
        kill_level=int(context.kill_level),
        model_age=int(context.model_age_sessions),
        trading_blocked=bool(context.trading_blocked),
    )


def _orders(plan: Plan, instrument_ids: tuple[str, ...]) -> tuple[PlannedOrder, ...]:
    columns = (s for s in plan.sequence[: plan.acting[0]] if plan.approved[s])
    return tuple(
        PlannedOrder(
            instrument_id=instrument_ids[s],
            side=Side.BUY if plan.side[s] > 0 else Side.SELL,
            lots=int(plan.lots[s]),
            order_type=OrderType.MARKET if plan.leg[s] == FLATTEN else OrderType.LIMIT,
            time_in_force=TimeInForce.DAY,
            leg=LEGS[int(plan.leg[s])],
            limit_ticks=int(plan.limit_ticks[s]),
            valid_from=int(plan.valid_from[0]),
            expires_at=int(plan.expires_at[0]),
        )
        for s in columns
    )


def _outcomes(plan: Plan, instrument_ids: tuple[str, ...]) -> tuple[CheckOutcome, ...]:
    return tuple(
        CheckOutcome(
            instrument_id=instrument_ids[s],
            code=CODE_NAMES[code],
            limit=float(plan.limit[s, code]),
            value=float(plan.value[s, code]),
            allowed=bool(plan.outcome[s, code] != DENIED),
        )
        for s in plan.sequence[: plan.acting[0]]
        for code in np.flatnonzero(plan.outcome[s] != NOT_APPLIED)
    )


def conclude(
    panel_row: Panel,
    block: SignalBlock,
    plan: Plan,
    row_digest: str,
    account_digest: str,
    bundle_ids: tuple[str, ...],
    hashes: Mapping[str, str],
) -> Decision:
    """The Decision of one row from its plan. `account_digest` is the state's hash before the row was decided."""
    known_at = int(panel_row.known_at[0])
    return Decision(
        decision_id=ids.decision_id(hashes["engine"], bundle_ids, hashes["profile"], account_digest, row_digest, known_at),
        timeframe=panel_row.timeframe,
        timestamp=int(panel_row.timestamp[0]),
        known_at=known_at,
        session=int(panel_row.session[0]),
        instrument_ids=panel_row.instrument_ids,
        row_hash=row_digest,
        account_state_hash=account_digest,
        bundle_ids=bundle_ids,
        hashes=dict(hashes),
        coverage=float(block.coverage[0]),
        equity=float(plan.equity[0]),
        alpha=block.alpha[0].copy(),
        exposure=plan.exposure.copy(),
        position=plan.position.copy(),
        target=plan.target.copy(),
        orders=_orders(plan, panel_row.instrument_ids),
        checks=_outcomes(plan, panel_row.instrument_ids),
        check_counts={CODE_NAMES[code]: int(plan.denied[code]) for code in np.flatnonzero(plan.denied)},
    )


class Engine:
    """One pipeline's engine. Its account changes only through the `apply_*`, `set_*`, `start_session` and `decide` methods.

    instruments: strictly ascending by instrument_id, the axis of every array. model None: nothing active, nothing is opened. hashes: of
    universe, corporate_actions and calendar (T37). cash: quote currency the account starts with.
    """

    def __init__(
        self,
        profile: Profile,
        instruments: tuple[Instrument, ...],
        timeframe: str,
        feature_set: FeatureSet,
        model: Model | None,
        hashes: Mapping[str, str],
        cash: float = 0.0,
    ) -> None:
        self.profile = profile
        self.instruments = instruments
        self.instrument_ids = tuple(instrument.instrument_id for instrument in instruments)
        self.timeframe = timeframe
        self.grid: Grid = grid_of(instruments)
        self.hashes = decision_hashes(profile, feature_set.hash, hashes)
        self.signals = Signals(profile, feature_set, model, self.instrument_ids)
        self.account: AccountState = accounts.empty_account(len(instruments), cash)
        self._column = {name: s for s, name in enumerate(self.instrument_ids)}
        self._numbers = numbers_of(profile, timeframe)
        self._plan = empty_plan(len(instruments))
        self._book = empty_book(len(instruments))

    def _at(self, instrument_id: str) -> int:
        if instrument_id not in self._column:
            raise InputError(f"{instrument_id} is not on the engine's axis", "engine.Engine", "publish a universe that holds it")
        return self._column[instrument_id]

    def decide(self, panel_row: Panel, block: SignalBlock, context: RowContext) -> Decision:
        """Conclude one closed row (T = 1 panel and block of this axis) and return the Decision; its orders are not yet anywhere.

        Marks, the session's high, the order count and entries' atr of the account change; positions and cash do not.
        """
        if panel_row.shape != (1, len(self.instruments)) or panel_row.instrument_ids != self.instrument_ids:
            raise InputError(f"a panel of {panel_row.shape} with other instruments", "Engine.decide", "give one row of the engine's axis")
        row = row_inputs(panel_row, block, context.check(len(self.instruments)))
        account_digest = self.state_hash()
        decide_row(self.account, row, self._numbers, self.grid, self._plan, self._book)
        bundle_ids = () if self.signals.model is None else (self.signals.model.bundle_id,)
        return conclude(panel_row, block, self._plan, row_hash(panel_row, context), account_digest, bundle_ids, self.hashes)

    def apply_fill(self, instrument_id: str, side: Side, lots: int, price_ticks: float, leg: Leg) -> None:
        """Fold one fill: lots > 0 at a price in ticks (a sub-tick price is a fraction). A PROTECT fill that ends flat is a stop-out."""
        if lots <= 0 or not price_ticks > 0.0:
            raise InputError(f"a fill of {lots} lots at {price_ticks} ticks", instrument_id, "check the execution report")
        s = self._at(instrument_id)
        accounts.apply_fill(self.account, s, side.sign, lots, float(price_ticks), self.grid, self._numbers.stop_atr, leg is Leg.PROTECT)

    def apply_cash(self, amount: float) -> None:
        """Fold a fee, interest or dividend correction; quote currency, positive when received."""
        accounts.apply_cash(self.account, float(amount))

    def apply_flow(self, amount: float) -> None:
        """Fold a deposit (+) or withdrawal (-): no gain, no drawdown (T12)."""
        accounts.apply_flow(self.account, float(amount))

    def apply_action(self, instrument_id: str, split_ratio: float, dividend: float) -> float:
        """Fold a corporate action before its ex-date's open (before `start_session`); return the cash it moved (T10)."""
        return float(accounts.apply_action(self.account, self._at(instrument_id), float(split_ratio), float(dividend), self.grid))

    def start_session(self, session: int) -> None:
        """First row of a session (days since 1970-01-01), after its corporate actions: drawdown and counters start here."""
        accounts.start_session(self.account, int(session), self.grid)

    def set_working(self, instrument_id: str, side: Side, lots: int) -> None:
        """State how many lots of open orders of one side are not protective, UNKNOWN ones included: the whole number, not a change."""
        target = self.account.working_buy if side is Side.BUY else self.account.working_sell
        target[self._at(instrument_id)] = lots

    def set_unknown(self, instrument_id: str, unknown: bool) -> None:
        """An order of this instrument is UNKNOWN (I6), or no longer."""
        self.account.unknown[self._at(instrument_id)] = unknown

    def set_hands_off(self, instrument_id: str, hands_off: bool) -> None:
        """Someone else trades this instrument, or it is exit-only (T10, T18); an operator takes it back."""
        self.account.hands_off[self._at(instrument_id)] = hands_off

    def set_naked(self, instrument_id: str, lots: int) -> None:
        """Lots of the position that the venue is known not to cover with a stop (T16)."""
        self.account.naked[self._at(instrument_id)] = lots

    def desired_protection(self) -> list[tuple[str, int, int]]:
        """(instrument_id, lots, stop_ticks) of every protective stop the venue should hold now, ascending by id.

        lots = |position| - working reductions: the venue holds shares per sell order. The stop sells a long and buys a short back.
        """
        state = self.account
        reductions = np.where(state.position > 0, state.working_sell, state.working_buy)
        lots = np.maximum(np.abs(state.position) - reductions, 0)
        columns = np.flatnonzero((lots > 0) & (state.stop_ticks > 0))
        return [(self.instrument_ids[s], int(lots[s]), int(state.stop_ticks[s])) for s in columns]

    def equity(self) -> float:
        """Cash plus positions at the last good marks, quote currency."""
        return float(accounts.equity_of(self.account, self.grid.lots_per_unit))

    def position(self, instrument_id: str) -> int:
        """Signed lots held."""
        return int(self.account.position[self._at(instrument_id)])

    def gross(self) -> float:
        """Sum of |position| at the last good marks, quote currency."""
        state = self.account
        marks = np.where(np.isfinite(state.mark), state.mark, state.avg_cost)
        return float(np.sum(np.abs(state.position) / self.grid.lots_per_unit * marks))

    def row_hash(self, panel_row: Panel, context: RowContext) -> str:
        """Content hash of a row's inputs."""
        return row_hash(panel_row, context)

    def engine_hash(self) -> str:
        """Hash of the code that decides."""
        return self.hashes["engine"]

    def state_hash(self) -> str:
        """sha256 of the account's canonical bytes."""
        return accounts.state_hash(self.account, self.instrument_ids)

    def account_bytes(self) -> bytes:
        """The account as canonical bytes, for a fold snapshot."""
        return accounts.to_bytes(self.account, self.instrument_ids)

    def load_account(self, data: bytes) -> None:
        """Take over a fold snapshot, re-indexed to this axis. CorruptionError if damaged or if a held instrument is not on the axis."""
        self.account = accounts.from_bytes(data, self.instrument_ids)

    def limits(self) -> dict[str, float]:
        """The numbers in force, by name: what a person asks `live-runner limits` for."""
        return self._numbers._asdict()


def protective_side(position: int) -> Side:
    """Side of the stop that protects a signed position."""
    return Side.SELL if position > 0 else Side.BUY
