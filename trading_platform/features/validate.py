"""Validation of computed features (SPEC FEAT-15): what is undefined, infinite or far out. It reports and never raises on data."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OUTLIER = 20.0  # robust standard deviations: returns reach 15 in a crash, a decimal slip reaches hundreds
OUTLIER_SHARE = 0.001
UNDEFINED_SHARE = 0.5
NORMAL = 1.4826  # median absolute deviation of a normal distribution of standard deviation 1 is 1 / this


@dataclass(frozen=True, slots=True)
class FeatureHealth:
    """One feature. cells: looked at; undefined, infinite, outliers: how many of them. worst: the largest robust z-score, at (row, column).

    finding: what a person should look at, empty for nothing.
    """

    feature: str
    cells: int
    undefined: int
    infinite: int
    outliers: int
    worst: float
    row: int
    column: int
    finding: str


def validate_features(
    values: NDArray[np.floating],
    names: Sequence[str],
    judged: NDArray[np.bool_],
    levels: Collection[str] = (),
    outlier: float = OUTLIER,
) -> tuple[FeatureHealth, ...]:
    """The health of each feature, in the order of `names`.

    values: (T, S, F) float. judged: (T, S) bool, the cells to look at (present and past the warm-up). outlier: robust z-score, that is
    |x - median| / (1.4826 x median absolute deviation), beyond which a value is far out; where more than half of the values are equal the
    mean absolute deviation takes the place of the median's. levels: features in currency, of which none is far out: prices differ.
    """
    return tuple(
        _health(values[..., index].astype(np.float64), name, judged, np.inf if name in levels else outlier)
        for index, name in enumerate(names)
    )


def _health(values: NDArray[np.float64], name: str, judged: NDArray[np.bool_], outlier: float) -> FeatureHealth:
    infinite, finite = judged & np.isinf(values), judged & np.isfinite(values)
    score = np.where(finite, _robust_z(values, finite), 0.0)
    cells, undefined, far = int(judged.sum()), int((judged & np.isnan(values)).sum()), int((score > outlier).sum())
    at = int(np.argmax(score)) if score.size else 0
    row, column = divmod(at, values.shape[1]) if score.size else (0, 0)
    found = []
    if infinite.any():
        found.append(f"{int(infinite.sum())} infinite")
    if undefined > UNDEFINED_SHARE * cells:
        found.append(f"{undefined / cells:.0%} undefined")
    if far > OUTLIER_SHARE * cells:
        found.append(f"{far / cells:.2%} beyond {outlier:g} robust deviations")
    worst = float(score.flat[at]) if score.size else 0.0
    return FeatureHealth(name, cells, undefined, int(infinite.sum()), far, worst, row, column, ", ".join(found))


def _robust_z(values: NDArray[np.float64], finite: NDArray[np.bool_]) -> NDArray[np.float64]:
    """|x - median| in robust standard deviations; 0 everywhere for a constant."""
    known = values[finite]
    if not known.size:
        return np.zeros(values.shape)
    with np.errstate(invalid="ignore", over="ignore"):
        away = np.abs(values - np.median(known))
        spread = NORMAL * float(np.median(away[finite])) or float(np.mean(away[finite]))
        return away / spread if spread > 0.0 else np.zeros(values.shape)
