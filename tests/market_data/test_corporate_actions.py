"""Factors: causal, equal in batch and in steps, and the position arithmetic that conserves value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.market_data.corporate_actions import ActionTable, CorporateAction, FactorState, apply_to_position, factors

IDS = ("us:A", "us:B", "us:C")
RATIOS = (4.0, 0.1, 1.5, 1.0)


@st.composite
def markets(draw: st.DrawFn) -> tuple[ActionTable, np.ndarray, np.ndarray, np.ndarray]:
    """A table of events, a session axis with repeated days (intraday) and skipped days, closes and presence."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    rows = draw(st.integers(2, 40))
    session = 15_000 + np.cumsum(rng.integers(0, 3, rows))
    close = np.round(rng.uniform(5.0, 500.0, (rows, len(IDS))), 2)
    present = rng.random(close.shape) > 0.3
    events = {}
    for _ in range(draw(st.integers(0, 12))):
        key = (int(rng.integers(session[0] - 2, session[-1] + 3)), IDS[rng.integers(len(IDS))])
        events[key] = CorporateAction(*key, float(rng.choice(RATIOS)), float(rng.choice((0.0, 0.25, 0.4))))
    return ActionTable(events.values()), session.astype(np.int64), np.where(present, close, np.nan), present


def scan(
    actions: ActionTable, session: np.ndarray, close: np.ndarray, present: np.ndarray, cuts: set[int]
) -> tuple[np.ndarray, np.ndarray]:
    state = FactorState(actions, IDS)
    split, total = np.empty(close.shape), np.empty(close.shape)
    for row in range(len(session)):
        if row in cuts:  # a restart: everything through bytes
            saved = state.state_bytes()
            state = FactorState(actions, IDS)
            state.load_state(saved)
        split[row], total[row] = state.open_row(int(session[row]))
        state.close_row(close[row], present[row])
    return split, total


@settings(max_examples=150, deadline=None)
@given(markets(), st.sets(st.integers(0, 39), max_size=5))
def test_row_by_row_with_restarts_gives_the_bits_of_the_whole_panel(market: tuple, cuts: set[int]) -> None:
    actions, session, close, present = market
    whole_split, whole_total = factors(actions, IDS, session, close, present)
    stepped_split, stepped_total = scan(actions, session, close, present, cuts)
    assert np.array_equal(whole_split, stepped_split)
    assert np.array_equal(whole_total, stepped_total)


@settings(max_examples=80, deadline=None)
@given(markets(), st.integers(1, 39), st.integers(0, 2**32 - 1))
def test_the_future_moves_no_past_factor(market: tuple, cut: int, seed: int) -> None:
    actions, session, close, present = market
    cut = min(cut, len(session) - 1)
    while cut < len(session) and session[cut] == session[cut - 1]:
        cut += 1
    rng = np.random.default_rng(seed)
    other_close = close.copy()
    other_close[cut:] *= rng.uniform(0.9, 1.1, other_close[cut:].shape)
    kept = [action for action in actions.actions if action.ex_date <= session[cut - 1]]
    later = [CorporateAction(int(session[cut - 1]) + 1, name, 3.0, 0.0) for name in IDS]
    before = factors(actions, IDS, session, close, present)
    after = factors(ActionTable([*kept, *later]), IDS, session, other_close, present)
    for old, new in zip(before, after, strict=True):
        assert np.array_equal(old[:cut], new[:cut])


def test_factors_follow_the_textbook_form_with_the_previous_close() -> None:
    session = np.array([100, 101, 102, 103], dtype=np.int64)
    close = np.array([[400.0], [100.0], [99.0], [98.0]])
    present = np.ones((4, 1), dtype=bool)
    actions = ActionTable([CorporateAction(101, "us:A", 4.0), CorporateAction(102, "us:A", 1.0, 2.0)])
    split, total = factors(actions, ("us:A",), session, close, present)
    assert split[:, 0].tolist() == [1.0, 4.0, 4.0, 4.0]
    assert total[:, 0].tolist() == [1.0, 4.0, 4.0 * (100.0 / 98.0), 4.0 * (100.0 / 98.0)]


def test_a_split_and_a_dividend_on_one_day_count_the_dividend_per_new_share() -> None:
    session, present = np.array([100, 101], dtype=np.int64), np.ones((2, 1), dtype=bool)
    close = np.array([[200.0], [99.0]])
    one_row = ActionTable([CorporateAction(101, "us:A", 2.0, 1.0)])
    two_rows = ActionTable([CorporateAction(101, "us:A", 1.0, 1.0), CorporateAction(101, "us:A", 2.0)])
    for table in (one_row, two_rows):
        _, total = factors(table, ("us:A",), session, close, present)
        assert total[1, 0] == 2.0 * (100.0 / 99.0)  # 99 held twice and 1 twice is what 200 was: a flat total return
        assert close[1, 0] * total[1, 0] == close[0, 0]


def test_an_event_on_or_before_the_first_bar_changes_nothing() -> None:
    session = np.array([100, 101], dtype=np.int64)
    close, present = np.array([[np.nan], [50.0]]), np.array([[False], [True]])
    actions = ActionTable([CorporateAction(100, "us:A", 2.0), CorporateAction(101, "us:A", 3.0, 0.5)])
    split, total = factors(actions, ("us:A",), session, close, present)
    assert split.tolist() == total.tolist() == [[1.0], [1.0]]


def test_an_impossible_dividend_is_refused_by_name() -> None:
    actions = ActionTable([CorporateAction(101, "us:A", 1.0, 60.0)])
    with pytest.raises(InputError, match=r"a dividend of 60.0 on a previous close of 50.0\n.*us:A"):
        factors(actions, ("us:A",), np.array([100, 101]), np.array([[50.0], [50.0]]), np.ones((2, 1), dtype=bool))
    with pytest.raises(InputError, match="is no corporate action"):
        CorporateAction(101, "us:A", 0.0)
    with pytest.raises(InputError, match="the same corporate action twice"):
        ActionTable([CorporateAction(101, "us:A", 2.0)] * 2)


def test_a_new_table_mid_session_does_not_apply_history_again() -> None:
    state = FactorState(ActionTable([CorporateAction(101, "us:A", 2.0)]), ("us:A",))
    for session in (100, 101):
        state.open_row(session)
        state.close_row(np.array([50.0]), np.array([True]))
    state.set_actions(ActionTable([CorporateAction(101, "us:A", 2.0), CorporateAction(102, "us:A", 5.0)]))
    assert state.open_row(101)[0][0] == 2.0
    assert state.open_row(102)[0][0] == 10.0
    with pytest.raises(InputError, match="session 101 after session 102"):
        state.open_row(101)


def test_a_state_is_reindexed_and_a_damaged_one_refused() -> None:
    state = FactorState(ActionTable([CorporateAction(101, "us:B", 2.0)]), IDS)
    for session in (100, 101):
        state.open_row(session)
        state.close_row(np.full(3, 50.0), np.ones(3, dtype=bool))
    other = FactorState(ActionTable(), ("us:B", "us:NEW"))
    other.load_state(state.state_bytes())
    assert other.open_row(102)[0].tolist() == [2.0, 1.0]
    with pytest.raises(CorruptionError, match="not a factor state"):
        other.load_state(state.state_bytes()[:100])


@settings(deadline=None)  # the first call compiles
@given(
    st.integers(-100_000, 100_000).filter(bool),
    st.sampled_from([4.0, 2.0, 1.5, 1 / 3, 0.1, 7.0]),
    st.floats(1.0, 2_000.0),
    st.floats(0.5, 1_000.0),
)
def test_a_split_conserves_value_and_never_enlarges_the_position(lots: int, ratio: float, close: float, cost: float) -> None:
    after = apply_to_position(lots, cost, 0.9 * cost, CorporateAction(1, "us:A", ratio), close)
    assert after.lots * close / ratio + after.cash_in_lieu == pytest.approx(lots * close, rel=1e-9)
    assert abs(after.lots) <= abs(lots) * ratio + 1e-6
    assert np.sign(after.lots) in (0, np.sign(lots)) and after.cash_in_lieu * lots >= 0
    assert after.stop_price / after.average_cost == pytest.approx(0.9)


def test_scenes_of_t10_on_long_and_short() -> None:
    four_for_one = apply_to_position(100, 400.0, 360.0, CorporateAction(1, "us:A", 4.0), 420.0)
    assert (four_for_one.lots, four_for_one.average_cost, four_for_one.stop_price, four_for_one.cash_in_lieu) == (400, 100.0, 90.0, 0.0)
    reverse = apply_to_position(105, 1.0, 0.9, CorporateAction(1, "us:A", 0.1), 1.2)
    assert (reverse.lots, reverse.cash_in_lieu) == (10, pytest.approx(0.5 * 12.0))
    short = apply_to_position(-105, 1.0, 1.1, CorporateAction(1, "us:A", 0.1), 1.2)
    assert (short.lots, short.cash_in_lieu) == (-10, pytest.approx(-0.5 * 12.0))
    special = apply_to_position(-200, 27.0, 29.0, CorporateAction(1, "us:MSFT", 1.0, 3.0), 29.97)
    assert (special.lots, special.dividend_cash, special.stop_price) == (-200, -600.0, 29.0)
