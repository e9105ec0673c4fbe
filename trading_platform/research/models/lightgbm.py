"""LightGBM on cells: regression, classification, ranking and random forest, deterministic, as text bytes (MODL-01, 03, 27).

One thread per fit: the walk-forward runs folds side by side, and OpenMP threads on a busy machine cost more than they give. The text is the
same for any number of threads. Bin edges come from the training rows only, because the Dataset is built from nothing else; one Dataset
serves every seed and every set of parameters with the same number of bins.

The trained model is made exact in float32 before anyone uses it (`exact_trees`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.research.models.exact_trees import exact_text
from trading_platform.research.models.learner import Array, Features, TrainingRows, check_sum, one_group, plain_names, source_hash

if TYPE_CHECKING:
    import lightgbm

WHERE = "research.models.lightgbm"
TASKS = {"regression": "regression", "binary": "classification", "lambdarank": "ranking"}
GRADES = 5  # a ranking learns fifths of its cross-section: LightGBM wants relevance in small whole numbers
OPSET = 15


@dataclass(frozen=True, slots=True)
class Parameters:
    """Hyper-parameters; names are LightGBM's. They are part of the recipe's hash.

    min_data_in_leaf is for large cross-sections: a training set of few rows uses a twentieth of them instead, so that five names can learn.
    objective: regression, binary (label above zero or not), lambdarank (order within each row). boosting: gbdt, or rf for a forest.
    """

    rounds: int = 150
    num_leaves: int = 31
    learning_rate: float = 0.05
    min_data_in_leaf: int = 200
    max_bin: int = 63
    feature_fraction: float = 0.7
    bagging_fraction: float = 0.7
    bagging_freq: int = 1
    lambda_l2: float = 1.0
    objective: str = "regression"
    boosting: str = "gbdt"

    def leaf(self, rows: int) -> int:
        """Rows that a leaf needs when `rows` are given."""
        return min(self.min_data_in_leaf, rows // 20)

    def options(self, seed: int, rows: int) -> dict[str, object]:
        """LightGBM's parameter dictionary for a training set of `rows`: deterministic, quiet, one thread."""
        given = {k: v for k, v in asdict(self).items() if k != "rounds"} | {"min_data_in_leaf": self.leaf(rows)}
        return {**given, "seed": seed, **FIXED}


# data_random_seed: which rows the edges are taken from, when there are more than LightGBM's 200,000, must not follow the candidate's seed.
FIXED: Mapping[str, object] = {
    "data_random_seed": 1,
    "deterministic": True,
    "force_col_wise": True,
    "num_threads": 1,
    "verbosity": -1,
    "feature_pre_filter": False,
}
# A forest's trees are deep, unshrunk and as different from one another as their samples make them.
FOREST = Parameters(rounds=200, num_leaves=127, feature_fraction=0.3, bagging_fraction=0.632, lambda_l2=0.0, boosting="rf")


@dataclass(frozen=True, slots=True)
class Binned:
    """Training cells in bins. `data` is a constructed Dataset without the raw values: it cannot be binned again. rows: cells in it."""

    data: lightgbm.Dataset
    rows: int
    max_bin: int

    def relabelled(self, target: Array) -> Binned:
        """The same bins under other targets (N,), as the trees see them (a return, 0 or 1, a grade), in memory of their own.

        What a shuffled-label refit learns from.
        """
        if target.shape != (self.rows,) or not bool(np.isfinite(target).all()):
            raise InputError(f"targets {target.shape} for {self.rows} cells", WHERE, "one finite target per cell")
        copy = self.data.subset(list(range(self.rows))).construct()
        copy.set_label(target)
        return Binned(copy, self.rows, self.max_bin)


@dataclass(frozen=True, slots=True)
class Trees:
    """The Learner of this module; its task is its parameters' objective and boosting."""

    parameters: Parameters = field(default_factory=Parameters)

    def __post_init__(self) -> None:
        if self.parameters.objective not in TASKS or self.parameters.boosting not in ("gbdt", "rf"):
            what = f"objective {self.parameters.objective!r}, boosting {self.parameters.boosting!r}"
            raise InputError(what, WHERE, f"objective {', '.join(TASKS)}; boosting gbdt or rf")

    @property
    def name(self) -> str:
        """lightgbm_regression, lightgbm_classification, lightgbm_ranking, random_forest (with its task, unless regression)."""
        return _name(self.parameters.objective, self.parameters.boosting)

    @property
    def recipe(self) -> Mapping[str, Any]:
        """See Learner."""
        return {"learner": self.name, "parameters": asdict(self.parameters), "lightgbm": version("lightgbm"), "code": source_hash()}

    @property
    def preparation(self) -> tuple[Any, ...]:
        """Bins and targets."""
        return ("lightgbm", TASKS[self.parameters.objective], self.parameters.max_bin)

    def prepare(self, rows: TrainingRows) -> Binned:
        """Bin the cells. InputError for rows that nothing can be learned from, or fewer than two leaves need."""
        import lightgbm

        count = rows.target.size
        if self.parameters.leaf(count) < 1:
            raise InputError(f"{count} rows cannot fill a tree", WHERE, "give at least 20 rows with labels")
        rows.check()
        ranked = self.parameters.objective == "lambdarank"
        options = {"max_bin": self.parameters.max_bin, **FIXED}
        data = lightgbm.Dataset(
            rows.features,
            self._target(rows),
            weight=rows.weights,
            group=rows.groups[rows.groups > 0] if ranked else None,
            feature_name=plain_names(rows.names),
            params=options,
            free_raw_data=True,
        )
        return Binned(data.construct(), count, self.parameters.max_bin)

    def _target(self, rows: TrainingRows) -> Array:
        if self.parameters.objective == "binary":
            return rows.upward()
        return graded(rows) if self.parameters.objective == "lambdarank" else rows.target

    def train(self, prepared: Binned, seed: int) -> bytes:
        """Text of the exact model. InputError for cells in another number of bins."""
        import lightgbm

        if prepared.max_bin != self.parameters.max_bin:
            what = f"the cells lie in {prepared.max_bin} bins, the parameters ask for {self.parameters.max_bin}"
            raise InputError(what, WHERE, "prepare the rows with these parameters")
        options = self.parameters.options(seed, prepared.rows)
        booster = lightgbm.train(options, prepared.data, num_boost_round=self.parameters.rounds)
        return exact(str(booster.model_to_string(num_iteration=-1)).encode())


def _name(objective: str, boosting: str) -> str:
    task = TASKS[objective]
    if boosting == "rf":
        return "random_forest" if task == "regression" else f"random_forest_{task}"
    return f"lightgbm_{task}"


def graded(rows: TrainingRows) -> Array:
    """Which fifth of its cross-section a label lies in, 0 (lowest) to 4; equal labels share the grade of the lowest of them."""
    grades = np.empty(rows.target.size)
    start = 0
    for size in rows.groups:
        values = rows.target[start : start + size]
        below = np.searchsorted(np.sort(values), values, side="left")
        grades[start : start + size] = below * GRADES // max(int(size), 1)
        start += int(size)
    if grades.max(initial=0.0) == grades.min(initial=0.0):
        raise InputError("no row has labels to order", WHERE, "a ranking needs rows of at least two different labels")
    return grades


def train(
    features: Features, target: Array, names: Sequence[str], parameters: Parameters, seed: int, weights: Array | None = None
) -> bytes:
    """Fit on (N, F) features and (N,) targets as one cross-section; return the model as LightGBM text. Errors as `Trees.prepare`."""
    learner = Trees(parameters)
    return learner.train(learner.prepare(TrainingRows(features, target, tuple(names), one_group(len(features)), weights)), seed)


def exact(model: bytes) -> bytes:
    """The same trees with float32 thresholds and leaves whose sums are exact in float32 (`exact_trees`); a fixed point of itself."""
    return str(_booster(exact_text(model.decode()).encode()).model_to_string(num_iteration=-1)).encode()


def _booster(model: bytes) -> lightgbm.Booster:
    import lightgbm

    try:
        return lightgbm.Booster(model_str=model.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise CorruptionError(f"not a LightGBM text model: {error}", WHERE, "train the fold again") from error


def kind(model: bytes) -> str:
    """The learner's name, from the parameters that the text carries."""
    told = dict(re.findall(r"(?m)^\[(objective|boosting): (\w+)\]$", model.decode()))
    if told.get("objective") not in TASKS:
        raise CorruptionError(f"the text names the objective {told.get('objective')!r}", WHERE, "train the fold again")
    return _name(told["objective"], told.get("boosting", "gbdt"))


def predict(model: bytes, features: Features) -> Array:
    """Raw scores float64 (N,) of a text model for float32 (N, F) features, one thread."""
    if features.shape[0] == 0:
        return np.empty(0)
    return np.asarray(_booster(model).predict(features, raw_score=True, num_threads=1), dtype=np.float64)


def importance(model: bytes) -> Array:
    """Share of the total split gain per feature, float64 (F,), summing to 1 (all zero for a model without splits)."""
    gain = np.asarray(_booster(model).feature_importance("gain"), dtype=np.float64)
    return gain / gain.sum() if gain.sum() > 0.0 else gain


def contributions(model: bytes, features: Features) -> Array:
    """Exact TreeSHAP (Lundberg et al. 2020, path-dependent), float64 (N, F + 1): the last column is the expected score."""
    booster = _booster(model)
    if features.shape[0] == 0:
        return np.empty((0, booster.num_feature() + 1))
    found = np.asarray(booster.predict(features, pred_contrib=True, num_threads=1), dtype=np.float64)
    return check_sum(found, predict(model, features))


def leaves(model: bytes, features: Features) -> NDArray[np.int32]:
    """Which leaf of each tree a row falls into, int32 (N, trees): two models that disagree here have flipped a threshold."""
    return np.asarray(_booster(model).predict(features, pred_leaf=True, num_threads=1), dtype=np.int32).reshape(len(features), -1)


def ranges(model: bytes) -> NDArray[np.float64]:
    """(F, 2): the smallest and largest value of each feature among the cells that the bins were made from."""
    line = re.search(r"(?m)^feature_infos=(.*)$", model.decode())
    if line is None:
        raise CorruptionError("the text names no ranges of features", WHERE, "train the fold again")
    return np.array([[float(end) for end in info.strip("[]").split(":")] for info in line[1].split()])


def to_onnx(model: bytes, width: int) -> bytes:
    """ONNX bytes of the raw score. The converter is shown a regression: it would wrap a classification into labels and probabilities."""
    from onnxmltools import convert_lightgbm
    from onnxmltools.convert.common.data_types import FloatTensorType

    plain = re.sub(r"(?m)^objective=.*$", "objective=regression", model.decode())
    plain = re.sub(r"(?m)^\[objective: .*\]$", "[objective: regression]", plain)
    inputs = [("features", FloatTensorType([None, width]))]
    converted = convert_lightgbm(_booster(plain.encode()), name="alpha", initial_types=inputs, target_opset=OPSET, zipmap=False)
    return bytes(converted.SerializeToString(deterministic=True))
