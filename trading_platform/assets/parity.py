"""Live against batch (T35): the features a runner saw, its alphas and what it would have done, beside the same from final bars.

Pure: journal records and arrays in, values out. Live features are computed again from the journaled rows, starting from the states that the
runner journaled; batch features are the published ones. Any difference must have a cause in the journal; one without is unexplained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import decode_array
from trading_platform.contracts.journal import Kind, Record, unpacked
from trading_platform.contracts.journaled_row import panel_of
from trading_platform.contracts.panel import Panel

if TYPE_CHECKING:
    from trading_platform.features.expression import Expression
    from trading_platform.features.program import FeatureSet, Program

UNEXPLAINED = "unexplained"
WORST = 5


@dataclass(frozen=True, slots=True)
class Batch:
    """Published features of a timeframe: row of a timestamp, column of an instrument, float32 values (T, S, F), bool present (T, S)."""

    rows: Mapping[int, int]
    columns: Mapping[str, int]
    values: NDArray[np.float32]
    present: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Difference:
    """One feature cell that differs."""

    timestamp: int
    instrument_id: str
    feature: str
    live: float
    batch: float
    cause: str


@dataclass(slots=True)
class SessionParity:
    """One session. cells: feature cells compared; differing: those with other bits. alphas: (live, batch) pairs compared.

    flipped: (timestamp, instrument, cause) where the alpha's class (enter, keep, leave) differs. rows: compared; missing: rows that only
    the live world has.
    """

    session_id: str
    rows: int = 0
    missing: int = 0
    cells: int = 0
    differing: int = 0
    worst: list[Difference] = field(default_factory=list)
    alphas: list[tuple[float, float]] = field(default_factory=list)
    flipped: list[tuple[int, str, str]] = field(default_factory=list)
    causes: dict[str, int] = field(default_factory=dict)

    @property
    def unexplained(self) -> int:
        """Differences without a cause, and rows that only the live world has."""
        return self.causes.get(UNEXPLAINED, 0) + self.missing

    @property
    def rank_correlation(self) -> float:
        """Spearman's, of live and batch alphas; 1.0 where both are equal throughout, NaN without two of them."""
        from scipy.stats import spearmanr

        if len(self.alphas) < 2:
            return float("nan")
        live, batch = np.array(self.alphas).T
        return 1.0 if np.array_equal(live, batch) else float(spearmanr(live, batch).statistic)


Start = Callable[[tuple[str, ...], bytes | None], "Program"]
Alphas = Callable[[str, NDArray[np.float32], NDArray[np.bool_]], NDArray[np.float64]]


class ParityFold:
    """Compares one journal, record by record.

    start(instrument ids, signals' state or None) is the program in that state, cold without one; alphas(bundle_id, features (S, F) of the
    set, usable) asks a bundle. entry_rank, exit_rank: the strategy's thresholds on the alpha's cross-sectional rank.
    """

    def __init__(self, feature_set: FeatureSet, batch: Batch, start: Start, alphas: Alphas, entry_rank: float, exit_rank: float) -> None:
        self._set = feature_set
        self._batch = batch
        self._start = start
        self._alphas = alphas
        self._ranks = (entry_rank, exit_rank)
        self._program: Program | None = None
        self._state: bytes | None = None
        self._comparable = True
        self._row: tuple[Panel, NDArray[np.float32]] | None = None
        self._causes: dict[tuple[int, str], str] = {}
        self._crossing = _across(feature_set)
        self.sessions: dict[str, SessionParity] = {}

    def note_cause(self, record: Record) -> None:
        """First pass: what the journal says about late and corrected bars."""
        if record.kind in (Kind.LATE_BAR, Kind.CORRECTION):
            cause = "late bar" if record.kind is Kind.LATE_BAR else "corrected bar"
            self._causes[int(record.body.get("t", 0)), record.key] = cause

    def apply(self, record: Record) -> None:
        """Second pass: compare."""
        if record.kind is Kind.SNAPSHOT and record.key == "signals":
            self._comparable = record.body["features"] == self._set.hash
            self._program, self._state = None, unpacked(record.body["signals"])
        elif not self._comparable:
            return  # a row of another feature version
        elif record.kind is Kind.ROW:
            self._compare_row(record)
        elif record.kind is Kind.DECISION and self._row is not None:
            self._compare_decision(record.session_id, record.body["decision"])

    def _compare_row(self, record: Record) -> None:
        panel = panel_of(record.body)
        if self._program is None or self._program.instrument_ids != panel.instrument_ids:
            self._program = self._start(panel.instrument_ids, self._state)
        features = self._program.step(panel)[0]
        found = self.sessions.setdefault(record.session_id, SessionParity(record.session_id))
        found.rows += 1
        self._row = (panel, features)
        batch = self._batch_row(panel)
        if batch is None:
            found.missing += 1
            return
        values, present = batch
        for column in np.flatnonzero(present & ~panel.present[0]):  # the journaled row says so: the runner never had this bar
            self._causes.setdefault((int(panel.timestamp[0]), panel.instrument_ids[int(column)]), "coverage")
        either = present | panel.present[0]
        same = (features == values) | (np.isnan(features) & np.isnan(values))
        found.cells += int(either.sum()) * features.shape[1]
        for column, number in np.argwhere(~same & either[:, None]):
            self._differs(found, panel, int(column), int(number), features, values)

    def _batch_row(self, panel: Panel) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """The published features (S, F) and bars (S,) of a row; None where there is no such row."""
        row = self._batch.rows.get(int(panel.timestamp[0]))
        if row is None:
            return None
        columns = np.array([self._batch.columns.get(name, -1) for name in panel.instrument_ids])
        known = columns >= 0
        values = np.where(known[:, None], self._batch.values[row, columns], np.float32(np.nan))
        return values, known & self._batch.present[row, columns]

    def _differs(
        self, found: SessionParity, panel: Panel, column: int, number: int, live: NDArray[np.float32], batch: NDArray[np.float32]
    ) -> None:
        name, timestamp = panel.instrument_ids[column], int(panel.timestamp[0])
        cause = self._cause(timestamp, name, crossing=number in self._crossing)
        found.differing += 1
        found.causes[cause] = found.causes.get(cause, 0) + 1
        values = float(live[column, number]), float(batch[column, number])
        found.worst.append(Difference(timestamp, name, self._set.names[number], *values, cause))
        found.worst = sorted(found.worst, key=_size, reverse=True)[:WORST]

    def _cause(self, timestamp: int, name: str, crossing: bool) -> str:
        """A bar that was late, corrected or absent explains its own instrument from its time on (windows remember), an index's bar every
        instrument, and any of them what compares instruments with each other (`crossing`)."""
        for (at, what), cause in self._causes.items():
            if at <= timestamp and (crossing or what in (name, *self._set.fields)):
                return cause
        return UNEXPLAINED

    def _compare_decision(self, session_id: str, decision: Mapping[str, Any]) -> None:
        assert self._row is not None
        panel, _ = self._row
        batch = self._batch_row(panel)
        if batch is None or not decision["bundle_ids"] or int(panel.timestamp[0]) != int(decision["timestamp"]):
            return
        live = decode_array(decision["alpha"])
        usable = np.isfinite(live)
        again = self._alphas(str(decision["bundle_ids"][0]), batch[0], usable)
        found = self.sessions[session_id]
        found.alphas += list(zip(live[usable].tolist(), again[usable].tolist(), strict=True))
        member = panel.member[0]
        for column in np.flatnonzero(self._classes(live, member) != self._classes(again, member)):
            name = panel.instrument_ids[column]
            cause = self._cause(int(panel.timestamp[0]), name, crossing=True)
            found.flipped.append((int(panel.timestamp[0]), name, cause))
            found.causes[cause] = found.causes.get(cause, 0) + 1

    def _classes(self, alpha: NDArray[np.float64], member: NDArray[np.bool_]) -> NDArray[np.int64]:
        """0 undefined, 1 leave, 2 keep, 3 enter, by the rank among the members (0 worst, 1 best), ties averaged."""
        from scipy.stats import rankdata

        classes = np.zeros(len(alpha), np.int64)
        defined = np.flatnonzero(np.isfinite(alpha) & member)
        if defined.size < 2:
            return classes
        rank = (rankdata(alpha[defined]) - 1.0) / (defined.size - 1)
        entry, leave = self._ranks
        classes[defined] = np.where(rank >= entry, 3, np.where(rank < leave, 1, 2))
        return classes


def _across(feature_set: FeatureSet) -> frozenset[int]:
    """Columns of the features that compare instruments with each other."""
    from trading_platform.features.operators.kernel import Kind as How
    from trading_platform.features.operators.table import OPERATORS

    def crosses(expression: Expression) -> bool:
        spec = OPERATORS.get(expression.operator)
        return (spec is not None and spec.kind is How.CROSS_SECTION) or any(crosses(one) for one in expression.inputs)

    return frozenset(number for number, name in enumerate(feature_set.names) if crosses(feature_set.features[name]))


def _size(difference: Difference) -> float:
    gap = abs(difference.live - difference.batch)
    return float("inf") if gap != gap else gap / max(abs(difference.batch), 1e-12)


def compare(records: Callable[[], Iterable[Record]], fold: ParityFold) -> dict[str, SessionParity]:
    """Both passes over a journal; `records()` reads it from its beginning."""
    for record in records():
        fold.note_cause(record)
    for record in records():
        fold.apply(record)
    return fold.sessions
