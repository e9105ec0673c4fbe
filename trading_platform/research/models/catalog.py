"""The learners by name, and the format that speaks for trained bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, cast

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


def with_parameters(one: Learner, kind: str, parameters: Mapping[str, Any]) -> Learner:
    """The learner with some of its parameters replaced. kind: the library they were tuned for (the start of the learner's name).

    InputError for another library's learner, or a name that is no parameter of it.
    """
    if not one.name.startswith(kind) or not isinstance(one, lightgbm.Trees):
        raise InputError(f"parameters of {kind} for a {one.name}", "research.models.catalog", "take the choice back: tune default")
    unknown = sorted(set(parameters) - {field.name for field in fields(one.parameters)})
    if unknown:
        raise InputError(f"{one.name} has no parameter {', '.join(unknown)}", "research.models.catalog", "choose a trial of a newer study")
    return replace(one, parameters=replace(one.parameters, **parameters))


def native(model: bytes) -> Native:
    """The format of trained bytes, by how they begin: it predicts, explains and exports them."""
    start = model[:64].lstrip()
    if start.startswith(b"tree\n"):
        return cast(Native, lightgbm)
    if start.startswith(b"{"):
        return cast(Native, xgboost if b'"learner"' in start else linear)
    raise CorruptionError(f"trained bytes begin with {start[:12]!r}", "research.models.catalog", "train the fold again")
