"""`run`: a backtest of one pipeline with every check on, and with `audit` the same Decisions, byte for byte, that the live engine makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.backtest import loop
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.checks import CheckCode
from trading_platform.contracts.decision import Decision
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.orders import Leg
from trading_platform.contracts.panel import TIMEFRAME_NS, Panel
from trading_platform.contracts.profile import Profile
from trading_platform.engine import account as accounts
from trading_platform.engine.account import AccountState, Grid, grid_of
from trading_platform.engine.context import RowContext, average_volume_lots, check_sectors, quotes_from_bars, row_hash
from trading_platform.engine.decide import decide_row
from trading_platform.engine.engine import conclude, decision_hashes
from trading_platform.engine.rows import CODES, ENTER, FLATTEN, REDUCE, Book, Numbers, Plan, empty_book, empty_plan, numbers_of
from trading_platform.engine.signals import SignalBlock
from trading_platform.market_data.corporate_actions import CorporateAction
from trading_platform.matching.price import bar_arrays

CHUNK_ROWS = 64
SESSION_MINUTES = 390
FILL_DTYPE = np.dtype(
    [
        ("row", np.int64),
        ("column", np.int64),
        ("at", np.int64),
        ("valid_from", np.int64),
        ("side", np.int64),
        ("lots", np.int64),
        ("ticks", np.int64),
        ("leg", np.int64),
    ]
)
LEG_OF = {ENTER: Leg.ENTER, REDUCE: Leg.REDUCE, FLATTEN: Leg.FLATTEN, loop.PROTECT: Leg.PROTECT}


@dataclass(frozen=True, slots=True)
class Sessions:
    """Times of each row's session, int64 (T,) UTC ns: its open and close, and the open of the session after it."""

    open_ns: NDArray[np.int64]
    close_ns: NDArray[np.int64]
    next_open_ns: NDArray[np.int64]

    @classmethod
    def of(cls, panel: Panel, calendar: MarketCalendar) -> Sessions:
        """Look the rows' sessions up in a calendar. InputError if one of them is not a session."""
        days, inverse = np.unique(panel.session, return_inverse=True)
        following = np.array([calendar.next_session(int(day)) for day in days], dtype=np.int64)
        return cls(calendar.opens_ns(days)[inverse], calendar.closes_ns(days)[inverse], calendar.opens_ns(following)[inverse])


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """Curves f8 (T,): equity in quote currency, returns (fractions, net of all modelled costs), gross and turnover (fractions of equity).

    fills: structured (FILL_DTYPE): row and column of the panel, at and valid_from in UTC ns (0 for a stop), side +1 or -1, lots, ticks, leg
    (a key of LEG_OF). check_counts: orders refused by each code over the run. decisions: one per row in audit mode, otherwise empty.
    """

    equity: NDArray[np.float64]
    returns: NDArray[np.float64]
    gross: NDArray[np.float64]
    turnover: NDArray[np.float64]
    fills: NDArray[np.void]
    check_counts: dict[str, int]
    decisions: tuple[Decision, ...]
    account: AccountState


def _optional(values: NDArray[Any] | None, shape: tuple[int, ...], default: float, dtype: type, name: str) -> NDArray[Any]:
    if values is None:
        return np.full(shape, default, dtype)
    if values.shape != shape:
        raise InputError(f"{name} has shape {values.shape}", "backtest.run", f"give {shape}")
    return np.require(values, dtype, ["C", "W"])


def _market(panel: Panel, sessions: Sessions, grid: Grid) -> loop.Market:
    open_, high, low, close, vwap = (np.require(values, np.float64, ["C", "W"]) for values in bar_arrays(panel))
    bar_end = sessions.close_ns if panel.timeframe == "1Day" else panel.timestamp + TIMEFRAME_NS[panel.timeframe]
    volume = np.where(panel.present, panel.fields["volume"], 0.0) * grid.lots_per_unit.astype(np.float64)
    return loop.Market(
        open_, high, low, close, vwap, volume, np.require(panel.present, np.bool_, ["C", "W"]), panel.session.copy(), bar_end.copy()
    )


def _actions(actions: Sequence[CorporateAction], panel: Panel) -> loop.Actions:
    column = {name: s for s, name in enumerate(panel.instrument_ids)}
    first = int(panel.session[0])
    kept = sorted(action for action in actions if action.instrument_id in column and action.ex_date >= first)
    return loop.Actions(
        np.array([action.ex_date for action in kept], np.int64),
        np.array([column[action.instrument_id] for action in kept], np.int64),
        np.array([action.split_ratio for action in kept], np.float64),
        np.array([action.cash_dividend for action in kept], np.float64),
        np.zeros(1, np.int64),
    )


def daily_volume_lots(panel: Panel, grid: Grid) -> NDArray[np.float64]:
    """Average lots per session, f8 (T, S), from the last 20 bars; intraday bars are scaled to a full session of 390 minutes."""
    per_session = SESSION_MINUTES * 60e9 / TIMEFRAME_NS[panel.timeframe] if panel.timeframe != "1Day" else 1.0
    return average_volume_lots(panel, grid.lots_per_unit) * per_session


def _inputs(
    panel: Panel,
    block: SignalBlock,
    sessions: Sessions,
    grid: Grid,
    sector: NDArray[np.int64] | None,
    adv_lots: NDArray[np.float64] | None,
    model_age: NDArray[np.int64] | None,
    kill_level: NDArray[np.int64] | None,
) -> loop.RowInputs:
    rows, width = panel.shape
    mid, age = quotes_from_bars(panel, sessions.close_ns)
    sectors = _optional(sector, (width,), -1, np.int64, "sector")
    check_sectors(sectors)
    return loop.RowInputs(
        member=np.require(panel.member, np.bool_, ["C", "W"]),
        alpha=np.require(block.alpha, np.float64, ["C", "W"]),
        held=np.require(block.held, np.bool_, ["C", "W"]),
        ready=np.require(block.ready, np.bool_, ["C", "W"]),
        volatility=np.require(block.volatility, np.float64, ["C", "W"]),
        atr=np.require(block.atr, np.float64, ["C", "W"]),
        quote_mid=mid,
        quote_age_s=age,
        adv_lots=daily_volume_lots(panel, grid) if adv_lots is None else _optional(adv_lots, (rows, width), np.nan, np.float64, "adv_lots"),
        sector=sectors,
        coverage=block.coverage.copy(),
        known_at=panel.known_at.copy(),
        session_open=sessions.open_ns.copy(),
        session_close=sessions.close_ns.copy(),
        next_open=sessions.next_open_ns.copy(),
        kill_level=_optional(kill_level, (rows,), 0, np.int64, "kill_level"),
        model_age=_optional(model_age, (rows,), 0, np.int64, "model_age"),
    )


def _context(inputs: loop.RowInputs, t: int) -> RowContext:
    return RowContext(
        quote_mid=inputs.quote_mid[t],
        quote_age_s=inputs.quote_age_s[t],
        session_open_ns=int(inputs.session_open[t]),
        session_close_ns=int(inputs.session_close[t]),
        next_open_ns=int(inputs.next_open[t]),
        sector=inputs.sector,
        adv_lots=inputs.adv_lots[t],
        kill_level=int(inputs.kill_level[t]),
        model_age_sessions=int(inputs.model_age[t]),
    )


def _check(panel: Panel, block: SignalBlock, instruments: Sequence[Instrument], sessions: Sessions) -> None:
    if tuple(instrument.instrument_id for instrument in instruments) != panel.instrument_ids:
        raise InputError("the instruments are not the panel's columns", "backtest.run", "give one instrument per column in the same order")
    if panel.shape[0] == 0 or block.alpha.shape != panel.shape:
        raise InputError(
            f"signals of {block.alpha.shape} for a panel of {panel.shape}", "backtest.run", "step the signals over the same rows"
        )
    for name in ("open_ns", "close_ns", "next_open_ns"):
        if getattr(sessions, name).shape != (panel.shape[0],):
            raise InputError(f"sessions.{name} has shape {getattr(sessions, name).shape}", "backtest.run", "give one time per row")


def _fill_array(log: loop.FillLog, market: loop.Market) -> NDArray[np.void]:
    count = int(log.used[0])
    out = np.empty(count, FILL_DTYPE)
    for name in ("row", "column", "side", "lots", "ticks", "leg", "valid_from"):
        out[name] = getattr(log, name)[:count]
    out["at"] = market.bar_end[out["row"]]
    log.used[0] = 0
    return out


@dataclass(frozen=True, slots=True)
class _Floor:
    """Everything the compiled loop writes or keeps during one run."""

    state: AccountState
    plan: Plan
    book: Book
    desk: loop.Desk
    log: loop.FillLog
    curves: loop.Curves
    actions: loop.Actions
    numbers: Numbers
    grid: Grid
    costs: NDArray[np.float64]
    fee: float

    @classmethod
    def empty(cls, profile: Profile, grid: Grid, numbers: Numbers, actions: loop.Actions, shape: tuple[int, int], cash: float) -> _Floor:
        rows, width = shape
        return cls(
            state=accounts.empty_account(width, cash),
            plan=empty_plan(width),
            book=empty_book(width),
            desk=loop.empty_desk(),
            log=loop.empty_log(2 * width * min(rows, CHUNK_ROWS)),
            curves=loop.Curves(np.zeros(rows), np.zeros(rows), np.zeros(rows), np.zeros(CODES, np.int64)),
            actions=actions,
            numbers=numbers,
            grid=grid,
            costs=np.array([profile.costs.half_spread_bps, profile.costs.impact_bps, profile.costs.participation], np.float64),
            fee=float(profile.costs.fee_per_share),
        )

    def run(self, first: int, stop: int, market: loop.Market, inputs: loop.RowInputs) -> None:
        """Rows first..stop-1 in one compiled call."""
        settings = (self.numbers, self.grid, self.costs, self.fee)
        loop.run_rows(
            first, stop, self.state, market, inputs, self.actions, self.plan, self.book, *settings, self.desk, self.log, self.curves
        )


@dataclass(frozen=True, slots=True)
class _Auditor:
    """Runs the same row functions one by one and makes each row's Decision."""

    panel: Panel
    block: SignalBlock
    models_schedule: Sequence[tuple[int, tuple[str, ...]]]
    hashes: Mapping[str, str]

    def row(self, t: int, floor: _Floor, market: loop.Market, inputs: loop.RowInputs) -> Decision:
        """Row t, as `loop.run_rows` does it, and its Decision."""
        state, plan, numbers, grid = floor.state, floor.plan, floor.numbers, floor.grid
        traded = loop.advance_row(state, t, market, floor.actions, plan, numbers, grid, floor.costs, floor.fee, floor.desk, floor.log)
        digest = accounts.state_hash(state, self.panel.instrument_ids)
        decide_row(state, loop.row_at(t, market, inputs), numbers, grid, plan, floor.book)
        loop.record_row(state, t, traded, plan, grid, floor.curves)
        bundles = next((ids for row, ids in reversed(self.models_schedule) if row <= t), ())
        row = self.panel.rows(t, t + 1)
        return conclude(row, self.block.rows(t, t + 1), plan, row_hash(row, _context(inputs, t)), digest, bundles, self.hashes)


def run(
    profile: Profile,
    panel: Panel,
    block: SignalBlock,
    sessions: Sessions,
    actions: Sequence[CorporateAction],
    instruments: Sequence[Instrument],
    starting_cash: float,
    *,
    sector: NDArray[np.int64] | None = None,
    adv_lots: NDArray[np.float64] | None = None,
    model_age: NDArray[np.int64] | None = None,
    kill_level: NDArray[np.int64] | None = None,
    audit: bool = False,
    models_schedule: Sequence[tuple[int, tuple[str, ...]]] = (),
    hashes: Mapping[str, str] | None = None,
    feature_hash: str = "",
) -> BacktestResult:
    """Trade `panel` (T rows, S instruments) on `block`, the signals of the same rows, from a flat account with `starting_cash`.

    actions: corporate actions with an ex-date in the span; others are ignored. sector: i8 (S,), -1 unknown. adv_lots: f8 (T, S), by default
    `daily_volume_lots`. model_age (sessions), kill_level: i8 (T,), by default 0. audit: also return each row's Decision; then
    models_schedule gives (first row, bundle ids) ascending, hashes those of universe, corporate_actions and calendar, feature_hash the
    feature set's. Quotes are the bars' closes. Raises InputError for axes that do not fit. A pure function: same inputs, same bytes.
    """
    _check(panel, block, instruments, sessions)
    grid, numbers = grid_of(tuple(instruments)), numbers_of(profile, panel.timeframe)
    market = _market(panel, sessions, grid)
    inputs = _inputs(panel, block, sessions, grid, sector, adv_lots, model_age, kill_level)
    floor = _Floor.empty(profile, grid, numbers, _actions(actions, panel), panel.shape, float(starting_cash))
    auditor = _Auditor(panel, block, models_schedule, decision_hashes(profile, feature_hash, hashes or {})) if audit else None
    fills: list[NDArray[np.void]] = []
    decisions: list[Decision] = []
    for first in range(0, panel.shape[0], CHUNK_ROWS):
        stop = min(first + CHUNK_ROWS, panel.shape[0])
        if auditor is None:
            floor.run(first, stop, market, inputs)
        else:
            decisions += [auditor.row(t, floor, market, inputs) for t in range(first, stop)]
        fills.append(_fill_array(floor.log, market))
    curves = floor.curves
    before = np.concatenate([[float(starting_cash)], curves.equity[:-1]])
    return BacktestResult(
        equity=curves.equity,
        returns=curves.equity / before - 1.0,
        gross=curves.gross,
        turnover=curves.turnover,
        fills=np.concatenate(fills),
        check_counts={code.name: int(curves.denied[code]) for code in CheckCode if curves.denied[code]},
        decisions=tuple(decisions),
        account=floor.state,
    )
