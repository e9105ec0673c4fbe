"""Bundles: the only thing a runner ever loads (DESIGN section 7). Writing, finding, loading with every sha256 verified. No pickle, no onnx.

Layout: `trading-models/<name>/versions/v<version>/{model.onnx,config.json,golden.npz,card.md,metadata.json}`. metadata.json lists sha256
and size of every other file and is written last, so a bundle exists completely or not at all; bundle_id = sha256(metadata.json).
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import canonical_bytes, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.model import Model, ModelConfig, parse_label
from trading_platform.registry.object_store import ObjectStore

ROOT = "trading-models"
MODEL, CONFIG, GOLDEN, CARD, METADATA = "model.onnx", "config.json", "golden.npz", "card.md", "metadata.json"
SUBSTANCE = (MODEL, CONFIG, GOLDEN)
# What describes the making of a bundle and not the bundle: a re-run of the same recipe on the same data differs only here.
OF_THE_RUN = ("created_at", "performance", "runs", "files", "card")


BUNDLE_KEY = re.compile(rf"{ROOT}/(?P<name>[^/]+)/versions/v(?P<version>\d+(?:\.\d+)*)/{re.escape(METADATA)}")


def bundle_prefix(name: str, version: str) -> str:
    """Key prefix of one version's files, with a trailing slash."""
    return f"{ROOT}/{name}/versions/v{version}/"


def _golden_bytes(golden_input: NDArray[np.float32], golden_output: NDArray[np.float64]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, input=np.ascontiguousarray(golden_input, np.float32), output=np.ascontiguousarray(golden_output, np.float64))
    return buffer.getvalue()


def _identity(metadata: Mapping[str, Any]) -> bytes:
    """What makes two bundles the same bundle: the substance's files and all metadata that is not of the run."""
    kept = {k: v for k, v in metadata.items() if k not in OF_THE_RUN}
    return canonical_bytes([kept, {name: metadata["files"][name] for name in SUBSTANCE}])


def write_bundle(
    store: ObjectStore,
    config: ModelConfig,
    onnx: bytes,
    golden_input: NDArray[np.float32],
    golden_output: NDArray[np.float64],
    metadata: Mapping[str, Any],
    card: str,
) -> str:
    """Write a bundle and return its id.

    golden_input: float32 (R, F), F = len(config.features); golden_output: float64 (R,), onnxruntime's own output for them. metadata: what
    the bundle's makers know (lineage, metrics, performance, quantisation, created_at, ...); names, sizes and hashes are added here.
    Idempotent: the same substance under the same version returns the id already there (the first run's created_at and timings stay);
    another substance raises InputError, because a version never changes.
    """
    if golden_input.ndim != 2 or golden_input.shape[1] != len(config.features) or golden_output.shape != (golden_input.shape[0],):
        shapes = f"golden rows {golden_input.shape} -> {golden_output.shape} do not fit {len(config.features)} features"
        raise InputError(shapes, "registry.bundle", "give (R, F) inputs and (R,) outputs")
    files = {
        MODEL: onnx,
        CONFIG: canonical_bytes(config),
        GOLDEN: _golden_bytes(golden_input, golden_output),
        CARD: card.encode(),
    }
    listed = {name: {"sha256": sha256_hex(data), "size": len(data)} for name, data in files.items()}
    head = {
        "model_name": config.name,
        "version": config.version,
        "sha256": listed[MODEL]["sha256"],
        "file_size_mb": round(len(onnx) / 1e6, 6),
        "onnx_optimized": False,
        "quantization": "none",
    }
    complete = {**head, **metadata, "files": listed}
    content = canonical_bytes(complete)
    prefix = bundle_prefix(config.name, config.version)
    if store.exists(prefix + METADATA):
        stored = store.get(prefix + METADATA)
        if _identity(parse(stored)) != _identity(parse(content)):
            label = f"{config.name}_v{config.version}"
            raise InputError(f"{label} exists with another content", prefix, "a version never changes: give the new model a new version")
        return sha256_hex(stored)
    for name, data in files.items():  # without metadata.json these are leftovers of a dead writer, and may be replaced
        store.put(prefix + name, data, if_absent=False)
    store.put(prefix + METADATA, content)
    return sha256_hex(content)


def find_bundle(store: ObjectStore, bundle_id: str) -> str | None:
    """Label (`<name>_v<version>`) of the bundle with this id, or None. Reads every metadata.json until it is found."""
    for label in labels(store):
        if sha256_hex(store.get(bundle_prefix(*parse_label(label)) + METADATA)) == bundle_id:
            return label
    return None


def labels(store: ObjectStore) -> tuple[str, ...]:
    """Labels of all complete bundles in the store, ascending."""
    keys = (BUNDLE_KEY.fullmatch(key) for key in store.list(f"{ROOT}/"))
    return tuple(sorted(f"{key['name']}_v{key['version']}" for key in keys if key))


def read_metadata(store: ObjectStore, label: str, bundle_id: str | None) -> tuple[str, dict[str, Any]]:
    """(bundle_id, metadata) of a label; with a bundle_id the bytes must hash to it. Raises InputError when absent, CorruptionError else."""
    prefix = bundle_prefix(*parse_label(label))
    content = store.get(prefix + METADATA)
    found = sha256_hex(content)
    if bundle_id is not None and found != bundle_id:
        raise CorruptionError(
            f"metadata.json hashes to {found[:12]}, expected {bundle_id[:12]}", prefix, "fetch the bundle again from its source"
        )
    metadata = parse(content)
    if not isinstance(metadata, dict) or not isinstance(metadata.get("files"), dict):
        raise CorruptionError("metadata.json lists no files", prefix, "fetch the bundle again from its source")
    return found, metadata


def stored_config(store: ObjectStore, label: str, metadata: Mapping[str, Any]) -> ModelConfig:
    """The config of a bundle whose metadata was read, its sha256 checked; the other files are not read."""
    key = bundle_prefix(*parse_label(label)) + CONFIG
    content, promised = store.get(key), metadata["files"].get(CONFIG, {})
    if sha256_hex(content) != promised.get("sha256"):
        raise CorruptionError(f"{CONFIG} does not match its sha256 in metadata.json", key, "fetch the bundle again from its source")
    return _config(content, key)


def write_current(store: ObjectStore, label: str) -> None:
    """Copy a verified bundle beside its versions, `trading-models/<name>/model.onnx` and so on: the one people mean by the name (REGY-09).

    metadata.json goes last; whoever reads the copy between two writes finds files that do not match it, and refuses them.
    """
    model = load_bundle(store, label)
    source, target = bundle_prefix(model.config.name, model.config.version), f"{ROOT}/{model.config.name}/"
    for file in (*model.metadata["files"], METADATA):
        store.put(target + file, store.get(source + file), if_absent=False)


def _config(content: bytes, where: str) -> ModelConfig:
    stored = parse(content)
    expected = {f.name for f in fields(ModelConfig)}
    if not isinstance(stored, dict) or set(stored) != expected:
        raise CorruptionError(
            "config.json does not hold the fields of a ModelConfig", where, "this bundle was written by another version: export it again"
        )
    return ModelConfig(**{**stored, "features": tuple(stored["features"])})


def load_bundle(store: ObjectStore, label: str, bundle_id: str | None = None) -> Model:
    """Load a bundle after checking the size and sha256 of every file.

    bundle_id None trusts metadata.json as found; the caller then decides by the returned id. Raises InputError when there is no such
    bundle and CorruptionError naming the first file that differs.
    """
    name, version = parse_label(label)
    prefix = bundle_prefix(name, version)
    found, metadata = read_metadata(store, label, bundle_id)
    content: dict[str, bytes] = {}
    for file, promised in metadata["files"].items():
        data = store.get(prefix + file)
        if len(data) != promised["size"] or sha256_hex(data) != promised["sha256"]:
            raise CorruptionError(
                f"{file} does not match its sha256 in metadata.json", prefix + file, "fetch the bundle again from its source"
            )
        content[file] = data
    missing = [file for file in (*SUBSTANCE, CARD) if file not in content]
    if missing:
        raise CorruptionError(f"metadata.json does not list {', '.join(missing)}", prefix, "fetch the bundle again from its source")
    config = _config(content[CONFIG], prefix + CONFIG)
    if (config.name, config.version) != (name, version):
        raise CorruptionError(
            f"config.json is of {config.name}_v{config.version}, not {label}", prefix, "fetch the bundle again from its source"
        )
    try:
        with np.load(io.BytesIO(content[GOLDEN]), allow_pickle=False) as golden:
            golden_input, golden_output = golden["input"], golden["output"]
    except (KeyError, ValueError, OSError) as error:
        raise CorruptionError(f"golden.npz cannot be read: {error}", prefix + GOLDEN, "export the bundle again") from error
    if (
        golden_input.shape != (golden_output.shape[0], len(config.features))
        or golden_input.dtype != np.float32
        or golden_output.dtype != np.float64
    ):
        raise CorruptionError("golden.npz has other shapes or dtypes than the config", prefix + GOLDEN, "export the bundle again")
    return Model(found, config, content[MODEL], golden_input, golden_output, metadata)


def replay_golden(model: Model) -> float:
    """Largest absolute difference between onnxruntime's output here and the golden outputs; 0.0 means the same bits, inf a NaN mismatch."""
    from trading_platform.engine.inference import Inference

    defined = np.ones(model.golden_input.shape[0], dtype=np.bool_)
    got = Inference(model).alphas(model.golden_input, defined)
    difference = np.abs(got - model.golden_output)
    if bool(np.any(np.isnan(got) != np.isnan(model.golden_output))):
        return float("inf")
    return float(np.nanmax(difference, initial=0.0))
