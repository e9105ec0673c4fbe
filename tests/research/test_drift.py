"""Drift against hand-made and SciPy's values; a shifted distribution fires, an unshifted one does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ks_2samp

from trading_platform.contracts.profile import DriftRules
from trading_platform.research.drift import LEAST_CELLS, FeatureDrift, drift_of, held, ks_of, psi_of, shares_of, trained_on
from trading_platform.research.report.plots import feature_drift

RULES = DriftRules()
RNG = np.random.default_rng(1)
BEFORE = RNG.normal(0.0, 1.0, 20_000)


def state(cells: np.ndarray, trained: np.ndarray = BEFORE) -> FeatureDrift:
    return drift_of(trained_on("f", trained), cells, RULES)


def test_psi_by_hand() -> None:
    # two bins, 50/50 against 20/80: (0.2 - 0.5) ln(0.2 / 0.5) + (0.8 - 0.5) ln(0.8 / 0.5)
    assert psi_of(np.array([0.5, 0.5]), np.array([0.2, 0.8])) == pytest.approx(-0.3 * math.log(0.4) + 0.3 * math.log(1.6), rel=1e-12)
    assert psi_of(np.array([0.1] * 10), np.array([0.1] * 10)) == 0.0
    # everything in the top decile of ten: 9 bins at 1e-4 and one at 1
    expected = 9 * (1e-4 - 0.1) * math.log(1e-4 / 0.1) + 0.9 * math.log(10.0)
    assert psi_of(np.array([0.1] * 10), np.array([0.0] * 9 + [1.0])) == pytest.approx(expected, rel=1e-12)


def test_deciles_of_the_training_span_hold_a_tenth_each_and_ties_share_one_bin() -> None:
    trained = trained_on("f", np.arange(1000.0))
    assert np.allclose(trained.shares, 0.1) and len(trained.edges) == 9
    flags = trained_on("f", np.array([0.0] * 700 + [1.0] * 300))
    assert flags.edges.tolist() == [0.0, 1.0] and flags.shares.tolist() == [0.7, 0.3, 0.0]
    constant = trained_on("f", np.full(500, 3.0))
    assert shares_of(np.array([3.0, 4.0, 2.0, 3.0]), constant.edges).tolist() == [0.75, 0.25]


@pytest.mark.parametrize("size", [37, 400, 30_000])
@pytest.mark.parametrize("shift", [0.0, 0.05, 0.5])
def test_ks_is_scipys(size: int, shift: float) -> None:
    now = np.round(RNG.normal(shift, 1.0, size), 2)  # ties
    mine, theirs = ks_of(np.sort(BEFORE), np.sort(now)), ks_2samp(BEFORE, now, method="asymp")
    assert mine[0] == pytest.approx(theirs.statistic, abs=1e-12) and mine[1] == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-300)


def test_the_same_distribution_is_stable_and_a_shifted_one_drifts() -> None:
    assert state(RNG.normal(0.0, 1.0, 5000)).state == "stable"
    assert state(RNG.normal(0.4, 1.0, 5000)).state == "watch"
    shifted = state(RNG.normal(0.8, 1.0, 5000))
    assert shifted.state == "drift" and shifted.psi > 0.25 and shifted.p_value < 1e-6
    assert state(RNG.normal(0.0, 2.0, 5000)).state == "drift"  # the same mean: a t test would see nothing
    assert state(np.full(5000, 7.0), np.zeros(5000)).state == "drift"  # two constants


def test_more_missing_cells_are_drift_and_too_few_cells_are_unknown() -> None:
    holes = RNG.normal(0.0, 1.0, 5000)
    holes[::10] = np.nan
    assert state(holes).state == "drift" and state(holes).missing == pytest.approx(0.1)
    assert state(holes, np.where(RNG.random(20_000) < 0.08, np.nan, BEFORE)).state == "stable"
    few = state(RNG.normal(5.0, 1.0, LEAST_CELLS - 1))
    assert few.state == "unknown" and math.isnan(few.psi)
    assert state(np.full(5000, np.nan)).state == "drift"


def window(*drifted: str, of: int = 20, unknown: int = 0) -> list[FeatureDrift]:
    names = [f"f{number:02d}" for number in range(of)]
    states = ["unknown"] * unknown + ["stable"] * (of - unknown)
    found = [FeatureDrift(name, 0.3, 0.1, 0.0, 0.0, 0.0, 1000, kind) for name, kind in zip(names, states, strict=True)]
    return found + [FeatureDrift(name, 0.9, 0.5, 0.0, 0.0, 0.0, 1000, "drift") for name in drifted]


def test_drift_holds_only_where_the_same_features_drift_in_every_window_and_are_enough() -> None:
    holding = held([("a", window()), ("b", window("x", "y", "z")), ("c", window("x", "y", "q"))], RULES)
    assert not holding.holds and holding.features == ("x", "y") and holding.share == pytest.approx(2 / 24)
    enough = held([("b", window("x", "y", of=10)), ("c", window("x", "y", "q", of=10))], RULES)
    assert enough.holds and enough.share == pytest.approx(2 / 13) and enough.reason == "2 of 13 features drifted in b to c: x, y"
    assert not held([("b", window("x", "y", of=10)), ("c", window("q", of=10))], RULES).holds
    assert not held([("c", window("x", "y", of=1))], RULES).holds  # one window is not two
    assert not held([("b", window()), ("c", window())], DriftRules(least_share=0.0)).holds
    assert held([("c", window("x", of=8, unknown=8))], DriftRules(windows=1)).share == 1.0


def test_the_plot_is_a_small_png() -> None:
    png = feature_drift(["a", "b"], RNG.random((2, 40)), [f"feature_{n}" for n in range(40)], 0.1, 0.25, "drift")
    assert png.startswith(b"\x89PNG") and len(png) < 80_000
