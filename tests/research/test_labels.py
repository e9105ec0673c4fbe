from __future__ import annotations

import numpy as np
import pytest
from panels import panel_of, random_closes

from trading_platform.contracts.errors import InputError
from trading_platform.research.labels import NEVER, forward_return


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
