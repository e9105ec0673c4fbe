"""Feature drift: how far a window's values are from those a model was trained on, feature by feature (SPEC FEAT-16).

PSI over the deciles of the training span decides; the Kolmogorov-Smirnov distance stands beside it. Its p-value does not decide: with
thousands of cells, which move together, it calls every honest month significant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.profile import DriftRules

BINS = 10
LEAST_SHARE = 1e-4  # an empty bin counts as this share: log 0 would make one outlier infinitely much
LEAST_CELLS = 200  # fewer defined cells say nothing: the PSI of two equal samples of 200 is 0.09 on average
STATES = ("stable", "watch", "drift", "unknown")

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trained:
    """One feature over the training span. values: (n,) float64, defined ones, ascending. missing: share of undefined cells."""

    name: str
    values: Array
    missing: float

    @cached_property
    def edges(self) -> Array:
        """Inner edges of the deciles, ascending, each once: a value that fills several deciles makes one bin."""
        return np.unique(np.quantile(self.values, np.arange(1, BINS) / BINS, method="inverted_cdf"))

    @cached_property
    def shares(self) -> Array:
        """Share of the training values in each bin."""
        return shares_of(self.values, self.edges)


@dataclass(frozen=True, slots=True)
class FeatureDrift:
    """One feature in one window. psi, ks: NaN where too few cells are defined. p_value: of the KS distance. missing: shares of cells."""

    feature: str
    psi: float
    ks: float
    p_value: float
    missing: float
    missing_trained: float
    cells: int
    state: str


@dataclass(frozen=True, slots=True)
class Held:
    """Whether drift holds: the features that drifted in each of the last windows, their share of all, and the reason in one sentence."""

    holds: bool
    features: tuple[str, ...]
    share: float
    reason: str


def trained_on(name: str, cells: NDArray[np.floating]) -> Trained:
    """The training side of a feature. cells: (n,), NaN where undefined."""
    values = cells.astype(np.float64)
    defined = np.isfinite(values)
    return Trained(name, np.sort(values[defined]), float(1.0 - defined.mean()) if values.size else 1.0)


def shares_of(values: Array, edges: Array) -> Array:
    """Share of the values in (-inf, e0], (e0, e1], ..., (e_last, inf)."""
    return np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1) / max(len(values), 1)


def psi_of(expected: Array, actual: Array) -> float:
    """Population stability index: sum of (a - e) ln(a / e) over bins, each share at least 1e-4 (Siddiqi, Credit Risk Scorecards, 2006)."""
    e, a = np.maximum(expected, LEAST_SHARE), np.maximum(actual, LEAST_SHARE)
    return float(np.sum((a - e) * np.log(a / e)))


def ks_of(first: Array, second: Array) -> tuple[float, float]:
    """Kolmogorov-Smirnov distance of two ascending samples and its two-sided p-value, as scipy.stats.ks_2samp(method="asymp")."""
    from scipy.stats import kstwo

    both = np.concatenate([first, second])
    below = np.searchsorted(first, both, side="right") / len(first) - np.searchsorted(second, both, side="right") / len(second)
    distance = float(np.abs(below).max())
    pairs = len(first) * len(second) / (len(first) + len(second))
    return distance, float(np.clip(kstwo.sf(distance, np.round(pairs)), 0.0, 1.0))


def drift_of(trained: Trained, cells: NDArray[np.floating], rules: DriftRules) -> FeatureDrift:
    """A window's cells of one feature, (n,) with NaN where undefined, against its training side."""
    now = trained_on(trained.name, cells)
    missing, enough = now.missing, min(len(now.values), len(trained.values)) >= LEAST_CELLS
    psi = ks = p_value = np.nan
    if enough:
        psi = psi_of(trained.shares, shares_of(now.values, trained.edges))
        ks, p_value = ks_of(trained.values, now.values)
    state = "stable"
    if cells.size >= LEAST_CELLS and missing - trained.missing > rules.missing_drift:
        state = "drift"
    elif not enough:
        state = "unknown"
    elif psi > rules.psi_watch:
        state = "drift" if psi > rules.psi_drift else "watch"
    return FeatureDrift(trained.name, psi, ks, p_value, missing, trained.missing, int(cells.size), state)


def held(windows: Sequence[tuple[str, Sequence[FeatureDrift]]], rules: DriftRules) -> Held:
    """Whether drift holds over the last `rules.windows` windows (name, features), ascending in time; fewer windows never hold."""
    last = windows[-rules.windows :]
    if len(last) < rules.windows:
        return Held(False, (), 0.0, f"{len(last)} of {rules.windows} windows seen")
    drifted = set.intersection(*({each.feature for each in found if each.state == "drift"} for _, found in last))
    judged = {each.feature for _, found in last for each in found if each.state != "unknown"}
    share = len(drifted) / len(judged) if judged else 0.0
    holds = bool(drifted) and share >= rules.least_share
    worst = {name: max(np.nan_to_num(each.psi) for _, found in last for each in found if each.feature == name) for name in drifted}
    names = sorted(drifted, key=lambda name: (-worst[name], name))
    span = last[0][0] if len(last) == 1 else f"{last[0][0]} to {last[-1][0]}"
    most = f": {', '.join(names[:3])}{' and more' if len(names) > 3 else ''}" if names else ""
    return Held(holds, tuple(sorted(drifted)), share, f"{len(drifted)} of {len(judged)} features drifted in {span}{most}")
