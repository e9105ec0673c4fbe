"""Every learner keeps the same promises."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cells import NAMES, cells

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.model import ModelConfig
from trading_platform.engine.inference import Inference
from trading_platform.research import export
from trading_platform.research.models import catalog, lightgbm, linear, xgboost
from trading_platform.research.models.learner import Learner, source_hash

LIGHT = lightgbm.Parameters(rounds=30, num_leaves=15, min_data_in_leaf=40)
SMALL: dict[str, Learner] = {
    "lightgbm_regression": lightgbm.Trees(LIGHT),
    "lightgbm_classification": lightgbm.Trees(replace(LIGHT, objective="binary")),
    "lightgbm_ranking": lightgbm.Trees(replace(LIGHT, objective="lambdarank")),
    "random_forest": lightgbm.Trees(replace(LIGHT, boosting="rf")),
    "ridge": linear.Ridge(),
    "logistic": linear.Logistic(),
    "xgboost_regression": xgboost.Boosted(xgboost.Parameters(rounds=30, max_leaves=15, min_child_weight=40.0)),
    "xgboost_classification": xgboost.Boosted(
        xgboost.Parameters(rounds=30, max_leaves=15, min_child_weight=40.0, objective="binary:logistic")
    ),
}
installed = pytest.mark.skipif(
    importlib.util.find_spec("xgboost") is None, reason="XGBoost is not installed: pip install 'trading-platform[xgboost]'"
)
EVERY = [pytest.param(name, marks=[installed] if name.startswith("xgboost") else []) for name in SMALL]
CONFIG = ModelConfig("alpha", "1", "daily", "1Day", "core", "f" * 64, NAMES, "v", "w", 5, "label", 12784, 13149, {"vendor": "files"})
CELLS = cells()
PROBES = cells(1, 220).features  # 11,000 rows


def test_the_catalogue_and_this_test_name_the_same_learners() -> None:
    assert list(SMALL) == list(catalog.LEARNERS)
    assert [catalog.learner(name).name for name in SMALL] == list(SMALL)
    with pytest.raises(InputError, match="no learner 'forest'"):
        catalog.learner("forest")


@pytest.fixture(scope="module")
def trained() -> dict[str, bytes]:
    present = importlib.util.find_spec("xgboost") is not None
    return {name: one.train(one.prepare(CELLS), 7) for name, one in SMALL.items() if present or not name.startswith("xgboost")}


@pytest.mark.parametrize("name", EVERY)
def test_it_learns_the_signal_and_says_which_feature_carries_it(name: str, trained: dict[str, bytes]) -> None:
    native = catalog.native(trained[name])
    found, fresh = native.predict(trained[name], PROBES), cells(1, 220)
    assert np.corrcoef(found, fresh.target)[0, 1] > 0.4 and native.kind(trained[name]) == name
    gain = native.importance(trained[name])
    assert gain.shape == (5,) and gain.sum() == pytest.approx(1.0) and gain.argmax() == 2


@pytest.mark.parametrize("name", EVERY)
def test_equal_inputs_give_equal_bytes_and_preparing_serves_every_seed(name: str, trained: dict[str, bytes]) -> None:
    one = SMALL[name]
    shared = one.prepare(CELLS)
    with ThreadPoolExecutor(2) as pool:  # two threads train on the one preparation
        together = list(pool.map(lambda seed: one.train(shared, seed), (7, 8, 7)))
    assert together[0] == together[2] == trained[name]
    assert together[1] == one.train(one.prepare(CELLS), 8)
    if name not in ("ridge", "logistic"):
        assert together[1] != together[0]


@pytest.mark.parametrize("name", EVERY)
def test_the_served_form_gives_the_same_bits_for_every_batch(name: str, trained: dict[str, bytes]) -> None:
    inference = Inference(export.as_model(CONFIG, export.to_onnx(trained[name], len(NAMES))))
    found = export.parity(trained[name], inference, PROBES, [50] * 220)
    assert (found.rows, found.mixed, found.max_abs, found.differing, found.sign_flips) == (11_000, 0, 0.0, 0.0, 0.0)
    assert found.batch_invariant and found.top_overlap == 1.0 and found.scale > 0.0
    assert export.to_onnx(trained[name], len(NAMES)) == export.to_onnx(trained[name], len(NAMES))


@pytest.mark.parametrize("name", EVERY)
def test_shapley_values_add_up_to_the_prediction(name: str, trained: dict[str, bytes]) -> None:
    native = catalog.native(trained[name])
    parts = native.contributions(trained[name], PROBES[:200])
    assert parts.shape == (200, 6)
    np.testing.assert_allclose(parts.sum(axis=1), native.predict(trained[name], PROBES[:200]), atol=2e-5 * np.abs(parts).sum(axis=1).max())
    assert np.ptp(parts[:, -1]) == 0.0 and np.abs(parts[:, 2]).mean() > 3.0 * np.abs(parts[:, 3]).mean()


UNRANKED = [param for param in EVERY if "ranking" not in str(param)]  # its grades are of all cells of a row: one left out moves the others


@pytest.mark.parametrize("name", UNRANKED)
def test_weights_count_and_a_cell_of_weight_zero_does_not(name: str) -> None:
    one = SMALL[name]
    weights = np.repeat([1.0, 0.0], len(CELLS.target) // 2)
    upside_down = np.where(weights > 0.0, CELLS.target, -CELLS.target)
    model = one.train(one.prepare(replace(CELLS, target=upside_down, weights=weights)), 7)
    assert np.corrcoef(catalog.native(model).predict(model, PROBES), PROBES[:, 2])[0, 1] > 0.3
    for wrong in (-weights, np.zeros_like(weights), weights[:5], np.where(weights > 0, np.nan, 1.0)):
        with pytest.raises(InputError, match="weights"):
            one.prepare(replace(CELLS, weights=wrong))


@pytest.mark.parametrize("name", EVERY)
def test_what_cannot_be_learned_from_is_refused_by_name(name: str) -> None:
    one = SMALL[name]
    flat, undefined = CELLS.features.copy(), CELLS.features.copy()
    flat[:, 1], undefined[:, 4] = 3.0, np.nan
    with pytest.raises(InputError, match="feature product_b has the same value"):
        one.prepare(replace(CELLS, features=flat))
    with pytest.raises(InputError, match="feature noise_2 holds NaN"):
        one.prepare(replace(CELLS, features=undefined))
    with pytest.raises(InputError, match="targets hold NaN"):
        one.prepare(replace(CELLS, target=np.full_like(CELLS.target, np.nan)))
    with pytest.raises(InputError, match="give one target per cell"):
        one.prepare(replace(CELLS, names=NAMES[:3]))


@pytest.mark.parametrize("name", [param for param in EVERY if "classification" in str(param) or "logistic" in str(param)])
def test_one_class_is_refused(name: str) -> None:
    one = SMALL[name]
    with pytest.raises(InputError, match="labels are above zero: one class"):
        one.train(one.prepare(replace(CELLS, target=np.abs(CELLS.target) + 1e-9)), 7)
    with pytest.raises(InputError, match="zero or below: one class"):
        one.train(one.prepare(replace(CELLS, target=-np.abs(CELLS.target))), 7)


def test_a_changed_source_is_another_recipe(tmp_path: Path) -> None:
    hashes = set()
    for number, text in enumerate(("a = 1", "a = 2", "a = 1")):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "code.py").write_text(text)
        hashes.add(source_hash(folder))
    assert len(hashes) == 2
    for name in ("lightgbm_regression", "ridge"):
        assert SMALL[name].recipe["code"] == source_hash() != catalog.learner(name).recipe["parameters"]
        assert content_hash(dict(catalog.learner(name).recipe)) == content_hash(dict(catalog.learner(name).recipe))


def test_damaged_bytes_are_refused(trained: dict[str, bytes]) -> None:
    with pytest.raises(CorruptionError, match="trained bytes begin with"):
        catalog.native(b"\x80\x04\x95pickle")
    for model in (b"tree\nnothing", b'{"format":"cubic"}', b'{"half'):
        with pytest.raises(CorruptionError):
            catalog.native(model).predict(model, PROBES)
    with pytest.raises(InputError, match="5 features, 4 asked"):
        export.to_onnx(trained["ridge"], 4)


def test_without_xgboost_its_learner_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "xgboost", None)
    with pytest.raises(InputError, match="XGBoost is not installed"):
        SMALL["xgboost_regression"].prepare(CELLS)
