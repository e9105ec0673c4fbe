from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.model import ModelConfig
from trading_platform.registry import bundle
from trading_platform.registry.object_store import FileStore

ONNX = b"not parsed here"
ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)
OUT = np.array([0.1, 0.2, 0.3])


def config(**changes: Any) -> ModelConfig:
    values: dict[str, Any] = {
        "name": "alpha",
        "version": "1.2",
        "slot": "daily",
        "timeframe": "1Day",
        "feature_set": "core",
        "feature_hash": "f" * 64,
        "features": ("a", "b"),
        "volatility": "volatility_20d",
        "atr": "atr_20_pct",
        "horizon": 5,
        "target": "forward_return",
        "trained_from": 12784,
        "trained_through": 13149,
        "feed": {"vendor": "files"},
    }
    return ModelConfig(**{**values, **changes})


def write(store: FileStore, **changes: Any) -> str:
    arguments: dict[str, Any] = {"onnx": ONNX, "golden_input": ROWS, "golden_output": OUT, "metadata": {"created_at": 1}, "card": "# card"}
    return bundle.write_bundle(store, config(), **{**arguments, **changes})


def test_a_bundle_comes_back_as_the_value_that_was_written(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    bundle_id = write(store, metadata={"created_at": 7, "lineage": {"git": "abc"}, "performance": {"latency_ms": 0.2}})
    model = bundle.load_bundle(store, "alpha_v1.2", bundle_id)
    assert model.config == config() and model.onnx == ONNX and model.bundle_id == bundle_id and model.label == "alpha_v1.2"
    np.testing.assert_array_equal(model.golden_input, ROWS)
    np.testing.assert_array_equal(model.golden_output, OUT)
    assert model.metadata["lineage"] == {"git": "abc"} and model.metadata["model_name"] == "alpha" and model.metadata["version"] == "1.2"
    assert set(model.metadata["files"]) == {"model.onnx", "config.json", "golden.npz", "card.md"}
    assert bundle.find_bundle(store, bundle_id) == "alpha_v1.2" and bundle.find_bundle(store, "0" * 64) is None
    assert bundle.labels(store) == ("alpha_v1.2",)
    for stray in ("metadata.json", "alpha/metadata.json", "alpha/versions/draft/metadata.json", "a/b/versions/v1/metadata.json"):
        store.put(f"trading-models/{stray}", b"{}")
    assert bundle.find_bundle(store, "0" * 64) is None and bundle.labels(store) == ("alpha_v1.2",)


def test_writing_the_same_model_again_is_the_same_bundle_and_another_model_is_refused(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    first = write(store)
    assert write(store, metadata={"created_at": 2, "performance": {"latency_ms": 9.0}}, card="# other words") == first
    with pytest.raises(InputError, match="exists with another content"):
        write(store, onnx=b"another model")
    with pytest.raises(InputError, match="exists with another content"):
        write(store, metadata={"created_at": 1, "lineage": {"data": "other"}})
    assert bundle.load_bundle(store, "alpha_v1.2", first).onnx == ONNX


def test_equal_content_has_equal_bytes(tmp_path: Path) -> None:
    assert write(FileStore(tmp_path / "a")) == write(FileStore(tmp_path / "b"))


def test_a_writer_that_died_leaves_no_bundle_and_the_next_one_succeeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    with monkeypatch.context() as patch:
        put = store.put
        patch.setattr(store, "put", lambda key, data, if_absent=True: put(key, data[:3], if_absent) if "card" not in key else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            write(store)
    assert bundle.labels(store) == ()
    with pytest.raises(InputError, match="no object"):
        bundle.load_bundle(store, "alpha_v1.2")
    assert bundle.load_bundle(store, "alpha_v1.2", write(store)).onnx == ONNX


@pytest.mark.parametrize("file", ["model.onnx", "config.json", "golden.npz", "card.md", "metadata.json"])
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b + b"\n"], ids=["cut", "flip", "grow"]
)
def test_any_changed_byte_of_any_file_is_refused(tmp_path: Path, file: str, damage: Any) -> None:
    store = FileStore(tmp_path)
    bundle_id = write(store)
    path = tmp_path / bundle.bundle_prefix("alpha", "1.2") / file
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptionError) as caught:
        bundle.load_bundle(store, "alpha_v1.2", bundle_id)
    assert file in str(caught.value)


def test_a_bundle_under_a_foreign_label_is_refused(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    write(store)
    (tmp_path / "trading-models/beta/versions").mkdir(parents=True)
    (tmp_path / bundle.bundle_prefix("alpha", "1.2")).rename(tmp_path / bundle.bundle_prefix("beta", "9"))
    with pytest.raises(CorruptionError, match=r"is of alpha_v1\.2, not beta_v9"):
        bundle.load_bundle(store, "beta_v9")


def test_golden_rows_that_do_not_fit_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="golden rows"):
        write(FileStore(tmp_path), golden_input=np.zeros((3, 5), np.float32))
    assert list(tmp_path.iterdir()) == []
