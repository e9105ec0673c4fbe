"""Trades that won and signs that came true, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trading_platform.research.hits import accuracy, closed_trades, win_rate


def fills(*rows: tuple[int, int, int, int]) -> np.ndarray:
    return np.array(list(rows), [(name, np.int64) for name in ("column", "side", "lots", "ticks")])


def test_a_trade_gains_against_its_average_entry_on_either_side() -> None:
    made = fills((0, 1, 10, 100), (1, -1, 5, 50), (0, 1, 30, 104), (0, -1, 20, 104), (1, 1, 5, 49), (0, -1, 20, 102), (1, 1, 5, 60))
    np.testing.assert_allclose(closed_trades(made), [1.0, 1.0, -1.0])
    assert win_rate(made) == pytest.approx(2 / 3) and np.isnan(win_rate(fills((0, 1, 10, 100))))


def test_a_fill_through_zero_closes_and_opens_at_its_own_price() -> None:
    np.testing.assert_allclose(closed_trades(fills((0, 1, 10, 100), (0, -1, 15, 90), (0, 1, 5, 80))), [-10.0, 10.0])


def test_a_sign_is_right_relative_to_its_row() -> None:
    predicted = np.array([[1.0, 2.0, 3.0, np.nan], [0.0, 0.0, 0.0, 0.0]])
    came = np.array([[-5.0, 9.0, 1.0, 4.0], [1.0, -1.0, 2.0, -2.0]])
    assert accuracy(predicted, came) == 0.5  # 1: down, down; 2: at the mean; 3: up, down
    assert accuracy(came, came) == 1.0 and accuracy(-came, came) == 0.0 and np.isnan(accuracy(predicted[1:], came[1:]))
