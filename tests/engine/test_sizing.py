"""Equal-risk sizing, its caps, and what keeps its place."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from row_scenes import WIDTH, Scene, put, with_positions

from trading_platform.contracts.checks import CheckCode
from trading_platform.contracts.errors import InputError
from trading_platform.engine.risk.position import position_limit
from trading_platform.engine.rows import numbers_of
from trading_platform.engine.sizing import target_lots


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


def test_a_sleeve_without_capital_is_refused() -> None:
    with pytest.raises(InputError, match="capital"):
        numbers_of(Scene(strategy={"capital": 0.0}).profile(), "1Day")
    with pytest.raises(InputError, match="timeframe"):
        numbers_of(Scene().profile(), "7Min")
