"""A pipeline's trials: the scope they compete in, what a recipe is, and the search they make together (T30)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trading_platform.assets.models import windows_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import Reader
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import content_hash

if TYPE_CHECKING:
    from trading_platform.research.gates import Overfitting
    from trading_platform.research.thresholds import Thresholds
    from trading_platform.research.trials import TrialCount, TrialRegistry

NOT_A_RECIPE = ("max_folds", "stretch_rows")  # how much of the history is looked at, not what is tried


def scope_of(place: Workplace, pipeline: Pipeline) -> str:
    """Asset class x universe rule x horizon family: whatever is tried there counts, whoever tries it with whichever model (T30)."""
    rule = content_hash(place.profile(pipeline).universe)[:12]
    return f"us_equity/{rule}/{pipeline.timeframe}x{pipeline.horizon}"


def walk_forward_trial(out: Reader, pipeline: Pipeline) -> str:
    """Hash of what a walk-forward tries: features, label, learner with its parameters, windows, profile."""
    windows = {name: value for name, value in windows_of(out.place, pipeline).items() if name not in NOT_A_RECIPE}
    made_of = {
        "features": out.facts(pipeline.features)["feature_hash"],
        "label": out.facts(pipeline.labels)["rule_hash"],
        "windows": windows,
        "profile": out.place.profile(pipeline).hash,
    }
    return content_hash(made_of)


def thresholds_of(place: Workplace) -> Thresholds:
    """The gates' thresholds in force: the ledger's newest change of them, the defaults before one."""
    from trading_platform.contracts.ledger import LedgerReader
    from trading_platform.research.thresholds import in_force

    return in_force(LedgerReader(place.settings.ledger_path).entries())


def told(count: TrialCount) -> dict[str, Any]:
    """A count as plain values; what is undefined is left out."""
    values: Mapping[str, float | None] = dataclasses.asdict(count)
    return {name: value for name, value in values.items() if value is not None and math.isfinite(value)}


def search_of(registry: TrialRegistry, scope: str, limits: Thresholds) -> Overfitting | None:
    """PBO over the kept returns of a scope and what it is on noise of that size; None below the number of trials it needs."""
    from trading_platform.research.gates import Overfitting
    from trading_platform.research.overfitting import null_band, probability_of_overfitting

    returns = registry.returns(scope).common()
    if returns.shape[1] < limits.pbo_configurations or returns.shape[0] < 2 * limits.pbo_blocks:
        return None
    low, high = null_band(returns, limits.pbo_blocks)
    return Overfitting(probability_of_overfitting(returns, limits.pbo_blocks), returns.shape[1], limits.pbo_blocks, low, high)
