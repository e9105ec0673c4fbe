"""One run over the features of a series: what is as it was is taken over, the rest is computed from the newest state before it.

What is published has the bytes of a full rebuild, whatever was reused (I2). Memory is that of one period's bars, the features of one part
of it, and the states, however long the series is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.feature_periods import (
    STATE_FILES,
    Counts,
    Earlier,
    FeatureSource,
    Held,
    Period,
    axes_of,
    reusable,
    state_name,
    steps_of,
)
from trading_platform.assets.panels import cell_frame, present_cells
from trading_platform.assets.publish import Publication
from trading_platform.assets.reading import file_bytes
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.features.program import FeatureSet, Program
    from trading_platform.market_data.corporate_actions import FactorState

THREADS = 2
TURNED_CELLS = 1024  # cells whose features are turned from rows into columns at once: they stay in the cache

Say = Callable[[str], None]


class Scan:
    """The feature program and the price factors, advanced together over consecutive bars; instruments may join at any step.

    session, known_at: of the last row seen. seconds: spent in the program alone. infinite: values it made undefined. Memory is that of the
    states and of the bars given to one step.
    """

    def __init__(self, source: FeatureSource, chosen: FeatureSet, ids: tuple[str, ...]) -> None:
        self.session = -1
        self.known_at = 0
        self.seconds = 0.0
        self.infinite = 0
        self._source = source
        self._chosen = chosen
        self._program, self._factors = self._fresh(ids)

    def _fresh(self, ids: tuple[str, ...]) -> tuple[Program, FactorState]:
        from trading_platform.features.program import Program
        from trading_platform.market_data.corporate_actions import FactorState

        return Program(self._chosen, ids, threads=THREADS), FactorState(self._source.actions, ids)

    def load(self, session: int, known_at: int, ids: tuple[str, ...], states: Sequence[bytes]) -> None:
        """Go to the end of a session by its saved states (in the order of STATE_FILES), on the axis `ids`; those they lack are cold."""
        self._program, self._factors = self._fresh(ids)
        self._program.load_state(states[0])
        self._factors.load_state(states[1])
        self.session, self.known_at = session, known_at

    def step(self, bars: pl.DataFrame, ids: tuple[str, ...]) -> tuple[Panel, NDArray[np.float32]]:
        """Advance over newer bars; return them as a panel on the axis `ids` (every instrument so far among them) and its features."""
        if ids != self._program.instrument_ids:
            self.load(self.session, self.known_at, ids, self.states())
        panel = self._source.panel(bars, ids, self._factors)
        before, began = self._program.undefined_count, time.perf_counter()
        values = self._program.step(panel)
        self.seconds += time.perf_counter() - began
        self.infinite += self._program.undefined_count - before
        self.session, self.known_at = int(panel.session[-1]), int(panel.known_at[-1])
        return panel, values

    def states(self) -> tuple[bytes, bytes]:
        """What another scan needs to go on from here."""
        return self._program.state_bytes(), self._factors.state_bytes()


@dataclass(frozen=True, slots=True)
class Done:
    """What a run did to one period. seconds: of reading, computing and writing it, 0.0 where it was taken over; kernels: of the program."""

    period: Period
    counts: Counts
    seconds: float = 0.0
    kernels: float = 0.0

    @property
    def undefined(self) -> float:
        """Share of its cells that are NaN."""
        return 1.0 - sum(self.counts.defined) / max(1, self.counts.cells * len(self.counts.defined))


class FeatureRun:
    """One materialization: periods that are as they were are taken over, the others computed from the newest state before them."""

    def __init__(self, out: Publication, source: FeatureSource, chosen: FeatureSet, periods: Sequence[Period], before: Earlier) -> None:
        self.periods = periods
        self.reused = reusable(out.place, before, periods)
        self.states: dict[int, Held] = {}
        self._out = out
        self._source = source
        self._chosen = chosen
        self._before = before
        self._axes = axes_of(periods)
        ends = [period.last_session for period in periods[: self.reused]]
        self._held = {session: state for session, state in before.states.items() if ends and session <= ends[-1]}
        self._scan = Scan(source, chosen, self._axes[0])

    def publish(self, wanted: frozenset[int], say: Say) -> list[Done]:
        """Write every period's table and the states after the sessions `wanted`, in the order of time."""
        done = []
        if self.reused:
            first, last = self.periods[0].name, self.periods[self.reused - 1].name
            say(f"as they were: {first} to {last}, {self.reused} of {len(self.periods)} periods")
        for number, period in enumerate(self.periods):
            began = time.perf_counter()
            stops = frozenset(day for day, _ in period.sessions if day in wanted)
            if number < self.reused:
                self._take_over(period, stops)
                done.append(Done(period, self._before.counts[number]))
                continue
            counts, kernels = self._compute(number, stops)
            done.append(Done(period, counts, time.perf_counter() - began, kernels))
            say(
                f"{period.name}: {counts.cells} bars of {len(self._axes[number])} instruments, {done[-1].seconds:.2f} s, "
                f"{done[-1].undefined:.1%} undefined, {number + 1} of {len(self.periods)}"
            )
        return done

    def _take_over(self, period: Period, stops: frozenset[int]) -> None:
        for table in self._before.tables[period.name]:
            self._out.adopt(table)
        for session in sorted(stops):
            if session in self._held:
                self.states[session] = self._held[session]
                for file in self._held[session].files:
                    self._out.adopt(file)
            else:
                self._advance_to(session)
                self._publish_state(session, self._scan.known_at, self._scan.states())

    def _compute(self, number: int, stops: frozenset[int]) -> tuple[Counts, float]:
        """Compute a period from the end of the one before; write its tables and states; return the program's seconds, too."""
        if number:
            self._advance_to(self.periods[number - 1].last_session)
        period, ids = self.periods[number], self._axes[number]
        bars, parts = self._source.bars(period.name), period.parts(len(ids))
        cells, defined = 0, np.zeros(len(self._chosen.names), np.int64)
        infinite, kernels = self._scan.infinite, self._scan.seconds
        states: dict[int, tuple[int, tuple[bytes, bytes]]] = {}
        for days in parts:
            frames = []
            for first, last in steps_of(days, stops):
                panel, values = self._scan.step(between(bars, first, last), ids)
                frame, finite = feature_table(panel, values, self._chosen.names)
                frames.append(frame)
                defined += finite
                if last in stops:
                    states[last] = self._scan.known_at, self._scan.states()
            cells += sum(frame.height for frame in frames)
            name = period.name if len(parts) == 1 else f"{period.name}/from={np.datetime64(days[0], 'D')}"
            self._out.table(name, joined(frames), sort_by=())
        for session, (known_at, state) in states.items():
            self._publish_state(session, known_at, state)
        return Counts(cells, self._scan.infinite - infinite, tuple(defined.tolist())), self._scan.seconds - kernels

    def _advance_to(self, session: int) -> None:
        """Bring the scan to the end of a session: from where it is, or from the newest state before it."""
        newest = max((day for day in self._held if day <= session), default=-1)
        if self._scan.session > session or newest > self._scan.session:
            self._start(newest)
        for number, period in enumerate(self.periods):
            days = [day for day, _ in period.sessions if self._scan.session < day <= session]
            if not days:
                continue
            bars = self._source.bars(period.name)
            for part in period.parts(len(self._axes[number])):
                ahead = [day for day in part if day in days]
                if ahead:
                    self._scan.step(between(bars, ahead[0], ahead[-1]), self._axes[number])

    def _start(self, session: int) -> None:
        """Put the scan at a held state, or before the first row (-1)."""
        if session < 0:
            self._scan = Scan(self._source, self._chosen, self._axes[0])
            return
        number = next(n for n, period in enumerate(self.periods) if period.last_session >= session)
        held = self._held[session]
        self._scan.load(session, held.known_at, self._axes[number], [file_bytes(self._out.place, file) for file in held.files])

    def _publish_state(self, session: int, known_at: int, state: Sequence[bytes]) -> None:
        name = state_name(self._chosen.hash, known_at)
        files = tuple(self._out.file(f"{name}/{kind}", data, ".npz") for kind, data in zip(STATE_FILES, state, strict=True))
        self.states[session] = self._held[session] = Held(known_at, files)


def between(bars: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    """The bars of the sessions from day `first` to day `last`."""
    day = bars["session"].to_physical()
    return bars.filter((day >= first) & (day <= last))


def joined(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Consecutive tables, each sorted by instrument and time, as one that is."""
    import polars as pl

    return pl.concat(frames).sort("instrument_id", "timestamp") if len(frames) > 1 else frames[0]


def feature_table(panel: Panel, values: NDArray[np.float32], names: Sequence[str]) -> tuple[pl.DataFrame, NDArray[np.int64]]:
    """The present cells of features (T, S, F) as a table, and how many of each feature are finite, (F,)."""
    cells = present_cells(panel)
    flat, at = values.reshape(-1, len(names)), cells.row * panel.shape[1] + cells.column
    columns = np.empty((len(names), len(at)), np.float32)
    for start in range(0, len(at), TURNED_CELLS):
        columns[:, start : start + TURNED_CELLS] = flat[at[start : start + TURNED_CELLS]].T
    return cell_frame(panel, cells, dict(zip(names, columns, strict=True))), np.isfinite(columns).sum(axis=1)
