from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from panels import panel_of, random_closes

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research import walk_forward as wf
from trading_platform.research.labels import Labels, forward_return
from trading_platform.research.models import lightgbm, linear
from trading_platform.research.models.learner import Learner
from trading_platform.research.nulls import shuffled_labels
from trading_platform.research.splits import Fold, walk_forward

SMALL = lightgbm.Parameters(rounds=15, num_leaves=7, min_data_in_leaf=20)
NAMES = ("noise", "signal", "scale")


class Shelf:
    """A FoldStore in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, model: bytes) -> None:
        self.kept[key] = model


def market(rows: int = 160, width: int = 20, seed: int = 0) -> tuple[Panel, np.ndarray, Labels]:
    """Returns that the feature `signal` knows in part, two rows ahead."""
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((rows, width))
    drift = np.zeros((rows, width))
    drift[2:] = 0.01 * signal[:-2]
    close = 50.0 * np.exp(np.cumsum(drift + 0.01 * rng.standard_normal((rows, width)), axis=0))
    panel = panel_of(close)
    features = np.stack([rng.standard_normal((rows, width)), signal, close], axis=2).astype(np.float32)
    features[:5] = np.nan
    return panel, features, forward_return(panel, 1, demean=True)


PANEL, FEATURES, LABELS = market()
FOLDS = walk_forward(LABELS.t0, LABELS.t1, train=60, test=30, step=10)


@pytest.fixture(scope="module")
def result() -> wf.WalkForward:
    return wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL)


def test_a_real_signal_is_found_out_of_sample_and_a_shuffled_one_is_not(result: wf.WalkForward) -> None:
    assert np.nanmean(result.ic) > 0.4 and result.importance.argmax() == 1
    assert result.importance.sum() == pytest.approx(1.0) and (result.fold_ic > 0.2).all()
    null = wf.run(PANEL, FEATURES, NAMES, shuffled_labels(LABELS, 1), FOLDS, SMALL)
    assert abs(np.nanmean(wf.information_coefficient(null.predictions, LABELS.values))) < 0.2


def test_each_row_hears_the_newest_fold_trained_before_it(result: wf.WalkForward) -> None:
    first = int(FOLDS[0].test[0])
    assert (result.fold[:first] == -1).all() and np.isnan(result.predictions[:first]).all()
    for number, fold in enumerate(FOLDS):
        cells = FEATURES[fold.speaks]
        expected = lightgbm.predict(result.models[number], cells.reshape(-1, 3)).reshape(cells.shape[:2])
        np.testing.assert_array_equal(result.predictions[fold.speaks], expected)
    assert result.age_curve.age.tolist() == [0, 10, 20] and (result.age_curve.count > 0).all()


def test_workers_and_the_store_change_no_bit(result: wf.WalkForward) -> None:
    shelf = Shelf()
    calls: list[tuple[int, int]] = []
    one = wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, store=shelf, workers=1, progress=lambda *done: calls.append(done))
    again = wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, store=shelf)
    assert one.models == again.models == result.models and (one.reused, again.reused) == (0, len(FOLDS))
    np.testing.assert_array_equal(one.predictions, again.predictions)
    assert calls[-1] == (len(FOLDS), len(FOLDS)) and len(calls) == len(FOLDS)


def test_a_changed_label_or_feature_retrains_only_the_folds_that_read_it() -> None:
    shelf = Shelf()
    wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, store=shelf)
    values = LABELS.values.copy()
    values[FOLDS[0].train[20]] += 0.001
    touched = sum(int(FOLDS[0].train[20]) in fold.train for fold in FOLDS)
    again = wf.run(PANEL, FEATURES, NAMES, replace(LABELS, values=values), FOLDS, SMALL, store=shelf)
    assert again.reused == len(FOLDS) - touched and touched >= 1


def test_predictions_do_not_change_when_the_future_does(result: wf.WalkForward) -> None:
    rows = 130
    panel, features, labels = PANEL.rows(0, rows), FEATURES[:rows], forward_return(PANEL.rows(0, rows), 1, demean=True)
    shorter = wf.run(panel, features, NAMES, labels, walk_forward(labels.t0, labels.t1, 60, 30, 10), SMALL)
    np.testing.assert_array_equal(shorter.predictions, result.predictions[:rows])


def test_cells_without_features_or_bar_get_no_prediction_and_are_not_learned_from() -> None:
    features = FEATURES.copy()
    features[70:, 3, 0] = np.nan
    got = wf.run(PANEL, features, NAMES, LABELS, FOLDS, SMALL)
    assert np.isnan(got.predictions[70:, 3]).all() and np.isfinite(got.predictions[FOLDS[0].test[0] :, 4]).all()
    x, y = wf.training_matrix(PANEL, features, LABELS, np.arange(70, 80))
    assert len(x) == len(y) == 190 and np.isfinite(x).all() and np.isfinite(y).all()


def test_a_fold_that_learns_from_its_own_test_is_refused() -> None:
    leaking = Fold(np.arange(60), np.arange(60, 80), np.arange(60, 70))
    with pytest.raises(InputError, match="fold 0 learns from labels known only in its test"):
        wf.run(PANEL, FEATURES, NAMES, LABELS, [leaking], SMALL)
    with pytest.raises(InputError, match="no folds"):
        wf.run(PANEL, FEATURES, NAMES, LABELS, [], SMALL)


def test_training_says_what_is_missing() -> None:
    x, y = np.zeros((30, 3), np.float32), np.zeros(30)
    with pytest.raises(InputError, match="19 rows cannot fill a tree"):
        lightgbm.train(x[:19], y[:19], NAMES, SMALL, 1)
    assert lightgbm.Parameters().leaf(378) == 18 and lightgbm.Parameters().leaf(70_000) == 200
    with pytest.raises(InputError, match="NaN"):
        lightgbm.train(np.zeros((60, 3), np.float32), np.full(60, np.nan), NAMES, SMALL, 1)
    with pytest.raises(CorruptionError, match="not a LightGBM text model"):
        lightgbm.predict(b"tree", x)


def test_closes_alone_hold_no_signal() -> None:
    panel = panel_of(random_closes(np.random.default_rng(5), 160, 20))
    features = np.random.default_rng(6).standard_normal((160, 20, 3)).astype(np.float32)
    labels = forward_return(panel, 1, demean=True)
    got = wf.run(panel, features, NAMES, labels, walk_forward(labels.t0, labels.t1, 60, 30, 10), SMALL)
    assert abs(np.nanmean(got.ic)) < 0.1


def test_candidates_run_side_by_side_give_what_each_gives_alone(result: wf.WalkForward) -> None:
    """Learners, parameter sets and seeds over shared bins, in more threads than folds are open; one Dataset per fold and kind of bins."""
    learners: list[Learner] = [lightgbm.Trees(SMALL), lightgbm.Trees(replace(SMALL, num_leaves=3)), linear.Ridge()]
    candidates = [wf.Candidate(learner, seed) for learner in learners for seed in (7, 8)]
    together = wf.sweep(PANEL, FEATURES, NAMES, LABELS, FOLDS, candidates, workers=4)
    assert together[0].models == result.models and together[0].chain == result.chain
    for candidate, found in zip(candidates[1:], together[1:], strict=True):
        alone = wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS[:2], seed=candidate.seed, learner=candidate.learner, workers=1)
        assert alone.models == found.models[:2]
    assert together[1].models != result.models and together[4].predictions[FOLDS[0].test[0], 0] != result.predictions[FOLDS[0].test[0], 0]
    assert np.nanmean(together[4].ic) > 0.4


def test_the_cells_of_a_fold_are_binned_once_for_all_its_candidates() -> None:
    calls: list[int] = []

    class Counting(lightgbm.Trees):
        def prepare(self, rows: object) -> object:
            calls.append(1)
            return lightgbm.Trees.prepare(self, rows)  # type: ignore[arg-type]

    wf.sweep(PANEL, FEATURES, NAMES, LABELS, FOLDS, [wf.Candidate(Counting(SMALL), seed) for seed in range(4)], workers=3)
    assert len(calls) == len(FOLDS)


def test_the_chain_names_what_was_trained_on_what_and_what_it_said(result: wf.WalkForward) -> None:
    again = wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, store=Shelf())
    assert again.chain == result.chain and len({link.link for link in again.chain}) == len(FOLDS)
    features, values = FEATURES.copy(), LABELS.values.copy()
    features[FOLDS[1].test[-1], :, 1] *= -1.0  # read by the tests of fold 1, and by its later ones
    values[FOLDS[-1].train[-1], 0] += 0.5  # read by the last training only
    told = wf.run(PANEL, features, NAMES, LABELS, FOLDS, SMALL).chain
    assert told[0] == result.chain[0] and told[1].trained == result.chain[1].trained and told[1].model == result.chain[1].model
    assert told[1].tested != result.chain[1].tested and told[1].predicted != result.chain[1].predicted
    taught = wf.run(PANEL, FEATURES, NAMES, replace(LABELS, values=values), FOLDS, SMALL).chain
    assert taught[0] == result.chain[0] and taught[-1].trained != result.chain[-1].trained and taught[-1].link != result.chain[-1].link
    old = FEATURES.copy()
    old[FOLDS[0].train[8], :, 1] *= -1.0  # read by the first training only, and yet every later link tells of it
    known = wf.run(PANEL, old, NAMES, LABELS, FOLDS, SMALL).chain
    assert all(one.predicted == two.predicted and one.link != two.link for one, two in zip(known[1:], result.chain[1:], strict=True))
    other = wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, seed=8).chain
    assert all(one.trained != two.trained and one.tested == two.tested for one, two in zip(other, result.chain, strict=True))


def test_an_unchanged_fold_is_neither_trained_nor_asked_again(monkeypatch: pytest.MonkeyPatch, result: wf.WalkForward) -> None:
    shelf = Shelf()
    wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, store=shelf)

    def never(*given: object) -> bytes:
        raise AssertionError("asked again")

    for name in ("predict", "importance", "contributions"):
        monkeypatch.setattr(lightgbm, name, never)
    monkeypatch.setattr(lightgbm.Trees, "train", never)
    again = wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, store=shelf)
    np.testing.assert_array_equal(again.predictions, result.predictions)
    np.testing.assert_array_equal(again.shapley, result.shapley)
    assert again.reused == len(FOLDS) and again.chain == result.chain and again.shapley.argmax() == 1
    key = sorted(shelf.kept)[0]
    shelf.kept[key] = shelf.kept[key][:-1] + bytes([shelf.kept[key][-1] ^ 1])
    with pytest.raises(CorruptionError, match="a kept fold is not what was written"):
        wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, store=shelf)


def test_weights_of_cells_reach_the_training_and_its_key(result: wf.WalkForward) -> None:
    ones = np.ones(PANEL.shape)
    half = np.where(np.arange(PANEL.shape[1]) < 10, 1.0, 0.01) * ones
    weighted = wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, weights=half)
    assert weighted.chain[0].trained != result.chain[0].trained and weighted.models != result.models
    model, reused = wf.fit(PANEL, FEATURES, NAMES, LABELS, FOLDS[0].train, SMALL, weights=half)
    assert model == weighted.models[0] and not reused


def test_a_fold_that_nothing_can_be_learned_from_is_refused_and_named() -> None:
    flat, dead, unlabelled = FEATURES.copy(), FEATURES.copy(), LABELS.values.copy()
    flat[FOLDS[3].train, :, 0], dead[:, :, 2], unlabelled[FOLDS[2].train] = 1.0, np.nan, np.nan
    with pytest.raises(InputError, match=r"fold 3, trained on 20\d\d-.*: feature noise has the same value in every training cell"):
        wf.run(PANEL, flat, NAMES, LABELS, FOLDS, SMALL)
    with pytest.raises(InputError, match=r"fold 0, .*: feature scale is undefined in every cell"):
        wf.run(PANEL, dead, NAMES, LABELS, FOLDS, SMALL)
    with pytest.raises(InputError, match=r"fold 2, .*: 0 rows cannot fill a tree"):
        wf.run(PANEL, FEATURES, NAMES, replace(LABELS, values=unlabelled), FOLDS, SMALL)
    rising = replace(LABELS, values=np.abs(LABELS.values))
    with pytest.raises(InputError, match=r"fold 0, .*one class"):
        wf.run(PANEL, FEATURES, NAMES, rising, FOLDS, replace(SMALL, objective="binary"))
    with pytest.raises(InputError, match="no candidates"):
        wf.sweep(PANEL, FEATURES, NAMES, LABELS, FOLDS, [])


def test_kept_folds_answer_only_for_the_features_they_were_asked_about() -> None:
    shelf, later = Shelf(), FEATURES.copy()
    wf.run(PANEL, FEATURES, NAMES, LABELS, FOLDS, SMALL, store=shelf)
    later[FOLDS[-1].test[-1], :, 1] *= -1.0
    kept, fresh = (wf.run(PANEL, later, NAMES, LABELS, FOLDS, SMALL, store=store) for store in (shelf, None))
    np.testing.assert_array_equal(kept.predictions, fresh.predictions)
    assert kept.reused == len(FOLDS) and kept.chain == fresh.chain
