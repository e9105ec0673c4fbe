"""Golden cases of quant.md 2.4 and the property that matters: no training label meets a test label."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_platform.contracts.errors import InputError
from trading_platform.research.labels import NEVER
from trading_platform.research.splits import combinatorial, purged, purged_cells, purged_folds, training_rows, walk_forward, warm_folds


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


def segments(test: np.ndarray) -> list[np.ndarray]:
    return np.split(test, np.flatnonzero(np.diff(test) > 1) + 1)


def drawn_intervals(seed: int, count: int, longest: int, width: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Starts with ties and holes, (T,); an end for each cell, (T, width)."""
    rng = np.random.default_rng(seed)
    t0 = np.cumsum(rng.choice([0, 1, 1, 1, 5], count)).astype(np.int64)
    return t0, t0[:, np.newaxis] + rng.integers(0, longest + 1, (count, width))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(30, 90), st.integers(0, 25), st.integers(3, 6), st.integers(1, 2), st.integers(0, 4), st.booleans()
)
def test_no_training_interval_meets_a_test_interval(
    seed: int, count: int, longest: int, blocks: int, tested: int, embargo: int, sessions: bool
) -> None:
    t0, ends = drawn_intervals(seed, count, longest)
    t1, rng = ends[:, 0], np.random.default_rng(seed)
    found = []
    for splits in (
        lambda: (
            [(f.train, f.test) for f in walk_forward(t0, t1, 5, int(rng.integers(2, 9)), 2, 0.3, np.arange(count) // 2)]
            if sessions
            else [(f.train, f.test) for f in walk_forward(t0, t1, 5, int(rng.integers(2, 9)), 2, 0.3)]
        ),
        lambda: purged_folds(t0, t1, blocks, tested, embargo),
    ):
        try:
            found += splits()
        except InputError:
            continue
    for train, test in found:
        assert train.size and test.size
        for segment in segments(test):
            meets = (t0[train] <= t1[segment].max()) & (t1[train] >= t0[segment[0]])
            assert not meets.any()


def cells_by_hand(t0: np.ndarray, ends: np.ndarray, test: np.ndarray, embargo: int) -> np.ndarray:
    """Every cell against every segment, in loops."""
    keep = ends != NEVER
    for row in range(t0.size):
        for segment in segments(np.sort(test)):
            known = [int(end) for end in ends[segment].ravel() if end != NEVER]
            last = max([*known, int(t0[segment[-1]])])
            resting = [r for r in range(t0.size) if r > segment[-1] and t0[r] > last][:embargo]
            for column in range(ends.shape[1]):
                if row in test or row in resting or (t0[row] <= last and ends[row, column] >= t0[segment[0]]):
                    keep[row, column] = False
    return keep


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**6), st.integers(8, 40), st.integers(0, 12), st.integers(1, 3), st.integers(0, 5))
def test_exactly_the_cells_that_meet_a_segment_or_rest_behind_it_are_left_out(
    seed: int, count: int, longest: int, width: int, embargo: int
) -> None:
    rng = np.random.default_rng(seed)
    t0, ends = drawn_intervals(seed, count, longest, width)
    ends[rng.random(ends.shape) < 0.15] = NEVER
    test = np.sort(rng.choice(count, int(rng.integers(1, count // 2)), replace=False))
    assert np.array_equal(purged_cells(t0, ends, test, embargo), cells_by_hand(t0, ends, test, embargo))


def test_a_barrier_that_was_hit_early_frees_its_cell_and_the_latest_cell_purges_for_all() -> None:
    t0 = np.arange(12, dtype=np.int64)
    ends = np.column_stack([t0 + 1, t0 + 4])
    keep = purged_cells(t0, ends, np.array([5, 6]))
    assert np.flatnonzero(keep[:, 0]).tolist() == [0, 1, 2, 3, 11] and np.flatnonzero(keep[:, 1]).tolist() == [0, 11]
    assert purged(t0, ends.max(axis=1), np.array([5, 6])).tolist() == [0, 11]


def test_rows_of_one_instant_share_a_block() -> None:
    t0 = np.repeat(np.arange(8, dtype=np.int64), 3)
    folds = purged_folds(t0, t0, n_folds=3)
    assert [np.unique(t0[test]).tolist() for _, test in folds] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert sorted(np.concatenate([test for _, test in folds]).tolist()) == list(range(24))


def test_paths_are_those_of_the_book() -> None:
    """AFML figure 12.1, and skfolio 1.12.2: CombinatorialPurgedCV(6, 2).get_path_ids()."""
    found = combinatorial(*intervals(60, 0), n_folds=6, n_test=2)
    assert found.paths[:2].tolist() == [[0, 0, 1, 2, 3, 4], [1, 5, 5, 6, 7, 8]]
    ids = [[0, 0], [1, 0], [2, 0], [3, 0], [4, 0], [1, 1], [2, 1], [3, 1], [4, 1], [2, 2], [3, 2], [4, 2], [3, 3], [4, 3], [4, 4]]
    for split, (chosen, expected) in enumerate(zip(combinations(range(6), 2), ids, strict=True)):
        assert [found.paths[:, block].tolist().index(split) for block in chosen] == expected


def test_a_path_hears_for_each_row_a_model_that_did_not_learn_from_it() -> None:
    t0, t1 = intervals(61, 2)
    found = combinatorial(t0, t1, n_folds=6, n_test=2, embargo=0.03)
    said = [np.column_stack([np.full(test.size, split), test]).astype(float) for split, (_, test) in enumerate(found.splits)]
    paths = found.assemble(said)
    assert paths.shape == (5, 61, 2) and (paths[:, :, 1] == np.arange(61)).all()
    for path in paths:
        for row, split in enumerate(path[:, 0].astype(int)):
            train = found.splits[split][0]
            assert not ((t0[train] <= t1[row]) & (t1[train] >= t0[row])).any()
    assert np.array_equal(np.sort(paths[:, :, 0], axis=0)[:, 0], [0, 1, 2, 3, 4])
    assert all(gap >= 2 + 2 for train, test in found.splits for gap in [np.min(train[train > test.max()], initial=99) - test.max()])
    with pytest.raises(InputError, match="tested were"):
        found.assemble(said[:-1])


@pytest.mark.parametrize(
    ("t0", "t1", "arguments", "said"),
    [
        ([0, 2, 1, 3], [0, 2, 1, 3], (2,), "row 2 starts before the row above it"),
        ([0, 1, 2, 3], [0, 1, 1, 3], (2,), "row 2 ends before it starts"),
        ([0, 1, 2, 3], [0, 1, 2], (2,), "one interval per row"),
        (range(12), range(12), (12,), "12 instants for 12 blocks"),
        (range(12), range(12), (7,), "12 instants for 7 blocks"),
        (range(12), range(12), (3, 3), "1 <= n_test < n_folds"),
        (range(12), range(12), (3, 1, 5), "leaves 3 training rows, the embargo is 5"),
        (range(12), range(20, 32), (3,), "leaves 0 training rows"),
    ],
)
def test_what_cannot_be_split_is_refused(t0: list[int], t1: list[int], arguments: tuple[int, ...], said: str) -> None:
    with pytest.raises(InputError, match=said):
        purged_folds(np.array(t0, dtype=np.int64), np.array(t1, dtype=np.int64), *arguments)


@pytest.mark.parametrize(
    ("windows", "said"), [((0, 5, 5), "windows >= 1"), ((20, 5, 6), "step 6 is longer than test 5"), ((20, 5, 5, 1.0), "fraction below 1")]
)
def test_windows_that_make_no_folds_are_refused(windows: tuple, said: str) -> None:
    with pytest.raises(InputError, match=said):
        walk_forward(*intervals(100, 1), *windows)


def market(per_session: int, sessions: int, missing: set[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(t0, t1, places): rows of a market with a half day each tenth session, labels of two rows that end within their session."""
    places = np.concatenate(
        [np.full(per_session // 2 if s % 10 == 9 else per_session, s) for s in range(sessions) if s not in missing]
    ).astype(np.int64)
    first = np.concatenate([[True], np.diff(places) > 0])
    within = np.arange(places.size) - np.maximum.accumulate(np.where(first, np.arange(places.size), 0))
    t0 = places * 1000 + within
    return t0, t0 + 2, places + 700


def test_windows_count_the_markets_sessions_whatever_rows_they_have() -> None:
    t0, t1, places = market(7, 80, missing={12, 13, 41, *range(61, 69)})
    folds = walk_forward(t0, t1, train=20, test=12, step=6, embargo=0.05, places=places)
    starts = [start for start in range(721, 780, 6) if ((places >= start) & (places < start + 6)).any()]
    assert len(folds) == len(starts) == 9  # nobody would hear a fold of sessions 763 to 768
    for start, fold in zip(starts, folds, strict=True):
        assert np.array_equal(fold.test, np.flatnonzero((places >= start) & (places < start + 12)))
        assert np.array_equal(fold.speaks, np.flatnonzero((places >= start) & (places < start + 6)))
        known = np.flatnonzero(t1 < t0[fold.test[0]])
        newest = places[known].max() - 1  # the embargo: 5 % of 20 sessions
        assert np.array_equal(fold.train, [row for row in known if newest - 20 < places[row] <= newest])
        assert np.array_equal(training_rows(t0, t1, int(fold.test[0]), 20, 0.05, places), fold.train)


def test_one_row_a_session_and_none_missing_is_the_plain_walk_forward() -> None:
    t0, t1 = intervals(500, 5)
    plain, counted = walk_forward(t0, t1), walk_forward(t0, t1, places=np.arange(500) + 31)
    for one, other in zip(plain, counted, strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("train", "test", "speaks"))


def test_places_that_are_not_the_rows_are_refused() -> None:
    t0, t1 = intervals(60, 1)
    for places in (np.arange(59), np.arange(60)[::-1].copy()):
        with pytest.raises(InputError, match="places"):
            walk_forward(t0, t1, 20, 10, 5, places=places)


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
