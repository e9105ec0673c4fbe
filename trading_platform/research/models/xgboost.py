"""XGBoost on cells, regression and classification, as canonical JSON (MODL-02). Optional: `pip install 'trading-platform[xgboost]'`.

Same rules as LightGBM here: one thread, bins from the training rows only, leaves on a grid on which every float32 sum is exact. XGBoost's
own thresholds are float32 already, and it asks x < threshold, as its ONNX form does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.research.models.exact_trees import leaf_grid
from trading_platform.research.models.learner import Array, Features, TrainingRows, check_sum, source_hash

if TYPE_CHECKING:
    import xgboost

WHERE = "research.models.xgboost"
TASKS = {"reg:squarederror": "regression", "binary:logistic": "classification"}
NEUTRAL = {"reg:squarederror": 0.0, "binary:logistic": 0.5}  # base scores whose raw score is 0: a model is its trees and nothing else
OPSET, ML_OPSET = 15, 3


@dataclass(frozen=True, slots=True)
class Parameters:
    """Hyper-parameters; names are XGBoost's. min_child_weight is the leaf size of a regression: rows, held to a twentieth of all."""

    rounds: int = 150
    max_leaves: int = 31
    eta: float = 0.05
    min_child_weight: float = 200.0
    max_bin: int = 64
    subsample: float = 0.7
    colsample_bytree: float = 0.7
    reg_lambda: float = 1.0
    objective: str = "reg:squarederror"

    def options(self, seed: int, rows: int) -> dict[str, Any]:
        """XGBoost's parameter dictionary for a training set of `rows`: deterministic, quiet, one thread."""
        given = {k: v for k, v in asdict(self).items() if k != "rounds"}
        curvature = 1.0 if self.objective == "reg:squarederror" else 0.25  # a row's largest second derivative
        least = curvature * min(self.min_child_weight, rows // 20)
        fixed = {"tree_method": "hist", "grow_policy": "lossguide", "max_depth": 0, "nthread": 1, "verbosity": 0}
        return {**given, **fixed, "min_child_weight": least, "seed": seed, "base_score": NEUTRAL[self.objective]}


@dataclass(frozen=True, slots=True)
class Binned:
    """Training cells in bins, and how many they are."""

    data: xgboost.QuantileDMatrix
    rows: int
    max_bin: int


@dataclass(frozen=True, slots=True)
class Boosted:
    """The Learner of this module."""

    parameters: Parameters = field(default_factory=Parameters)

    def __post_init__(self) -> None:
        if self.parameters.objective not in TASKS:
            raise InputError(f"objective {self.parameters.objective!r}", WHERE, f"one of {', '.join(TASKS)}")

    @property
    def name(self) -> str:
        """xgboost_regression or xgboost_classification."""
        return f"xgboost_{TASKS[self.parameters.objective]}"

    @property
    def recipe(self) -> Mapping[str, Any]:
        """See Learner. InputError where XGBoost is not installed."""
        _library()
        return {"learner": self.name, "parameters": asdict(self.parameters), "xgboost": version("xgboost"), "code": source_hash()}

    @property
    def preparation(self) -> tuple[Any, ...]:
        """Bins and targets."""
        return ("xgboost", TASKS[self.parameters.objective], self.parameters.max_bin)

    def prepare(self, rows: TrainingRows) -> Binned:
        """Bin the cells. InputError for rows that nothing can be learned from."""
        library = _library()
        if rows.target.size < 20:
            raise InputError(f"{rows.target.size} rows cannot fill a tree", WHERE, "give at least 20 rows with labels")
        rows.check()
        target = rows.upward() if self.parameters.objective == "binary:logistic" else rows.target
        columns = list(rows.names)
        data = library.QuantileDMatrix(
            rows.features, label=target, weight=rows.weights, feature_names=columns, max_bin=self.parameters.max_bin, nthread=1
        )
        return Binned(data, rows.target.size, self.parameters.max_bin)

    def train(self, prepared: Binned, seed: int) -> bytes:
        """JSON of the exact model. InputError for cells in another number of bins."""
        if prepared.max_bin != self.parameters.max_bin:
            what = f"the cells lie in {prepared.max_bin} bins, the parameters ask for {self.parameters.max_bin}"
            raise InputError(what, WHERE, "prepare the rows with these parameters")
        options = self.parameters.options(seed, prepared.rows)
        booster = _library().train(options, prepared.data, num_boost_round=self.parameters.rounds)
        return _exact(bytes(booster.save_raw("json")))


def _library() -> Any:
    try:
        import xgboost
    except ImportError as error:
        raise InputError("XGBoost is not installed", WHERE, "pip install 'trading-platform[xgboost]', or choose another learner") from error
    return xgboost


def _trees(document: dict[str, Any]) -> list[dict[str, Any]]:
    return list(document["learner"]["gradient_booster"]["model"]["trees"])


def _exact(model: bytes) -> bytes:
    """The same trees with leaves on the grid of `exact_trees`, where a leaf's value stands in the place of its split."""
    document = orjson.loads(model)
    trees = _trees(document)
    leaf = [np.asarray(tree["left_children"]) == -1 for tree in trees]
    values = [np.asarray(tree["split_conditions"], np.float64) for tree in trees]
    grid = leaf_grid(sum(float(np.abs(value[at]).max(initial=0.0)) for value, at in zip(values, leaf, strict=True)))
    for tree, value, at in zip(trees, values, leaf, strict=True):
        tree["split_conditions"] = np.where(at, np.round(value / grid) * grid, value).tolist()
    return canonical_bytes(document)


def _booster(model: bytes) -> xgboost.Booster:
    library = _library()
    try:
        booster = library.Booster()
        booster.load_model(bytearray(model))
    except library.core.XGBoostError as error:
        raise CorruptionError(f"not an XGBoost model: {str(error).splitlines()[0]}", WHERE, "train the fold again") from error
    return booster


def _asked(model: bytes, features: Features, **what: bool) -> Array:
    booster = _booster(model)
    matrix = _library().DMatrix(features, feature_names=booster.feature_names, nthread=1)
    return np.asarray(booster.predict(matrix, **what), dtype=np.float64)


def kind(model: bytes) -> str:
    """xgboost_regression or xgboost_classification."""
    return f"xgboost_{TASKS[orjson.loads(model)['learner']['objective']['name']]}"


def predict(model: bytes, features: Features) -> Array:
    """Raw scores float64 (N,): returns, or log-odds."""
    return np.empty(0) if features.shape[0] == 0 else _asked(model, features, output_margin=True)


def importance(model: bytes) -> Array:
    """Share of the total split gain per feature, float64 (F,)."""
    booster = _booster(model)
    found = booster.get_score(importance_type="total_gain")
    gain = np.array([found.get(name, 0.0) for name in booster.feature_names or ()], dtype=np.float64)
    return gain / gain.sum() if gain.sum() > 0.0 else gain


def contributions(model: bytes, features: Features) -> Array:
    """Exact TreeSHAP, float64 (N, F + 1) of float32 values; the last column is the expected score."""
    if features.shape[0] == 0:
        return np.empty((0, _booster(model).num_features() + 1))
    return check_sum(_asked(model, features, pred_contribs=True), predict(model, features))


def to_onnx(model: bytes, width: int) -> bytes:
    """The trees as one TreeEnsembleRegressor: their values are float32 already, so nothing is converted."""
    from onnx import TensorProto, checker, helper

    trees = _trees(orjson.loads(model))
    nodes: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "featureids", "values", "truenodeids", "falsenodeids")}
    target: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    modes: list[str] = []
    for number, tree in enumerate(trees):
        left, values = tree["left_children"], tree["split_conditions"]
        leaf = [child == -1 for child in left]
        count = len(left)
        nodes["treeids"] += [number] * count
        nodes["nodeids"] += list(range(count))
        nodes["featureids"] += [0 if at else index for at, index in zip(leaf, tree["split_indices"], strict=True)]
        nodes["values"] += [0.0 if at else value for at, value in zip(leaf, values, strict=True)]
        nodes["truenodeids"] += [0 if at else child for at, child in zip(leaf, left, strict=True)]
        nodes["falsenodeids"] += [0 if at else child for at, child in zip(leaf, tree["right_children"], strict=True)]
        modes += ["LEAF" if at else "BRANCH_LT" for at in leaf]
        ends = [index for index, at in enumerate(leaf) if at]
        target["treeids"] += [number] * len(ends)
        target["nodeids"] += ends
        target["ids"] += [0] * len(ends)
        target["weights"] += [values[index] for index in ends]
    given: dict[str, Any] = {f"nodes_{name}": found for name, found in nodes.items()}
    given |= {f"target_{name}": found for name, found in target.items()}
    fixed: dict[str, Any] = {"domain": "ai.onnx.ml", "n_targets": 1, "aggregate_function": "SUM", "nodes_modes": modes}
    node = helper.make_node("TreeEnsembleRegressor", ["features"], ["alpha"], **fixed, **given)
    graph = helper.make_graph(
        [node],
        "alpha",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [None, 1])],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))
