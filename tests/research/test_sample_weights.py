"""Weights of overlapping labels against the book's numbers, its loops, and the rule that a fold weighs with its own rows alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
from panels import panel_of, random_closes

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research.label_rules import TripleBarrier
from trading_platform.research.labels import Labels, forward_return, make
from trading_platform.research.sample_weights import concurrency, sample_weights, time_decay, training_weights, uniqueness

FIRST, LAST = np.array([0, 2, 4]), np.array([2, 3, 5])


def barrier_labels(seed: int = 1, count: int = 90) -> tuple[Panel, Labels]:
    panel = panel_of(random_closes(np.random.default_rng(seed), count, 4))
    return panel, make(panel, TripleBarrier(horizon=7, volatility_rows=15))


def test_three_labels_on_six_bars_are_the_books() -> None:
    held = np.ones((3, 1), np.bool_)
    assert concurrency(FIRST[:, None], LAST[:, None], held, 6)[:, 0].tolist() == [1, 1, 2, 1, 1, 1]
    np.testing.assert_allclose(uniqueness(FIRST, LAST, 6), [2.5 / 3.0, 0.75, 1.0], rtol=1e-15)


def test_weights_are_those_of_the_books_loops() -> None:
    panel, labels = barrier_labels()
    found = sample_weights(labels, panel)
    price = (panel.fields["high"] + panel.fields["low"] + panel.fields["close"]) / 3.0
    attributed = np.full(panel.shape, np.nan)
    for s in range(panel.shape[1]):
        spans = {t: range(t + 1, labels.exits[t, s] + 1) for t in range(panel.shape[0]) if labels.exits[t, s] >= 0}
        held = [sum(k in span for span in spans.values()) for k in range(panel.shape[0])]
        assert held == found.concurrency[:, s].tolist()
        for t, span in spans.items():
            assert found.uniqueness[t, s] == pytest.approx(sum(1.0 / held[k] for k in span) / len(span), rel=1e-9)
            attributed[t, s] = abs(sum(math.log(price[k, s] / price[k - 1, s]) / held[k] for k in span if k > t + 1))
    np.testing.assert_allclose(found.attribution, attributed / np.nanmean(attributed), rtol=1e-7, atol=1e-12)
    assert np.nanmax(found.uniqueness) <= 1.0 + 1e-12 and np.nanmin(found.uniqueness) > 1.0 / 8.0 - 1e-12


def test_labels_that_do_not_overlap_are_unique_and_weigh_their_own_return() -> None:
    panel = panel_of(random_closes(np.random.default_rng(2), 60, 3))
    labels = forward_return(panel, 4)
    found = sample_weights(labels, panel, np.arange(0, 50, 5))
    np.testing.assert_allclose(found.uniqueness[0:50:5], 1.0)
    moved = np.abs(np.log1p(labels.values[0:50:5]))
    np.testing.assert_allclose(found.attribution[0:50:5], moved / moved.mean(), rtol=1e-9)
    assert found.independent == pytest.approx(30.0)


def test_overlapping_labels_of_one_horizon_say_as_much_as_one_in_horizon_and_one() -> None:
    panel = panel_of(random_closes(np.random.default_rng(3), 400, 2))
    inner = sample_weights(forward_return(panel, 5), panel).uniqueness[10:380]
    np.testing.assert_allclose(inner, 1.0 / 6.0)


def test_a_training_row_is_not_weighed_by_labels_outside_its_fold() -> None:
    panel, labels = barrier_labels()
    rows = np.arange(20, 50)
    before = training_weights(labels, panel, rows, oldest=0.5)
    cut = panel.rows(0, 80)
    after = training_weights(make(cut, labels.rule), cut, rows, oldest=0.5)
    np.testing.assert_array_equal(before, after)
    whole = sample_weights(labels, panel).uniqueness[rows]
    assert (whole[-5:] < sample_weights(labels, panel, rows).uniqueness[rows][-5:]).any()


def test_a_bar_that_is_missing_inside_a_label_loses_no_return() -> None:
    close = random_closes(np.random.default_rng(4), 40, 1)
    close[12, 0] = np.nan
    labels = forward_return(panel_of(close), 5)
    found = sample_weights(labels, panel_of(close), np.array([8, 20]))
    moved = np.abs(np.log1p(labels.values[[8, 20], 0]))
    np.testing.assert_allclose(found.attribution[[8, 20], 0], moved / moved.mean(), rtol=1e-9)


def test_decay_is_linear_in_the_uniqueness_seen() -> None:
    unique = np.array([[0.5, 0.5], [np.nan, np.nan], [1.0, np.nan], [1.0, 1.0]])  # sums to 1, 1, 2, 4
    np.testing.assert_allclose(time_decay(unique, 1.0), 1.0)
    np.testing.assert_allclose(time_decay(unique, 0.0), [0.25, 0.25, 0.5, 1.0])
    np.testing.assert_allclose(time_decay(unique, 0.6), [0.7, 0.7, 0.8, 1.0])
    np.testing.assert_allclose(time_decay(unique, -0.5), [0.0, 0.0, 0.0, 1.0], atol=1e-15)


def test_training_weights_have_mean_one_and_lie_on_the_labelled_cells() -> None:
    panel, labels = barrier_labels()
    rows = np.arange(20, 60)
    for attribution in (False, True):
        weights = training_weights(labels, panel, rows, oldest=0.3, attribution=attribution)
        np.testing.assert_array_equal(np.isfinite(weights), np.isfinite(labels.values[rows]))
        assert np.nanmean(weights) == pytest.approx(1.0) and np.nanmin(weights) >= 0.0


def test_weights_of_nothing_are_refused() -> None:
    panel, labels = barrier_labels()
    with pytest.raises(InputError, match="not one of 3 rows has a label"):
        sample_weights(labels, panel, np.array([0, 1, 89]))
    with pytest.raises(InputError, match="do not say when each cell ended"):
        sample_weights(Labels(labels.values, labels.t0, labels.t1, 7, "by hand"), panel)
    with pytest.raises(InputError, match="oldest -1"):
        time_decay(np.ones((3, 1)), -1.0)
    with pytest.raises(InputError, match="uniqueness"):
        time_decay(np.full((3, 1), np.nan), 0.5)
