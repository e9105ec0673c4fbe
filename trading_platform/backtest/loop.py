"""The compiled loop of a backtest: the row cycle over the engine's and the matcher's own functions, nothing re-implemented.

Row t: corporate actions and session start, last row's orders and the stops against bar t, fills into the account, decision. An order lives
for exactly one bar: what is left when the next row closes is gone.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.engine.account import AccountState, Grid, apply_action, apply_cash, apply_fill, start_session
from trading_platform.engine.decide import decide_row
from trading_platform.engine.rows import ENTER, FLATTEN, Book, Numbers, Plan, Row
from trading_platform.matching.bar import LIMIT, MARKET, STOP, match_instrument

PROTECT = 4  # the leg of a protective stop in the fill log, beside ENTER, REDUCE and FLATTEN of engine.rows


class Market(NamedTuple):
    """Bars and times: prices and volume_lots f8 (T, S), vwap NaN where absent, present bool (T, S), session, bar_end i8 (T,) (UTC ns)."""

    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    vwap: NDArray[np.float64]
    volume_lots: NDArray[np.float64]
    present: NDArray[np.bool_]
    session: NDArray[np.int64]
    bar_end: NDArray[np.int64]


class RowInputs(NamedTuple):
    """All rows' decision inputs: what engine.rows.Row holds, with a leading time axis (sector has none)."""

    member: NDArray[np.bool_]
    alpha: NDArray[np.float64]
    held: NDArray[np.bool_]
    ready: NDArray[np.bool_]
    volatility: NDArray[np.float64]
    atr: NDArray[np.float64]
    quote_mid: NDArray[np.float64]
    quote_age_s: NDArray[np.float64]
    adv_lots: NDArray[np.float64]
    sector: NDArray[np.int64]
    coverage: NDArray[np.float64]
    known_at: NDArray[np.int64]
    session_open: NDArray[np.int64]
    session_close: NDArray[np.int64]
    next_open: NDArray[np.int64]
    kill_level: NDArray[np.int64]
    model_age: NDArray[np.int64]


class Actions(NamedTuple):
    """Corporate actions ascending by ex-date: ex_date, column i8 (A,), split_ratio, dividend f8 (A,); next i8 (1,): first not applied."""

    ex_date: NDArray[np.int64]
    column: NDArray[np.int64]
    split_ratio: NDArray[np.float64]
    dividend: NDArray[np.float64]
    next: NDArray[np.int64]


class FillLog(NamedTuple):
    """Fills of the rows since `used` i8 (1,) was reset: row, column, side, lots, ticks, leg, valid_from i8 (capacity,)."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    side: NDArray[np.int64]
    lots: NDArray[np.int64]
    ticks: NDArray[np.int64]
    leg: NDArray[np.int64]
    valid_from: NDArray[np.int64]
    used: NDArray[np.int64]


class Curves(NamedTuple):
    """Per-row results f8 (T,): equity after the row's fills and marks, gross and traded value as fractions of it; denied i8 (C,) counts."""

    equity: NDArray[np.float64]
    gross: NDArray[np.float64]
    turnover: NDArray[np.float64]
    denied: NDArray[np.int64]


class Desk(NamedTuple):
    """The order slots of one instrument while it is matched (2: the stop, the planned order)."""

    side: NDArray[np.int8]
    kind: NDArray[np.int8]
    limit: NDArray[np.int64]
    stop: NDArray[np.int64]
    lots: NDArray[np.int64]
    out_lots: NDArray[np.int64]
    out_ticks: NDArray[np.int64]


def empty_desk() -> Desk:
    """A desk with two free slots."""
    return Desk(
        side=np.zeros(2, np.int8),
        kind=np.zeros(2, np.int8),
        limit=np.zeros(2, np.int64),
        stop=np.zeros(2, np.int64),
        lots=np.zeros(2, np.int64),
        out_lots=np.zeros(2, np.int64),
        out_ticks=np.zeros(2, np.int64),
    )


def empty_log(capacity: int) -> FillLog:
    """A fill log for `capacity` fills."""
    row, column, side, lots, ticks, leg, valid_from = np.zeros((7, capacity), np.int64)
    return FillLog(row, column, side, lots, ticks, leg, valid_from, np.zeros(1, np.int64))


@njit(cache=True, nogil=True)
def _open_session(state: AccountState, session: int, actions: Actions, grid: Grid, plan: Plan) -> None:
    """Corporate actions up to this session, then its start. A planned order of a splitting name is priced for the old share: dropped."""
    while actions.next[0] < len(actions.ex_date) and actions.ex_date[actions.next[0]] <= session:
        at = actions.next[0]
        s = actions.column[at]
        apply_action(state, s, actions.split_ratio[at], actions.dividend[at], grid)
        if actions.split_ratio[at] != 1.0:
            plan.approved[s] = False
        actions.next[0] = at + 1
    start_session(state, session, grid)


@njit(cache=True, nogil=True)
def _set_desk(state: AccountState, s: int, plan: Plan, live: bool, desk: Desk) -> int:
    """Put instrument `s`'s stop and planned order on the desk; return how many. A planned reduction's lots are not under the stop."""
    count = 0
    position = state.position[s]
    reducing = live and plan.leg[s] != ENTER
    covered = abs(position) - (plan.lots[s] if reducing else 0)
    if state.stop_ticks[s] > 0 and covered > 0:
        desk.side[0] = -1 if position > 0 else 1
        desk.kind[0] = STOP
        desk.stop[0] = state.stop_ticks[s]
        desk.lots[0] = covered
        count = 1
    if live:
        desk.side[count] = plan.side[s]
        desk.kind[count] = MARKET if plan.leg[s] == FLATTEN else LIMIT
        desk.limit[count] = plan.limit_ticks[s]
        desk.lots[count] = plan.lots[s]
        count += 1
    return count


@njit(cache=True, nogil=True)
def _book_fills(
    state: AccountState, t: int, s: int, plan: Plan, desk: Desk, count: int, grid: Grid, stop_atr: float, fee: float, log: FillLog
) -> float:
    """Fold the desk's fills into the account and the log; return their value in quote currency."""
    traded = 0.0
    for n in range(count):
        lots = desk.out_lots[n]
        if lots == 0:
            continue
        protective = desk.kind[n] == STOP
        apply_fill(state, s, int(desk.side[n]), lots, float(desk.out_ticks[n]), grid, stop_atr, protective)
        if fee > 0.0:
            apply_cash(state, -fee * lots / grid.lots_per_unit[s])
        at = log.used[0]
        log.row[at] = t
        log.column[at] = s
        log.side[at] = desk.side[n]
        log.lots[at] = lots
        log.ticks[at] = desk.out_ticks[n]
        log.leg[at] = PROTECT if protective else plan.leg[s]
        log.valid_from[at] = 0 if protective else plan.valid_from[0]
        log.used[0] = at + 1
        traded += lots / grid.lots_per_unit[s] * (desk.out_ticks[n] / grid.ticks_per_unit[s])
    return traded


@njit(cache=True, nogil=True)
def advance_row(
    state: AccountState,
    t: int,
    market: Market,
    actions: Actions,
    plan: Plan,
    numbers: Numbers,
    grid: Grid,
    costs: np.ndarray,
    fee: float,
    desk: Desk,
    log: FillLog,
) -> float:
    """Everything of row t before its decision; return the value traded in quote currency.

    `plan` is the previous row's. Its orders trade only if they were valid before the bar ended and, intraday, in the same session.
    """
    new_session = t == 0 or market.session[t] != market.session[t - 1]
    if new_session:
        _open_session(state, market.session[t], actions, grid, plan)
    alive = t > 0 and plan.valid_from[0] < market.bar_end[t] and (numbers.session_bars or not new_session)
    traded = 0.0
    for s in range(len(state.position)):
        live = alive and plan.approved[s]
        if not market.present[t, s] or (state.position[s] == 0 and not live):
            continue
        count = _set_desk(state, s, plan, live, desk)
        if count == 0:
            continue
        match_instrument(
            desk.side[:count],
            desk.kind[:count],
            desk.limit[:count],
            desk.stop[:count],
            desk.lots[:count],
            market.open[t, s],
            market.high[t, s],
            market.low[t, s],
            market.close[t, s],
            market.vwap[t, s],
            market.volume_lots[t, s],
            costs,
            grid.ticks_per_unit[s],
            desk.out_lots[:count],
            desk.out_ticks[:count],
        )
        traded += _book_fills(state, t, s, plan, desk, count, grid, numbers.stop_atr, fee, log)
    return traded


@njit(cache=True, nogil=True)
def row_at(t: int, market: Market, inputs: RowInputs) -> Row:
    """Row t as the engine reads it."""
    return Row(
        market.close[t],
        market.present[t],
        inputs.member[t],
        inputs.alpha[t],
        inputs.held[t],
        inputs.ready[t],
        inputs.volatility[t],
        inputs.atr[t],
        inputs.quote_mid[t],
        inputs.quote_age_s[t],
        inputs.adv_lots[t],
        inputs.sector,
        inputs.coverage[t],
        inputs.known_at[t],
        inputs.session_open[t],
        inputs.session_close[t],
        inputs.next_open[t],
        inputs.kill_level[t],
        inputs.model_age[t],
        False,
    )


@njit(cache=True, nogil=True)
def record_row(state: AccountState, t: int, traded: float, plan: Plan, grid: Grid, curves: Curves) -> None:
    """Write row t of the curves after its decision."""
    equity = plan.equity[0]
    gross = 0.0
    for s in range(len(state.position)):
        if state.position[s] != 0 and math.isfinite(state.mark[s]):
            gross += abs(state.position[s]) / grid.lots_per_unit[s] * state.mark[s]
    curves.equity[t] = equity
    curves.gross[t] = gross / equity if equity > 0.0 else 0.0
    curves.turnover[t] = traded / equity if equity > 0.0 else 0.0
    for code in range(len(plan.denied)):
        curves.denied[code] += plan.denied[code]


@njit(cache=True, nogil=True)
def run_rows(
    first: int,
    stop: int,
    state: AccountState,
    market: Market,
    inputs: RowInputs,
    actions: Actions,
    plan: Plan,
    book: Book,
    numbers: Numbers,
    grid: Grid,
    costs: np.ndarray,
    fee: float,
    desk: Desk,
    log: FillLog,
    curves: Curves,
) -> None:
    """Rows first..stop-1. The log must have room for 2 S fills per row."""
    for t in range(first, stop):
        traded = advance_row(state, t, market, actions, plan, numbers, grid, costs, fee, desk, log)
        decide_row(state, row_at(t, market, inputs), numbers, grid, plan, book)
        record_row(state, t, traded, plan, grid, curves)
