"""Decision: everything the engine concluded for one row, as a pure value whose canonical bytes are compared between backtest and live.

No clock reading, latency, host, account, mode, build or session: those are in the DecisionTrace with the same id (DESIGN section 6).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.orders import PlannedOrder


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One check on one instrument: `value` was compared with `limit`. `allowed` False means the order was denied by `code`."""

    instrument_id: str
    code: str
    limit: float
    value: float
    allowed: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """One row's conclusion over S instruments.

    alpha, exposure: float64 (S,), NaN where undefined; alpha in the model's unit, exposure the wanted fraction of sleeve capital.
    position, target: int64 (S,) lots before and wanted after. hashes: profile, limits, universe, corporate_actions, calendar, features,
    engine (T37). orders: what passed the checks, in sending order. checks: outcomes of every acting instrument. equity: account value used.
    """

    decision_id: str
    timeframe: str
    timestamp: int
    known_at: int
    session: int
    instrument_ids: tuple[str, ...]
    row_hash: str
    account_state_hash: str
    bundle_ids: tuple[str, ...]
    hashes: Mapping[str, str]
    coverage: float
    equity: float
    alpha: NDArray[np.float64]
    exposure: NDArray[np.float64]
    position: NDArray[np.int64]
    target: NDArray[np.int64]
    orders: tuple[PlannedOrder, ...]
    checks: tuple[CheckOutcome, ...]
    check_counts: Mapping[str, int]
    origin: str = "model"

    def to_bytes(self) -> bytes:
        """Canonical bytes: equal decisions are equal bytes."""
        return canonical_bytes(self)


@dataclass(frozen=True, slots=True)
class DecisionTrace:
    """Where and when a decision was made: outside the compared bytes, journaled in the same record."""

    decision_id: str
    account: str
    mode: str
    session_id: str
    run_id: str
    build: str
    lock: str
    decided_at: int
    latency_ns: int
    extra: Mapping[str, str] = field(default_factory=dict)
