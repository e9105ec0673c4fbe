"""A refit beside its incumbent: equal is inside on every count, and each kind of difference shows in its own number."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from trading_platform.contracts.model_recipe import Envelope
from trading_platform.contracts.profile import Costs, Profile, Strategy
from trading_platform.research.refit import compare, rank_correlation

T, S = 60, 30
PROFILE = Profile("test", strategy=Strategy(entry_rank=0.8, exit_rank=0.5, target_gross=0.9), costs=Costs(2.0, 10.0, 0.04))
MEMBER, SESSION = np.ones((T, S), np.bool_), np.arange(T, dtype=np.int64)
RNG = np.random.default_rng(7)
ALPHA = np.cumsum(RNG.normal(0.0, 0.01, (T, S)), axis=0)


def test_the_same_bundle_is_inside_the_envelope() -> None:
    found = compare(ALPHA, ALPHA.copy(), MEMBER, SESSION, 20, PROFILE)
    assert dataclasses.astuple(found) == (20, pytest.approx(1.0), 1.0, 1.0, 1.0, 0.0) and Envelope().refusals(found) == ()


def test_rank_correlation_is_scipys_row_by_row() -> None:
    other = ALPHA + RNG.normal(0.0, 0.02, ALPHA.shape)
    other[5, :7] = np.nan
    expected = [spearmanr(a[np.isfinite(b)], b[np.isfinite(b)]).statistic for a, b in zip(ALPHA, other, strict=True)]
    assert rank_correlation(ALPHA, other) == pytest.approx(float(np.mean(expected)), abs=1e-12)
    assert np.isnan(rank_correlation(np.full((3, 5), np.nan), np.full((3, 5), np.nan)))


@pytest.mark.parametrize(
    "changed, why",
    [
        (-ALPHA, "rank correlation"),
        (ALPHA * 3.0, "alpha scale 3.00"),
        (RNG.normal(0.0, ALPHA.std(), ALPHA.shape), "turnover"),
        (np.where(np.arange(S) < 24, ALPHA, np.nan), "gross exposure"),
        (np.full_like(ALPHA, np.nan), "0 sessions"),
    ],
    ids=["reversed", "louder", "restless", "fewer names", "silent"],
)
def test_each_difference_leaves_the_envelope_by_its_name(changed: np.ndarray, why: str) -> None:
    assert any(why in text for text in Envelope().refusals(compare(changed, ALPHA, MEMBER, SESSION, 20, PROFILE)))


def test_a_transition_of_the_whole_book_costs_twice_its_gross() -> None:
    """One of five names is held; leaving one and entering another moves 2 x 0.9 of equity, at 2 + 10 x sqrt(0.04) bps."""
    one, other = np.tile([5.0, 4.0, 3.0, 2.0, 1.0], (5, 1)), np.tile([1.0, 4.0, 3.0, 2.0, 5.0], (5, 1))
    rules = dataclasses.replace(PROFILE, strategy=dataclasses.replace(PROFILE.strategy, entry_rank=1.0, exit_rank=0.1))
    found = compare(one, other, np.ones((5, 5), np.bool_), np.arange(5), 5, rules)
    assert found.transition_cost_bps == pytest.approx(1.8 * 4.0)


def test_rows_of_one_day_are_one_session() -> None:
    found = compare(ALPHA, ALPHA.copy(), MEMBER, SESSION // 10, 20, PROFILE)
    assert found.sessions == 6 and Envelope().refusals(found) == ("6 sessions compared, 20 needed",)
