"""All checks of one acting instrument, in the order of their codes, none short-circuiting another (DESIGN section 6).

Entries pass every check. A reduction passes only what T14 leaves it: its own size, a wider price collar, the order budget.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.contracts.checks import CheckCode
from trading_platform.engine.account import AccountState, Grid
from trading_platform.engine.execution import entry_bounds
from trading_platform.engine.risk import account as account_risk
from trading_platform.engine.risk import market as market_risk
from trading_platform.engine.risk import order as order_risk
from trading_platform.engine.risk import portfolio as portfolio_risk
from trading_platform.engine.risk import position as position_risk
from trading_platform.engine.rows import ALLOWED, DENIED, SECTORS, Book, Numbers, Plan, Row, Sheet

# NumPy scalars, not ints: Numba compiles a function once more for each literal int it is called with.
KILL_SWITCH = np.int64(CheckCode.KILL_SWITCH)
POSITION_LIMIT = np.int64(CheckCode.POSITION_LIMIT)
GROSS_EXPOSURE = np.int64(CheckCode.GROSS_EXPOSURE)
SHORT_EXPOSURE = np.int64(CheckCode.SHORT_EXPOSURE)
MAX_POSITIONS = np.int64(CheckCode.MAX_POSITIONS)
SECTOR_EXPOSURE = np.int64(CheckCode.SECTOR_EXPOSURE)
LEVERAGE = np.int64(CheckCode.LEVERAGE)
BUYING_POWER = np.int64(CheckCode.BUYING_POWER)
MAINTENANCE_EXCESS = np.int64(CheckCode.MAINTENANCE_EXCESS)
DAILY_DRAWDOWN = np.int64(CheckCode.DAILY_DRAWDOWN)
CONSECUTIVE_LOSSES = np.int64(CheckCode.CONSECUTIVE_LOSSES)
MAX_TRADES = np.int64(CheckCode.MAX_TRADES)
ORDER_BUDGET = np.int64(CheckCode.ORDER_BUDGET)
PER_TRADE_RISK = np.int64(CheckCode.PER_TRADE_RISK)
PARTICIPATION = np.int64(CheckCode.PARTICIPATION)
PRICE_COLLAR = np.int64(CheckCode.PRICE_COLLAR)
STALE_QUOTE = np.int64(CheckCode.STALE_QUOTE)
COVERAGE = np.int64(CheckCode.COVERAGE)
UNKNOWN_ORDER = np.int64(CheckCode.UNKNOWN_ORDER)
HANDS_OFF = np.int64(CheckCode.HANDS_OFF)
NOT_MEMBER = np.int64(CheckCode.NOT_MEMBER)
MODEL_AGE = np.int64(CheckCode.MODEL_AGE)
CROSSES_ZERO = np.int64(CheckCode.CROSSES_ZERO)
ACCOUNT_FLAGS = np.int64(CheckCode.ACCOUNT_FLAGS)
NAKED_LIMIT = np.int64(CheckCode.NAKED_LIMIT)
ENTRY_WINDOW = np.int64(CheckCode.ENTRY_WINDOW)


@njit(cache=True, nogil=True)
def note(sheet: Sheet, code: np.int64, answer: tuple[float, float, bool]) -> None:
    """Record one outcome on an instrument's sheet."""
    sheet.limit[code] = answer[0]
    sheet.value[code] = answer[1]
    sheet.outcome[code] = ALLOWED if answer[2] else DENIED


@njit(cache=True, nogil=True)
def worst_lots(position: int, buys: int, sells: int) -> tuple[int, int]:
    """(|lots|, lots short) of a position at worst: its open `buys` and `sells` lots filled on whichever side hurts (T13)."""
    high = position + buys
    low = position - sells
    return max(abs(high), abs(low)), max(-low, 0)


@njit(cache=True, nogil=True)
def open_book(state: AccountState, row: Row, grid: Grid, book: Book) -> None:
    """Value positions and open orders in the worst case before this row's first order."""
    book.sector_gross[:] = 0.0
    book.gross[0] = book.short[0] = book.buys[0] = book.naked[0] = 0.0
    book.positions[0] = book.orders[0] = 0
    for s in range(len(state.position)):
        price = state.mark[s] if math.isfinite(state.mark[s]) else (state.avg_cost[s] if state.position[s] != 0 else row.quote_mid[s])
        book.price[s] = price / grid.lots_per_unit[s]
        worst, short = worst_lots(state.position[s], state.working_buy[s], state.working_sell[s])
        book.worst[s] = worst
        book.worst_short[s] = short
        if worst > 0:
            value = worst * book.price[s]
            book.gross[0] += value
            book.short[0] += short * book.price[s]
            book.sector_gross[row.sector[s] if row.sector[s] >= 0 else SECTORS] += value
            book.positions[0] += 1
            book.buys[0] += state.working_buy[s] * book.price[s]
        if state.naked[s] != 0:
            book.naked[0] += abs(state.naked[s]) * book.price[s]


@njit(cache=True, nogil=True)
def check_reduction(s: int, state: AccountState, numbers: Numbers, plan: Plan, book: Book, order_price: float, mark: float) -> None:
    """The checks of a reduction of instrument `s` (T14)."""
    sheet = Sheet(plan.outcome[s], plan.limit[s], plan.value[s])
    working = state.working_sell[s] if state.position[s] > 0 else state.working_buy[s]
    note(sheet, ORDER_BUDGET, order_risk.order_budget(book.orders[0] + 1, numbers.max_orders_per_row))
    reference = mark if mark > 0.0 else order_price  # a way out stays open where no mark is left to compare with
    note(sheet, PRICE_COLLAR, order_risk.price_collar(order_price, reference, numbers.reduce_price_collar_bps))
    note(sheet, CROSSES_ZERO, position_risk.crosses_zero(plan.lots[s], state.position[s], working))


@njit(cache=True, nogil=True)
def check_entry(
    s: int, state: AccountState, row: Row, numbers: Numbers, grid: Grid, plan: Plan, book: Book, order_price: float, mark: float
) -> None:
    """The checks of an entry of instrument `s` against the provisional book."""
    equity = plan.equity[0]
    buy = plan.lots[s] if plan.side[s] > 0 else 0
    worst, short = worst_lots(state.position[s], state.working_buy[s] + buy, state.working_sell[s] + plan.lots[s] - buy)
    unit = max(book.price[s], order_price / grid.lots_per_unit[s])
    gross = book.gross[0] - book.worst[s] * book.price[s] + worst * unit
    short_value = book.short[0] - book.worst_short[s] * book.price[s] + short * unit
    bucket = row.sector[s] if row.sector[s] >= 0 else SECTORS
    sector = book.sector_gross[bucket] - book.worst[s] * book.price[s] + worst * unit
    count = book.positions[0] + (1 if book.worst[s] == 0 else 0)
    cost = book.buys[0] + buy * order_price / grid.lots_per_unit[s]
    first, last = entry_bounds(row, numbers)
    sheet = Sheet(plan.outcome[s], plan.limit[s], plan.value[s])
    note(sheet, KILL_SWITCH, account_risk.kill_switch(row.kill_level))
    note(sheet, POSITION_LIMIT, position_risk.position_limit(worst * unit, equity, numbers.max_position))
    note(sheet, GROSS_EXPOSURE, portfolio_risk.gross_exposure(gross, equity, numbers.max_gross))
    shorts = portfolio_risk.short_exposure(short_value, gross, short > 0, grid.shortable[s], numbers.max_short_of_gross)
    note(sheet, SHORT_EXPOSURE, shorts)
    note(sheet, MAX_POSITIONS, portfolio_risk.max_positions(count, numbers.max_positions))
    note(sheet, SECTOR_EXPOSURE, portfolio_risk.sector_exposure(sector, equity, numbers.max_sector))
    note(sheet, LEVERAGE, portfolio_risk.leverage(gross, equity, numbers.max_leverage))
    note(sheet, BUYING_POWER, account_risk.buying_power(cost, state.cash[0], equity, numbers.max_leverage))
    note(sheet, MAINTENANCE_EXCESS, account_risk.maintenance_excess(gross, equity, numbers.min_maintenance_excess))
    note(sheet, DAILY_DRAWDOWN, account_risk.daily_drawdown(equity, state.session_high_equity[0], numbers.max_daily_drawdown))
    note(sheet, CONSECUTIVE_LOSSES, account_risk.consecutive_losses(state.pause_left[0]))
    note(sheet, MAX_TRADES, account_risk.max_trades(state.trades_today[0] + book.orders[0] + 1, numbers.max_trades_per_session))
    note(sheet, ORDER_BUDGET, order_risk.order_budget(book.orders[0] + 1, numbers.max_orders_per_row))
    risk = position_risk.per_trade_risk(worst * unit, row.atr[s], numbers.stop_atr, equity, numbers.max_risk_per_trade)
    note(sheet, PER_TRADE_RISK, risk)
    note(sheet, PARTICIPATION, position_risk.participation(plan.lots[s], row.adv_lots[s], numbers.max_participation))
    note(sheet, PRICE_COLLAR, order_risk.price_collar(order_price, mark, numbers.price_collar_bps))
    note(sheet, STALE_QUOTE, market_risk.stale_quote(row.quote_mid[s], row.quote_age_s[s], numbers.max_quote_age_s))
    note(sheet, COVERAGE, market_risk.coverage(row.coverage, numbers.min_coverage))
    note(sheet, UNKNOWN_ORDER, position_risk.unknown_order(state.unknown[s]))
    note(sheet, HANDS_OFF, position_risk.hands_off(state.hands_off[s]))
    note(sheet, NOT_MEMBER, position_risk.not_member(row.member[s]))
    note(sheet, MODEL_AGE, account_risk.model_age(row.model_age, numbers.hard_max_age_sessions))
    note(sheet, ACCOUNT_FLAGS, account_risk.account_flags(row.trading_blocked))
    note(sheet, NAKED_LIMIT, portfolio_risk.naked_limit(book.naked[0], equity, numbers.max_naked))
    note(sheet, ENTRY_WINDOW, market_risk.entry_window(plan.valid_from[0], first, last))


@njit(cache=True, nogil=True)
def settle_outcome(s: int, plan: Plan) -> bool:
    """Approve instrument `s` unless a check denied it; count each denial under its code."""
    approved = True
    for code in range(plan.outcome.shape[1]):
        if plan.outcome[s, code] == DENIED:
            plan.denied[code] += 1
            approved = False
    plan.approved[s] = approved
    return approved


@njit(cache=True, nogil=True)
def enter_book(s: int, state: AccountState, row: Row, grid: Grid, plan: Plan, book: Book, order_price: float, entry: bool) -> None:
    """An approved order changes the worst case that the next check sees; a reduction only uses budget until it has filled."""
    book.orders[0] += 1
    if not entry:
        return
    buy = plan.lots[s] if plan.side[s] > 0 else 0
    worst, short = worst_lots(state.position[s], state.working_buy[s] + buy, state.working_sell[s] + plan.lots[s] - buy)
    unit = max(book.price[s], order_price / grid.lots_per_unit[s])
    change = worst * unit - book.worst[s] * book.price[s]
    book.gross[0] += change
    book.short[0] += short * unit - book.worst_short[s] * book.price[s]
    book.sector_gross[row.sector[s] if row.sector[s] >= 0 else SECTORS] += change
    if book.worst[s] == 0 and worst > 0:
        book.positions[0] += 1
    book.buys[0] += buy * order_price / grid.lots_per_unit[s]
    book.worst[s] = worst
    book.worst_short[s] = short
