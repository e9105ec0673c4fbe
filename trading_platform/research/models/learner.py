"""What a model learns from and how it is asked, for every library alike. A learner trains; a format (`Native`) speaks for trained bytes.

Trained models are bytes that only data can be read from: LightGBM text, XGBoost JSON, canonical JSON of linear weights. Never a pickle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import sha256_hex
from trading_platform.contracts.errors import InputError

Array = NDArray[np.float64]
Features = NDArray[np.float32]
WHERE = "research.models"


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Cells of a fold's training rows, in row-major order.

    features: float32 (N, F), all finite. target: float64 (N,), the label. names: F feature names. groups: int64 (R,), how many cells each
    of the R rows has, adding up to N: the cross-sections that a ranking compares within. weights: float64 (N,) >= 0; None for equal ones.
    """

    features: Features
    target: Array
    names: tuple[str, ...]
    groups: NDArray[np.int64]
    weights: Array | None = None

    def check(self) -> TrainingRows:
        """Self, if a model can learn from it; InputError with the first reason why not: shapes, undefined or constant columns, weights."""
        count, width = self.features.shape
        if (count, width) != (self.target.size, len(self.names)) or int(self.groups.sum()) != count:
            what = f"features {self.features.shape}, {self.target.size} targets, {len(self.names)} names, rows of {self.groups.sum()} cells"
            raise InputError(what, WHERE, "give one target per cell and one name per column")
        if count == 0:
            raise InputError("no cell has all features and a label", WHERE, "read a longer span, or mend the feature that is undefined")
        if not bool(np.isfinite(self.target).all()):
            raise InputError("targets hold NaN or inf", WHERE, "leave out the cells whose horizon is not complete")
        low, high = self.features.min(axis=0), self.features.max(axis=0)
        self._refuse(~np.isfinite(low) | ~np.isfinite(high), "holds NaN or inf", "leave out the cells where a feature is undefined")
        self._refuse(
            low == high, "has the same value in every training cell", "its source may have stopped: mend it or leave the feature out"
        )
        if self.weights is not None:
            self._check_weights(self.weights)
        return self

    def _refuse(self, wrong: NDArray[np.bool_], what: str, fix: str) -> None:
        if wrong.any():
            named = ", ".join(name for name, bad in zip(self.names, wrong, strict=True) if bad)
            raise InputError(f"feature {named} {what}", WHERE, fix)

    def _check_weights(self, weights: Array) -> None:
        sound = weights.shape == self.target.shape and bool((np.isfinite(weights) & (weights >= 0.0)).all()) and weights.sum() > 0.0
        if not sound:
            raise InputError(
                f"weights {weights.shape} for {self.target.size} cells", WHERE, "one finite weight >= 0 per cell, not all zero"
            )

    def upward(self) -> Array:
        """1.0 where the label is above zero, else 0.0: what a classification learns. InputError where only one class is there."""
        classes = (self.target > 0.0).astype(np.float64)
        if classes.min() == classes.max():
            what = f"all {classes.size} training labels are {'above zero' if classes[0] else 'zero or below'}: one class"
            raise InputError(what, WHERE, "a classification needs both: take another label, or a longer training window")
        return classes


class Learner(Protocol):
    """Trains models of one kind with one set of parameters.

    name: the kind. recipe: everything besides rows and seed that decides the trained bytes, as canonical values. preparation: what
    `prepare` depends on besides the rows; learners with equal ones share what it made.
    """

    @property
    def name(self) -> str:
        """lightgbm_regression, ridge, ..."""

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Kind, parameters, library version and source hash."""

    @property
    def preparation(self) -> tuple[Any, ...]:
        """Hashable."""

    def prepare(self, rows: TrainingRows) -> Any:
        """What training needs of these rows and of nothing else: bin edges, scales. Never changed by `train`, so threads may share it."""

    def train(self, prepared: Any, seed: int) -> bytes:
        """The trained model. Equal inputs give equal bytes."""


class Native(Protocol):
    """A format of trained bytes (a module of this package): what research asks, and its ONNX form for the runner.

    The answer is always the raw score: a return for regressions, log-odds for classifications, a rank score (of which only the order within
    a row means something) for rankings. No function that two runtimes round differently stands between the trees and it.
    """

    def kind(self, model: bytes) -> str:
        """The name of the learner that trained it."""

    def predict(self, model: bytes, features: Features) -> Array:
        """Raw scores float64 (N,), exact in float32, of float32 (N, F) features."""

    def importance(self, model: bytes) -> Array:
        """Share of each feature in what the training explained, float64 (F,), summing to 1 (all zero where it explained nothing)."""

    def contributions(self, model: bytes, features: Features) -> Array:
        """Exact Shapley values float64 (N, F + 1), the last column the expected score; a row adds up to its prediction."""

    def to_onnx(self, model: bytes, width: int) -> bytes:
        """ONNX bytes over float32 (N, width), output float32 (N, 1). Equal models give equal bytes."""


def check_sum(contributions: Array, predicted: Array) -> Array:
    """The contributions, if every row adds up to its prediction within 1e-5 of what it adds; otherwise InputError."""
    gap = np.abs(contributions.sum(axis=1) - predicted)
    if bool(np.any(gap > 1e-5 * np.maximum(np.abs(contributions).sum(axis=1), 1e-12))):
        raise InputError(f"contributions miss their prediction by {gap.max():.1e}", WHERE, "use the model's own column order")
    return contributions


@cache
def source_hash(folder: Path = Path(__file__).parent) -> str:
    """sha256 over the sources of this package: a model kept by content is found again only while the code that made it is the same."""
    return sha256_hex(b"\0".join(path.read_bytes() for path in sorted(folder.glob("*.py"))))


def one_group(rows: int) -> NDArray[np.int64]:
    """All cells as one cross-section."""
    return np.array([rows], dtype=np.int64)


def plain_names(names: Sequence[str]) -> list[str]:
    """Feature names without blanks, which LightGBM does not take."""
    return [name.replace(" ", "_") for name in names]
