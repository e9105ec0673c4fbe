"""The learners by name, and the format that speaks for trained bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.research.models import lightgbm, linear, xgboost
from trading_platform.research.models.learner import Learner, Native

LEARNERS: Mapping[str, Callable[[], Learner]] = {
    "lightgbm_regression": lightgbm.Trees,
    "lightgbm_classification": lambda: lightgbm.Trees(lightgbm.Parameters(objective="binary")),
    "lightgbm_ranking": lambda: lightgbm.Trees(lightgbm.Parameters(objective="lambdarank")),
    "random_forest": lambda: lightgbm.Trees(lightgbm.FOREST),
    "ridge": linear.Ridge,
    "logistic": linear.Logistic,
    "xgboost_regression": xgboost.Boosted,
    "xgboost_classification": lambda: xgboost.Boosted(xgboost.Parameters(objective="binary:logistic")),
}


def learner(name: str) -> Learner:
    """A learner with its default parameters. InputError names them all for another name."""
    if name not in LEARNERS:
        raise InputError(f"no learner {name!r}", "research.models.catalog", f"use one of {', '.join(LEARNERS)}")
    return LEARNERS[name]()


def native(model: bytes) -> Native:
    """The format of trained bytes, by how they begin: it predicts, explains and exports them."""
    start = model[:64].lstrip()
    if start.startswith(b"tree\n"):
        return cast(Native, lightgbm)
    if start.startswith(b"{"):
        return cast(Native, xgboost if b'"learner"' in start else linear)
    raise CorruptionError(f"trained bytes begin with {start[:12]!r}", "research.models.catalog", "train the fold again")
