"""The account's fold: P&L by hand, conservation as a property, corporate actions without a jump in equity, state bytes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_market import instruments_of

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.instruments import price_ticks as contract_ticks
from trading_platform.engine import account as accounts
from trading_platform.engine.account import AccountState, empty_account, grid_of
from trading_platform.engine.price_grid import catastrophe_stop_ticks, price_ticks

GRID = grid_of(instruments_of(2))
IDS = tuple(instrument.instrument_id for instrument in instruments_of(2))
EVERY = np.ones(2, np.bool_)


def fill(state: AccountState, s: int, side: int, lots: int, ticks: float, protective: bool = False) -> None:
    accounts.apply_fill(state, s, side, lots, ticks, GRID, 3.0, protective)


def mark(state: AccountState, *closes: float) -> float:
    return float(accounts.mark_row(state, np.array(closes), EVERY, GRID))


def test_a_round_trip_by_hand() -> None:
    state = empty_account(2, 10_000.0)
    fill(state, 0, 1, 10, 10_000)  # 10 at 100
    fill(state, 0, 1, 30, 11_000)  # 30 at 110: average 107.50
    assert state.avg_cost[0] == 107.5
    assert state.cash[0] == 10_000.0 - 1_000.0 - 3_300.0
    fill(state, 0, -1, 15, 12_000)  # 15 x (120 - 107.50) = 187.50
    assert (state.realised[0], state.trip_pnl[0], state.position[0], state.avg_cost[0]) == (187.5, 187.5, 25, 107.5)
    assert mark(state, 108.0, math.nan) == 10_000.0 - 1_000.0 - 3_300.0 + 1_800.0 + 25 * 108.0
    fill(state, 0, -1, 25, 9_000)  # 25 x (90 - 107.50) = -437.50: the trip lost 250
    assert (state.realised[0], state.position[0], state.avg_cost[0], state.trip_pnl[0]) == (-250.0, 0, 0.0, 0.0)
    assert state.loss_streak[0] == 1
    assert state.cash[0] == 10_000.0 - 250.0


def test_the_first_fill_fixes_the_stop_and_flat_forgets_it() -> None:
    state = empty_account(2, 10_000.0)
    state.entry_atr[0] = 0.02
    fill(state, 0, 1, 10, 10_000)
    assert state.stop_ticks[0] == 9_400  # 100 x (1 - 3 x 0.02)
    fill(state, 0, 1, 10, 12_000)
    assert state.stop_ticks[0] == 9_400  # kept until flat
    fill(state, 0, -1, 20, 9_400, protective=True)
    assert state.stop_ticks[0] == 0 and state.stopped[0] and math.isnan(state.entry_atr[0])


def test_a_fill_through_zero_closes_one_trip_and_opens_the_next() -> None:
    state = empty_account(2, 10_000.0)
    fill(state, 0, 1, 10, 10_000)
    fill(state, 0, -1, 15, 9_000)
    assert (state.position[0], state.avg_cost[0], state.realised[0], state.loss_streak[0]) == (-5, 90.0, -100.0, 1)
    fill(state, 0, 1, 5, 8_000)
    assert (state.position[0], state.realised[0], state.loss_streak[0]) == (0, -50.0, 0)


fills = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([1, -1]), st.integers(1, 500), st.integers(100, 50_000)), min_size=1, max_size=40
)


@settings(max_examples=300, deadline=None)
@given(fills, st.integers(100, 50_000), st.integers(100, 50_000))
def test_cash_and_positions_conserve_value(trades: list[tuple[int, int, int, int]], last0: int, last1: int) -> None:
    """Equity change = realised P&L + open P&L, and both equal an exact cash ledger."""
    state = empty_account(2, 1_000_000.0)
    ledger, held = Fraction(1_000_000), [0, 0]
    for s, side, lots, ticks in trades:
        fill(state, s, side, lots, ticks)
        ledger -= Fraction(side * lots * ticks, 100)
        held[s] += side * lots
    equity = mark(state, last0 / 100, last1 / 100)
    exact = ledger + Fraction(held[0] * last0, 100) + Fraction(held[1] * last1, 100)
    assert state.position.tolist() == held
    assert equity == pytest.approx(float(exact), abs=0.005)
    open_pnl = sum(held[s] * (last - state.avg_cost[s]) for s, last in ((0, last0 / 100), (1, last1 / 100)))
    assert equity - 1_000_000.0 == pytest.approx(state.realised.sum() + open_pnl, abs=0.005)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(-1_000, 1_000).filter(bool),
    st.integers(500, 50_000),
    st.sampled_from([4.0, 2.0, 1.5, 0.1, 1 / 3, 1.0]),
    st.sampled_from([0.0, 0.25, 1.0]),
)
def test_equity_is_continuous_over_splits_and_dividends(lots: int, ticks: int, ratio: float, dividend: float) -> None:
    state = empty_account(2, 100_000.0)
    state.entry_atr[0] = 0.03
    fill(state, 0, 1 if lots > 0 else -1, abs(lots), ticks)
    before = mark(state, ticks / 100, math.nan)
    pnl = state.realised[0] + lots * (ticks / 100 - state.avg_cost[0])
    accounts.apply_action(state, 0, ratio, dividend, GRID)
    accounts.start_session(state, 5, GRID)
    fraction_dividend = abs(lots * ratio - state.position[0]) * dividend  # a fraction is cashed and still earns the dividend: < 1 share's
    assert state.session_start_equity[0] == pytest.approx(before, abs=0.005 + fraction_dividend)
    after = state.realised[0] + state.position[0] * (state.mark[0] - state.avg_cost[0])
    assert after == pytest.approx(pnl, abs=0.005 + fraction_dividend)
    if ratio != 1.0 and state.position[0] != 0:
        old_stop = catastrophe_stop_ticks(ticks / 100, lots, 0.03, 3.0, 100)
        assert abs(state.stop_ticks[0] - old_stop / ratio) <= 1.0


@settings(max_examples=100, deadline=None)
@given(fills)
def test_fractions_of_a_unit_conserve_value_too(trades: list[tuple[int, int, int, int]]) -> None:
    coins = (Instrument("crypto:A", "A", "crypto", 100, 10_000), Instrument("crypto:B", "B", "crypto", 10_000, 1_000))
    grid, state, ledger = grid_of(coins), empty_account(2, 1_000.0), Fraction(1_000)
    for s, side, lots, ticks in trades:
        accounts.apply_fill(state, s, side, lots, ticks, grid, 3.0, False)
        ledger -= Fraction(side * lots * ticks, coins[s].lots_per_unit * coins[s].ticks_per_unit)
    assert state.cash[0] == pytest.approx(float(ledger), abs=1e-6)
    open_pnl = sum(state.position[s] / coins[s].lots_per_unit * (5.0 - state.avg_cost[s]) for s in (0, 1))
    equity = accounts.mark_row(state, np.full(2, 5.0), EVERY, grid)
    assert equity - 1_000.0 == pytest.approx(state.realised.sum() + open_pnl, abs=1e-6)


def test_a_split_without_position_still_moves_the_mark() -> None:
    state = empty_account(2, 1.0)
    mark(state, 100.0, 50.0)
    assert accounts.apply_action(state, 0, 4.0, 0.0, GRID) == 0.0
    assert state.mark.tolist() == [25.0, 50.0]


def test_a_deposit_is_neither_gain_nor_drawdown_and_a_fee_is_a_loss() -> None:
    state = empty_account(2, 1_000.0)
    accounts.start_session(state, 1, GRID)
    accounts.apply_flow(state, 500.0)
    assert state.session_high_equity[0] == state.session_start_equity[0] == 1_500.0
    accounts.apply_cash(state, -10.0)
    assert (state.cash[0], state.session_high_equity[0]) == (1_490.0, 1_500.0)


@settings(max_examples=500, deadline=None)
@given(st.floats(0.0001, 1e6), st.sampled_from([1, -1]), st.sampled_from([1, 10, 100, 10_000]))
def test_the_compiled_price_grid_is_the_contracts(price: float, side: int, per_unit: int) -> None:
    assert price_ticks(price, side, per_unit) == contract_ticks(price, side, per_unit)


def test_a_stop_needs_a_position_and_an_atr() -> None:
    assert catastrophe_stop_ticks(100.0, 10, 0.02, 3.0, 100) == 9_400
    assert catastrophe_stop_ticks(100.0, -10, 0.02, 3.0, 100) == 10_600
    assert catastrophe_stop_ticks(100.0, 0, 0.02, 3.0, 100) == 0
    assert catastrophe_stop_ticks(100.0, 10, math.nan, 3.0, 100) == 0
    assert catastrophe_stop_ticks(100.0, 10, 0.5, 3.0, 100) == 1  # below zero: one tick


def test_state_bytes_round_trip_and_move_to_another_axis() -> None:
    state = empty_account(2, 5_000.0)
    state.entry_atr[1] = 0.02
    fill(state, 1, 1, 7, 12_345)
    data = accounts.to_bytes(state, IDS)
    assert accounts.to_bytes(accounts.from_bytes(data, IDS), IDS) == data
    wider = accounts.from_bytes(data, ("us:A", *IDS))
    assert wider.position.tolist() == [0, 0, 7] and wider.cash[0] == state.cash[0]
    assert accounts.state_hash(state, IDS) != accounts.state_hash(wider, ("us:A", *IDS))
    with pytest.raises(CorruptionError, match="us:S001 is held"):
        accounts.from_bytes(data, IDS[:1])
    with pytest.raises(CorruptionError, match="format"):
        accounts.from_bytes(b'{"format":"other"}', IDS)


def test_instruments_out_of_order_are_refused() -> None:
    with pytest.raises(InputError, match="ascending"):
        grid_of((Instrument("us:B", "B"), Instrument("us:A", "A")))
