"""One compiled row: the sequence, the provisional book, worst case, reductions, kill levels (T13, T14, T17, T23)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_scenes import OPEN, WIDTH, Scene, put, together, with_positions
from synthetic_market import DAY_NS, HOUR_NS, MINUTE_NS

from trading_platform.contracts.checks import CheckCode, KillLevel
from trading_platform.engine.account import AccountState, empty_account
from trading_platform.engine.decide import order_toward
from trading_platform.engine.rows import ALLOWED, DENIED, ENTER, FLATTEN, REDUCE


def test_reductions_lead_then_the_largest_change_ties_by_instrument() -> None:
    scene = Scene(wanted=(1, 2, 3), cells={"volatility": {1: 2e-4}}, strategy={"target_gross": 0.1, "annual_volatility_target": 9.9})
    plan, _ = replace(scene, prepare=with_positions(10)).run()
    assert plan.sequence[: plan.acting[0]].tolist() == [0, 2, 3, 1]
    assert plan.leg.tolist() == [REDUCE, ENTER, ENTER, ENTER]
    assert plan.lots[2] == plan.lots[3] > plan.lots[1]


def test_an_approved_order_changes_the_book_the_next_check_sees_and_a_denied_one_does_not() -> None:
    code = CheckCode.GROSS_EXPOSURE
    three = Scene(wanted=(1, 2, 3), limits={"max_gross": 0.11})
    plan, _ = three.run()
    assert plan.value[[1, 2, 3], code] == pytest.approx([0.05, 0.10, 0.15], rel=2e-3)
    assert plan.approved.tolist() == [False, True, True, False]
    plan, _ = replace(three, cells={"adv_lots": {1: 1.0}}).run()  # the first is denied for another reason
    assert plan.value[[2, 3], code] == pytest.approx([0.05, 0.10], rel=2e-3)
    assert plan.approved.tolist() == [False, False, True, True]


def test_open_orders_count_as_filled_on_the_side_that_hurts() -> None:
    code = CheckCode.POSITION_LIMIT
    alone, _ = Scene(strategy={"target_gross": 0.02, "annual_volatility_target": 9.9}).run()
    assert alone.lots[2] == 199
    # a working sale does not make room: it may never fill
    plan, _ = Scene(prepare=together(with_positions(0, 0, 100), put("working_sell", 100, 2))).run()
    assert plan.value[2, code] == pytest.approx((100 + plan.lots[2]) * 100.05 / 1e6, rel=1e-3)
    # an UNKNOWN buy is counted although nobody can say whether it exists
    plan, _ = Scene(wanted=(), prepare=put("working_buy", 300, 2)).run()
    assert plan.acting[0] == 0
    plan, _ = Scene(prepare=put("working_buy", 300, 2)).run()
    assert plan.lots[2] == plan.target[2] - 300


@pytest.mark.parametrize("level", [KillLevel.HALT_NEW, KillLevel.REDUCE])
def test_halt_and_reduce_let_reductions_pass_and_no_entry(level: KillLevel) -> None:
    plan, _ = Scene(row={"kill_level": int(level)}, prepare=with_positions(100), wanted=(2,)).run()
    assert plan.approved.tolist() == [True, False, False, False]
    assert plan.leg[0] == REDUCE and plan.denied[CheckCode.KILL_SWITCH] == 1


def test_flatten_closes_everything_at_the_market() -> None:
    plan, _ = Scene(row={"kill_level": 3}, prepare=with_positions(100, 0, 50), wanted=(0, 2)).run()
    assert plan.target.tolist() == [0, 0, 0, 0]
    assert plan.leg.tolist() == [FLATTEN, 0, FLATTEN, 0]
    assert plan.lots.tolist() == [100, 0, 50, 0] and plan.limit_ticks.tolist() == [0, 0, 0, 0]
    assert plan.approved[[0, 2]].all()


def test_reductions_pass_exposure_limits_but_keep_collar_and_budget() -> None:
    wall = {"max_gross": 0.0, "max_position": 0.0, "max_positions": 0, "max_leverage": 0.0, "max_sector": 0.0}
    shut = {"coverage": 0.0, "trading_blocked": True, "model_age": 999, "kill_level": 2}
    plan, _ = Scene(limits=wall, row=shut, prepare=with_positions(100), wanted=()).run()
    assert plan.approved[0]
    plan, _ = Scene(cells={"quote_mid": {0: 111.0}}, prepare=with_positions(100), wanted=()).run()
    assert plan.outcome[0, CheckCode.PRICE_COLLAR] == DENIED
    plan, _ = Scene(limits={"max_orders_per_row": 1}, prepare=with_positions(100, 90), wanted=()).run()
    assert plan.approved.tolist() == [True, False, False, False] and plan.denied[CheckCode.ORDER_BUDGET] == 1


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(-800, 800), min_size=WIDTH, max_size=WIDTH),
    st.lists(st.integers(0, 900), min_size=2 * WIDTH, max_size=2 * WIDTH),
    st.sets(st.integers(0, WIDTH - 1)),
    st.integers(0, 3),
)
def test_a_reduction_never_crosses_zero(lots: list[int], working: list[int], wanted: set[int], level: int) -> None:
    def prepare(state: AccountState) -> None:
        with_positions(*lots)(state)
        state.working_buy[:] = working[:WIDTH]
        state.working_sell[:] = working[WIDTH:]

    plan, _ = Scene(prepare=prepare, wanted=tuple(wanted), row={"kill_level": level}).run()
    for s in range(WIDTH):
        if plan.leg[s] in (REDUCE, FLATTEN):
            working_reductions = working[WIDTH + s] if lots[s] > 0 else working[s]
            assert int(plan.side[s]) * lots[s] < 0
            assert 0 < plan.lots[s] <= abs(lots[s]) - working_reductions
            assert plan.outcome[s, CheckCode.CROSSES_ZERO] == ALLOWED
        if plan.approved[s] and plan.leg[s] == ENTER:
            assert int(plan.side[s]) * lots[s] >= 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 500), min_size=WIDTH, max_size=WIDTH), st.sets(st.integers(0, WIDTH - 1)), st.floats(0.001, 0.1))
def test_the_same_inputs_give_the_same_bytes_and_change_no_position(lots: list[int], wanted: set[int], volatility: float) -> None:
    scene = Scene(prepare=with_positions(*lots), wanted=tuple(wanted), row={"volatility": np.full(WIDTH, volatility)})
    first, after = scene.run()
    second, again = scene.run()
    assert [values.tobytes() for values in first] == [values.tobytes() for values in second]
    assert [values.tobytes() for values in after] == [values.tobytes() for values in again]
    fresh = empty_account(WIDTH, scene.cash)
    with_positions(*lots)(fresh)
    assert after.position.tolist() == fresh.position.tolist() and after.cash[0] == fresh.cash[0]


@settings(max_examples=300, deadline=None)
@given(st.integers(-900, 900), st.integers(-900, 900), st.integers(0, 900), st.integers(0, 900))
def test_a_change_of_side_passes_through_flat(position: int, target: int, buying: int, selling: int) -> None:
    side, lots, reduction = order_toward(target, position, buying, selling)
    assert lots >= 0
    if reduction and lots:
        assert side * position < 0 and lots <= abs(position) - (selling if position > 0 else buying)
    elif lots:
        assert side * position >= 0 and (position + side * lots - target) * side <= 0


def test_daily_orders_become_valid_after_the_next_opens_toxic_minutes() -> None:
    plan, _ = Scene(timeframe="1Day").run()
    assert (plan.valid_from[0], plan.expires_at[0]) == (OPEN + DAY_NS + 5 * MINUTE_NS, 0)
    plan, _ = Scene().run()
    assert (plan.valid_from[0], plan.expires_at[0]) == (17 * HOUR_NS, 17 * HOUR_NS + 60 * 1_000_000_000)


def test_the_decision_remembers_the_entrys_atr_and_counts_its_orders() -> None:
    _, state = Scene(wanted=(1, 2)).run()
    assert state.entry_atr[2] == 0.02 and math.isnan(state.entry_atr[0]) and state.trades_today[0] == 2
