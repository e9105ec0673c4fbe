"""Which slow rows are the model's fault (T23): a timeout counts only where the loop kept up and the row was complete."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from live_runner.clock import stopwatch_ns

MOST_LAG_MS = 20.0
MS = 1_000_000


async def loop_lag_ns() -> int:
    """How long work that is ready waits for its turn on the loop, ns."""
    started = stopwatch_ns()
    await asyncio.sleep(0)
    return stopwatch_ns() - started


@dataclass(slots=True)
class InferenceWatch:
    """slow_rows: consecutive rows whose features and inference took longer than `budget_ms`. Rows that prove nothing leave the count."""

    budget_ms: float
    slow_rows: int = 0

    def judge(self, took_ns: int, lag_ns: int, coverage: float) -> None:
        """One row: how long it took, how far the loop lagged before it, the share of members that reported."""
        if took_ns <= self.budget_ms * MS:
            self.slow_rows = 0
        elif lag_ns < MOST_LAG_MS * MS and coverage >= 1.0:
            self.slow_rows += 1
