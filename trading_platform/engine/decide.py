"""The account half of the engine for one row, compiled: marks -> targets -> plan -> checks. Backtest and live call `decide_row`.

Outputs go to preallocated arrays (rows.Plan); the state changes only where the decision itself is an event: marks, the session's high,
the order count, a pause, the atr an entry was decided with.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.contracts.checks import KillLevel
from trading_platform.engine.account import AccountState, Grid, mark_row
from trading_platform.engine.execution import limit_ticks, market_is_over, must_leave, planning_price, validity
from trading_platform.engine.risk.evaluate import check_entry, check_reduction, enter_book, open_book, settle_outcome
from trading_platform.engine.rows import ENTER, FLATTEN, NO_LEG, NOT_APPLIED, REDUCE, Book, Numbers, Plan, Row
from trading_platform.engine.sizing import equal_risk, inside_band, target_lots

FLATTEN_LEVEL = int(KillLevel.FLATTEN)


@njit(cache=True, nogil=True)
def _pause(state: AccountState, numbers: Numbers) -> None:
    """A run of losing round trips begins a pause of `pause_rows` decisions (T19); a running one gets shorter at each decision."""
    if state.pause_left[0] > 0:
        state.pause_left[0] -= 1
    if state.loss_streak[0] >= numbers.max_consecutive_losses:
        state.loss_streak[0] = 0
        state.pause_left[0] = numbers.pause_rows


@njit(cache=True, nogil=True)
def _reset(plan: Plan) -> None:
    plan.leg[:] = NO_LEG
    plan.side[:] = 0
    plan.lots[:] = 0
    plan.limit_ticks[:] = 0
    plan.approved[:] = False
    plan.acting[0] = 0
    plan.outcome[:] = NOT_APPLIED
    plan.denied[:] = 0


@njit(cache=True, nogil=True)
def _wanted(state: AccountState, row: Row, numbers: Numbers, out: np.ndarray) -> bool:
    """Write which instruments the sleeve wants to hold; return whether the row carries any alpha.

    A stopped-out name is wanted again only after its signal has left once.
    """
    informed = False
    leave = row.kill_level >= FLATTEN_LEVEL or must_leave(row, numbers)
    for s in range(len(out)):
        if math.isfinite(row.alpha[s]):
            informed = True
        if not row.held[s] and state.working_buy[s] == 0 and state.working_sell[s] == 0:
            state.stopped[s] = False
        out[s] = row.held[s] and row.member[s] and row.ready[s] and not state.stopped[s] and not leave
    return informed


@njit(cache=True, nogil=True)
def _keep_best(state: AccountState, row: Row, numbers: Numbers, wanted: np.ndarray) -> None:
    """Drop the new names that `max_positions` leaves no room for, worst alpha first, so that capital is shared only among what can be held.

    What is held and wanted keeps its place; a new name without an alpha this row has none.
    """
    kept = count = 0
    candidates, value = np.empty(len(wanted), np.int64), np.empty(len(wanted))
    for s in range(len(wanted)):
        if not wanted[s]:
            continue
        if state.position[s] != 0 or state.working_buy[s] != 0 or state.working_sell[s] != 0:
            kept += 1
        elif math.isfinite(row.alpha[s]):
            candidates[count] = s
            value[count] = -row.alpha[s]
            count += 1
        else:
            wanted[s] = False
    room = max(numbers.max_positions - kept, 0)
    if count > room:
        ranked = candidates[:count][np.argsort(value[:count], kind="mergesort")]
        for position in range(room, count):
            wanted[ranked[position]] = False


@njit(cache=True, nogil=True)
def _targets(state: AccountState, row: Row, numbers: Numbers, grid: Grid, plan: Plan) -> None:
    """Write position and target lots. What cannot be concluded keeps the position: no size, no price, not ready, no alpha at all (T23)."""
    wanted = np.empty(len(row.held), np.bool_)
    informed = _wanted(state, row, numbers, wanted)
    _keep_best(state, row, numbers, wanted)
    equal_risk(wanted, row.volatility, row.atr, numbers, plan.exposure)
    leave = row.kill_level >= FLATTEN_LEVEL or must_leave(row, numbers)
    capital = numbers.capital * max(plan.equity[0], 0.0)
    for s in range(len(wanted)):
        position = state.position[s]
        plan.position[s] = position
        price = planning_price(row.quote_mid[s], state.mark[s])
        if leave:
            plan.target[s] = 0
        elif math.isnan(plan.exposure[s]) or not price > 0.0 or (position != 0 and row.member[s] and not (informed and row.ready[s])):
            plan.target[s] = position
        else:
            dearest = max(price, state.mark[s]) * (1.0 + abs(numbers.limit_offset_bps) * 1e-4)  # so the caps hold at the limit price too
            target = target_lots(plan.exposure[s], capital, dearest, grid.lots_per_unit[s])
            plan.target[s] = position if inside_band(target, position, numbers.no_trade_band) else target


@njit(cache=True, nogil=True)
def order_toward(target: int, position: int, buys: int, sells: int) -> tuple[int, int, bool]:
    """(side, lots, is_reduction) that moves a position toward its target, open `buys` and `sells` counted as filled; lots 0: none (T14).

    A reduction never crosses zero: the other side is entered at a later row, from flat.
    """
    if target > position + buys:
        change = target - position - buys
        return (1, max(min(change, -position - buys), 0), True) if position < 0 else (1, change, False)
    if target < position - sells:
        change = position - sells - target
        return (-1, max(min(change, position - sells), 0), True) if position > 0 else (-1, change, False)
    return 0, 0, False


@njit(cache=True, nogil=True)
def _plan_orders(state: AccountState, row: Row, grid: Grid, plan: Plan) -> int:
    """Write side, lots and leg of every order wanted and the sequence in which they are checked; return how many reductions lead it."""
    width = len(plan.target)
    reductions, entries, value = np.empty(width, np.int64), np.empty(width, np.int64), np.zeros(width)
    n_reductions = n_entries = 0
    for s in range(width):
        side, lots, reduction = order_toward(plan.target[s], state.position[s], state.working_buy[s], state.working_sell[s])
        price = planning_price(row.quote_mid[s], state.mark[s])
        if lots == 0 or not price > 0.0:
            continue
        plan.side[s] = side
        plan.lots[s] = lots
        value[s] = -abs(plan.target[s] - state.position[s]) / grid.lots_per_unit[s] * price
        if reduction:
            plan.leg[s] = FLATTEN if row.kill_level >= FLATTEN_LEVEL else REDUCE
            reductions[n_reductions] = s
            n_reductions += 1
        else:
            plan.leg[s] = ENTER
            entries[n_entries] = s
            n_entries += 1
    first = reductions[:n_reductions]
    second = entries[:n_entries]
    plan.sequence[:n_reductions] = first[np.argsort(value[first], kind="mergesort")]
    plan.sequence[n_reductions : n_reductions + n_entries] = second[np.argsort(value[second], kind="mergesort")]
    plan.acting[0] = n_reductions + n_entries
    return n_reductions


@njit(cache=True, nogil=True)
def _check_orders(state: AccountState, row: Row, numbers: Numbers, grid: Grid, plan: Plan, book: Book, n_reductions: int) -> None:
    """Price and check every wanted order in sequence; an approved one changes the book the next sees."""
    open_book(state, row, grid, book)
    for position in range(plan.acting[0]):
        s = plan.sequence[position]
        entry = position >= n_reductions
        mark = state.mark[s]
        price = planning_price(row.quote_mid[s], mark)
        if plan.leg[s] != FLATTEN:
            plan.limit_ticks[s] = limit_ticks(price, plan.side[s], numbers.limit_offset_bps, grid.ticks_per_unit[s])
            price = plan.limit_ticks[s] / grid.ticks_per_unit[s]
        if entry:
            check_entry(s, state, row, numbers, grid, plan, book, price, mark)
        else:
            check_reduction(s, state, numbers, plan, book, price, mark)
        if settle_outcome(s, plan):
            enter_book(s, state, row, grid, plan, book, price, entry)
            if entry and state.position[s] == 0:
                state.entry_atr[s] = row.atr[s]
    state.trades_today[0] += book.orders[0]


@njit(cache=True, nogil=True)
def decide_row(state: AccountState, row: Row, numbers: Numbers, grid: Grid, plan: Plan, book: Book) -> None:
    """Conclude one row: marks and equity, targets, orders in sending order with every check's outcome, all written to `plan`."""
    plan.equity[0] = mark_row(state, row.close, row.present, grid)
    _pause(state, numbers)
    _reset(plan)
    for s in range(len(state.position)):
        if state.position[s] == 0 and state.working_buy[s] == 0 and state.working_sell[s] == 0:
            state.entry_atr[s] = np.nan
    valid_from, expires_at = validity(row, numbers)
    plan.valid_from[0] = valid_from
    plan.expires_at[0] = expires_at
    _targets(state, row, numbers, grid, plan)
    if market_is_over(row, numbers):
        return
    n_reductions = _plan_orders(state, row, grid, plan)
    _check_orders(state, row, numbers, grid, plan, book, n_reductions)
