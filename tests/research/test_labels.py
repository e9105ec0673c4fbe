from __future__ import annotations

import numpy as np
import pytest
from panels import panel_of, random_closes

from trading_platform.contracts.errors import InputError
from trading_platform.research.label_rules import ForwardReturn, TripleBarrier
from trading_platform.research.labels import NEVER, demeaned, forward_return, make, neutral


def test_a_label_is_bought_in_the_next_row_and_sold_a_horizon_later() -> None:
    close = np.array([[10.0], [20.0], [30.0], [60.0], [90.0]])
    labels = forward_return(panel_of(close), 2)
    np.testing.assert_allclose(labels.values[:2, 0], [60 / 20 - 1, 90 / 30 - 1])
    assert np.isnan(labels.values[2:]).all()
    assert labels.name == "forward_return_2" and labels.horizon == 2


def test_prices_are_those_of_the_fills() -> None:
    close = np.array([[10.0], [10.0], [10.0], [10.0]])
    high, vwap = close + 3.0, np.array([[np.nan], [np.nan], [12.0], [12.0]])
    labels = forward_return(panel_of(close, high=high, vwap=vwap), 1)
    assert labels.values[0, 0] == pytest.approx(12.0 / 11.0 - 1.0)


def test_rows_without_a_full_horizon_are_absent_and_never_known() -> None:
    close = random_closes(np.random.default_rng(0), 10, 3)
    panel = panel_of(close)
    labels = forward_return(panel, 4)
    assert np.isfinite(labels.values[:5]).all() and np.isnan(labels.values[5:]).all()
    assert (labels.t1[5:] == NEVER).all() and (labels.t1[:5] == panel.known_at[5:]).all() and (labels.t0 == panel.known_at).all()


def test_dividends_and_splits_are_part_of_the_return() -> None:
    close = np.array([[100.0], [100.0], [25.0], [25.0]])
    factor = np.array([[1.0], [1.0], [4.2], [4.2]])
    assert forward_return(panel_of(close, return_factor=factor), 1).values[0, 0] == pytest.approx(0.05)


def test_a_missed_exit_has_no_label_and_a_delisted_name_settles_at_its_last_close() -> None:
    close = random_closes(np.random.default_rng(1), 8, 3)
    close[3, 0] = np.nan
    close[4:, 1] = np.nan
    labels = forward_return(panel_of(close), 2)
    assert np.isnan(labels.values[0, 0]) and np.isnan(labels.values[2, 0])
    assert labels.values[1, 1] == pytest.approx(close[3, 1] / close[2, 1] - 1) and labels.values[2, 1] == pytest.approx(0.0)
    assert np.isnan(labels.values[3, 1])


def test_intraday_labels_stay_inside_their_session() -> None:
    close = random_closes(np.random.default_rng(2), 12, 2)
    labels = forward_return(panel_of(close, "1Min", rows_per_session=6), 2)
    assert np.isfinite(labels.values[[0, 1, 2, 6, 7, 8]]).all() and np.isnan(labels.values[[3, 4, 5, 9, 10, 11]]).all()


def test_intraday_barriers_stay_inside_their_session_too() -> None:
    panel = panel_of(random_closes(np.random.default_rng(14), 60, 2), "1Min", rows_per_session=20)
    labels = make(panel, TripleBarrier(horizon=4, volatility_rows=5))
    crosses = np.arange(60) % 20 + 5 >= 20
    assert np.isnan(labels.values[crosses]).all() and np.isfinite(labels.values[~crosses][5:]).all()


def test_demeaned_labels_have_mean_zero_over_members() -> None:
    panel = panel_of(random_closes(np.random.default_rng(3), 12, 6))
    panel.member[:, 0] = False
    labels = forward_return(panel, 2, demean=True)
    np.testing.assert_allclose(np.nanmean(labels.values[:9, 1:], axis=1), 0.0, atol=1e-15)
    assert labels.name.endswith("_demeaned")


def test_the_future_of_a_label_is_its_horizon_and_nothing_later() -> None:
    close = random_closes(np.random.default_rng(4), 30, 4)
    before = forward_return(panel_of(close), 5).values
    close[20:] *= 3.0
    after = forward_return(panel_of(close), 5).values
    np.testing.assert_array_equal(before[:14], after[:14])
    assert (before[14:19] != after[14:19]).all()


def test_bad_input_is_named() -> None:
    panel = panel_of(np.ones((5, 2)))
    with pytest.raises(InputError, match="horizon 0"):
        forward_return(panel, 0)
    panel.known_at[1] = panel.timestamp[2] + 1
    with pytest.raises(InputError, match="row 1 is known only after row 2 began"):
        forward_return(panel, 1)


def test_sector_neutral_labels_are_worked_out_on_paper() -> None:
    values = np.array([[0.01, 0.03, 0.10, 0.20, 0.60, np.nan, 0.5], [np.nan, 0.03, 0.10, np.nan, 0.60, 0.2, 0.5]])
    member = np.ones(values.shape, np.bool_)
    member[0, 3] = False
    found = neutral(values, member, np.array([0, 0, 1, 1, 1, 2, -1]))
    # of sector 1 in row 0, 0.20 is not a member's: the mean is (0.10 + 0.60) / 2; a sector of one has no mean to be above
    expected = [[-0.01, 0.01, -0.25, -0.15, 0.25, np.nan, np.nan], [np.nan, np.nan, -0.25, np.nan, 0.25, np.nan, np.nan]]
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_a_sector_neutral_rule_reads_the_sectors_it_is_given() -> None:
    panel = panel_of(random_closes(np.random.default_rng(5), 20, 6))
    sectors = np.array([0, 0, 0, 4, 4, 4])
    labels = make(panel, ForwardReturn(horizon=3, neutral="sector"), sectors)
    np.testing.assert_allclose(labels.values[:16, :3], labels.raw[:16, :3] - labels.raw[:16, :3].mean(axis=1, keepdims=True))
    np.testing.assert_array_equal(labels.raw, forward_return(panel, 3).values)
    with pytest.raises(InputError, match="needs the sectors of 6 instruments"):
        make(panel, ForwardReturn(horizon=3, neutral="sector"), sectors[:5])


def test_scaled_labels_are_returns_in_volatilities_known_at_the_decision() -> None:
    close = random_closes(np.random.default_rng(6), 60, 3)
    labels = make(panel_of(close), ForwardReturn(horizon=4, volatility_rows=20))
    logs = np.diff(np.log(close), axis=0)
    t = 30
    width = logs[t - 20 : t].std(axis=0, ddof=1) * 2.0
    np.testing.assert_allclose(labels.values[t], (close[t + 5] / close[t + 1] - 1.0) / width, rtol=1e-9)
    assert np.isnan(labels.values[:20]).all() and np.isfinite(labels.values[20:55]).all() and labels.name == "forward_return_4_scaled"
    both = make(panel_of(close), ForwardReturn(horizon=4, volatility_rows=20, neutral="market"))
    np.testing.assert_allclose(both.values[20:55], labels.values[20:55] - labels.values[20:55].mean(axis=1, keepdims=True))


def test_a_name_that_never_moves_has_no_scaled_label() -> None:
    close = random_closes(np.random.default_rng(7), 40, 2)
    close[:, 1] = 10.0
    labels = make(panel_of(close), ForwardReturn(horizon=4, volatility_rows=20))
    assert np.isfinite(labels.values[20:35, 0]).all() and np.isnan(labels.values[:, 1]).all()


def test_the_only_member_of_a_row_has_no_relative_label() -> None:
    panel = panel_of(random_closes(np.random.default_rng(8), 12, 3))
    panel.member[:, 1:] = False
    assert np.isnan(forward_return(panel, 2, demean=True).values).all()


def test_a_stated_delisting_return_is_part_of_the_settlement() -> None:
    close = random_closes(np.random.default_rng(9), 12, 2)
    close[6:, 1] = np.nan
    honest, lost = (make(panel_of(close), ForwardReturn(horizon=3, delisting_return=x)).values for x in (0.0, -0.3))
    np.testing.assert_array_equal(honest[:, 0], lost[:, 0])
    np.testing.assert_allclose(lost[[2, 3, 4], 1], (1.0 + honest[[2, 3, 4], 1]) * 0.7 - 1.0)
    np.testing.assert_array_equal(honest[:2, 1], lost[:2, 1])


def test_every_cell_says_when_its_outcome_was_known() -> None:
    close = random_closes(np.random.default_rng(10), 12, 3)
    close[4, 0] = np.nan
    panel = panel_of(close)
    labels = forward_return(panel, 3)
    there = np.isfinite(labels.values)
    np.testing.assert_array_equal(labels.exits, np.where(there, np.arange(12)[:, np.newaxis] + 4, -1))
    np.testing.assert_array_equal(labels.ends, np.where(there, panel.known_at[np.minimum(labels.exits, 11)], NEVER))
    assert not there[0, 0] and not there[3, 0] and there[1, 0]


def test_what_is_left_before_a_row_was_known_before_it() -> None:
    panel = panel_of(random_closes(np.random.default_rng(11), 60, 3))
    for rule in (ForwardReturn(horizon=4), TripleBarrier(horizon=6, volatility_rows=10)):
        labels = make(panel, rule)
        cut = labels.before(40)
        kept = np.isfinite(cut.values)
        known = labels.t1[:40] < panel.known_at[40]
        np.testing.assert_array_equal(kept, np.isfinite(labels.values[:40]) & known[:, np.newaxis])
        assert (cut.ends[kept] < panel.known_at[40]).all() and (cut.ends[~kept] == NEVER).all() and (cut.exits[~kept] == -1).all()
        assert np.isnan(cut.raw[~kept]).all() and cut.t0.size == cut.t1.size == 40


def test_demeaning_raw_labels_is_the_market_neutral_rule() -> None:
    panel = panel_of(random_closes(np.random.default_rng(12), 20, 4))
    one, other = demeaned(forward_return(panel, 3), panel.member), make(panel, ForwardReturn(horizon=3, neutral="market"))
    np.testing.assert_array_equal(one.values, other.values)
    assert one.name == other.name and one.rule == other.rule


@pytest.mark.parametrize("rule", [ForwardReturn(horizon=5), TripleBarrier(horizon=5)])
def test_a_horizon_that_crosses_the_end_of_the_data_is_refused(rule: ForwardReturn | TripleBarrier) -> None:
    close = random_closes(np.random.default_rng(13), 7, 2)
    with pytest.raises(InputError, match="the horizon of 5 rows crosses the end of the data: a panel of 6 rows"):
        make(panel_of(close[:6]), rule)
    assert np.isfinite(forward_return(panel_of(close), 5).values[0]).all()
