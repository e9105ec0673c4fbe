from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from panels import panel_of

from trading_platform.contracts.errors import InputError
from trading_platform.research.inner_folds import InnerFolds
from trading_platform.research.labels import forward_return
from trading_platform.research.splits import walk_forward
from trading_platform.research.tuning import out_of_sample

NAMES = ("noise", "signal")
SMALL = {"rounds": 15, "num_leaves": 7, "min_data_in_leaf": 20}


def market(rows: int = 140, width: int = 16, seed: int = 0):  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seed)
    signal = rng.standard_normal((rows, width))
    drift = np.zeros((rows, width))
    drift[2:] = 0.01 * signal[:-2]
    panel = panel_of(50.0 * np.exp(np.cumsum(drift + 0.01 * rng.standard_normal((rows, width)), axis=0)))
    features = np.stack([rng.standard_normal((rows, width)), signal], axis=2).astype(np.float32)
    labels = forward_return(panel, 3, demean=True)
    return panel, features, labels, walk_forward(labels.t0, labels.t1, train=90, test=20, step=20)[0]


PANEL, FEATURES, LABELS, OUTER = market()
UNTIL = int(LABELS.t0[OUTER.test[0]])


def inner(panel=PANEL, features=FEATURES, labels=LABELS, rows=OUTER.train, until=UNTIL, folds=4, embargo=0.02):  # type: ignore[no-untyped-def]
    return InnerFolds(panel, features, NAMES, labels, rows, until, folds, embargo, 7)


def test_each_row_of_the_span_is_predicted_once_by_a_model_that_never_saw_its_interval() -> None:
    found = inner()
    outcomes = [found(SMALL, fold) for fold in range(4)]
    assert np.array_equal(np.concatenate([outcome.rows for outcome in outcomes]), np.arange(OUTER.train.size))
    assert np.mean(np.concatenate([outcome.ic for outcome in outcomes])) > 0.2
    assert found.predictions(outcomes).shape == (90, 16) and np.isfinite(found.predictions(outcomes)).all()
    assert np.isnan(found.predictions(outcomes[:1])[outcomes[1].rows]).all()
    for train, test in found._splits:
        meets = (found.labels.t0[train, None] <= found.labels.t1[test]) & (found.labels.t1[train, None] >= found.labels.t0[test])
        assert train.size and not meets.any()


def test_nothing_after_the_span_reaches_a_trial() -> None:
    after = np.arange(PANEL.shape[0]) > OUTER.train[-1]
    features, values = FEATURES.copy(), LABELS.values.copy()
    features[after], values[after] = 1e6, -1e6
    fields = {name: np.where(after[:, None], 9e9, field) for name, field in PANEL.fields.items()}
    poisoned = inner(replace(PANEL, fields=fields), features, replace(LABELS, values=values))
    for fold in range(4):
        mine, theirs = inner()(SMALL, fold), poisoned(SMALL, fold)
        assert np.array_equal(mine.predictions, theirs.predictions) and np.array_equal(mine.ic, theirs.ic)


def test_a_label_of_the_span_that_the_outer_test_reaches_is_refused() -> None:
    with pytest.raises(InputError, match="4 of 90 labels are known only when the outer test has begun"):
        inner(rows=np.arange(20, 110), until=int(LABELS.t0[110]))


def test_a_span_too_short_for_folds_or_embargo_is_refused() -> None:
    with pytest.raises(InputError, match="test blocks"):
        inner(folds=91)
    with pytest.raises(InputError, match="the embargo is"):
        inner(rows=OUTER.train[:12], embargo=0.9, folds=2)
    with pytest.raises(InputError, match="neighbouring"):
        inner(rows=OUTER.train[::2])


def test_a_span_begins_with_its_first_warm_row() -> None:
    cold = FEATURES.copy()
    cold[:30] = np.nan
    found = inner(features=cold)
    assert np.array_equal(found.rows, np.arange(30, OUTER.train[-1] + 1)) and found.panel.shape[0] == found.rows.size
    assert np.isfinite(found(SMALL, 0).ic).all()
    cold[:] = np.nan
    with pytest.raises(InputError, match="not one of 90 rows"):
        inner(features=cold)


def test_folds_that_test_what_was_tuned_on_are_left_out() -> None:
    folds = walk_forward(LABELS.t0, LABELS.t1, train=60, test=20, step=20)
    until = int(LABELS.t1[OUTER.train].max())
    kept = out_of_sample(folds, LABELS.t0, until)
    assert 0 < len(kept) < len(folds) and all((LABELS.t0[fold.test] > until).all() for fold in kept)
    assert out_of_sample(folds, LABELS.t0, int(LABELS.t0[folds[1].test[0]])) == folds[2:]
    with pytest.raises(InputError, match="test rows that the parameters were tuned on"):
        out_of_sample(folds, LABELS.t0, int(LABELS.t0[-1]))


def test_what_lightgbm_refuses_names_the_values() -> None:
    with pytest.raises(InputError, match=r"feature_fraction.*1\.5"):
        inner()({**SMALL, "feature_fraction": 1.5}, 0)
