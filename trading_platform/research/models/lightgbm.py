"""LightGBM regression on cells, deterministic, as text model bytes (MODL-01, MODL-27; never a pickle).

One thread per fit: the walk-forward runs folds side by side, and OpenMP threads on a busy machine cost more than they give. The text is the
same for any number of threads. Bin edges come from the training rows only, because the Dataset is built from nothing else.

The trained model is made exact in float32 before anyone uses it (`exact`), so the model that research judges is bit for bit the one that
onnxruntime serves, for any batch size and number of threads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import CorruptionError, InputError

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Parameters:
    """Hyper-parameters; names are LightGBM's. They are part of the recipe's hash.

    min_data_in_leaf is for large cross-sections: a training set of few rows uses a twentieth of them instead, so that five names can learn.
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

    def leaf(self, rows: int) -> int:
        """Rows that a leaf needs when `rows` are given."""
        return min(self.min_data_in_leaf, rows // 20)

    def options(self, seed: int, rows: int) -> dict[str, object]:
        """LightGBM's parameter dictionary for a training set of `rows`: deterministic, quiet, one thread."""
        given = {k: v for k, v in asdict(self).items() if k != "rounds"} | {"min_data_in_leaf": self.leaf(rows)}
        fixed = {
            "seed": seed,
            "deterministic": True,
            "force_col_wise": True,
            "num_threads": 1,
            "verbosity": -1,
            "feature_pre_filter": False,
        }
        return {**given, **fixed}


def train(
    features: NDArray[np.float32],
    target: Array,
    names: Sequence[str],
    parameters: Parameters,
    seed: int,
    weights: Array | None = None,
) -> bytes:
    """Fit on (N, F) features and (N,) targets; return the model as LightGBM text.

    weights: (N,) >= 0 or None. Raises InputError for undefined targets or fewer rows than two leaves need.
    """
    import lightgbm

    if features.shape != (target.size, len(names)):
        raise InputError(
            f"features {features.shape}, targets {target.shape}, {len(names)} names", "research.models.lightgbm", "one row per target"
        )
    if parameters.leaf(target.size) < 1:
        raise InputError(f"{target.size} rows cannot fill a tree", "research.models.lightgbm", "give at least 20 rows with labels")
    if not bool(np.isfinite(target).all()):
        raise InputError("targets hold NaN or inf", "research.models.lightgbm", "leave out the cells whose horizon is not complete")
    options = parameters.options(seed, target.size)
    columns = [name.replace(" ", "_") for name in names]
    data = lightgbm.Dataset(features, target, weight=weights, feature_name=columns, params=options)
    booster = lightgbm.train(options, data, num_boost_round=parameters.rounds)
    return exact(str(booster.model_to_string(num_iteration=-1)).encode())


def _float32_below(values: Array) -> Array:
    """The largest float32 not above each value: for float32 x, x <= value and x <= float32_below(value) are the same question."""
    near = values.astype(np.float32)
    near[near.astype(np.float64) > values] = np.nextafter(near[near.astype(np.float64) > values], np.float32(-np.inf))
    return near.astype(np.float64)


def exact(model: bytes) -> bytes:
    """The same trees with float32 thresholds and with leaf values on a grid on which every sum of leaves is exact in float32.

    Thresholds round down, which changes no decision on float32 features (onnxmltools#708: rounding to nearest flips some). Leaf values
    round to multiples of 2^(k-23) with 2^k above the sum over trees of the largest |leaf|: partial sums are then whole numbers below 2^24
    grid steps, so no order of summation rounds. A prediction moves by at most trees x 2^(k-24), 1e-5 of the largest possible one.
    """
    text = model.decode()
    leaves = [np.array(line.split(), dtype=np.float64) for line in re.findall(r"(?m)^leaf_value=(.*)$", text)]
    bound = sum(float(np.abs(values).max(initial=0.0)) for values in leaves)
    grid = 2.0 ** (math.floor(math.log2(bound)) + 1 - 23) if bound > 0.0 else 1.0

    def written(name: str, values: Array) -> str:
        return f"{name}=" + " ".join(repr(float(v)) for v in values)

    def threshold(line: re.Match[str]) -> str:
        return written("threshold", _float32_below(np.array(line[1].split(), dtype=np.float64)))

    def leaf(line: re.Match[str]) -> str:
        return written("leaf_value", np.round(np.array(line[1].split(), dtype=np.float64) / grid) * grid)

    text = re.sub(r"(?m)^threshold=(.*)$", threshold, text)
    text = re.sub(r"(?m)^leaf_value=(.*)$", leaf, text)
    text = re.sub(r"(?m)^tree_sizes=.*\n", "", text)  # byte offsets of the old text
    return str(_booster(text.encode()).model_to_string(num_iteration=-1)).encode()


def _booster(model: bytes):  # type: ignore[no-untyped-def]
    import lightgbm

    try:
        return lightgbm.Booster(model_str=model.decode())
    except (lightgbm.basic.LightGBMError, UnicodeDecodeError) as error:
        raise CorruptionError(f"not a LightGBM text model: {error}", "research.models.lightgbm", "train the fold again") from error


def predict(model: bytes, features: NDArray[np.float32]) -> Array:
    """Predictions float64 (N,) of a text model for float32 (N, F) features, one thread."""
    if features.shape[0] == 0:
        return np.empty(0)
    return np.asarray(_booster(model).predict(features, num_threads=1), dtype=np.float64)


def importance(model: bytes) -> Array:
    """Share of the total split gain per feature, float64 (F,), summing to 1 (all zero for a model without splits)."""
    gain = np.asarray(_booster(model).feature_importance("gain"), dtype=np.float64)
    return gain / gain.sum() if gain.sum() > 0.0 else gain
