"""A ledger on the way to live: enrolled approvers, a registered recipe, thresholds, a bundle on paper."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from trading_platform.contracts.ledger import LedgerEntry, LedgerReader
from trading_platform.contracts.model_recipe import Comparison, Envelope, ModelRecipe
from trading_platform.registry import approvals, ledger
from trading_platform.registry.approver_keys import public_key
from trading_platform.registry.promotion_rules import Wanted, evidence_since

BUNDLE = "ab" * 32
REFIT = "cd" * 32
LIMITS = {"dsr": 0.95}
GATES: dict[str, dict[str, Any]] = {name: {"passed": True, "value": 1.0, "storage_id": 7} for name in ledger.required_gates("live")}
TECHNICAL = {name: GATES[name] for name in ledger.TECHNICAL_GATES}
LIKE = Comparison(20, 0.95, 1.1, 1.0, 0.9, 3.0)


def recipe(**changes: Any) -> ModelRecipe:
    values: dict[str, Any] = {
        "name": "alpha",
        "slot": "daily",
        "code_version": "c" * 64,
        "feature_set": "core",
        "feature_hash": "f" * 64,
        "label": "forward 5",
        "horizon": 5,
        "universe": "core 200",
        "learner": "lightgbm",
        "parameters": {"leaves": 15},
        "training_rows": 252,
        "embargo": 0.01,
        "refit_every": 21,
        "author": "Ann",
        "commit": "1" * 40,
    }
    return ModelRecipe(**{**values, **changes})


@dataclass
class LiveLedger:
    """The file, the keys of Ann (author), Bob and Cid, and the moves a test repeats."""

    path: Path
    keys: dict[str, Ed25519PrivateKey] = field(
        default_factory=lambda: {name: Ed25519PrivateKey.generate() for name in ("Ann", "Bob", "Cid")}
    )

    @property
    def head(self) -> str:
        return LedgerReader(self.path).head()

    @property
    def entries(self) -> tuple[LedgerEntry, ...]:
        return LedgerReader(self.path).entries()

    def prepare(self) -> None:
        """Everything live needs but approvals."""
        for name in ("Ann", "Bob"):
            self.enrol(name)
        self.enrol("Cid", by="Bob", signed_with=self.keys["Bob"])
        approvals.register_recipe(self.path, expected_head=self.head, recipe=recipe(), at=1, reason="first")
        approvals.record_thresholds(self.path, expected_head=self.head, thresholds=LIMITS, at=1, people=("Ann", "Zoe"), reason="first")
        self.to_paper(BUNDLE)

    def enrol(self, name: str, **how: Any) -> LedgerEntry:
        return approvals.enrol(
            self.path, expected_head=self.head, person=name, key=public_key(self.keys[name]), at=1, reason="joins", **how
        )

    def to_paper(self, bundle_id: str) -> None:
        for stage in ("candidate", "shadow", "paper"):
            self.promote(bundle_id, stage, mode="paper", gates=TECHNICAL, capital_share=1.0, bound=None, loss_budget=None)

    def wanted(self, bundle_id: str = BUNDLE, **changes: Any) -> Wanted:
        bound = {"report": "r" * 64, "config": "p" * 64, "thresholds": self.thresholds}
        values: dict[str, Any] = {"mode": "live", "stage": "live", "slot": "daily", "capital_share": 0.05, "recipe": recipe().hash}
        values |= {"bound": bound, "loss_budget": 1000.0, **changes}
        return Wanted("alpha", bundle_id[:2], bundle_id, values.pop("account", "demo"), **values)

    @property
    def thresholds(self) -> str:
        return (
            next(e.bound["thresholds"] for e in reversed(self.entries) if e.action == "thresholds" and e.bound)
            if self.path.exists()
            else ""
        )

    def approve(self, who: str, bundle_id: str = BUNDLE, key: str = "", **changes: Any) -> LedgerEntry:
        return approvals.approve(
            self.path,
            expected_head=self.head,
            wanted=self.wanted(bundle_id, **changes),
            who=who,
            reason="good on paper",
            at=2,
            signed_with=self.keys[key or who],
        )

    def gates(self, wanted: Wanted) -> dict[str, dict[str, Any]]:
        """Everything passed, the evidence counted from where it has to be."""
        start = evidence_since(self.entries, wanted)
        return GATES | {"operational_evidence": {"passed": True, "storage_id": 9, "since": start.seq if start else 0}}

    def promote(self, bundle_id: str = BUNDLE, stage: str = "live", gates: Any = None, approvals: Any = (), **changes: Any) -> LedgerEntry:
        wanted = self.wanted(bundle_id, stage=stage, **changes) if stage == "live" else self._paper(bundle_id, stage, **changes)
        judged = self.gates(wanted) if gates is None else gates
        said: dict[str, Any] = {"at": 3, "approvals": approvals, "reason": "ready", "gates": judged}
        return ledger.promote(self.path, expected_head=self.head, **wanted.subject(), **said)

    def _paper(self, bundle_id: str, stage: str, **changes: Any) -> Wanted:
        return Wanted("alpha", bundle_id[:2], bundle_id, "demo", slot="daily", stage=stage, recipe=recipe().hash, **changes)

    def live(self, share: float = 0.05, bundle_id: str = BUNDLE) -> LedgerEntry:
        """Two people approve, and it goes live at a share."""
        for who in ("Bob", "Cid"):
            self.approve(who, bundle_id, capital_share=share)
        return self.promote(bundle_id, capital_share=share)

    def envelope(self, found: Comparison = LIKE, incumbent: str = BUNDLE) -> dict[str, dict[str, Any]]:
        """Technical gates and the refit's verdict."""
        return TECHNICAL | {"refit_envelope": {**Envelope().gate(found), "storage_id": 8, "incumbent": incumbent}}
