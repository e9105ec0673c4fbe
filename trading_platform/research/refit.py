"""A refit beside its incumbent on the same rows: how alike they rank, trade, hold and scale, and what the transition costs (T25)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from trading_platform.contracts.model_recipe import Comparison
from trading_platform.contracts.profile import Profile
from trading_platform.engine.strategies import long_flat

Array = NDArray[np.float64]


def rank_correlation(one: Array, other: Array) -> float:
    """Mean over rows of the Spearman correlation of two alphas (T, S); NaN where no row has three names in common."""
    found = []
    for left, right in zip(one, other, strict=True):
        both = np.isfinite(left) & np.isfinite(right)
        if both.sum() < 3:
            continue
        ranks = rankdata(left[both]), rankdata(right[both])
        spread = float(np.std(ranks[0]) * np.std(ranks[1]))
        found.append(float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean()))) / spread if spread > 0.0 else 0.0)
    return float(np.mean(found)) if found else float("nan")


def _flips(held: NDArray[np.bool_]) -> float:
    """Names that entered or left per name held: a turnover that does not depend on the size of positions."""
    moved, stood = float(np.sum(held[1:] != held[:-1])), float(np.sum(held[1:]))
    return moved / stood if stood else float("nan")


def _ratio(refit: float, incumbent: float) -> float:
    return refit / incumbent if incumbent > 0.0 else float("nan")


def _weights(held: NDArray[np.bool_], gross: float) -> Array:
    count = int(held.sum())
    return np.where(held, gross / max(count, 1), 0.0)


def compare(
    refit: Array, incumbent: Array, member: NDArray[np.bool_], session: NDArray[np.int64], sessions: int, profile: Profile
) -> Comparison:
    """The comparison over the last `sessions` market days of the rows; those before them warm the strategy's latches.

    refit, incumbent: alphas float64 (T, S), NaN undefined; member: bool (T, S); session: int64 (T,), day of each row. Both are held to the
    profile's strategy with equal weights, and a transition pays half the spread and the impact of a full participation share.
    """
    days = np.unique(session)[-sessions:]
    rows = np.isin(session, days)
    rules, costs = profile.strategy, profile.costs
    books = []
    for alpha in (refit, incumbent):
        latched = np.zeros(alpha.shape[1], np.bool_)
        books.append(long_flat(np.ascontiguousarray(alpha), np.ascontiguousarray(member), rules.entry_rank, rules.exit_rank, latched)[rows])
    new, old = books
    moved = float(np.abs(_weights(new[-1], rules.target_gross) - _weights(old[-1], rules.target_gross)).sum()) if len(new) else float("nan")
    per_unit = costs.half_spread_bps + costs.impact_bps * np.sqrt(costs.participation)
    scale = [float(np.nanstd(alpha[rows])) if np.isfinite(alpha[rows]).any() else float("nan") for alpha in (refit, incumbent)]
    spoke = rows & np.isfinite(refit).any(axis=1) & np.isfinite(incumbent).any(axis=1)
    return Comparison(
        sessions=len(np.unique(session[spoke])),
        rank_correlation=rank_correlation(refit[rows], incumbent[rows]),
        turnover=_ratio(_flips(new), _flips(old)),
        gross_exposure=_ratio(float(new.sum()), float(old.sum())),
        alpha_scale=_ratio(*scale),
        transition_cost_bps=moved * float(per_unit),
    )
