"""A model's recipe: what people approve (T25). A refit of it inherits the approval only while it stays inside the stored envelope.

The hash says what the recipe is: sources (`code_version` stands for the commit: equal sources, equal recipe), features, label, universe,
parameters, windows, cadence, age, envelope. Who wrote it and at which commit stands beside the hash.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse
from trading_platform.contracts.errors import CorruptionError

OF_THE_MAKING = ("author", "commit")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A refit beside its incumbent on the same rows.

    sessions: rows compared. rank_correlation: mean over rows of the Spearman correlation of their alphas. turnover, gross_exposure,
    alpha_scale: the refit's over the incumbent's (1.0 is equal). transition_cost_bps: of equity, what moving the newest row's book costs.
    """

    sessions: int
    rank_correlation: float
    turnover: float
    gross_exposure: float
    alpha_scale: float
    transition_cost_bps: float


@dataclass(frozen=True, slots=True)
class Envelope:
    """How far a refit may lie from its incumbent and still be the same approved thing. Bands are (lowest, highest) ratio."""

    sessions: int = 20
    rank_correlation: float = 0.8
    turnover: tuple[float, float] = (0.5, 2.0)
    gross_exposure: tuple[float, float] = (0.8, 1.25)
    alpha_scale: tuple[float, float] = (0.5, 2.0)
    transition_cost_bps: float = 5.0

    @property
    def hash(self) -> str:
        """Content hash of the limits."""
        return content_hash(self)

    def refusals(self, found: Comparison) -> tuple[str, ...]:
        """Where the refit leaves the envelope, one clause each; empty inside. What is not a number is outside."""
        wrong = []
        if found.sessions < self.sessions:
            wrong.append(f"{found.sessions} sessions compared, {self.sessions} needed")
        if not found.rank_correlation >= self.rank_correlation:
            wrong.append(f"rank correlation {found.rank_correlation:.3f} below {self.rank_correlation}")
        for name in ("turnover", "gross_exposure", "alpha_scale"):
            ratio, (lowest, highest) = getattr(found, name), getattr(self, name)
            if not lowest <= ratio <= highest:
                wrong.append(f"{name.replace('_', ' ')} {ratio:.2f} times the incumbent's, allowed {lowest} to {highest}")
        if not found.transition_cost_bps <= self.transition_cost_bps:
            wrong.append(f"transition costs {found.transition_cost_bps:.1f} bps of equity, allowed {self.transition_cost_bps}")
        return tuple(wrong)

    def gate(self, found: Comparison) -> dict[str, Any]:
        """The verdict as the ledger keeps it (gate `refit_envelope`), bound to these limits; undefined numbers are left out."""
        wrong = self.refusals(found)
        measured = {name: getattr(found, name) for name in Comparison.__dataclass_fields__ if math.isfinite(getattr(found, name))}
        text = "; ".join(wrong) or f"inside the envelope over {found.sessions} sessions"
        return {"kind": "operational", "passed": not wrong, "text": text, "measured": measured, "envelope": self.hash}


@dataclass(frozen=True, slots=True)
class ModelRecipe:
    """Everything a model is made by. refit_every, max_age, hard_max_age: sessions. label, universe: canonical text of their rules."""

    name: str
    slot: str
    code_version: str
    feature_set: str
    feature_hash: str
    label: str
    horizon: int
    universe: str
    learner: str
    parameters: Mapping[str, Any]
    training_rows: int
    embargo: float
    refit_every: int
    max_age: int = 21
    hard_max_age: int = 63
    envelope: Envelope = field(default_factory=Envelope)
    author: str = ""
    commit: str = ""

    @property
    def hash(self) -> str:
        """What the recipe is; author and commit left out."""
        return content_hash({name: value for name, value in self.document().items() if name not in OF_THE_MAKING})

    def document(self) -> dict[str, Any]:
        """Plain values, as the ledger keeps them."""
        plain: dict[str, Any] = parse(canonical_bytes(self))
        return plain

    @classmethod
    def of(cls, document: Mapping[str, Any], where: str) -> ModelRecipe:
        """The recipe of a document. CorruptionError where it is not one of this version."""
        try:
            limits: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value for name, value in document["envelope"].items()
            }
            found = cls(**{**document, "envelope": Envelope(**limits)})
        except (KeyError, TypeError, AttributeError) as error:
            raise CorruptionError(f"not a model recipe: {error}", where, "register the recipe again") from error
        return found


def differences(one: ModelRecipe, other: ModelRecipe) -> tuple[str, ...]:
    """Names of the fields of the hash in which two recipes differ."""
    kept = (item.name for item in fields(ModelRecipe) if item.name not in OF_THE_MAKING)
    return tuple(name for name in kept if getattr(one, name) != getattr(other, name))
