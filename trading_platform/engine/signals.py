"""Signals: the first half of the engine, a causal scan over rows with explicit state: features -> alphas -> the wish to hold.

Batch passes thousands of rows, live one; any split of a series into chunks gives the same bytes (I2). No order and no money here.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.contracts.model import Model
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Profile
from trading_platform.engine.inference import Inference
from trading_platform.engine.strategies import long_flat
from trading_platform.features.program import FeatureSet, Program

WARM_ROWS = 64  # feature rows kept to warm a new bundle's latch (T27)
STATE_FORMAT = "signals-state-1"


@dataclass(frozen=True, slots=True)
class SignalBlock:
    """What the account half reads of T rows and S instruments.

    features f4 (T, S, F) in the feature set's order (F is 0 for a given alpha series). alpha f8 (T, S), NaN undefined. held bool (T, S):
    the strategy wants it. volatility, atr f8 (T, S): fractions per bar, NaN undefined. coverage f8 (T,) of the members. ready bool (T, S):
    the instrument's warm-up is complete.
    """

    features: NDArray[np.float32]
    alpha: NDArray[np.float64]
    held: NDArray[np.bool_]
    volatility: NDArray[np.float64]
    atr: NDArray[np.float64]
    coverage: NDArray[np.float64]
    ready: NDArray[np.bool_]

    def rows(self, start: int, stop: int) -> SignalBlock:
        """Rows start..stop-1 as views."""
        return SignalBlock(*(getattr(self, name)[start:stop] for name in self.__dataclass_fields__))


def joined(blocks: list[SignalBlock]) -> SignalBlock:
    """Blocks one after another as one block; all must share S and F."""
    return SignalBlock(*(np.concatenate([getattr(block, name) for block in blocks]) for name in SignalBlock.__dataclass_fields__))


def coverage_of(panel: Panel) -> NDArray[np.float64]:
    """Share of the universe's members that reported, float64 (T,) (T3): 1 - late / members; 1.0 for a row without members.

    The optional field `late` (1.0 where the feed had not passed that bar) decides. Without it an absent member of an intraday row that has
    any bar is silent, which is not late; an absent member of a session row (1Day) is late: the vendor did not publish it.
    """
    members = panel.member.sum(axis=1)
    if "late" in panel.fields:
        late = panel.fields["late"] > 0.0
    elif panel.timeframe == "1Day":
        late = ~panel.present
    else:
        late = np.repeat(~panel.present.any(axis=1, keepdims=True), panel.shape[1], axis=1)
    missing = np.logical_and(late, panel.member).sum(axis=1)
    return np.where(members > 0, 1.0 - missing / np.maximum(members, 1), 1.0)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A model with its runtime and its columns in the feature set: the F model inputs, volatility, atr."""

    model: Model
    inference: Inference
    columns: NDArray[np.int64]
    volatility: int
    atr: int

    def alphas(self, features: NDArray[np.float32], usable: NDArray[np.bool_]) -> tuple[NDArray[np.float64], list[TransientError | None]]:
        """Alphas (T, S), and per row the failure of its inference or None. One call of the runtime per row (I2)."""
        alpha = np.full(usable.shape, np.nan)
        failures: list[TransientError | None] = []
        for t in range(len(alpha)):
            inputs = np.ascontiguousarray(features[t][:, self.columns])
            try:
                alpha[t] = self.inference.alphas(inputs, usable[t] & np.isfinite(inputs).all(axis=1))
                failures.append(None)
            except TransientError as failure:  # T23: the row holds, the runner counts and falls back
                failures.append(failure)
        return alpha, failures

    def sizing(self, features: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(volatility, atr), float64 (T, S)."""
        return features[:, :, self.volatility].astype(np.float64), features[:, :, self.atr].astype(np.float64)


def _bind(model: Model, feature_set: FeatureSet) -> _Bound:
    names, config = feature_set.names, model.config
    absent = sorted({*config.features, config.volatility, config.atr} - set(names))
    if config.feature_hash != feature_set.hash or absent:
        raise InputError(
            f"{model.label} wants features {config.feature_hash[:12]} (absent here: {absent}), this set is {feature_set.hash[:12]}",
            f"feature set {feature_set.name}",
            "use a bundle trained on this feature version",
        )
    columns = np.array([names.index(name) for name in config.features], np.int64)
    return _Bound(model, Inference(model), columns, names.index(config.volatility), names.index(config.atr))


class Signals:
    """Features, alphas and the strategy's latch of one pipeline.

    `failures` counts consecutive rows whose inference failed and `last_failure` keeps the reason; such a row's alphas are NaN, so latches
    stay and no new name enters (T23: hold).
    """

    def __init__(self, profile: Profile, feature_set: FeatureSet, model: Model | None, instrument_ids: tuple[str, ...]) -> None:
        self.instrument_ids = instrument_ids
        self.feature_set = feature_set
        self.program = Program(feature_set, instrument_ids)
        self.latched = np.zeros(len(instrument_ids), np.bool_)
        self.failures = 0
        self.last_failure: TransientError | None = None
        self._profile = profile
        width, features = len(instrument_ids), len(feature_set.names)
        self._recent = np.zeros((0, width, features), np.float32)
        self._recent_usable = np.zeros((0, width), np.bool_)
        self._recent_member = np.zeros((0, width), np.bool_)
        self._bound = None if model is None else _bind(model, feature_set)

    @property
    def model(self) -> Model | None:
        """The bundle in use."""
        return None if self._bound is None else self._bound.model

    @property
    def kept(self) -> NDArray[np.float32]:
        """Features float32 (n, S, F) of the newest rows, the last one last; n <= 64. A view."""
        return self._recent

    def step(self, panel: Panel, failed: bool = False) -> SignalBlock:
        """Advance over the rows of `panel`. Errors of the features are raised before anything advances.

        failed: repeat rows whose inference is journaled as failed; the model is not asked, because it might answer this time.
        """
        seen = self.program.rows_seen.copy()
        features = self.program.step(panel)
        ready = (seen + np.cumsum(panel.present, axis=0)) >= self.program.warm_up
        coverage = coverage_of(panel)
        usable = panel.present & ready & (coverage >= self._profile.limits.min_coverage)[:, None]
        alpha = np.full(usable.shape, np.nan) if failed else self._infer(features, usable)
        held = long_flat(alpha, panel.member, self._profile.strategy.entry_rank, self._profile.strategy.exit_rank, self.latched)
        self._remember(features, usable, panel.member)
        volatility, atr = np.full((2, *usable.shape), np.nan) if self._bound is None else self._bound.sizing(features)
        return SignalBlock(features, alpha, held, volatility, atr, coverage, ready)

    def _infer(self, features: NDArray[np.float32], usable: NDArray[np.bool_]) -> NDArray[np.float64]:
        if self._bound is None:
            return np.full(usable.shape, np.nan)
        alpha, failures = self._bound.alphas(features, usable)
        for failure in failures:
            self.failures = 0 if failure is None else self.failures + 1
            self.last_failure = failure or self.last_failure
        return alpha

    def _remember(self, features: NDArray[np.float32], usable: NDArray[np.bool_], member: NDArray[np.bool_]) -> None:
        self._recent = np.concatenate([self._recent, features[-WARM_ROWS:]])[-WARM_ROWS:]
        self._recent_usable = np.concatenate([self._recent_usable, usable[-WARM_ROWS:]])[-WARM_ROWS:]
        self._recent_member = np.concatenate([self._recent_member, member[-WARM_ROWS:]])[-WARM_ROWS:]

    def swap(self, model: Model | None) -> None:
        """Use another bundle from the next row on. Its latch is warmed on the feature rows kept, never inherited (T27).

        Without a model nothing is active: nothing enters, and the latch stays what it was.
        """
        self._bound = None if model is None else _bind(model, self.feature_set)
        self.failures, self.last_failure = 0, None
        if self._bound is None:
            return
        alpha, _ = self._bound.alphas(self._recent, self._recent_usable)
        self.latched[:] = False
        long_flat(alpha, self._recent_member, self._profile.strategy.entry_rank, self._profile.strategy.exit_rank, self.latched)

    def shadow(self, model: Model) -> NDArray[np.float64]:
        """Alphas float64 (n, S) of another bundle on the n <= 64 feature rows kept; no state changes. TransientError if it fails."""
        alpha, failures = _bind(model, self.feature_set).alphas(self._recent, self._recent_usable)
        for failure in failures:
            if failure is not None:
                raise failure
        return alpha

    def state_bytes(self) -> bytes:
        """All state as one .npz: features, latch, the rows kept for a swap. The model is not in it."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            format=np.array(STATE_FORMAT),
            instrument_ids=np.array(self.instrument_ids, dtype=np.str_),
            program=np.frombuffer(self.program.state_bytes(), np.uint8),
            latched=self.latched,
            recent=self._recent,
            usable=self._recent_usable,
            member=self._recent_member,
        )
        return buffer.getvalue()

    def load_state(self, data: bytes) -> None:
        """Take over the state of `state_bytes`, re-indexed to this axis; new instruments start cold. CorruptionError if damaged."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as saved:
                if str(saved["format"]) != STATE_FORMAT:
                    raise CorruptionError(f"state format {saved['format']!s}", "Signals", "publish the state with this version")
                values = {name: saved[name] for name in saved.files}
        except (OSError, KeyError, ValueError) as error:
            raise CorruptionError(f"not a signals state: {error}", "Signals", "restore it from the journal's snapshot") from error
        self.program.load_state(values["program"].tobytes())
        column = {name: s for s, name in enumerate(self.instrument_ids)}
        pairs = [(column[str(name)], old) for old, name in enumerate(values["instrument_ids"]) if str(name) in column]
        here, there = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        rows, width = len(values["recent"]), len(self.instrument_ids)
        self.latched = np.zeros(width, np.bool_)
        self.latched[here] = values["latched"][there]
        self._recent = np.full((rows, width, values["recent"].shape[2]), np.nan, np.float32)
        self._recent[:, here] = values["recent"][:, there]
        self._recent_usable = np.zeros((rows, width), np.bool_)
        self._recent_usable[:, here] = values["usable"][:, there]
        self._recent_member = np.zeros((rows, width), np.bool_)
        self._recent_member[:, here] = values["member"][:, there]


def block_from_alpha(
    profile: Profile,
    panel: Panel,
    alpha: NDArray[np.float64],
    volatility: NDArray[np.float64],
    atr: NDArray[np.float64],
    latched: NDArray[np.bool_] | None = None,
) -> SignalBlock:
    """A block for an alpha series made elsewhere, such as walk-forward predictions: same strategy, coverage rule and masks, no features.

    alpha, volatility, atr: float64 (T, S). latched: bool (S,) state to advance, all False without it.
    """
    rows, width = panel.shape
    coverage = coverage_of(panel)
    usable = panel.present & (coverage >= profile.limits.min_coverage)[:, None]
    kept = np.where(usable, alpha, np.nan)
    state = np.zeros(width, np.bool_) if latched is None else latched
    held = long_flat(kept, panel.member, profile.strategy.entry_rank, profile.strategy.exit_rank, state)
    ready = np.isfinite(volatility) & np.isfinite(atr)
    return SignalBlock(np.zeros((rows, width, 0), np.float32), kept, held, volatility, atr, coverage, ready)
