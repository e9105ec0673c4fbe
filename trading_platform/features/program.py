"""A feature set and the program that computes it. Batch steps over thousands of rows, live over one: same kernels, same bits."""

from __future__ import annotations

import threading
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
from trading_platform.contracts.panel import Panel
from trading_platform.features import plan as planning
from trading_platform.features import state as states
from trading_platform.features.expression import Expression
from trading_platform.features.operators import blocks
from trading_platform.features.operators.kernel import Kind, Operator
from trading_platform.features.operators.table import operator

BLOCK_COLUMNS = 64
BLOCK_ROWS = 128
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)


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


class _Workspace:
    """Buffers of one thread: B blocks of up to `cells` cells, viewed as (B, t, w); constants are filled in once per view."""

    def __init__(self, plan: planning.Plan, cells: int) -> None:
        self._flat = np.empty(plan.buffers * cells)
        self._mask = np.empty(cells, np.bool_)
        self._plan = plan
        self.cells = cells
        self._shape = (0, 0)
        self.blocks: list[NDArray[np.float64]] = []
        self.stack = self._flat.reshape(plan.buffers, cells)
        self.present = self._mask.reshape(1, cells)

    def view(self, rows: int, width: int, features: int) -> None:
        """Set blocks, stack (F, rows, width) and present to this shape."""
        if self._shape == (rows, width):
            return
        whole = self._flat[: self._plan.buffers * rows * width].reshape(self._plan.buffers, rows, width)
        self.blocks = list(whole)
        self.stack = whole[:features]
        self.present = self._mask[: rows * width].reshape(rows, width)
        for slot, value in self._plan.constants:
            whole[slot] = value
        self._shape = (rows, width)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """What one call of step works on."""

    panel: Panel
    out: NDArray[Any]
    wide: list[NDArray[np.float64]]
    start: int
    rows: int


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
        self._operators: dict[str, Operator] = {}
        self._arguments: dict[str, tuple[float, ...]] = {}
        self._workspaces = threading.local()
        for level in self._plan.levels:
            for step in (*level.cross, *level.steps):
                if isinstance(step, planning.Step):
                    self._bind(step.node)
        self.reset()

    def _bind(self, node: Expression) -> None:
        self._operators[node.key] = operator(node.operator)
        self._arguments[node.key] = planning.arguments_of(node)

    def reset(self) -> None:
        """Forget every row: all instruments are cold."""
        width = len(self.instrument_ids)
        self.rows_seen = np.zeros(width, np.int64)
        self._timeframe = ""
        self._last_timestamp = 0
        self._state: dict[str, dict[str, NDArray[Any]]] = {}
        for key, spec in self._operators.items():
            shapes = spec.state(dict(zip(spec.params, self._arguments[key], strict=False)))
            self._state[key] = {name: np.zeros((*shape, width), dtype) for name, (shape, dtype) in shapes.items()}

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
        missing field, rows that are not newer than the last one seen, or an unfitting `out`.
        """
        self._check(panel)
        rows, width = panel.shape
        shape = (rows, width, len(self.feature_set.names))
        if out is None:
            out = np.empty(shape, np.float32)
        if out.shape != shape or out.dtype not in (np.float32, np.float64) or not out.flags.c_contiguous:
            raise InputError(f"out is {out.dtype} {out.shape}", "Program.step", f"give a C-contiguous float32 or float64 array of {shape}")
        if rows:
            self._advance(panel, out)
            self.rows_seen += panel.present.sum(axis=0)
            self._timeframe, self._last_timestamp = panel.timeframe, int(panel.timestamp[-1])
        return out

    def _advance(self, panel: Panel, out: NDArray[Any]) -> None:
        rows, width = panel.shape
        wide = [np.empty(min(rows, BLOCK_ROWS) * width) for _ in range(self._plan.wide)]
        blocks_of = self._column_blocks(rows, width)
        alone = self._threads == 1 or len(blocks_of) == 1
        with np.errstate(all="ignore"), nullcontext() if alone else ThreadPoolExecutor(self._threads) as pool:
            run = map if pool is None else pool.map
            for start in range(0, rows, BLOCK_ROWS):
                count = min(BLOCK_ROWS, rows - start)
                views = [flat[: count * width].reshape(count, width) for flat in wide]
                chunk = _Chunk(panel, out, views, start, count)
                for index in range(len(self._plan.levels)):
                    self._run_cross(index, chunk)
                    self.undefined_count += sum(run(partial(self._run_block, index, chunk), blocks_of))

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
        panel.check(where)
        if panel.shape[0] and self._last_timestamp and panel.timestamp[0] <= self._last_timestamp:
            what = f"row {panel.timestamp[0]} is not newer than the last one seen ({self._last_timestamp})"
            raise InputError(what, where, "state advances once per row: feed only newer rows")
        if self._timeframe and panel.timeframe != self._timeframe:
            raise InputError(f"a {panel.timeframe} panel after {self._timeframe} rows", where, "use one program per timeframe")

    def _column_blocks(self, rows: int, width: int) -> list[tuple[int, int]]:
        # One row of few thousand columns is cheapest in one call per operator; longer chunks want blocks that stay in the cache.
        size = width if rows * width <= BLOCK_ROWS * BLOCK_COLUMNS or rows == 1 else BLOCK_COLUMNS
        return [(lo, min(lo + size, width)) for lo in range(0, width, size)]

    def _workspace(self, cells: int) -> _Workspace:
        held = getattr(self._workspaces, "held", None)
        if held is None or held.cells < cells:
            held = self._workspaces.held = _Workspace(self._plan, max(cells, BLOCK_ROWS * BLOCK_COLUMNS))
        return held

    def _run_cross(self, index: int, chunk: _Chunk) -> None:
        for step in self._plan.levels[index].cross:
            member = chunk.panel.member[chunk.start : chunk.start + chunk.rows]
            inputs = [chunk.wide[slot] for slot in step.inputs]
            key = step.node.key
            self.undefined_count += self._operators[key].kernel(member, *inputs, *self._arguments[key], chunk.wide[step.out])

    def _run_block(self, index: int, chunk: _Chunk, columns: tuple[int, int]) -> int:
        lo, hi = columns
        work = self._workspace(chunk.rows * (hi - lo))
        work.view(chunk.rows, hi - lo, len(self.feature_set.names))
        panel, slots, made = chunk.panel, work.blocks, 0
        dense = blocks.load_present(panel.present, chunk.start, lo, work.present)
        session = panel.session[chunk.start : chunk.start + chunk.rows]
        for step in self._plan.levels[index].steps:
            if isinstance(step, planning.Step):
                made += self._call(step, work, dense, session, lo)
            elif isinstance(step, planning.FieldLoad):
                made += blocks.load_field(panel.fields[step.name], work.present, chunk.start, lo, slots[step.out])
            elif isinstance(step, planning.WideLoad):
                blocks.load_block(chunk.wide[step.wide], lo, slots[step.out])
            elif isinstance(step, planning.WideStore):
                blocks.store_block(slots[step.source], lo, chunk.wide[step.wide])
            else:
                slots[step.out][:] = slots[step.source]
        if index == len(self._plan.levels) - 1:
            if chunk.out.dtype == np.float32:
                made += blocks.keep_within(work.stack, LARGEST_FLOAT32)
            blocks.write_features(work.stack, chunk.start, lo, chunk.out)
        return made

    def _call(self, step: planning.Step, work: _Workspace, dense: bool, session: NDArray[np.int64], lo: int) -> int:
        key = step.node.key
        spec, arguments = self._operators[key], self._arguments[key]
        inputs = [work.blocks[slot] for slot in step.inputs]
        out = work.blocks[step.out]
        if spec.kind is Kind.ELEMENTWISE:
            return spec.kernel(*inputs, *arguments, out)
        state = self._state[key].values()
        if spec.kind is Kind.WINDOW:
            return spec.kernel(work.present, dense, lo, *state, *inputs, *arguments, out)
        return spec.kernel(work.present, session, lo, *state, *inputs, *arguments, out)

    def state_bytes(self) -> bytes:
        """The whole state as one .npz (feature hash, instrument axis, rows seen); equal states give equal bytes."""
        arrays = {f"{key}.{name}": array for key, held in self._state.items() for name, array in held.items()}
        return states.encode(
            states.ProgramState(self.feature_set.hash, self.instrument_ids, self._timeframe, self._last_timestamp, self.rows_seen, arrays)
        )

    def load_state(self, data: bytes) -> None:
        """Take over a saved state, re-indexed to this program's instruments; those it does not know start cold.

        Raises InputError for the state of another feature version, CorruptionError for damaged bytes; the program is then unchanged.
        """
        saved = states.decode(data)
        where = f"feature set {self.feature_set.name}"
        if saved.feature_hash != self.feature_set.hash:
            what = f"the state belongs to feature version {saved.feature_hash[:12]}, the program computes {self.feature_set.hash[:12]}"
            raise InputError(what, where, "load the state of this version, or replay the bars from the start")
        place = {name: column for column, name in enumerate(saved.instrument_ids)}
        own = [column for column, name in enumerate(self.instrument_ids) if name in place]
        theirs = [place[self.instrument_ids[column]] for column in own]
        loaded: dict[str, dict[str, NDArray[Any]]] = {}
        for key, held in self._state.items():
            loaded[key] = {}
            for name, array in held.items():
                source = saved.arrays.get(f"{key}.{name}")
                if source is None or source.shape[:-1] != array.shape[:-1] or source.dtype != array.dtype:
                    raise CorruptionError(
                        f"state array {key[:12]}.{name} is missing or unfitting", where, "load another state, or replay the bars"
                    )
                loaded[key][name] = np.zeros_like(array)
                loaded[key][name][..., own] = source[..., theirs]
        rows_seen = np.zeros_like(self.rows_seen)
        rows_seen[own] = saved.rows_seen[theirs]
        self._state, self.rows_seen = loaded, rows_seen
        self._timeframe, self._last_timestamp = saved.timeframe, saved.last_timestamp
