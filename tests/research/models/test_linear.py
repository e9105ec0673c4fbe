"""Ridge and logistic regression against scikit-learn, and by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cells import cells
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge

from trading_platform.research.models import linear
from trading_platform.research.models.learner import TrainingRows

CELLS = cells(weights=np.random.default_rng(9).uniform(0.5, 2.0, 6000))


def z_of(rows: TrainingRows) -> np.ndarray:
    x = rows.features.astype(np.float64)
    return np.clip((x - x.mean(axis=0)) / x.std(axis=0), -linear.BOUND, linear.BOUND)


def test_ridge_is_scikit_learns() -> None:
    learner, total = linear.Ridge(penalty=0.3), CELLS.weights.sum()
    expected = SklearnRidge(alpha=0.3 * total).fit(z_of(CELLS), CELLS.target, sample_weight=CELLS.weights)
    model = learner.train(learner.prepare(CELLS), 0)
    np.testing.assert_allclose(linear.predict(model, CELLS.features), expected.predict(z_of(CELLS)), atol=1e-6)


def test_logistic_is_scikit_learns_by_another_way_to_the_minimum() -> None:
    learner, total = linear.Logistic(penalty=0.3), CELLS.weights.sum()
    other = LogisticRegression(C=1.0 / (0.3 * total), solver="lbfgs", tol=1e-10, max_iter=1000)
    other.fit(z_of(CELLS), CELLS.target > 0.0, sample_weight=CELLS.weights)
    model = learner.train(learner.prepare(CELLS), 0)
    np.testing.assert_allclose(linear.predict(model, CELLS.features), other.decision_function(z_of(CELLS)), atol=2e-5)


def test_one_feature_by_hand() -> None:
    """x = 1..4, y = 2x: z has unit variance, so the slope is cov(z, y) / (1 + penalty) = sqrt(5) / (1 + penalty)."""
    x = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    rows = TrainingRows(x, 2.0 * x[:, 0].astype(np.float64), ("x",), np.array([4]))
    model = linear.Ridge(penalty=1.0).train(linear.Ridge().prepare(rows), 0)
    z = (x[:, 0] - 2.5) / np.sqrt(1.25)
    np.testing.assert_allclose(linear.predict(model, x), 5.0 + np.sqrt(5.0) / 2.0 * z, atol=1e-5)
    np.testing.assert_allclose(linear.contributions(model, x)[:, 0], np.sqrt(5.0) / 2.0 * z, atol=1e-5)
    assert linear.contributions(model, x)[0, 1] == pytest.approx(5.0, abs=1e-5)


def test_a_wild_value_is_held() -> None:
    learner = linear.Ridge()
    model = learner.train(learner.prepare(CELLS), 0)
    probe = np.zeros((2, 5), np.float32)
    probe[:, 2] = 1e3, 1e30
    assert np.ptp(linear.predict(model, probe)) == 0.0


def test_scales_come_from_the_training_cells_alone() -> None:
    half = replace(CELLS, features=CELLS.features[:3000], target=CELLS.target[:3000], groups=CELLS.groups[:60], weights=None)
    prepared = linear.Ridge().prepare(half)
    np.testing.assert_allclose(prepared.mean, half.features.mean(axis=0, dtype=np.float64))
    assert (prepared.mean != CELLS.features.mean(axis=0, dtype=np.float64)).all()


def test_sums_are_exact_in_any_order() -> None:
    learner = linear.Ridge()
    prepared = learner.prepare(CELLS)
    weights = np.array(linear._read(learner.train(prepared, 0)).weights)
    products = prepared.steps[:500] * weights
    backwards = np.cumsum(products[:, ::-1], axis=1)[:, -1]
    np.testing.assert_array_equal(np.cumsum(products, axis=1)[:, -1], backwards)
    assert np.abs(products).sum(axis=1).max() < 2.0**53 and np.abs(weights).max() >= 2.0**22
