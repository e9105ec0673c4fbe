"""LightGBM: where its bins come from, what one binned Dataset serves, and what makes its trees exact."""

from __future__ import annotations

from dataclasses import replace

import lightgbm as library
import numpy as np
import pytest
from cells import cells

from trading_platform.contracts.errors import InputError
from trading_platform.research.models import lightgbm
from trading_platform.research.models.exact_trees import exact_text, float32_below
from trading_platform.research.models.learner import TrainingRows

SMALL = lightgbm.Parameters(rounds=20, num_leaves=15, min_data_in_leaf=40)
CELLS = cells()


def first(rows: TrainingRows, count: int) -> TrainingRows:
    """The first `count` cross-sections."""
    stop = int(rows.groups[:count].sum())
    return replace(rows, features=rows.features[:stop], target=rows.target[:stop], groups=rows.groups[:count])


def thresholds(model: bytes) -> set[float]:
    return {float(value) for line in model.decode().splitlines() if line.startswith("threshold=") for value in line[10:].split()}


def test_bin_edges_come_from_the_training_rows_and_full_sample_edges_are_others() -> None:
    """The training rows' thresholds lie among quantiles of those rows; edges of the full sample know of wild values still to come."""
    wild = CELLS.features.copy()
    wild[-2000:] *= 10.0  # after the training rows
    training = first(replace(CELLS, features=wild), 60)
    learner = lightgbm.Trees(SMALL)
    honest = learner.train(learner.prepare(training), 7)
    np.testing.assert_allclose(lightgbm.ranges(honest), np.column_stack([training.features.min(0), training.features.max(0)]), rtol=1e-6)
    whole = library.Dataset(wild, CELLS.target, params={"max_bin": 63, **lightgbm.FIXED}).construct()
    peeking = library.Dataset(training.features, training.target, reference=whole, params={"max_bin": 63, **lightgbm.FIXED}).construct()
    leaking = learner.train(lightgbm.Binned(peeking, len(training.target), 63), 7)
    assert lightgbm.ranges(leaking)[:, 1].max() > 3.0 * lightgbm.ranges(honest)[:, 1].max()
    assert len(thresholds(honest) - thresholds(leaking)) > 20
    assert (lightgbm.predict(honest, CELLS.features) != lightgbm.predict(leaking, CELLS.features)).mean() > 0.5


def test_one_binned_dataset_serves_parameter_sets_and_refuses_other_bins() -> None:
    prepared = lightgbm.Trees(SMALL).prepare(CELLS)
    for chosen in (SMALL, replace(SMALL, num_leaves=7, lambda_l2=5.0), replace(SMALL, feature_fraction=0.4, boosting="rf")):
        learner = lightgbm.Trees(chosen)
        assert learner.preparation == lightgbm.Trees(SMALL).preparation
        assert learner.train(prepared, 3) == learner.train(learner.prepare(CELLS), 3)
    with pytest.raises(InputError, match="lie in 63 bins, the parameters ask for 31"):
        lightgbm.Trees(replace(SMALL, max_bin=31)).train(prepared, 3)
    for wrong in ({"objective": "poisson"}, {"boosting": "dart"}):
        with pytest.raises(InputError, match="boosting gbdt or rf"):
            lightgbm.Trees(replace(SMALL, **wrong))


def test_other_labels_on_the_same_bins_are_as_binned_anew() -> None:
    learner, shuffled = lightgbm.Trees(SMALL), np.random.default_rng(3).permutation(CELLS.target)
    prepared = learner.prepare(CELLS)
    before = learner.train(prepared, 1)
    other = prepared.relabelled(shuffled)
    assert learner.train(other, 1) == learner.train(learner.prepare(replace(CELLS, target=shuffled)), 1)
    assert learner.train(prepared, 1) == before
    with pytest.raises(InputError, match="one finite target per cell"):
        prepared.relabelled(shuffled[:-1])


def test_a_ranking_learns_fifths_within_each_row() -> None:
    rows = TrainingRows(np.zeros((9, 1), np.float32), np.array([3.0, 1, 2, 5, 4, 0.1, 0.1, 0.1, 9.0]), ("a",), np.array([5, 4]))
    assert lightgbm.graded(rows).tolist() == [2, 0, 1, 4, 3, 0, 0, 0, 3]
    learner = lightgbm.Trees(replace(SMALL, objective="lambdarank"))
    shifted = replace(CELLS, target=CELLS.target + np.repeat(np.arange(len(CELLS.groups)) * 100.0, CELLS.groups))
    assert learner.prepare(CELLS).data.get_group().tolist() == CELLS.groups.tolist()
    assert learner.train(learner.prepare(shifted), 1) == learner.train(learner.prepare(CELLS), 1)  # only the order within a row counts
    with pytest.raises(InputError, match="no row has labels to order"):
        learner.prepare(replace(CELLS, target=np.repeat(np.arange(len(CELLS.groups)) * 1.0, CELLS.groups)))


def test_a_forest_is_the_mean_of_its_trees() -> None:
    learner = lightgbm.Trees(replace(SMALL, boosting="rf"))
    prepared = learner.prepare(CELLS)
    raw = library.train(learner.parameters.options(7, prepared.rows), prepared.data, 20)
    made = learner.train(prepared, 7)
    assert b"average_output" not in made and "average_output" in raw.model_to_string()
    np.testing.assert_allclose(lightgbm.predict(made, CELLS.features), raw.predict(CELLS.features), atol=1e-7)


def test_rounding_to_nearest_flips_real_leaves_and_rounding_down_flips_none() -> None:
    """Rows that lie exactly on a split: LightGBM puts its thresholds between neighbouring values, here two float32 that touch."""
    rng = np.random.default_rng(4)
    base = np.float32(1.0) + rng.integers(0, 40, (6000, 1)).astype(np.float32) * np.spacing(np.float32(1.0))
    target = np.where(base[:, 0] > np.median(base), 1.0, -1.0) + 0.1 * rng.standard_normal(6000)
    options = {**SMALL.options(1, 6000), "bagging_freq": 0, "feature_fraction": 1.0}
    raw = library.train(options, library.Dataset(base, target, params=options), 20).model_to_string().encode()
    text = raw.decode()
    nearest = "\n".join(
        "threshold=" + " ".join(repr(float(np.float32(v))) for v in line[10:].split()) if line.startswith("threshold=") else line
        for line in text.splitlines()
        if not line.startswith("tree_sizes")
    )
    probes = np.unique(base)[:, np.newaxis]
    assert (lightgbm.leaves(raw, probes) == lightgbm.leaves(exact_text(text).encode(), probes)).all()
    assert (lightgbm.leaves(raw, probes) != lightgbm.leaves((nearest + "\n").encode(), probes)).any()
    assert (float32_below(np.array([0.1, -0.1])) <= [0.1, -0.1]).all()
