from __future__ import annotations

import itertools
from pathlib import Path

import lightgbm as library
import numpy as np
import onnx
import pytest

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.model import ModelConfig
from trading_platform.engine.inference import Inference
from trading_platform.registry.bundle import load_bundle, replay_golden, write_bundle
from trading_platform.registry.object_store import FileStore
from trading_platform.research import export, gates
from trading_platform.research.models import lightgbm
from trading_platform.research.models.exact_trees import float32_below

NAMES = ("a", "b", "c")
CONFIG = ModelConfig(
    "alpha", "1", "daily", "1Day", "core", "f" * 64, NAMES, "v", "w", 5, "forward_return_5", 12784, 13149, {"vendor": "files"}
)
ROWS = np.random.default_rng(0).standard_normal((12_000, 3)).astype(np.float32)
SIZES = [100] * 120


@pytest.fixture(scope="module")
def model() -> bytes:
    target = ROWS[:, 0] * ROWS[:, 1] + 0.1 * np.random.default_rng(1).standard_normal(len(ROWS))
    return lightgbm.train(ROWS, target.astype(np.float64), NAMES, lightgbm.Parameters(rounds=90, min_data_in_leaf=50), 3)


@pytest.fixture(scope="module")
def exported(model: bytes) -> export.Exported:
    ticks = itertools.count(0, 500_000)
    return export.export(model, CONFIG, ROWS, SIZES, lambda: next(ticks))


def test_the_served_model_is_the_judged_one_to_the_bit(exported: export.Exported) -> None:
    assert exported.parity.max_abs == 0.0 and exported.parity.batch_invariant and exported.parity.top_overlap == 1.0
    assert exported.parity.rows == 12_000 and exported.golden_difference == 0.0
    assert (exported.latency.p50_ms, exported.latency.rows) == (0.5, 100) and exported.latency.throughput_qps == pytest.approx(200_000)


def test_thresholds_are_float32_and_decide_as_before(model: bytes) -> None:
    target = ROWS[:, 2].astype(np.float64)
    options = {**lightgbm.Parameters(rounds=20, min_data_in_leaf=50).options(1, 5_000), "max_bin": 255}
    raw = library.train(options, library.Dataset(ROWS.astype(np.float64) * (1 + 1e-9), target), 20).model_to_string().encode()
    made = lightgbm.exact(raw)
    probes = ROWS[:4000]
    assert np.abs(lightgbm.predict(raw, probes) - lightgbm.predict(made, probes)).max() < 1e-5
    assert lightgbm.exact(made) == made and lightgbm.exact(model) == model
    for line in made.decode().splitlines():
        if line.startswith("threshold="):
            values = np.array(line[10:].split(), dtype=np.float64)
            np.testing.assert_array_equal(values, values.astype(np.float32).astype(np.float64))


def test_rounding_a_threshold_to_nearest_would_flip_a_tree() -> None:
    between = np.nextafter(np.float64(np.float32(0.1)), 1.0) - 2e-9
    below = float32_below(np.array([between, 0.1, -0.1, 1e-45]))
    assert (below <= np.array([between, 0.1, -0.1, 1e-45])).all()
    assert (np.nextafter(below.astype(np.float32), np.float32(np.inf)).astype(np.float64) > np.array([between, 0.1, -0.1, 1e-45])).all()


def test_leaf_sums_are_the_same_in_every_order(model: bytes) -> None:
    leaves = [np.array(line[11:].split(), dtype=np.float64) for line in model.decode().splitlines() if line.startswith("leaf_value=")]
    picked = np.array([values[len(values) // 2] for values in leaves], dtype=np.float32)
    sums = {float(np.cumsum(np.random.default_rng(seed).permutation(picked), dtype=np.float32)[-1]) for seed in range(50)}
    assert sums == {float(np.sum(picked.astype(np.float64)))}


def test_equal_models_give_equal_onnx_bytes(model: bytes, exported: export.Exported) -> None:
    assert export.to_onnx(model, 3) == exported.onnx


def test_a_changed_tree_fails_the_parity_gate(model: bytes, exported: export.Exported) -> None:
    damaged = onnx.load_from_string(exported.onnx)
    weights = next(a for node in damaged.graph.node for a in node.attribute if a.name == "target_weights")
    weights.floats[0] += 0.5
    broken = export.parity(model, Inference(export.as_model(CONFIG, damaged.SerializeToString())), ROWS, SIZES)
    good = gates.evaluate(gates.Technical((), exported.parity, 0.0, exported.latency), None)
    bad = gates.evaluate(gates.Technical((), broken, 0.0, exported.latency), None)
    verdicts = [{g.name: g.verdict for g in found}["parity"] for found in (good, bad)]
    assert verdicts == ["passed", "failed"]


def test_a_small_universe_is_compared_on_mixed_rows_too(model: bytes) -> None:
    inference = Inference(export.as_model(CONFIG, export.to_onnx(model, 3)))
    found = export.parity(model, inference, ROWS[:7_500], [3] * 2_500)
    assert (found.rows, found.mixed, found.max_abs, found.top_overlap) == (10_000, 2_500, 0.0, 1.0)
    assert found == export.parity(model, inference, ROWS[:7_500], [3] * 2_500)
    mixed = export._mixed(ROWS[:50], 2_500)
    assert all(np.isin(mixed[:, column], ROWS[:50, column]).all() for column in range(3))
    assert len({row.tobytes() for row in mixed} - {row.tobytes() for row in ROWS[:50]}) > 2_000


def test_an_exported_model_goes_through_a_bundle_and_back(exported: export.Exported, tmp_path: Path) -> None:
    found = gates.evaluate(gates.Technical((), exported.parity, 0.0, exported.latency), None)
    told = export.metadata(
        exported, created_at=1, metrics={"ic": 0.01}, gates=gates.as_record(found), lineage={"git": "a"}, runs={}, trials={"n": 1}
    )
    text = export.card(exported, {"annual net Sharpe": 0.4, "folds": 3}, found, ["SURVIVORSHIP BIASED"])
    store = FileStore(tmp_path)
    bundle_id = write_bundle(store, CONFIG, exported.onnx, exported.golden_input, exported.golden_output, told, text)
    loaded = load_bundle(store, "alpha_v1", bundle_id)
    assert replay_golden(loaded) == 0.0 and loaded.metadata["parity"]["max_abs"] == 0.0
    assert loaded.metadata["lineage"]["training_span"] == {"trained_from": 12784, "trained_through": 13149}
    assert "SURVIVORSHIP BIASED" in text and "| parity | technical | passed |" in text and "2005-01-01 to 2006-01-01" in text
    tampered = type(loaded)(bundle_id, CONFIG, loaded.onnx, loaded.golden_input, loaded.golden_output + 1e-6, {})
    assert replay_golden(tampered) == pytest.approx(1e-6)


def test_wrong_shapes_are_refused(model: bytes) -> None:
    with pytest.raises(InputError, match="float32"):
        export.export(model, CONFIG, ROWS[:, :2], SIZES, lambda: 0)
    with pytest.raises(InputError, match="cross-sections"):
        export.parity(model, Inference(export.as_model(CONFIG, export.to_onnx(model, 3))), ROWS, [5])
