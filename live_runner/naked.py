"""Positions that no order at the venue would close (T16): since when, tried again, and reported once they stand longer than the limit.

What is naked counts under its own limit in each decision (`Fold.note_naked`); here nothing is decided.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from live_runner.clock import SECOND
from live_runner.desk import Desk
from live_runner.fold import Fold
from live_runner.metrics import Metrics
from live_runner.recorder import Recorder
from trading_platform.contracts.journal import Kind

FIRST_WAIT_NS = 2 * SECOND
LONGEST_WAIT_NS = 3_600 * SECOND  # a stop that the venue keeps refusing is asked for ever more rarely


class NakedWatch:
    """Call `step` once everything else of a wake is done. limit_s: the profile's `max_naked_seconds`."""

    def __init__(self, fold: Fold, recorder: Recorder, desk: Desk, metrics: Metrics, limit_s: float) -> None:
        self._fold = fold
        self._recorder = recorder
        self._desk = desk
        self._metrics = metrics
        self._limit_ns = int(limit_s * SECOND)
        self._since: dict[str, int] = {}
        self._tries: dict[str, tuple[int, int]] = {}  # instrument -> (when its stop is asked for again, wait before that)
        self._told: Mapping[str, int] = {}

    def timers(self) -> list[int]:
        """When a stop is asked for again, and when a position has been naked too long."""
        instants = [*(since + self._limit_ns for since in self._since.values()), *(at for at, _ in self._tries.values())]
        return [at for at in instants if at > self._desk.now()]

    async def step(self) -> None:
        """Look at what is naked now; ask again for the stops that are due; journal what has been naked too long, when that changes."""
        now, naked = self._desk.now(), self._naked()
        if naked:
            wanted = {name for name, _, _ in self._fold.engine.desired_protection()} & naked.keys()
            self._tries = {name: self._tries.get(name, (now + FIRST_WAIT_NS, FIRST_WAIT_NS)) for name in wanted}
            due = {name for name, (at, _) in self._tries.items() if at <= now}
            for name in due:
                wait = min(2 * self._tries[name][1], LONGEST_WAIT_NS)
                self._tries[name] = now + wait, wait
            if due:
                await self._desk.protect(due)
                naked = self._naked()
        self._since = {name: self._since.get(name, now) for name in naked}
        self._tries = {name: tried for name, tried in self._tries.items() if name in naked}
        late = {name: lots for name, lots in naked.items() if now - self._since[name] >= self._limit_ns}
        if late != self._told:
            self._told = late
            await self._recorder.note(Kind.STATE, "naked", {"lots": late, "seconds": self._limit_ns / SECOND})
        self._metrics.naked.set(self._value(naked))

    def _naked(self) -> dict[str, int]:
        splitting = self._desk.splitting()  # bare on purpose, while the market is closed (T10)
        return {name: lots for name, lots in self._fold.uncovered().items() if name not in splitting}

    def _value(self, naked: Mapping[str, int]) -> float:
        engine = self._fold.engine
        columns = [engine.instrument_ids.index(name) for name in naked]
        marks = np.nan_to_num(engine.account.mark[columns])
        return float(np.sum(np.array([*naked.values()]) / engine.grid.lots_per_unit[columns] * marks)) if naked else 0.0
