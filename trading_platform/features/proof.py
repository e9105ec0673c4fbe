"""Proofs that a feature set keeps its promises on given bars: causal, chunk-invariant, restartable, independent of where it began.

Each proof computes the features a second time under a change that must not matter and compares. A finding names the feature, the first
bad bar and both values. No I/O and no randomness of its own: a generator comes from the caller, so a seed repeats a run. What the proofs
can see depends on the bars: a share of 0 cells compared is a verdict of None ("not judged"), never a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.panel import Panel
from trading_platform.features.expression import Expression
from trading_platform.features.memory import Memory, memory_of
from trading_platform.features.perturb import other_future, rescaled, with_split
from trading_platform.features.program import FeatureSet, Program

CHECKS = ("causal", "warm_up", "chunks", "restart", "finite", "scale")
FUTURE_ROWS = 64  # changed rows fed after each cut
DEFINED_SHARE = 0.5  # a feature that is undefined in more than half of its warm cells says nothing
ROUNDING = 1e-9  # of the feature's largest value: sums over a window associate differently where the series began elsewhere
SEED_GAIN = 10.0  # a recursive seed may be wrong by this many times the largest value, and decays from there
SETTLED = 1e-12  # seed weight below which even a comparison of recursive values must have settled
SCALE = 4.0

Values = NDArray[Any]


class Computes(Protocol):
    """What a proof steps: `features.program.Program`, or a mutant of it in a test."""

    def step(self, panel: Panel, out: Values | None = None) -> Values:
        """Features of the next rows."""

    def state_bytes(self) -> bytes:
        """The state as bytes."""

    def load_state(self, data: bytes) -> None:
        """Take a state over."""


Make = Callable[[tuple[str, ...]], Computes]


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature that broke a promise. timestamp: UTC ns of the first bad bar; expected, got: both values there; cells: bad ones."""

    check: str
    feature: str
    instrument_id: str
    timestamp: int
    expected: float
    got: float
    cells: int
    why: str

    @property
    def when(self) -> str:
        """The bar's start, UTC ISO."""
        return f"{np.datetime64(self.timestamp, 'ns').astype('datetime64[s]')}Z"

    @property
    def text(self) -> str:
        """One sentence."""
        if not self.feature:
            return f"{self.check}: {self.why}"
        values = f"{self.expected!r} became {self.got!r}"
        return f"{self.check}: {self.feature} of {self.instrument_id} at {self.when}: {values} {self.why} ({self.cells} cells)"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one proof found. passed None: the bars allowed no judgement. compared: cells; said: what was done, in one sentence."""

    check: str
    passed: bool | None
    compared: int
    findings: tuple[Finding, ...]
    said: str

    def joined(self, other: Verdict) -> Verdict:
        """This verdict with another comparison of the same check: both must pass, and each feature keeps its first finding."""
        first = {f.feature: f for f in sorted((*self.findings, *other.findings), key=lambda f: -f.timestamp)}
        passed = self.passed if other.passed is None else other.passed and self.passed is not False
        found = tuple(first[name] for name in sorted(first))
        return Verdict(self.check, passed, self.compared + other.compared, found, f"{self.said}; {other.said}" if other.said else self.said)


class Proof:
    """The proofs of one feature set on one panel. Everything is computed in float64, so equality is stricter than what is published."""

    def __init__(self, feature_set: FeatureSet, panel: Panel, make: Make | None = None) -> None:
        self.feature_set = feature_set
        self.panel = panel
        self._make = make or (lambda ids: Program(feature_set, ids))
        self._honest: Values | None = None
        self.memories = [memory_of(feature_set.features[name]) for name in feature_set.names]
        self.warm_ups = [warm_up_of(feature_set.features[name]) for name in feature_set.names]

    @property
    def honest(self) -> Values:
        """Features of the whole panel from a cold start in one piece, float64 (T, S, F)."""
        if self._honest is None:
            self._honest = self.compute(self.panel)
        return self._honest

    def compute(self, panel: Panel, program: Computes | None = None, dtype: Any = np.float64) -> Values:
        """Features of a panel, from a cold start or on top of a program's state."""
        out = np.empty((*panel.shape, len(self.feature_set.names)), dtype)
        return (program or self._make(panel.instrument_ids)).step(panel, out)

    def causal(self, generator: np.random.Generator, cuts: Sequence[int] = (), published: Values | None = None) -> Verdict:
        """The future, changed, moves no bit at or before a cut (I1).

        published: features float32 (T, S, F) of these rows from elsewhere, held against the recomputed ones instead of our own.
        """
        rows, found, compared = self.panel.shape[0], _Findings("causal", self), 0
        for cut in cuts or cuts_of(rows):
            future = other_future(self.panel.rows(0, min(rows, cut + 1 + FUTURE_ROWS)), cut, generator)
            mine = (self.honest if published is None else published)[: cut + 1]
            other = self.compute(future, dtype=mine.dtype)[: cut + 1]
            found.add(mine, other, differs(mine, other), f"when bars after {self._when(cut)} changed")
            compared += other.size
        return found.verdict(compared, f"bars after {len(cuts or cuts_of(rows))} cuts replaced, bits at and before each compared")

    def chunks(self, generator: np.random.Generator, rounds: int = 3) -> Verdict:
        """Any split of the rows into chunks gives the same bits (I2): random splits, and single rows at the end."""
        rows, found = self.panel.shape[0], _Findings("chunks", self)
        for number in range(rounds if rows > 1 else 0):
            count = int(generator.integers(1, max(2, min(rows, 40))))
            cuts = np.unique(generator.integers(1, rows, count))
            if number == 0:  # as live does it: row by row
                cuts = np.unique([*cuts, *range(max(rows - 100, 1), rows)])
            program, edges = self._make(self.panel.instrument_ids), [0, *(int(cut) for cut in cuts), rows]
            for start, stop in pairwise(edges):
                other = self.compute(self.panel.rows(start, stop), program)
                mine = self.honest[start:stop]
                found.add(mine, other, differs(mine, other), f"in the chunk of rows {start} to {stop - 1}", start)
        compared = rounds * self.honest.size if rows > 1 else 0
        return found.verdict(compared, f"{rounds} random splits, the first one ending row by row, bit for bit")

    def restart(self, cuts: Sequence[int] = ()) -> Verdict:
        """A program that takes over the saved state in mid-stream goes on with the same bits, and saves the same state."""
        rows, found, compared = self.panel.shape[0], _Findings("restart", self), 0
        before, start = self._make(self.panel.instrument_ids), 0
        for cut in cuts or cuts_of(rows):
            self.compute(self.panel.rows(start, cut + 1), before)
            start, state = cut + 1, before.state_bytes()
            after = self._make(self.panel.instrument_ids)
            after.load_state(state)
            if after.state_bytes() != state:
                found.whole(f"the state saved after {self._when(cut)} is another one once it was loaded", cut)
            mine = self.honest[start : start + FUTURE_ROWS]
            other = self.compute(self.panel.rows(start, min(rows, start + FUTURE_ROWS)), after)
            found.add(mine, other, differs(mine, other), f"after a restart from the state of {self._when(cut)}", start)
            compared += other.size
        return found.verdict(compared, f"{len(cuts or cuts_of(rows))} restarts from a saved state, bit for bit")

    def warm_up(self, starts: Sequence[int] = ()) -> Verdict:
        """Begun later, a feature is the same once its declared warm-up has passed (DESIGN 5).

        exact features (lags, extremes, ranks): to the bit. rounded ones (sums over windows): to 1e-9 of their largest value. recursive
        ones: to 1e-9 plus 10 x (1 + age)^(depth - 1) x retention^age of it, age in present bars past the warm-up.
        """
        found, compared, weakest = _Findings("warm_up", self), np.zeros(len(self.memories), np.int64), 0.0
        begun = starts or starts_of(self.panel)
        for start in begun:
            cold = self.panel.rows(start, self.panel.shape[0])
            other, mine = self.compute(cold), self.honest[start:]
            age = _Age(cold, self.panel.present[:start].sum(axis=0))
            for column, memory in enumerate(self.memories):
                past = age.past(self.warm_ups[column], memory)
                judged, bad, left = _against_beginning(mine[..., column], other[..., column], past, memory)
                compared[column] += int(judged.sum())
                weakest = max(weakest, left)
                why = f"when the series began at {self._when(start)} ({memory.kind}, ready after {self.warm_ups[column]} bars)"
                found.add_one(column, mine[..., column], other[..., column], bad, why, start)
        said = f"begun at {len(begun)} later rows; the weakest look at a recursive feature left {weakest:.1e} of its seed"
        return found.verdict(int(compared.sum()), said + self._unjudged(compared > 0))

    def finite(self, values: Values | None = None) -> Verdict:
        """No infinity, and no feature undefined in most of its warm cells. `values`: published ones, instead of our own."""
        found, mine = _Findings("finite", self), self.honest if values is None else values
        infinite = np.isinf(mine)
        found.add(mine, mine, infinite, "is infinite")
        count = np.cumsum(self.panel.present, axis=0)
        shares = np.full(len(self.warm_ups), np.nan)
        for column, warm_up in enumerate(self.warm_ups):
            warm = self.panel.present & (count >= warm_up)
            undefined = warm & ~np.isfinite(mine[..., column])
            shares[column] = 1.0 - undefined.sum() / warm.sum() if warm.any() else np.nan
            if shares[column] < DEFINED_SHARE:
                why = f"is undefined in {1.0 - shares[column]:.0%} of its warm cells"
                found.add_one(column, mine[..., column], mine[..., column], undefined, why)
        judged = np.isfinite(shares)
        least = int(np.argmin(np.where(judged, shares, np.inf)))
        said = f"least defined in warm cells: {self.feature_set.names[least]} {shares[least]:.1%}"
        return found.verdict(int(judged.all()) * mine.size, said + self._unjudged(judged))

    def scale(self) -> Verdict:
        """Prices in another unit move no feature but a level, and a 4:1 split moves none at all (T1); to 1e-9 of the largest value."""
        found, rows = _Findings("scale", self), self.panel.shape[0]
        columns = np.arange(0, self.panel.shape[1], 2)
        unit, split = self.compute(rescaled(self.panel, columns, SCALE)), self.compute(with_split(self.panel, rows // 2, columns, SCALE))
        idle = []
        for column, name in enumerate(self.feature_set.names):
            mine = self.honest[..., column]
            if name in self.feature_set.level:
                idle += [] if _moved(mine, unit[..., column]).any() else [name]
            else:
                why = f"when every second name's prices were multiplied by {SCALE:g}, and it is no level"
                found.add_one(column, mine, unit[..., column], _moved(mine, unit[..., column]), why)
            why = f"when every second name split {SCALE:g}:1 before {self._when(rows // 2)}"
            found.add_one(column, mine, split[..., column], _moved(mine, split[..., column]), why)
        note = f"; called a level and is none here: {', '.join(idle)}" if idle else ""
        return found.verdict(2 * self.honest.size, f"prices times {SCALE:g}, and a {SCALE:g}:1 split in mid-span{note}")

    def against(self, check: str, mine: Values, other: Values, start: int, why: str) -> Verdict:
        """Two computations of the rows from `start` on, bit for bit: values from elsewhere, and a second computation of them."""
        found = _Findings(check, self)
        found.add(mine, other, differs(mine, other), why, start)
        return found.verdict(other.size, "")

    def run(self, check: str, generator: np.random.Generator) -> Verdict:
        """One of CHECKS by name."""
        if check in ("causal", "chunks"):
            return getattr(self, check)(generator)
        return getattr(self, check)()

    def _unjudged(self, judged: NDArray[np.bool_]) -> str:
        names = [name for name, seen in zip(self.feature_set.names, judged, strict=True) if not seen]
        return f"; too few bars for {', '.join(names)}" if names else ""

    def _when(self, row: int) -> str:
        return f"{np.datetime64(int(self.panel.timestamp[row]), 'ns').astype('datetime64[s]')}Z"


def warm_up_of(expression: Expression) -> int:
    """Present bars before one feature may be defined."""
    return FeatureSet("one", "", {"feature": expression}).warm_up


def cuts_of(rows: int) -> tuple[int, ...]:
    """Rows after which something is changed: spread over the span, the last but one among them."""
    wanted = (rows // 7, rows * 2 // 5 + 1, rows * 3 // 5 + 2, rows * 4 // 5, rows - 2)
    return tuple(sorted({cut for cut in wanted if 0 <= cut < rows - 1}))


def starts_of(panel: Panel) -> tuple[int, ...]:
    """Later beginnings: the first rows of the sessions at about a seventh, a third and a half of the span."""
    opens = np.flatnonzero(np.diff(panel.session, prepend=panel.session[:1] - 1)) if panel.shape[0] else np.array([], np.int64)
    wanted = {int(opens[len(opens) * part // 42]) for part in (6, 14, 21)} if len(opens) else set()
    return tuple(sorted(start for start in wanted if start > 0))


def differs(a: Values, b: Values) -> NDArray[np.bool_]:
    """Cells whose bits differ, two undefined ones excepted."""
    bits = f"i{a.dtype.itemsize}"
    return (a.view(bits) != b.view(bits)) & ~(np.isnan(a) & np.isnan(b))


def _largest(values: Values) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0


def _moved(mine: Values, other: Values) -> NDArray[np.bool_]:
    with np.errstate(invalid="ignore"):
        far = np.abs(mine - other) > ROUNDING * _largest(mine)
    return far | (np.isnan(mine) != np.isnan(other))


class _Age:
    """How long a later beginning has been running, per cell."""

    def __init__(self, cold: Panel, seen_before: NDArray[np.int64]) -> None:
        self._panel = cold
        self._bars = np.cumsum(cold.present, axis=0)
        self._new = seen_before == 0  # an instrument that had no bar before: both computations began with its first one
        first = np.where(cold.present.any(axis=0), cold.session[np.argmax(cold.present, axis=0)], np.iinfo(np.int64).max)
        self._after_first_session = np.cumsum(cold.present & (cold.session[:, np.newaxis] > first), axis=0)

    def past(self, warm_up: int, memory: Memory) -> NDArray[np.int64]:
        """Present bars (at this minute of earlier sessions, where the recursion goes by them) past the warm-up, (T, S); -1: not yet."""
        bars = self._after_first_session if memory.session else self._bars
        past = np.where(self._panel.present & (bars >= warm_up), bars - warm_up, -1)
        if memory.by_session:  # defined from its first session on, but a mean of the first n until n have passed
            seeded = round(2.0 / (1.0 - memory.retention) - 1.0)
            past = np.where(past >= 0, np.maximum(self._same_minute() - seeded, -1), -1)
        if memory.cross:  # a rank needs everybody it ranks: rows in which every member's value is that of the longer series
            settled = (past >= 0) | self._new | ~(self._panel.present & self._panel.member)
            past = np.where(settled.all(axis=1)[:, np.newaxis], past, -1)
        return past

    def _same_minute(self) -> NDArray[np.int64]:
        """(T, S): bars that the cell's instrument had at this minute of earlier sessions."""
        cold = self._panel
        first = np.flatnonzero(np.diff(cold.session, prepend=cold.session[:1] - 1))
        minute = cold.timestamp - cold.timestamp[first][np.cumsum(np.isin(np.arange(len(cold.session)), first)) - 1]
        count = np.zeros(cold.shape, np.int64)
        for each in np.unique(minute):
            here = minute == each
            count[here] = np.cumsum(cold.present[here], axis=0) - cold.present[here]
        return count


def _against_beginning(
    mine: Values, other: Values, past: NDArray[np.int64], memory: Memory
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], float]:
    """Cells judged, cells that are too far apart, and the smallest weight left of a recursive seed."""
    judged = past >= 0
    if memory.kind == "exact":
        bad = judged & differs(np.ascontiguousarray(mine), np.ascontiguousarray(other))
        return judged, bad & ~(memory.unbounded & np.isnan(other)), 0.0
    age = np.maximum(past, 0).astype(np.float64)
    left = memory.retention**age * (1.0 + age) ** max(memory.depth - 1, 0) if memory.depth else np.zeros(past.shape)
    if memory.jumps and memory.depth:
        judged &= left < SETTLED
    with np.errstate(invalid="ignore"):
        far = np.abs(mine - other) > (ROUNDING + SEED_GAIN * left) * _largest(mine)
    # A seed waits for defined values, and an event may lie before the beginning: there the later series may still be undefined.
    waiting = np.isnan(other) & bool(memory.depth or memory.unbounded)
    unequal = (np.isnan(mine) != np.isnan(other)) & ~waiting
    return judged, judged & (far | unequal), float(left[judged].min()) if judged.any() and memory.depth else 0.0


class _Findings:
    """The first bad bar of each feature."""

    def __init__(self, check: str, proof: Proof) -> None:
        self._check, self._proof = check, proof
        self._found: dict[str, Finding] = {}

    def add(self, mine: Values, other: Values, bad: NDArray[np.bool_], why: str, start: int = 0) -> None:
        """Bad cells of all features, (t, S, F), of rows that begin at `start`."""
        for column in np.flatnonzero(bad.any(axis=(0, 1))):
            self.add_one(int(column), mine[..., column], other[..., column], bad[..., column], why, start)

    def add_one(self, column: int, mine: Values, other: Values, bad: NDArray[np.bool_], why: str, start: int = 0) -> None:
        """Bad cells of one feature, (t, S)."""
        if bad.any():
            row, symbol = (int(i) for i in np.argwhere(bad)[0])
            self.one(column, start + row, symbol, float(mine[row, symbol]), float(other[row, symbol]), int(bad.sum()), why)

    def one(self, column: int, row: int, symbol: int, expected: float, got: float, cells: int, why: str) -> None:
        """One bad cell, unless the feature has an earlier one."""
        panel, name = self._proof.panel, self._proof.feature_set.names[column]
        known = self._found.get(name)
        if known is None or known.timestamp > panel.timestamp[row]:
            stamp = int(panel.timestamp[row])
            self._found[name] = Finding(self._check, name, panel.instrument_ids[symbol], stamp, expected, got, cells, why)

    def whole(self, why: str, row: int) -> None:
        """Something that no single feature shows."""
        self._found.setdefault("", Finding(self._check, "", "", int(self._proof.panel.timestamp[row]), np.nan, np.nan, 0, why))

    def verdict(self, compared: int, said: str) -> Verdict:
        """Passed where something was compared and nothing was found."""
        found = tuple(self._found[name] for name in sorted(self._found))
        return Verdict(self._check, False if found else True if compared else None, compared, found, said)
