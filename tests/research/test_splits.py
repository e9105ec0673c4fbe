"""Golden cases of quant.md 2.4 and the property that matters: no training label meets a test label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_platform.contracts.errors import InputError
from trading_platform.research.splits import purged, purged_folds, training_rows, walk_forward, warm_folds


def intervals(count: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    rows = np.arange(count, dtype=np.int64)
    return rows, rows + length


def trains(folds: list[tuple[np.ndarray, np.ndarray]]) -> list[list[int]]:
    return [train.tolist() for train, _ in folds]


def test_label_times_purge_where_row_counts_leak() -> None:
    folds = purged_folds(*intervals(12, 3), n_folds=3)
    assert trains(folds) == [[7, 8, 9, 10, 11], [0, 11], [0, 1, 2, 3, 4]]


def test_combinatorial_folds_equal_skfolios() -> None:
    assert trains(purged_folds(*intervals(12, 1), n_folds=3, n_test=2)) == [[9, 10, 11], [5, 6], [0, 1, 2]]
    assert trains(purged_folds(*intervals(12, 0), n_folds=3, n_test=2, embargo=1)) == [[9, 10, 11], [5, 6, 7], [0, 1, 2, 3]]


def test_walk_forward_equals_skfolios() -> None:
    folds = walk_forward(*intervals(6, 1), train=2, test=1, step=1, embargo=0.0)
    assert [(f.train.tolist(), f.test.tolist()) for f in folds] == [([0, 1], [3]), ([1, 2], [4]), ([2, 3], [5])]


@pytest.mark.parametrize(("blocks", "tests", "splits", "paths"), [(6, 2, 15, 5), (10, 2, 45, 9), (10, 8, 45, 36)])
def test_numbers_of_splits_and_paths(blocks: int, tests: int, splits: int, paths: int) -> None:
    folds = purged_folds(*intervals(60, 0), n_folds=blocks, n_test=tests)
    assert len(folds) == splits
    assert np.bincount(np.concatenate([test for _, test in folds])).tolist() == [paths] * 60


def test_the_embargo_stacks_beyond_the_purge() -> None:
    t0, t1 = intervals(30, 4)
    plain, more = (purged(t0, t1, np.arange(10, 15), embargo=e) for e in (0, 3))
    assert plain[plain > 14].min() == 19 and more[more > 14].min() == 22
    assert plain[plain < 10].max() == more[more < 10].max() == 5


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_training_interval_meets_a_test_interval(data: st.DataObject) -> None:
    count = data.draw(st.integers(20, 120))
    steps = data.draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=count, max_size=count))
    t0 = np.cumsum(np.array(steps, dtype=np.int64))
    t1 = t0 + np.array(lengths, dtype=np.int64)
    found = [(f.train, f.test) for f in _folds_or_none(t0, t1, data)]
    found += purged_folds(t0, t1, data.draw(st.integers(3, 6)), data.draw(st.integers(1, 2)), data.draw(st.integers(0, 4)))
    for train, test in found:
        for segment in np.split(test, np.flatnonzero(np.diff(test) > 1) + 1):
            meets = (t0[train] <= t1[segment].max()) & (t1[train] >= t0[segment[0]])
            assert not meets.any()


def _folds_or_none(t0: np.ndarray, t1: np.ndarray, data: st.DataObject) -> list:
    train, test, step = data.draw(st.integers(2, 12)), data.draw(st.integers(1, 12)), data.draw(st.integers(1, 8))
    try:
        return walk_forward(t0, t1, train, test, step, data.draw(st.sampled_from([0.0, 0.01, 0.3])))
    except InputError:
        return []


@settings(max_examples=60, deadline=None)
@given(st.integers(300, 700), st.integers(0, 10))
def test_each_day_is_spoken_for_once_by_the_newest_fold_trained_before_it(count: int, horizon: int) -> None:
    t0, t1 = intervals(count, horizon)
    folds = walk_forward(t0, t1)
    spoken = np.concatenate([f.speaks for f in folds])
    assert spoken.tolist() == list(range(int(folds[0].test[0]), count))
    for fold in folds:
        assert fold.train.size == 252 and t1[fold.train].max() < t0[fold.test[0]] and fold.train.max() == fold.test[0] - horizon - 1 - 3
        newer = [f for f in folds if f.test[0] <= fold.speaks[0] and f.test[0] > fold.test[0]]
        assert not newer
    assert folds[1].test[0] - folds[0].test[0] == 21 and folds[0].test.size == min(63, count - folds[0].test[0])


def test_labels_without_an_end_are_never_learned_from() -> None:
    t0, t1 = intervals(50, 2)
    t1[40:] = np.iinfo(np.int64).max
    assert training_rows(t0, t1, 49, 20, 0.0).max() == 39


def test_too_few_rows_say_what_a_fold_needs() -> None:
    with pytest.raises(InputError, match="too few for one fold"):
        walk_forward(*intervals(200, 5))


def test_folds_that_would_learn_mostly_before_the_warm_up_are_left_out() -> None:
    folds = walk_forward(*intervals(120, 1), train=20, test=10, step=5, embargo=0.0)
    warm = np.arange(120) >= 50
    kept = warm_folds(folds, warm)
    assert kept == [fold for fold in folds if fold.train[10] >= 50 or (fold.train >= 50).sum() == 10]
    assert kept[0].train[0] == 40 and len(kept) == len(folds) - 8
    assert warm_folds(folds, np.ones(120, bool)) == folds
    with pytest.raises(InputError, match="first 110 of 120 rows are cold"):
        warm_folds(folds, np.arange(120) >= 110)
