"""First bars against later versions of them (T4): a journal's rows as the runner saw them, and the same rows from final bars.

Pure: journal records and arrays in, reports out. Final bars are the journal's own corrections and late bars, or another table of the same
market, such as the published one. Both sides start from the signals' states that the runner journaled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.feed_skew import FeedSkew
from trading_platform.contracts.journal import Kind, Record, unpacked
from trading_platform.contracts.journaled_row import BAR_KEYS, panel_of
from trading_platform.contracts.panel import BAR_FIELDS, FACTOR_FIELDS, PRICE_FIELDS, Panel

if TYPE_CHECKING:
    from trading_platform.contracts.model import Model
    from trading_platform.contracts.profile import Profile
    from trading_platform.engine.signals import Signals
    from trading_platform.features.program import FeatureSet
    from trading_platform.research.feed_skew import Side

Cells = Mapping[tuple[int, str], Mapping[str, float]]  # (timestamp, instrument id) -> field -> value
Feeds = tuple[Mapping[str, str], Mapping[str, str]]


@dataclass(slots=True)
class Corrections:
    """What the journal says about bars after their row closed. cells: the newest version of each; unused: told, and of no row."""

    cells: dict[tuple[int, str], dict[str, float]] = field(default_factory=dict)
    unused: int = 0


def corrections_of(records: Iterable[Record]) -> Corrections:
    """First pass over a journal: late bars and corrections, the last word first. A bar that cannot be is no version of anything."""
    found, rows, told = Corrections(), {}, []
    for record in records:
        if record.kind is Kind.ROW:
            rows[int(record.body["timestamp"])] = set(record.body["instrument_ids"])
        elif record.kind in (Kind.LATE_BAR, Kind.CORRECTION):
            told.append(record)
    for record in told:
        at = int(record.body.get("t", 0))
        values = {name: float(record.body[key]) for name, key in BAR_KEYS.items() if isinstance(record.body.get(key), (int, float))}
        whole = all(values.get(name, -1.0) > 0.0 for name in PRICE_FIELDS) and values.get("volume", -1.0) >= 0.0
        if whole and record.key in rows.get(at, ()):
            found.cells[at, record.key] = values
        else:
            found.unused += 1
    return found


def with_bars(panel: Panel, cells: Cells) -> Panel:
    """The panel with other versions of some bars."""
    rows = {int(at): t for t, at in enumerate(panel.timestamp)}
    columns = {name: s for s, name in enumerate(panel.instrument_ids)}
    mine = [(rows[at], columns[name], values) for (at, name), values in cells.items() if at in rows and name in columns]
    if not mine:
        return panel
    fields = {name: values.copy() for name, values in panel.fields.items()}
    present = panel.present.copy()
    for t, s, values in mine:
        present[t, s] = True
        for name in values.keys() & fields.keys():
            fields[name][t, s] = values[name]
    return replace(panel, fields=fields | _beside(panel, present), present=present)


@dataclass(frozen=True, slots=True)
class Table:
    """Bars of a timeframe: row of a timestamp, column of an instrument, field -> float64 (T, S), bool present (T, S)."""

    rows: Mapping[int, int]
    columns: Mapping[str, int]
    fields: Mapping[str, NDArray[np.float64]]
    present: NDArray[np.bool_]


def with_table(panel: Panel, table: Table) -> Panel:
    """The panel with a table's bars instead of its own: what the table lacks is absent."""
    row = np.array([table.rows.get(int(at), -1) for at in panel.timestamp])
    column = np.array([table.columns.get(name, -1) for name in panel.instrument_ids])
    cells = np.ix_(row, column)
    present = table.present[cells] & (row >= 0)[:, None] & (column >= 0)
    fields = {name: np.where(present, table.fields[name][cells], np.nan) for name in panel.fields.keys() & table.fields.keys()}
    return replace(panel, fields=dict(panel.fields) | fields | _beside(panel, present), present=present)


def _beside(panel: Panel, present: NDArray[np.bool_]) -> dict[str, NDArray[np.float64]]:
    """Factors and market-wide fields where bars are present now: those of the name's session, and of the row.

    A factor is constant within a session; where the name has no bar in it, its scale is nobody's business (T1).
    """
    found = {}
    for name in panel.fields.keys() - BAR_KEYS.keys():
        whole = panel.fields[name].copy()
        for day in np.unique(panel.session) if name in FACTOR_FIELDS else ():
            rows = panel.session == day
            known = np.nanmax(np.where(np.isfinite(whole[rows]), whole[rows], -np.inf), axis=0)
            whole[rows] = np.where(known > 0.0, known, 1.0)
        if name not in FACTOR_FIELDS:
            known = np.nanmax(np.where(np.isfinite(whole), whole, -np.inf), axis=1, keepdims=True)
            whole[:] = np.where(np.isfinite(known), known, np.nan)
        found[name] = np.where(present, whole, np.nan)
    return found


class SkewFold:
    """Reads one journal and reports each session.

    load(bundle id) is the model. versions: name -> (feeds, panel of first bars -> panel of the other version). The other version is the
    left side, first bars the right one. As long as both have the same bars they are one side, computed once. instead: ranks the names of
    rows that no bundle decided, so that a feed can be judged before anything may trade on it.
    """

    def __init__(
        self,
        profile: Profile,
        feature_set: FeatureSet,
        load: Callable[[str], Model],
        versions: Mapping[str, tuple[Feeds, Callable[[Panel], Panel]]],
        instead: Model | None = None,
    ) -> None:
        self._profile, self._set, self._load, self._versions = profile, feature_set, load, versions
        self._instead = self._model = instead
        self._state: bytes | None = None
        self._comparable = True
        self._first: Signals | None = None
        self._others: dict[str, Signals] = {}  # of versions that have had another bar
        self._rows: list[Panel] = []
        self._session_id = ""
        self.reports: dict[str, dict[str, list[FeedSkew]]] = {}  # session id -> version -> one per recipe

    def read(self, records: Iterable[Record]) -> dict[str, dict[str, list[FeedSkew]]]:
        """Second pass over a journal."""
        for record in records:
            if record.kind is Kind.SNAPSHOT and record.key == "signals":
                self._flush()
                self._comparable = record.body["features"] == self._set.hash
                self._state, self._first, self._others = unpacked(record.body["signals"]), None, {}
            elif record.kind is Kind.ROW and self._comparable:
                self._row(record)
            elif record.kind is Kind.DECISION and self._comparable and self._rows:
                self._decided([str(name) for name in record.body["decision"]["bundle_ids"]])
        self._flush()
        return self.reports

    def _row(self, record: Record) -> None:
        panel = panel_of(record.body)
        if self._rows and (record.session_id != self._session_id or panel.instrument_ids != self._rows[0].instrument_ids):
            self._flush()
        self._session_id = record.session_id
        self._rows.append(panel)

    def _decided(self, bundle_ids: Sequence[str]) -> None:
        """The row read last was decided by this bundle: where it is another one, the rows before it go with the old one."""
        before = self._model
        wanted = bundle_ids[0] if bundle_ids else self._instead.bundle_id if self._instead is not None else ""
        if wanted == (before.bundle_id if before is not None else ""):
            return
        last = self._rows.pop()
        self._flush()
        self._rows.append(last)
        self._model = self._load(bundle_ids[0]) if bundle_ids else self._instead
        for signals in (*([self._first] if self._first is not None else []), *self._others.values()):
            signals.swap(self._model)

    def _flush(self) -> None:
        from trading_platform.research.feed_skew import feed_skew, side_of

        if not self._rows:
            return
        rows, self._rows = joined_rows(self._rows), []
        if self._first is None or self._first.instrument_ids != rows.instrument_ids:
            self._first, self._others = self._signals(rows.instrument_ids, self._state), {}
        others = {name: version(rows) for name, (_, version) in self._versions.items()}
        for name, panel in others.items():
            if name not in self._others and not same_bars(panel, rows):
                before = self._first.state_bytes()
                self._others[name] = self._signals(rows.instrument_ids, before)
        first = side_of(rows, self._first)
        recipe = self._model.config.name if self._model is not None else ""
        found = self.reports.setdefault(self._session_id, {name: [] for name in self._versions})
        for name, panel in others.items():
            other: Side = side_of(panel, self._others[name]) if name in self._others else first
            _add(found[name], feed_skew(other, first, self._set, self._versions[name][0], recipe))

    def _signals(self, instrument_ids: tuple[str, ...], state: bytes | None) -> Signals:
        from trading_platform.engine.signals import Signals

        signals = Signals(self._profile, self._set, self._model, instrument_ids)
        if state is not None:
            signals.load_state(state)
        return signals


def _add(reports: list[FeedSkew], report: FeedSkew) -> None:
    for number, known in enumerate(reports):
        if known.alpha == report.alpha:
            reports[number] = known.joined(report)
            return
    reports.append(report)


def joined_rows(rows: Sequence[Panel]) -> Panel:
    """Panels of one row each, one after the other."""
    first = rows[0]
    axes = ("timestamp", "known_at", "session", "present", "member")
    arrays = {name: np.concatenate([getattr(row, name) for row in rows]) for name in axes}
    fields = {name: np.concatenate([row.fields[name] for row in rows]) for name in first.fields}
    return replace(first, fields=fields, **arrays)


def same_bars(one: Panel, other: Panel) -> bool:
    """Whether two panels of one axis have the same bars, to the bit."""
    names = [name for name in one.fields if name in BAR_FIELDS or name in BAR_KEYS]
    return np.array_equal(one.present, other.present) and all(
        np.array_equal(one.fields[name], other.fields[name], equal_nan=True) for name in names
    )
