"""One compiled row: every check where it denies and where it does not, the sequence, the provisional book, T13, T14, T17, T19, T23."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_market import DAY_NS, HOUR_NS, MINUTE_NS

from trading_platform.contracts.checks import CheckCode, KillLevel
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import Execution, Limits, ModelRules, Profile, Strategy
from trading_platform.engine import account as accounts
from trading_platform.engine.account import AccountState, Grid, empty_account
from trading_platform.engine.decide import decide_row, order_toward
from trading_platform.engine.risk.position import crosses_zero, not_member, position_limit
from trading_platform.engine.rows import ALLOWED, DENIED, ENTER, FLATTEN, NOT_APPLIED, REDUCE, Plan, Row, empty_book, empty_plan, numbers_of
from trading_platform.engine.sizing import target_lots

WIDTH = 4
OPEN, CLOSE = 14 * HOUR_NS, 21 * HOUR_NS
GRID = Grid(np.full(WIDTH, 100, np.int64), np.ones(WIDTH, np.int64), np.zeros(WIDTH, np.bool_))


def base_row() -> Row:
    """All four at 100, all members, ready, quoted; nothing held by the strategy."""
    return Row(
        close=np.full(WIDTH, 100.0),
        present=np.ones(WIDTH, np.bool_),
        member=np.ones(WIDTH, np.bool_),
        alpha=np.arange(WIDTH, dtype=np.float64),
        held=np.zeros(WIDTH, np.bool_),
        ready=np.ones(WIDTH, np.bool_),
        volatility=np.full(WIDTH, 1e-4),  # calm enough that the caps bind, not the volatility target
        atr=np.full(WIDTH, 0.02),
        quote_mid=np.full(WIDTH, 100.0),
        quote_age_s=np.zeros(WIDTH),
        adv_lots=np.full(WIDTH, 1e7),
        sector=np.arange(WIDTH, dtype=np.int64),
        coverage=1.0,
        known_at=17 * HOUR_NS,
        session_open=OPEN,
        session_close=CLOSE,
        next_open=OPEN + DAY_NS,
        kill_level=0,
        model_age=0,
        trading_blocked=False,
    )


@dataclass
class Scene:
    """One row to decide. By default instrument 2 is wanted and everything allows it."""

    limits: dict[str, Any] = field(default_factory=dict)
    strategy: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    timeframe: str = "1Min"
    wanted: tuple[int, ...] = (2,)
    cash: float = 1_000_000.0
    row: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, dict[int, Any]] = field(default_factory=dict)
    prepare: Callable[[AccountState], None] = lambda state: None
    shortable: bool = False

    def profile(self) -> Profile:
        return Profile(
            "scene",
            limits=replace(Limits(), **self.limits),
            strategy=replace(Strategy(), **self.strategy),
            execution=replace(Execution(), **self.execution),
            models=ModelRules(),
        )

    def run(self) -> tuple[Plan, AccountState]:
        row = base_row()._replace(**self.row)
        for column in self.wanted:
            row.held[column] = True
        for name, values in self.cells.items():
            for column, value in values.items():
                getattr(row, name)[column] = value
        state, plan = empty_account(WIDTH, self.cash), empty_plan(WIDTH)
        accounts.mark_row(state, np.full(WIDTH, 100.0), np.ones(WIDTH, np.bool_), GRID)
        self.prepare(state)
        grid = GRID._replace(shortable=np.full(WIDTH, self.shortable))
        decide_row(state, row, numbers_of(self.profile(), self.timeframe), grid, plan, empty_book(WIDTH))
        return plan, state


def hold(state: AccountState, s: int, lots: int, price: float = 100.0) -> None:
    state.entry_atr[s] = 0.02
    accounts.apply_fill(state, s, 1 if lots > 0 else -1, abs(lots), price * 100.0, GRID, 3.0, False)


def with_positions(*lots: int) -> Callable[[AccountState], None]:
    def prepare(state: AccountState) -> None:
        for s, count in enumerate(lots):
            if count:
                hold(state, s, count)

    return prepare


def put(name: str, value: Any, s: int | None = None) -> Callable[[AccountState], None]:
    def prepare(state: AccountState) -> None:
        getattr(state, name)[0 if s is None else s] = value

    return prepare


def together(*steps: Callable[[AccountState], None]) -> Callable[[AccountState], None]:
    def prepare(state: AccountState) -> None:
        for step in steps:
            step(state)

    return prepare


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
        Scene(prepare=put("session_high_equity", 1_020_409.0)),
        Scene(prepare=put("session_high_equity", 1_020_407.0)),
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
def test_each_check_denies_over_its_limit_and_allows_at_it(code: CheckCode) -> None:
    denying, allowing = CASES[code]
    plan, _ = denying.run()
    assert (plan.outcome[:, code] == DENIED).sum() == 1 and plan.denied[code] == 1
    acting = plan.outcome[:, code] == DENIED
    assert not plan.approved[acting].any()
    plan, _ = allowing.run()
    assert (plan.outcome[:, code] != DENIED).all() and plan.denied[code] == 0
    assert plan.approved[2]


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


def test_no_check_short_circuits_another() -> None:
    plan, _ = Scene(row={"kill_level": 1, "coverage": 0.5, "trading_blocked": True}).run()
    denied = {CheckCode(code).name for code in np.flatnonzero(plan.outcome[2] == DENIED)}
    assert denied == {"KILL_SWITCH", "COVERAGE", "ACCOUNT_FLAGS"}
    assert (plan.outcome[2] != NOT_APPLIED).sum() == len(CheckCode) - 1  # all but CROSSES_ZERO, which belongs to reductions
    assert np.isfinite(plan.limit).all() and np.isfinite(plan.value).all()


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


def test_a_price_without_a_mark_to_hold_it_against_opens_nothing_and_still_closes() -> None:
    blind = {"present": {0: False, 2: False}}
    plan, _ = Scene(cells=blind, prepare=put("mark", np.nan, 2)).run()
    assert plan.outcome[2, CheckCode.PRICE_COLLAR] == DENIED and not plan.approved[2]
    plan, _ = Scene(cells=blind, prepare=together(with_positions(100), put("mark", np.nan, 0)), wanted=()).run()
    assert plan.approved[0] and plan.leg[0] == REDUCE


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


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 5_000), st.integers(100, 50_000), st.sampled_from([0.03, 0.05, 0.07, 0.1]))
def test_a_value_equal_to_its_cap_is_never_over_it(lots: int, ticks: int, cap: float) -> None:
    price = ticks / 100
    equity = lots * price / cap
    sized = target_lots(cap, equity, price, 1)
    assert position_limit(sized * price, equity, cap)[2] and sized in (lots, lots - 1)


def test_equal_risk_shares_the_budget_by_volatility_and_keeps_every_cap() -> None:
    free = {"max_position": 1.0, "max_risk_per_trade": 1.0}
    plan, _ = Scene(wanted=(0, 1, 2), limits=free, strategy={"annual_volatility_target": 99.0, "target_gross": 0.6}).run()
    assert plan.exposure == pytest.approx([0.2, 0.2, 0.2, 0.0])
    cells = {"volatility": {0: 2e-4}}
    plan, _ = Scene(wanted=(0, 1, 2), limits=free, cells=cells, strategy={"annual_volatility_target": 99.0, "target_gross": 0.5}).run()
    assert plan.exposure == pytest.approx([0.1, 0.2, 0.2, 0.0])
    # a yearly target of 10 % over two names of 1 % a day (15.9 % a year): 0.1 / 2 / 0.1587 each
    plan, _ = Scene(wanted=(0, 1), limits=free, timeframe="1Day", row={"volatility": np.full(WIDTH, 0.01)}).run()
    assert plan.exposure == pytest.approx([0.05 / (0.01 * math.sqrt(252)), 0.05 / (0.01 * math.sqrt(252)), 0.0, 0.0])
    plan, _ = Scene(wanted=(0,), limits={"max_risk_per_trade": 0.0024}).run()  # a 6 % stop: 4 % of equity
    assert plan.exposure[0] == pytest.approx(0.04)
    plan, _ = Scene(wanted=(0, 1), cells={"volatility": {0: math.nan}}).run()
    assert math.isnan(plan.exposure[0]) and plan.target[0] == 0 and plan.target[1] > 0


def test_capital_is_shared_among_what_can_be_held_best_alpha_first() -> None:
    one = Scene(wanted=(0, 1, 2), limits={"max_positions": 1, "max_position": 1.0, "max_risk_per_trade": 1.0, "max_sector": 1.0})
    plan, _ = one.run()
    assert plan.exposure == pytest.approx([0.0, 0.0, 0.9, 0.0]) and plan.approved.tolist() == [False, False, True, False]
    plan, _ = replace(one, prepare=with_positions(100)).run()  # what is held keeps its place
    assert plan.exposure == pytest.approx([0.9, 0.0, 0.0, 0.0])
    plan, _ = replace(one, cells={"alpha": {2: math.nan}}).run()
    assert plan.exposure == pytest.approx([0.0, 0.9, 0.0, 0.0])


def test_a_sized_order_at_its_cap_passes_its_own_limit_at_the_limit_price() -> None:
    plan, _ = Scene().run()
    assert plan.approved[2] and plan.exposure[2] == pytest.approx(0.05)
    assert plan.value[2, CheckCode.POSITION_LIMIT] == pytest.approx(0.05, rel=5e-3)
    assert plan.limit_ticks[2] == 10_005


def test_small_changes_of_a_held_position_are_left_alone() -> None:
    plan, _ = Scene(prepare=with_positions(0, 0, 450)).run()
    assert plan.target[2] == 450 and plan.acting[0] == 0
    plan, _ = Scene(prepare=with_positions(0, 0, 300)).run()
    assert plan.target[2] == 499 and plan.lots[2] == 199


def test_without_any_alpha_positions_are_kept_and_nothing_is_entered() -> None:
    silent = {"alpha": np.full(WIDTH, np.nan)}
    plan, _ = Scene(row=silent, prepare=with_positions(100), wanted=()).run()
    assert plan.target.tolist() == [100, 0, 0, 0] and plan.acting[0] == 0


def test_a_stopped_out_name_waits_until_its_signal_has_left() -> None:
    plan, state = Scene(prepare=put("stopped", True, 2)).run()
    assert plan.target[2] == 0 and state.stopped[2]
    _, state = Scene(prepare=put("stopped", True, 2), wanted=()).run()
    assert not state.stopped[2]


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


def test_daily_orders_become_valid_after_the_next_opens_toxic_minutes() -> None:
    plan, _ = Scene(timeframe="1Day").run()
    assert (plan.valid_from[0], plan.expires_at[0]) == (OPEN + DAY_NS + 5 * MINUTE_NS, 0)
    plan, _ = Scene().run()
    assert (plan.valid_from[0], plan.expires_at[0]) == (17 * HOUR_NS, 17 * HOUR_NS + 60 * 1_000_000_000)


def test_the_decision_remembers_the_entrys_atr_and_counts_its_orders() -> None:
    _, state = Scene(wanted=(1, 2)).run()
    assert state.entry_atr[2] == 0.02 and math.isnan(state.entry_atr[0]) and state.trades_today[0] == 2


def test_a_sleeve_without_capital_is_refused() -> None:
    with pytest.raises(InputError, match="capital"):
        numbers_of(Scene(strategy={"capital": 0.0}).profile(), "1Day")
    with pytest.raises(InputError, match="timeframe"):
        numbers_of(Scene().profile(), "7Min")
