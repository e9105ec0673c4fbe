"""Small synthetic panels for research tests; seeded, labelled as synthetic."""

from __future__ import annotations

import numpy as np

from trading_platform.contracts.panel import TIMEFRAME_NS, Panel

DAY = 86_400_000_000_000


def panel_of(
    close: np.ndarray, timeframe: str = "1Day", present: np.ndarray | None = None, rows_per_session: int = 1, **fields: np.ndarray
) -> Panel:
    """A panel whose bars are flat at `close` (T, S), factors 1.0 unless given."""
    count, width = close.shape
    there = np.isfinite(close) if present is None else present
    bars = {name: np.where(there, close, np.nan) for name in ("open", "high", "low", "close")}
    bars |= {
        "volume": np.where(there, 1e6, np.nan),
        "split_factor": np.where(there, 1.0, np.nan),
        "return_factor": np.where(there, 1.0, np.nan),
    }
    bars |= fields
    session = 14_000 + np.arange(count) // rows_per_session
    step = TIMEFRAME_NS[timeframe]
    timestamp = session * DAY + (np.arange(count) % rows_per_session) * step
    known_at = timestamp + (step if timeframe != "1Day" else 16 * 3_600_000_000_000)
    ids = tuple(f"us:S{i:03d}" for i in range(width))
    return Panel(timeframe, ids, timestamp, known_at, session, bars, there, np.ones((count, width), bool)).check()


def random_closes(rng: np.random.Generator, count: int, width: int, volatility: float = 0.02) -> np.ndarray:
    return 50.0 * np.exp(np.cumsum(rng.standard_normal((count, width)) * volatility, axis=0))
