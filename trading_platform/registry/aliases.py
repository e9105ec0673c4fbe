"""MLflow's aliases against the promotion ledger: an alias is a pointer for people, the ledger says where it has to point (T24)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.ledger import STAGES, LedgerEntry, standing

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

POINTED = ("paper", "live")  # stages that are a standing, not a passage
WHERE = "MLflow's model registry"


@dataclass(frozen=True, slots=True)
class Drift:
    """An alias that is not where the ledger puts it. expected, found: bundle ids, empty for no alias; version: MLflow's, empty if none."""

    name: str
    stage: str
    expected: str
    found: str
    version: str

    @property
    def text(self) -> str:
        """One clause for a message."""
        has, wants = (text[:12] or "nothing" for text in (self.found, self.expected))
        return f"{self.name}@{self.stage} points to {has}, the ledger says {wants}"


def expected(entries: Sequence[LedgerEntry]) -> dict[tuple[str, str], str]:
    """(model name, stage) -> bundle id that the alias has to name, empty where nothing holds the stage any more."""
    found: dict[tuple[str, str], str] = {}
    for entry in entries:
        if entry.action != "promote" or entry.stage not in POINTED:
            continue
        found.setdefault((entry.name, entry.stage), "")
        if standing(entries, entry.bundle_id, entry.account, entry.mode) == entry:
            found[entry.name, entry.stage] = entry.bundle_id
    return found


def client(tracking_uri: str) -> MlflowClient:
    """A client of the registry at an address."""
    from mlflow.tracking import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


def drifts(entries: Sequence[LedgerEntry], mlflow: MlflowClient) -> list[Drift]:
    """Every alias of a stage that is missing, moved, or left behind. TransientError where MLflow does not answer."""
    wanted, found = expected(entries), []
    for name in sorted({entry.name for entry in entries if entry.action == "promote"}):
        bundles, aliases = _registered(mlflow, name)
        version_of = {bundle_id: version for version, bundle_id in bundles.items()}
        for stage in sorted({*(s for n, s in wanted if n == name), *(alias for alias in aliases if alias in POINTED)}):
            should, points = wanted.get((name, stage), ""), bundles.get(aliases.get(stage, ""), "unknown" if stage in aliases else "")
            if should != points:
                found.append(Drift(name, stage, should, points, version_of.get(should, "")))
    return found


def _registered(mlflow: Any, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """(version -> bundle id, alias -> version) of a registered model; both empty where MLflow has none of this name."""
    from mlflow.exceptions import MlflowException

    try:
        model = mlflow.get_registered_model(name)
        versions = {str(v.version): str(v.tags.get("bundle_id", "")) for v in mlflow.search_model_versions(f"name = '{name}'")}
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}, {}
        raise TransientError(f"MLflow does not answer: {error.error_code}", WHERE, "look at it again later") from error
    return versions, {str(alias): str(version) for alias, version in (model.aliases or {}).items() if alias in STAGES}


def repair(found: Sequence[Drift], mlflow: MlflowClient) -> list[Drift]:
    """Put aliases where the ledger says, take away those it does not know; returns what stays wrong: a bundle MLflow never heard of."""
    left = []
    for drift in found:
        if drift.expected and not drift.version:
            left.append(drift)
        elif drift.expected:
            mlflow.set_registered_model_alias(drift.name, drift.stage, drift.version)
        else:
            mlflow.delete_registered_model_alias(drift.name, drift.stage)
    return left
