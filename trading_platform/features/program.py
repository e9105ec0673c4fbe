"""A feature set and the program that computes it. Batch steps over thousands of rows, live over one: same machine, same bits."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.panel import TIMEFRAME_NS, Panel
from trading_platform.features import blocks, machine
from trading_platform.features import plan as planning
from trading_platform.features import state as states
from trading_platform.features.expression import Expression
from trading_platform.features.operators.kernel import Kind
from trading_platform.features.strips import Columns, strips_of

WIDE_CELLS = 1 << 22  # full-width values held at once: 32 MiB
COPIES = 4  # steps times rows per state row from which copying the state does not show
MINUTE_NS = 60_000_000_000
NO_SESSION = np.iinfo(np.int64).min
NO_MATRIX: dict[type, NDArray[Any]] = {kind: np.empty((0, 0, 0), kind) for kind in (np.float32, np.float64)}


@dataclass(frozen=True)
class FeatureSet:
    """Named features of one timeframe. `label` is for people; `hash` is the version.

    level_features: names of features that change when one instrument's prices are scaled (T1); all others must not.
    """

    name: str
    label: str
    features: Mapping[str, Expression]
    level_features: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        planning.check(self.features, f"feature set {self.name}")
        unknown = sorted(self.level_features - set(self.features))
        if unknown:
            raise InputError(f"level features {unknown} are not in the set", f"feature set {self.name}", "name features of the set")

    @cached_property
    def hash(self) -> str:
        """64 hex digits over the expression graph and the syntax tree of each kernel used; blind to declaration order and layout."""
        return planning.feature_hash(self.features)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in column order (sorted)."""
        return tuple(sorted(self.features))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Panel fields the set reads, sorted."""
        return planning.fields_of(self.features)

    @cached_property
    def level(self) -> tuple[str, ...]:
        """Names of the features that are not invariant to scaling one instrument's prices, sorted."""
        return tuple(sorted(self.level_features))

    @cached_property
    def warm_up(self) -> int:
        """Present bars an instrument needs before every feature may be defined."""
        return planning.warm_up_of(self.features)

    def needed_by(self, field_name: str) -> tuple[str, ...]:
        """Names of the features that read a field, sorted."""
        return tuple(name for name in self.names if field_name in planning.fields_of({name: self.features[name]}))


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What one pass over the levels works on: a panel of T rows, the addresses of its fields, the start of each row's session, minutes and
    steps as kernels get them, full-width values (., T, S), the matrix (T, S, F) in either dtype."""

    panel: Panel
    fields: NDArray[np.int64]
    starts: NDArray[np.int64]
    minutes: NDArray[np.float64]
    steps: NDArray[np.int64]
    wide: NDArray[np.float64]
    narrow: NDArray[np.float32]
    broad: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Strip:
    """Columns (W,) of a chunk that run together, and their state (R, >= W): a copy of its own where several threads run, because what one
    thread reads ahead at the end of its columns another is just writing (measured: up to twice the time)."""

    columns: Columns
    state: NDArray[np.float64]


class Program:
    """Computes a feature set for a fixed axis of instruments, row after row, with explicit state."""

    def __init__(self, feature_set: FeatureSet, instrument_ids: tuple[str, ...], threads: int = 1) -> None:
        if not instrument_ids or any(a >= b for a, b in pairwise(instrument_ids)):
            raise InputError(
                "instrument ids must be given and strictly ascending", f"feature set {feature_set.name}", "sort them and drop duplicates"
            )
        if threads < 1:
            raise InputError(f"{threads} threads", f"feature set {feature_set.name}", "use at least 1")
        self.feature_set = feature_set
        self.instrument_ids = tuple(instrument_ids)
        self.warm_up = feature_set.warm_up
        self.undefined_count = 0
        self._threads = threads
        self._plan = planning.compile_plan(feature_set.features)
        self._tables = [level.table for level in self._plan.levels]
        self._wide_steps = [level.wide_steps for level in self._plan.levels]
        self._foreign = any(step.spec.kind is not Kind.CROSS_SECTION for steps in self._wide_steps for step in steps)
        size = self._plan.slots * max(machine.BLOCK_CELLS, _padded(len(self.instrument_ids)))
        self._workspaces = list(blocks.aligned(threads * size).reshape(threads, size))
        self.reset()

    def reset(self) -> None:
        """Forget every row: all instruments are cold."""
        width = len(self.instrument_ids)
        self.rows_seen = np.zeros(width, np.int64)
        self._last_session = np.full(width, NO_SESSION)
        self._timeframe = ""
        self._last_timestamp = self._session_start = 0
        self._session = NO_SESSION
        self._state = blocks.aligned(self._plan.cold.size * _padded(width)).reshape(self._plan.cold.size, _padded(width))
        self._state[:] = self._plan.cold[:, None]
        self._everything = _Strip(np.arange(width, dtype=np.uint64), self._state)
        self._torn = False

    def _state_of(self, key: str) -> NDArray[np.float64]:
        """A node's state, (rows, S), as a view."""
        first, last = self._plan.state[key]
        return self._state[first:last, : len(self.instrument_ids)]

    @property
    def ready(self) -> NDArray[np.bool_]:
        """(S,) bool: the instrument has seen as many present bars as the longest path of the graph needs."""
        return self.rows_seen >= self.warm_up

    @property
    def last_timestamp(self) -> int:
        """Timestamp (UTC ns, bar start) of the newest row seen; 0 when none was."""
        return self._last_timestamp

    def step(self, panel: Panel, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Advance over the rows of `panel` and return their features, (T, S, F), columns ordered as `feature_set.names`.

        `out` (C-contiguous, float32 or float64) receives the result; without it a new float32 array does. Kernels and state are float64,
        the last write casts. Undefined and absent cells are NaN. Raises InputError, before anything advances, for another axis, a
        missing field, rows that are not newer than the last one seen, an unfitting `out`, or after a step that was interrupted.
        """
        self._check(panel)
        rows, width = panel.shape
        shape = (rows, width, len(self.feature_set.names))
        if out is None:
            out = np.empty(shape, np.float32)
        if out.shape != shape or out.dtype not in (np.float32, np.float64) or not out.flags.c_contiguous:
            raise InputError(f"out is {out.dtype} {out.shape}", "Program.step", f"give a C-contiguous float32 or float64 array of {shape}")
        if rows:
            self._torn = True
            self._advance(panel, out)
            self._torn = False
        return out

    def _advance(self, panel: Panel, out: NDArray[Any]) -> None:
        rows, width = panel.shape
        kept = self._plan.wide
        most = min(rows, max(1, WIDE_CELLS // (kept * width))) if kept else rows
        room = blocks.aligned(kept * most * width)
        strips = self._strips(panel)
        with np.errstate(all="ignore"), nullcontext() if len(strips) == 1 else ThreadPoolExecutor(self._threads) as pool:
            run = map if pool is None else pool.map
            for top in range(0, rows, most):
                part = panel if most == rows else panel.rows(top, min(top + most, rows))
                chunk = self._chunk(part, out[top : top + most], room)
                for index in range(len(self._tables)):
                    self._run_wide(index, chunk, run)
                    self.undefined_count += sum(run(partial(self._run_strip, index, chunk), strips))
                self._note_rows(chunk)
        for strip in strips:
            if strip.state is not self._state:
                self._state[:, strip.columns] = strip.state[:, : strip.columns.size]

    def _strips(self, panel: Panel) -> list[_Strip]:
        """One strip over the state itself where a copy would cost more than it saves, or where an operator works on all columns at once."""
        steps = sum(len(table) for table in self._tables)
        if self._foreign or panel.shape[0] * steps < COPIES * len(self._state):
            return [self._everything]
        strips = strips_of(panel.present, self.rows_seen, self._threads)
        return [self._everything] if len(strips) == 1 else [self._strip_of(columns) for columns in strips]

    def _strip_of(self, columns: Columns) -> _Strip:
        width = _padded(columns.size)
        state = blocks.aligned(len(self._state) * width).reshape(-1, width)
        state[:, : columns.size] = self._state[:, columns]
        return _Strip(columns, state)

    def _chunk(self, panel: Panel, out: NDArray[Any], room: NDArray[np.float64]) -> _Chunk:
        rows, width = panel.shape
        addresses = np.array([panel.fields[name].ctypes.data for name in self._plan.fields], np.int64)
        starts = np.full(rows, self._session_start)
        if panel.session[-1] != self._session:  # days ascend: otherwise every row is of the session before
            opening = np.flatnonzero(np.diff(panel.session, prepend=self._session))
            starts[opening[0] :] = np.repeat(panel.timestamp[opening], np.diff([*opening, rows]))
        step = TIMEFRAME_NS[panel.timeframe]
        steps = np.concatenate(([self._last_timestamp or panel.timestamp[0] - step], panel.timestamp)) // step
        wide = room[: self._plan.wide * rows * width].reshape(self._plan.wide, rows, width)
        narrow, broad = (out, NO_MATRIX[np.float64]) if out.dtype == np.float32 else (NO_MATRIX[np.float32], out)
        return _Chunk(panel, addresses, starts, (panel.timestamp - starts) / MINUTE_NS, steps, wide, narrow, broad)

    def _note_rows(self, chunk: _Chunk) -> None:
        panel = chunk.panel
        blocks.note_bars(panel.present, panel.session, self.rows_seen, self._last_session)
        self._timeframe, self._last_timestamp = panel.timeframe, int(panel.timestamp[-1])
        self._session, self._session_start = int(panel.session[-1]), int(chunk.starts[-1])

    def _check(self, panel: Panel) -> None:
        where = f"feature set {self.feature_set.name}"
        if panel.instrument_ids != self.instrument_ids:
            raise InputError(
                "the panel's instruments are not the program's", where, "make a program for this axis and load the state into it"
            )
        for name in self.feature_set.fields:
            if name not in panel.fields:
                users = ", ".join(self.feature_set.needed_by(name))
                raise InputError(
                    f"the panel has no field {name}; needed by {users}", where, "assemble the field, or use a set without these features"
                )
        panel.check(where, panel.instrument_ids)
        self._check_whole()
        if panel.shape[0] and self._last_timestamp and panel.timestamp[0] <= self._last_timestamp:
            what = f"row {panel.timestamp[0]} is not newer than the last one seen ({self._last_timestamp})"
            raise InputError(what, where, "state advances once per row: feed only newer rows")
        early = self._last_timestamp and panel.timeframe == self._timeframe and panel.shape[0] and self._within_last_bar(panel)
        if early:
            what = f"row {panel.timestamp[0]} of session {panel.session[0]} lies within the bar or before the session of the last one seen"
            raise InputError(what, where, "feed one row per bar, sessions ascending")
        if self._timeframe and panel.timeframe != self._timeframe:
            raise InputError(f"a {panel.timeframe} panel after {self._timeframe} rows", where, "use one program per timeframe")

    def _check_whole(self) -> None:
        if self._torn:
            where = f"feature set {self.feature_set.name}"
            raise InputError("an earlier step was interrupted", where, "load a state, or reset the program and replay the bars")

    def _within_last_bar(self, panel: Panel) -> bool:
        """Panel.check's order of rows, across two steps."""
        session = int(panel.session[0])
        if panel.timeframe == "1Day":
            return session <= self._session
        return session < self._session or int(panel.timestamp[0]) - self._last_timestamp < TIMEFRAME_NS[panel.timeframe]

    def _run_wide(self, index: int, chunk: _Chunk, run: Any) -> None:
        rows = chunk.panel.shape[0]
        pieces = min(rows, self._threads)
        for step in self._wide_steps[index]:
            inputs, out = [chunk.wide[slot] for slot in step.inputs], chunk.wide[step.out]
            if step.spec.kind is not Kind.CROSS_SECTION:
                self._run_foreign(step, chunk, inputs, out)
            elif pieces == 1:
                self.undefined_count += step.spec.kernel(chunk.panel.member, *inputs, *step.arguments, out)
            else:
                parts = [slice(rows * k // pieces, rows * (k + 1) // pieces) for k in range(pieces)]
                call = partial(_across, step.spec.kernel, chunk.panel.member, inputs, step.arguments, out)
                self.undefined_count += sum(run(call, parts))

    def _run_foreign(self, step: planning.WideStep, chunk: _Chunk, inputs: list[NDArray[np.float64]], out: NDArray[np.float64]) -> None:
        """An operator that the machine does not know, called for all columns at once."""
        spec, arguments, (first, last) = step.spec, step.arguments, self._plan.state[step.key]
        panel, state = chunk.panel, self._state[first:last]
        seen, places = self.rows_seen + float(step.phase), np.empty(panel.shape[1], np.int64)
        opens, here = np.empty(panel.shape, np.bool_), np.empty(panel.shape, np.bool_)
        blocks.load_present(panel.present, self._everything.columns, panel.session, self._last_session.copy(), here, opens)
        if spec.kind is Kind.ELEMENTWISE:
            made = spec.kernel(*(x.ravel() for x in inputs), *arguments, out.ravel())
        elif spec.kind is Kind.WINDOW:
            made = spec.kernel(here, seen, False, places, 0, state, *inputs, *arguments, out)
        elif spec.kind is Kind.CLOCK:
            made = spec.kernel(here, chunk.minutes, chunk.steps, 0, state, *inputs, *arguments, out)
        else:
            made = spec.kernel(here, opens, 0, state, *inputs, *arguments, out)
        self.undefined_count += made

    def _run_strip(self, index: int, chunk: _Chunk, strip: _Strip) -> int:
        last = index == len(self._tables) - 1
        narrow, broad = (chunk.narrow, chunk.broad) if last else (NO_MATRIX[np.float32], NO_MATRIX[np.float64])
        plan, panel, columns = self._plan, chunk.panel, strip.columns
        work = self._workspaces.pop()
        try:
            return machine.advance(
                self._tables[index], plan.numbers, plan.constants, plan.slots, chunk.fields, panel.present, panel.session, chunk.minutes,
                chunk.steps, self.rows_seen[columns], self._last_session[columns], strip.state, chunk.wide, work, narrow, broad, columns,
            )  # fmt: skip
        finally:
            self._workspaces.append(work)

    def state_bytes(self) -> bytes:
        """The whole state as one .npz (feature hash, instrument axis, rows and sessions seen); equal states give equal bytes.

        Raises InputError after a step that was interrupted.
        """
        self._check_whole()
        kept = {key: self._state_of(key) for key, (first, last) in self._plan.state.items() if last > first}
        arrays = {key: np.where(np.isnan(state), np.nan, state) for key, state in kept.items()}  # a NaN's sign depends on how it was made
        version, newest = self.feature_set.hash, (self._timeframe, self._last_timestamp, self._session, self._session_start)
        return states.encode(states.ProgramState(version, self.instrument_ids, *newest, self.rows_seen, self._last_session, arrays))

    def load_state(self, data: bytes) -> None:
        """Take over a saved state, re-indexed to this program's instruments; those it does not know start cold.

        Raises InputError for the state of another feature version, CorruptionError for damaged bytes; the program is then unchanged.
        """
        saved = states.decode(data)
        where = f"feature set {self.feature_set.name}"
        if saved.feature_hash != self.feature_set.hash:
            what = f"the state belongs to feature version {saved.feature_hash[:12]}, the program computes {self.feature_set.hash[:12]}"
            raise InputError(what, where, "load the state of this version, or replay the bars from the start")
        for key, (first, last) in self._plan.state.items():
            held = saved.arrays.get(key)
            if last > first and (held is None or held.shape[0] != last - first or held.dtype != np.float64):
                raise CorruptionError(f"state array {key[:12]} is missing or unfitting", where, "load another state, or replay the bars")
        place = {name: column for column, name in enumerate(saved.instrument_ids)}
        own = [column for column, name in enumerate(self.instrument_ids) if name in place]
        theirs = [place[self.instrument_ids[column]] for column in own]
        self.reset()
        for key, (first, last) in self._plan.state.items():
            if last > first:
                self._state_of(key)[:, own] = saved.arrays[key][:, theirs]
        self.rows_seen[own], self._last_session[own] = saved.rows_seen[theirs], saved.last_session[theirs]
        self._timeframe, self._last_timestamp = saved.timeframe, saved.last_timestamp
        self._session, self._session_start = saved.session, saved.session_start


def _padded(width: int) -> int:
    """Columns of the state's rows: an odd number of cache lines, so that the rows of one column do not fall on each other in the cache."""
    lines = -(-width // 8)
    return 8 * (lines + 1 - lines % 2)


def _across(kernel: Any, member: NDArray[np.bool_], inputs: list[NDArray[Any]], arguments: Any, out: NDArray[Any], part: slice) -> int:
    """A cross-section over some rows."""
    return int(kernel(member[part], *(x[part] for x in inputs), *arguments, out[part]))
