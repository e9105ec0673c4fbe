"""Bundles with a constant-weight ONNX model: alpha = features @ weights. Two weights make two models that disagree."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from trading_platform.contracts.ledger import LedgerReader
from trading_platform.contracts.model import Model, ModelConfig
from trading_platform.engine.inference import Inference
from trading_platform.registry.bundle import write_bundle
from trading_platform.registry.ledger import promote, required_gates
from trading_platform.registry.object_store import ObjectStore

STAGES = ("candidate", "shadow", "paper")


def linear_onnx(weights: np.ndarray) -> bytes:
    """A model file: float32 (S, F) -> float32 (S, 1)."""
    initial = numpy_helper.from_array(weights.astype(np.float32).reshape(-1, 1), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "weights"], ["alpha"])],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, len(weights)])],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [None, 1])],
        [initial],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_bundle(store: ObjectStore, config: ModelConfig, weights: np.ndarray, golden_off_by: float = 0.0) -> str:
    """Write a bundle with golden rows, whose outputs are `golden_off_by` beside what the model says; returns its id."""
    data = linear_onnx(weights)
    golden = np.random.default_rng(7).normal(size=(16, len(config.features))).astype(np.float32)
    model = Model("0" * 64, config, data, golden, np.zeros(16), {})
    output = Inference(model).alphas(golden, np.ones(16, np.bool_))
    return write_bundle(store, config, data, golden, output + golden_off_by, {"created_at": "2014-01-01T00:00:00Z"}, "# constant weights")


def promote_to_paper(ledger: Path, config: ModelConfig, bundle_id: str, account: str) -> None:
    """All stages up to paper, every required gate passed."""
    for stage in STAGES:
        gates = {name: {"passed": True, "value": 1.0, "threshold": 0.0} for name in required_gates(stage)}
        promote(
            ledger,
            expected_head=LedgerReader(ledger).head(),
            name=config.name,
            version=config.version,
            bundle_id=bundle_id,
            account=account,
            mode="paper",
            stage=stage,
            slot=config.slot,
            at=1,
            approvals=("tester",),
            reason="test",
            gates=gates,
        )
