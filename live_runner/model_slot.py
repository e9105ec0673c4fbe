"""From a request to a verdict: may this bundle trade here, and is it healthy? Nothing is switched in this module (T24, DESIGN 7).

A refusal is a TradingError that says why; the runner journals it, deletes the request and writes the reason where people look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from live_runner.clock import stopwatch_ns
from trading_platform.contracts.errors import CorruptionError, DeniedError, InputError, TransientError
from trading_platform.contracts.feed_skew import refusals
from trading_platform.contracts.ledger import GENESIS, LedgerEntry, LedgerReader
from trading_platform.contracts.model import Model, parse_label
from trading_platform.contracts.profile import ModelRules
from trading_platform.contracts.session_inputs import SessionInputs
from trading_platform.engine.inference import Inference
from trading_platform.engine.signals import Signals
from trading_platform.registry.bundle import load_bundle, replay_golden
from trading_platform.registry.object_store import ObjectStore

GOLDEN_TOLERANCE = 1e-6  # the promise across CPU types (I3); on the same type it is zero
LATENCY_RUNS = 20


@dataclass(frozen=True, slots=True)
class Candidate:
    """A verified bundle with the ledger entry that lets it trade and the ledger's head at that moment."""

    model: Model
    entry: LedgerEntry
    ledger_head: str


@dataclass(frozen=True, slots=True)
class Health:
    """What the health check measured: worst golden difference, slowest inference in ms, shadow rows compared and alphas defined in them."""

    golden_difference: float
    latency_ms: float
    shadow_rows: int
    shadow_alphas: int


@dataclass(frozen=True, slots=True)
class Authority:
    """Where the right to trade is looked up: object store, ledger file, whose account and mode, and the feed that comes in (T5)."""

    store: ObjectStore
    ledger: Path
    account: str
    mode: str
    inputs: SessionInputs
    feed: Mapping[str, str]
    lake: Path

    def stamp(self) -> tuple[int, int, int] | None:
        """What changes whenever the ledger's file does; None where there is none."""
        try:
            found = self.ledger.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def examine(self, label: str, bundle_id: str | None, pinned_head: str) -> Candidate:
        """The candidate for a request, or why not.

        pinned_head: hash of the ledger entry that was newest when this journal last looked; the ledger must still contain it.
        InputError for no entry or an unfit bundle, CorruptionError where a sha256 or the chain differs.
        """
        name, version = parse_label(label)
        entries = LedgerReader(self.ledger).entries()
        if pinned_head != GENESIS and all(entry.hash != pinned_head for entry in entries):
            raise CorruptionError(
                "the ledger lost an entry that this journal has seen", str(self.ledger), "restore the ledger from its backup"
            )
        if bundle_id is None:
            mine = (self.account, self.mode, name, version)
            named = [e for e in entries if (e.account, e.mode, e.name, e.version) == mine and e.action == "promote"]
            bundle_id = named[-1].bundle_id if named else ""
        entry = LedgerReader(self.ledger).authority(bundle_id, self.account, self.mode) if bundle_id else None
        if entry is None or (entry.name, entry.version) != (name, version):
            what = f"no unrevoked promotion of {label} for account {self.account}, mode {self.mode}"
            raise InputError(what, str(self.ledger), "promote the bundle first; a key in Redis is a request, not a permission")
        model = load_bundle(self.store, label, bundle_id)
        self._fits(model, entry)
        return Candidate(model, entry, entries[-1].hash)

    def _fits(self, model: Model, entry: LedgerEntry) -> None:
        config, inputs = model.config, self.inputs
        pairs: dict[str, tuple[Any, Any]] = {
            "slot": (config.slot, inputs.slot),
            "slot of the promotion": (entry.slot, inputs.slot),
            "timeframe": (config.timeframe, inputs.timeframe),
            "feature hash": (config.feature_hash, inputs.feature_hash),
        }
        if entry.capital_share < 1.0:
            what = f"{model.label} may use {entry.capital_share:.0%} of the capital, and this runner cannot hold it to a share"
            raise InputError(what, "the promotion ledger", "keep it on paper until the runner divides capital (T26)")
        for what, (theirs, ours) in pairs.items():
            if theirs != ours:
                raise InputError(
                    f"the bundle's {what} is {theirs}, the session's {ours}", model.label, "use a bundle made for this pipeline"
                )
        refused = refusals(self.lake, config.feed, self.feed, config.feature_hash, config.name)
        if refused:
            apart = "; ".join(f"{key} {config.feed.get(key)} / {self.feed.get(key)}" for key in _keys_apart(config.feed, self.feed))
            what = f"the bundle's feed is not the live one ({apart}), and no stored comparison of the two passes: {'; '.join(refused)}"
            raise InputError(what, model.label, "compare both over five sessions (trading-platform features skew --store), or use its feed")


def _keys_apart(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def check_age(model: Model, age_sessions: int, rules: ModelRules) -> None:
    """DeniedError for a bundle that has seen the row it would trade, or is past its hard age (T25)."""
    if age_sessions <= 0:
        raise DeniedError(
            "MODEL_AGE", f"it was trained through day {model.config.trained_through}, not before the session it would trade", model.label
        )
    if age_sessions > rules.hard_max_age_sessions:
        raise DeniedError(
            "MODEL_AGE", f"it is {age_sessions} sessions old, the limit is {rules.hard_max_age_sessions}", model.label, "refit it"
        )


def check_health(model: Model, signals: Signals, rules: ModelRules, needed_rows: int) -> Health:
    """Golden rows, latency budget, then a shadow window on the rows the signals keep.

    needed_rows: shadow rows required, 0 where the slot is empty. TransientError while there are fewer; InputError or CorruptionError where
    the bundle fails.
    """
    difference = float(replay_golden(model))
    if not difference <= GOLDEN_TOLERANCE:
        raise CorruptionError(f"golden rows differ by {difference:.3g}", model.label, "export the bundle again on this runtime")
    width, inference = len(signals.instrument_ids), Inference(model)
    inputs = np.zeros((width, len(model.config.features)), np.float32)
    slowest = 0
    for _ in range(LATENCY_RUNS):
        started = stopwatch_ns()
        inference.alphas(inputs, np.ones(width, np.bool_))
        slowest = max(slowest, stopwatch_ns() - started)
    if slowest / 1e6 > rules.inference_timeout_ms:
        raise DeniedError(
            "MODEL_AGE", f"inference took {slowest / 1e6:.0f} ms, the budget is {rules.inference_timeout_ms:.0f} ms", model.label
        )
    alphas = signals.shadow(model)[-rules.shadow_rows :]
    if len(alphas) < needed_rows:
        raise TransientError(f"{len(alphas)} shadow rows of {needed_rows}", model.label, "the request waits for more rows")
    defined = int(np.isfinite(alphas).sum())
    if len(alphas) and defined == 0:
        raise InputError(
            f"no alpha is defined in {len(alphas)} shadow rows", model.label, "look at the bundle's features and the rows' coverage"
        )
    return Health(difference, slowest / 1e6, len(alphas), defined)
