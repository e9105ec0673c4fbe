"""Linear baselines: ridge regression and logistic regression on standardised features, as canonical JSON, exact in float32.

What a tree model must beat to be worth its trees. Scales come from the fold's training cells alone; standardised values are held within
+-5, so that one wild print does not speak for the whole cross-section.

Exact by construction, like the trees: a standardised value is a whole number of 2^-17, a weight a whole number of its own step, and their
products add up below 2^53. No order of summation rounds, so NumPy and onnxruntime give the same bits for any batch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import orjson

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.research.models.learner import Array, Features, TrainingRows, check_sum, source_hash

WHERE = "research.models.linear"
FORMAT = "linear"
BOUND = 5.0
STEPS = 2.0**17  # a standardised value is a whole number of these per unit: at most 20 bits
OPSET = 15


@dataclass(frozen=True, slots=True)
class Standardised:
    """Training cells as whole numbers of 1/STEPS standard deviations. steps: float64 (N, F), whole. mean, scale: float64 (F,)."""

    rows: TrainingRows
    mean: Array
    scale: Array
    steps: Array


def standardised(features: Features, mean: Array, scale: Array) -> Array:
    """(x - mean) / scale held within +-BOUND, in whole steps: float64 (N, F)."""
    return np.rint(np.clip((features.astype(np.float64) - mean) / scale, -BOUND, BOUND) * STEPS)


class _Linear:
    """What both learners share: how cells are prepared."""

    preparation: tuple[Any, ...] = ("linear",)

    def prepare(self, rows: TrainingRows) -> Standardised:
        """Standardise by the cells' own mean and standard deviation. InputError for rows that nothing can be learned from."""
        rows.check()
        mean, scale = rows.features.mean(axis=0, dtype=np.float64), rows.features.std(axis=0, dtype=np.float64)
        return Standardised(rows, mean, scale, standardised(rows.features, mean, scale))


@dataclass(frozen=True)
class Ridge(_Linear):
    """Least squares with a penalty. penalty: on the squared weights, as a share of the (weighted) number of cells."""

    penalty: float = 0.1

    @property
    def name(self) -> str:
        """ridge"""
        return "ridge"

    @property
    def recipe(self) -> Mapping[str, Any]:
        """See Learner."""
        return {"learner": self.name, "parameters": asdict(self), "numpy": version("numpy"), "code": source_hash()}

    def train(self, prepared: Standardised, seed: int) -> bytes:
        """The minimiser of sum w (y - b - z.c)^2 + penalty sum(w) |c|^2; b free. Nothing is drawn: the seed changes nothing."""
        z, y = prepared.steps / STEPS, prepared.rows.target
        weights = np.ones(y.size) if prepared.rows.weights is None else prepared.rows.weights
        total = weights.sum()
        middle, level = weights @ z / total, weights @ y / total
        centred = z - middle
        gram = (centred * weights[:, np.newaxis]).T @ centred + self.penalty * total * np.eye(z.shape[1])
        found = np.linalg.solve(gram, centred.T @ (weights * (y - level)))
        return _written(self.name, prepared, found, level - middle @ found)


@dataclass(frozen=True)
class Logistic(_Linear):
    """Whether the label is above zero; the score is the log-odds. penalty: as Ridge's, on the mean log-loss."""

    penalty: float = 0.1

    @property
    def name(self) -> str:
        """logistic"""
        return "logistic"

    @property
    def recipe(self) -> Mapping[str, Any]:
        """See Learner."""
        return {"learner": self.name, "parameters": asdict(self), "scikit_learn": version("scikit-learn"), "code": source_hash()}

    def train(self, prepared: Standardised, seed: int) -> bytes:
        """scikit-learn's Newton steps to the unique minimum; the seed changes nothing. InputError for one class."""
        from sklearn.linear_model import LogisticRegression

        z, classes, weights = prepared.steps / STEPS, prepared.rows.upward(), prepared.rows.weights
        total = classes.size if weights is None else weights.sum()
        model = LogisticRegression(C=1.0 / (self.penalty * total), solver="newton-cholesky", tol=1e-8, max_iter=200)
        model.fit(z, classes, sample_weight=weights)
        return _written(self.name, prepared, model.coef_[0], float(model.intercept_[0]))


def _written(kind: str, prepared: Standardised, weights: Array, intercept: float) -> bytes:
    """Canonical JSON; weights in whole steps, few enough bits that F products of 20-bit numbers add up exactly in a float64."""
    width = weights.size
    bits = min(53 - 21 - math.ceil(math.log2(width + 1)), 24)
    largest = float(np.abs(weights).max(initial=0.0))
    step = 2.0 ** (math.floor(math.log2(largest)) + 1 - bits) if largest > 0.0 else 1.0
    return canonical_bytes(
        {
            "format": FORMAT,
            "kind": kind,
            "names": list(prepared.rows.names),
            "mean": prepared.mean.tolist(),
            "scale": prepared.scale.tolist(),
            "weights": np.rint(weights / step).astype(np.int64).tolist(),
            "step": step / STEPS,
            "intercept": float(intercept),
            "expected": (prepared.steps.mean(axis=0)).tolist(),
        }
    )


@dataclass(frozen=True, slots=True)
class _Model:
    """The numbers of a trained model, float64; see `_written`."""

    mean: Array
    scale: Array
    weights: Array
    expected: Array
    step: float
    intercept: float
    kind: str


def _read(model: bytes) -> _Model:
    try:
        found = orjson.loads(model)
        if found["format"] != FORMAT:
            raise CorruptionError(f"not a linear model: format {found['format']!r}", WHERE, "train the fold again")
        mean, scale, weights, expected = (np.asarray(found[name], np.float64) for name in ("mean", "scale", "weights", "expected"))
        return _Model(mean, scale, weights, expected, float(found["step"]), float(found["intercept"]), str(found["kind"]))
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise CorruptionError(f"not a linear model: {error!r}", WHERE, "train the fold again") from error


def kind(model: bytes) -> str:
    """ridge or logistic."""
    return _read(model).kind


def predict(model: bytes, features: Features) -> Array:
    """Scores float64 (N,), rounded to float32 as the served model rounds them."""
    m = _read(model)
    score = (standardised(features, m.mean, m.scale) @ m.weights) * m.step + m.intercept
    return score.astype(np.float32).astype(np.float64)


def importance(model: bytes) -> Array:
    """Share of the sum of |weights| on standardised features."""
    weights = np.abs(_read(model).weights)
    return weights / weights.sum() if weights.sum() > 0.0 else weights


def contributions(model: bytes, features: Features) -> Array:
    """Shapley values of a linear function, weight x (value - its training mean), float64 (N, F + 1); the last column is the mean score."""
    m = _read(model)
    steps = standardised(features, m.mean, m.scale)
    given = (steps - m.expected) * m.weights * m.step
    base = float(m.expected @ m.weights) * m.step + m.intercept
    return check_sum(np.column_stack([given, np.full(len(given), base)]), predict(model, features))


def to_onnx(model: bytes, width: int) -> bytes:
    """The same arithmetic as float64 nodes between a cast in and a cast out."""
    from onnx import TensorProto, checker, helper, numpy_helper

    m = _read(model)
    if m.weights.size != width:
        raise InputError(f"a model of {m.weights.size} features, {width} asked", WHERE, "give the model's own width")
    constants = {
        "mean": m.mean,
        "scale": m.scale,
        "low": np.float64(-BOUND),
        "high": np.float64(BOUND),
        "steps": np.float64(STEPS),
        "weights": m.weights[:, np.newaxis],
        "step": np.float64(m.step),
        "intercept": np.float64(m.intercept),
    }
    nodes = [
        helper.make_node("Cast", ["features"], ["x"], to=TensorProto.DOUBLE),
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["z"]),
        helper.make_node("Clip", ["z", "low", "high"], ["held"]),
        helper.make_node("Mul", ["held", "steps"], ["fine"]),
        helper.make_node("Round", ["fine"], ["whole"]),
        helper.make_node("MatMul", ["whole", "weights"], ["sum"]),
        helper.make_node("Mul", ["sum", "step"], ["scaled"]),
        helper.make_node("Add", ["scaled", "intercept"], ["score"]),
        helper.make_node("Cast", ["score"], ["alpha"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "alpha",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))
