"""Every check of a row where it denies and where it does not; windows, membership, absent marks and quotes (T9, T13, T19)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from row_scenes import CLOSE, GRID, OPEN, WIDTH, Scene, base_row, put, together, with_positions
from synthetic_market import MINUTE_NS

from trading_platform.contracts.checks import CheckCode
from trading_platform.engine.account import empty_account
from trading_platform.engine.decide import decide_row
from trading_platform.engine.risk import account, market, order, portfolio, position
from trading_platform.engine.risk.position import crosses_zero, not_member
from trading_platform.engine.rows import DENIED, NOT_APPLIED, REDUCE, empty_book, empty_plan, numbers_of

CASES: dict[CheckCode, tuple[Scene, Scene]] = {
    CheckCode.KILL_SWITCH: (Scene(row={"kill_level": 1}), Scene()),
    # 5 % is 500 lots: 400 working already, so the worst case of the second order is over
    CheckCode.POSITION_LIMIT: (
        Scene(prepare=together(put("working_buy", 450, 2), put("working_sell", 501, 2)), shortable=True),
        Scene(prepare=put("working_buy", 300, 2)),
    ),
    CheckCode.GROSS_EXPOSURE: (Scene(limits={"max_gross": 0.04}), Scene(limits={"max_gross": 0.0501})),
    CheckCode.SHORT_EXPOSURE: (Scene(prepare=put("working_sell", 100, 0)), Scene()),
    CheckCode.MAX_POSITIONS: (
        Scene(limits={"max_positions": 2}, prepare=together(with_positions(10), put("unknown", True, 1), put("working_buy", 5, 1))),
        Scene(limits={"max_positions": 2}, prepare=with_positions(10)),
    ),
    CheckCode.SECTOR_EXPOSURE: (
        Scene(limits={"max_sector": 0.06}, cells={"sector": {0: 2}}, prepare=with_positions(200), wanted=(0, 2)),
        Scene(limits={"max_sector": 0.06}, prepare=with_positions(200), wanted=(0, 2)),
    ),
    CheckCode.LEVERAGE: (Scene(limits={"max_leverage": 0.04}), Scene()),
    CheckCode.BUYING_POWER: (
        Scene(limits={"max_gross": 9.0}, prepare=with_positions(9_600), wanted=(0, 2)),
        Scene(limits={"max_gross": 9.0}, prepare=with_positions(9_400), wanted=(0, 2)),
    ),
    CheckCode.MAINTENANCE_EXCESS: (Scene(limits={"min_maintenance_excess": 0.99}), Scene(limits={"min_maintenance_excess": 0.98})),
    CheckCode.DAILY_DRAWDOWN: (
        # a loss that equals its limit is too large already
        Scene(limits={"max_daily_drawdown": 0.5}, prepare=put("session_high_equity", 2_000_000.0)),
        Scene(limits={"max_daily_drawdown": 0.5}, prepare=put("session_high_equity", 1_999_999.0)),
    ),
    CheckCode.CONSECUTIVE_LOSSES: (Scene(prepare=put("loss_streak", 3)), Scene(prepare=put("loss_streak", 2))),
    CheckCode.MAX_TRADES: (Scene(prepare=put("trades_today", 100)), Scene(prepare=put("trades_today", 99))),
    CheckCode.ORDER_BUDGET: (
        Scene(limits={"max_orders_per_row": 1}, wanted=(1, 2)),
        Scene(limits={"max_orders_per_row": 2}, wanted=(1, 2)),
    ),
    CheckCode.PER_TRADE_RISK: (
        # 100 lots are working beside the 500 that sizing allows itself
        Scene(limits={"max_risk_per_trade": 0.003, "max_position": 0.2}, prepare=together(put("working_sell", 600, 2)), shortable=True),
        Scene(limits={"max_risk_per_trade": 0.003, "max_position": 0.2}),
    ),
    CheckCode.PARTICIPATION: (Scene(cells={"adv_lots": {2: 40_000.0}}), Scene(cells={"adv_lots": {2: 50_000.0}})),
    CheckCode.PRICE_COLLAR: (Scene(cells={"quote_mid": {2: 105.0}}), Scene(cells={"quote_mid": {2: 104.9}})),
    CheckCode.STALE_QUOTE: (Scene(cells={"quote_age_s": {2: 900.5}}), Scene(cells={"quote_age_s": {2: 900.0}})),
    CheckCode.COVERAGE: (Scene(row={"coverage": 0.94}), Scene(row={"coverage": 0.95})),
    CheckCode.UNKNOWN_ORDER: (Scene(prepare=put("unknown", True, 2)), Scene(prepare=put("unknown", True, 1))),
    CheckCode.HANDS_OFF: (Scene(prepare=put("hands_off", True, 2)), Scene(prepare=put("hands_off", True, 1))),
    CheckCode.MODEL_AGE: (Scene(row={"model_age": 64}), Scene(row={"model_age": 63})),
    CheckCode.ACCOUNT_FLAGS: (Scene(row={"trading_blocked": True}), Scene()),
    CheckCode.NAKED_LIMIT: (
        Scene(prepare=together(with_positions(600), put("naked", 600, 0)), wanted=(0, 2)),
        Scene(prepare=together(with_positions(600), put("naked", 400, 0)), wanted=(0, 2)),
    ),
    CheckCode.ENTRY_WINDOW: (Scene(row={"known_at": OPEN + 4 * MINUTE_NS}), Scene(row={"known_at": OPEN + 5 * MINUTE_NS})),
}


@pytest.mark.parametrize("code", CASES, ids=lambda code: code.name)
def test_each_check_denies_on_one_side_of_its_limit_and_allows_on_the_other(code: CheckCode) -> None:
    denying, allowing = CASES[code]
    plan, _ = denying.run()
    assert (plan.outcome[:, code] == DENIED).sum() == 1 and plan.denied[code] == 1
    acting = plan.outcome[:, code] == DENIED
    assert not plan.approved[acting].any()
    plan, _ = allowing.run()
    assert (plan.outcome[:, code] != DENIED).all() and plan.denied[code] == 0
    assert plan.approved[2]


# The check, its arguments exactly at the limit (in binary, too), and a hair beyond it.
AT_THE_LIMIT: dict[Callable[..., Any], tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    account.buying_power: ((150.0, 50.0, 100.0, 2.0), (150.01, 50.0, 100.0, 2.0)),
    account.maintenance_excess: ((0.0, 100.0, 1.0), (0.1, 100.0, 1.0)),
    account.max_trades: ((7, 7), (8, 7)),
    account.model_age: ((63, 63), (64, 63)),
    market.stale_quote: ((10.0, 5.0, 5.0), (10.0, 5.001, 5.0)),
    market.coverage: ((0.5, 0.5), (0.499, 0.5)),
    order.order_budget: ((3, 3), (4, 3)),
    order.price_collar: ((1.5, 1.0, 5_000.0), (1.501, 1.0, 5_000.0)),
    portfolio.gross_exposure: ((50.0, 100.0, 0.5), (50.01, 100.0, 0.5)),
    portfolio.short_exposure: ((25.0, 100.0, True, True, 0.25), (25.01, 100.0, True, True, 0.25)),
    portfolio.max_positions: ((4, 4), (5, 4)),
    portfolio.sector_exposure: ((25.0, 100.0, 0.25), (25.01, 100.0, 0.25)),
    portfolio.leverage: ((150.0, 100.0, 1.5), (150.01, 100.0, 1.5)),
    portfolio.naked_limit: ((25.0, 100.0, 0.25), (25.01, 100.0, 0.25)),
    position.position_limit: ((25.0, 100.0, 0.25), (25.01, 100.0, 0.25)),
    position.per_trade_risk: ((50.0, 0.25, 2.0, 100.0, 0.25), (50.01, 0.25, 2.0, 100.0, 0.25)),
    position.participation: ((50, 100.0, 0.5), (51, 100.0, 0.5)),
}


@pytest.mark.parametrize("check", AT_THE_LIMIT, ids=lambda check: check.__name__)
def test_what_equals_a_limit_is_allowed_and_a_hair_beyond_is_not(check: Callable[..., Any]) -> None:
    at, beyond = (getattr(check, "py_func", check)(*arguments) for arguments in AT_THE_LIMIT[check])
    assert (at[2], beyond[2]) == (True, False)
    assert at[0] == at[1], "the scene is not at the limit"


def test_the_window_begins_and_ends_where_entries_are_allowed() -> None:
    window = getattr(market.entry_window, "py_func", market.entry_window)
    assert [window(at, 100, 200)[2] for at in (99, 100, 199, 200)] == [False, True, True, False]


def test_every_code_has_a_case_or_its_own_test() -> None:
    own = {CheckCode.CROSSES_ZERO, CheckCode.NOT_MEMBER}
    assert set(CASES) | own == set(CheckCode)


def test_the_last_minutes_allow_no_entry_and_the_last_row_no_order_at_all() -> None:
    late = Scene(row={"known_at": CLOSE - 30 * MINUTE_NS}, strategy={"entry_cutoff_minutes": 30}, prepare=with_positions(100), wanted=(2,))
    plan, _ = late.run()
    assert plan.denied[CheckCode.ENTRY_WINDOW] == 1
    assert plan.approved.tolist() == [True, False, False, False]  # exits are exempt
    plan, _ = replace(late, row={"known_at": CLOSE}).run()
    assert plan.acting[0] == 0


def test_a_non_member_is_never_entered_and_a_held_one_leaves() -> None:
    plan, _ = Scene(cells={"member": {2: False}}).run()
    assert plan.acting[0] == 0 and plan.target[2] == 0
    plan, _ = Scene(cells={"member": {2: False}}, prepare=with_positions(0, 0, 300)).run()
    assert (plan.leg[2], plan.lots[2], plan.approved[2]) == (REDUCE, 300, True)


def test_membership_and_size_of_a_reduction_are_checked_by_their_own_functions() -> None:
    assert not_member(True)[2] and not not_member(False)[2]
    assert crosses_zero(70, 100, 30) == (70.0, 70.0, True)
    assert crosses_zero(71, 100, 30) == (70.0, 71.0, False)
    assert crosses_zero(71, -100, 30) == (70.0, 71.0, False)


def test_no_check_short_circuits_another() -> None:
    plan, _ = Scene(row={"kill_level": 1, "coverage": 0.5, "trading_blocked": True}).run()
    denied = {CheckCode(code).name for code in np.flatnonzero(plan.outcome[2] == DENIED)}
    assert denied == {"KILL_SWITCH", "COVERAGE", "ACCOUNT_FLAGS"}
    assert (plan.outcome[2] != NOT_APPLIED).sum() == len(CheckCode) - 1  # all but CROSSES_ZERO, which belongs to reductions
    assert np.isfinite(plan.limit).all() and np.isfinite(plan.value).all()


def test_a_price_without_a_mark_to_hold_it_against_opens_nothing_and_still_closes() -> None:
    blind = {"present": {0: False, 2: False}}
    plan, _ = Scene(cells=blind, prepare=put("mark", np.nan, 2)).run()
    assert plan.outcome[2, CheckCode.PRICE_COLLAR] == DENIED and not plan.approved[2]
    plan, _ = Scene(cells=blind, prepare=together(with_positions(100), put("mark", np.nan, 0)), wanted=()).run()
    assert plan.approved[0] and plan.leg[0] == REDUCE


def test_three_losses_pause_entries_for_the_stated_rows() -> None:
    scene = Scene(prepare=put("loss_streak", 3), limits={"pause_rows": 2})
    row, numbers = base_row(), numbers_of(scene.profile(), "1Min")
    row.held[2] = True
    state, plan = empty_account(WIDTH, 1e6), empty_plan(WIDTH)
    state.loss_streak[0] = 3
    denied = []
    for _ in range(4):
        decide_row(state, row, numbers, GRID, plan, empty_book(WIDTH))
        denied.append(int(plan.denied[CheckCode.CONSECUTIVE_LOSSES]))
    assert denied == [1, 1, 0, 0]


def test_an_absent_quote_denies_entries_and_lets_exits_use_the_last_mark() -> None:
    gone = {"quote_mid": {0: math.nan, 2: math.nan}, "present": {0: False, 2: False}, "close": {0: math.nan, 2: math.nan}}
    plan, _ = Scene(cells=gone, prepare=with_positions(100), wanted=(2,)).run()
    assert plan.denied[CheckCode.STALE_QUOTE] == 1
    assert plan.approved.tolist() == [True, False, False, False] and plan.limit_ticks[0] == 9_995
