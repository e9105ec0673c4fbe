"""Validation finds what is undefined, infinite and far out, and survives every data there is."""

from __future__ import annotations

import numpy as np

from trading_platform.features.validate import FeatureHealth, validate_features

RNG = np.random.default_rng(6)
EVERY = np.ones((400, 25), np.bool_)


def health(values: np.ndarray, judged: np.ndarray = EVERY) -> FeatureHealth:
    (found,) = validate_features(values[..., np.newaxis], ["f"], judged)
    return found


def test_a_healthy_feature_has_no_finding() -> None:
    found = health(RNG.normal(3.0, 2.0, EVERY.shape))
    assert (found.finding, found.cells, found.undefined, found.infinite, found.outliers) == (
        "",
        10_000,
        0,
        0,
        0,
    ) and 3.0 < found.worst < 6.0


def test_the_robust_z_score_is_that_of_the_book() -> None:
    values = np.tile([1.0, 2.0, 3.0, 4.0, 100.0], (400, 5))
    assert health(values).worst == (100.0 - 3.0) / 1.4826  # median 3, median absolute deviation 1
    flat = np.zeros(EVERY.shape)
    flat[7, 3] = 5.0
    found = health(flat)
    assert found.worst == 5.0 / (5.0 / 10_000) and (found.row, found.column) == (7, 3)


def test_each_defect_is_counted_and_named() -> None:
    values = RNG.normal(0.0, 1.0, EVERY.shape)
    values[3, 4] = np.inf
    values[:250] = np.where(np.isinf(values[:250]), values[:250], np.nan)
    values[300:302, :] = 500.0
    found = health(values)
    assert (found.infinite, found.undefined, found.outliers) == (1, 6249, 50)
    assert found.finding == "1 infinite, 62% undefined, 0.50% beyond 20 robust deviations"


def test_only_the_judged_cells_count() -> None:
    values = RNG.normal(0.0, 1.0, EVERY.shape)
    values[0, :] = [np.inf, np.nan] * 12 + [1e300]
    judged = EVERY.copy()
    judged[0] = False
    assert health(values).finding and not health(values, judged).finding


def test_levels_are_in_currency_and_never_far_out() -> None:
    prices = np.where(RNG.random(EVERY.shape) < 0.05, 4000.0, RNG.normal(30.0, 1.0, EVERY.shape))[..., np.newaxis]
    assert validate_features(prices, ["price"], EVERY)[0].finding
    (level,) = validate_features(prices, ["price"], EVERY, ["price"])
    assert level.finding == "" and level.worst > 100.0


def test_no_data_raises() -> None:
    for values in (
        np.full(EVERY.shape, np.nan),
        np.full(EVERY.shape, np.inf),
        np.zeros(EVERY.shape),
        np.full(EVERY.shape, 1e308),
        np.empty((0, 25)),
    ):
        health(values, EVERY[: len(values)])
    health(RNG.normal(0.0, 1.0, EVERY.shape), np.zeros(EVERY.shape, np.bool_))
    assert validate_features(np.empty((4, 3, 0)), (), EVERY[:4, :3]) == ()
