"""From a feature set to an execution plan: shared subexpressions, order, buffers, warm-up, content hash. No arrays are touched here.

A plan is a list of levels. Level k first runs the nodes that need level k - 1 at full width (cross-sections, and operators whose kernel the
machine does not know), then its table of column steps, which the machine runs block by block in a handful of re-used buffers (slots). A
value that a later level or a full-width step needs is kept at full width (`wide`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError
from trading_platform.features import blocks, machine
from trading_platform.features.expression import Expression
from trading_platform.features.operators.kernel import Kind, Operator, syntax_hash
from trading_platform.features.operators.table import operator

LEAVES = ("field", "constant")


def nodes_of(features: Mapping[str, Expression]) -> list[Expression]:
    """Every distinct subexpression, inputs before users, in an order that depends on content only."""
    order: dict[str, Expression] = {}

    def visit(node: Expression) -> None:
        if node.key in order:
            return
        for x in node.inputs:
            visit(x)
        order[node.key] = node

    for name in sorted(features):
        visit(features[name])
    return list(order.values())


def fields_of(features: Mapping[str, Expression]) -> tuple[str, ...]:
    """Names of the panel fields that the features read, sorted."""
    return tuple(sorted({str(node.params[0][1]) for node in nodes_of(features) if node.operator == "field"}))


def warm_up_of(features: Mapping[str, Expression]) -> int:
    """Present bars an instrument needs before every feature may be defined: the longest path of windows, lags and seeds."""
    bars: dict[str, int] = {}
    for node in nodes_of(features):
        if node.operator in LEAVES:
            bars[node.key] = 1
        else:
            longest = max((bars[x.key] for x in node.inputs), default=1)
            bars[node.key] = longest + operator(node.operator).warm_up(dict(node.params))  # type: ignore[arg-type]
    return max(bars[x.key] for x in features.values())


def feature_hash(features: Mapping[str, Expression]) -> str:
    """The feature version (64 hex): expression graph, syntax tree of each kernel used, arguments the specs derive from the parameters."""
    inner = [node for node in nodes_of(features) if node.operator not in LEAVES]
    return content_hash(
        {
            "features": {name: x.key for name, x in features.items()},
            "kernels": {name: syntax_hash(operator(name).kernel) for name in sorted({node.operator for node in inner})},
            "loading": [syntax_hash(x) for x in (blocks.load_field, blocks.load_present, phase_of)],
            "arguments": {node.key: list(arguments_of(node)) for node in inner},
        }
    )


def arguments_of(node: Expression) -> tuple[float, ...]:
    """What a node's kernel gets beside state and inputs: its parameters in call order, then what the spec derives from them."""
    spec, params = operator(node.operator), _numeric(node)
    return (*(params[name] for name in spec.params), *spec.extra(params))


def phase_of(node: Expression) -> int:
    """Place in its first block at which a window begins: spread by content, so that a set's blocks are not all full in one live row."""
    n = _numeric(node).get("n", 1)
    return int(node.key[:8], 16) % int(n)


def _numeric(node: Expression) -> dict[str, int | float]:
    return {name: value for name, value in node.params if not isinstance(value, str)}


def check(features: Mapping[str, Expression], where: str) -> None:
    """Raise InputError for an empty set, a value that is not an expression, an unknown operator or a wrong number of inputs."""
    if not features:
        raise InputError("a feature set without features", where, "give at least one feature")
    for name, expression in features.items():
        if not isinstance(expression, Expression):
            raise InputError(f"feature {name} is a {type(expression).__name__}", where, "build it from field, adj and the operators")
        if expression.operator == "constant":
            raise InputError(f"feature {name} is a constant", where, "remove it")
    for node in nodes_of(features):
        if node.operator in LEAVES:
            continue
        spec = operator(node.operator)
        if len(node.inputs) != spec.arity or {name for name, _ in node.params} != set(spec.params):
            raise InputError(
                f"{node.operator} got {len(node.inputs)} inputs and {node.params}", where, f"it takes {spec.arity} and {spec.params}"
            )


@dataclass(frozen=True, slots=True)
class WideStep:
    """One kernel call at full width. inputs, out: wide slots. arguments: as of arguments_of. key, phase: of the node."""

    spec: Operator
    inputs: tuple[int, ...]
    arguments: tuple[float, ...]
    out: int
    key: str
    phase: int


@dataclass(slots=True)
class Level:
    """wide_steps: done first. rows: one step each: code, three inputs, output, first and last + 1 row of its state, place of its numbers,
    phase.

    Inputs and output are slots; of WIDE_LOAD the input and of WIDE_STORE the output is wide. Of LOAD the input is a field, and the second
    tells whether to count its infinities.
    """

    wide_steps: list[WideStep] = dataclass_field(default_factory=list)
    rows: list[tuple[int, ...]] = dataclass_field(default_factory=list)

    @property
    def table(self) -> NDArray[np.int64]:
        """The steps as the machine reads them, (K, 9) int64."""
        return np.array(self.rows, np.int64).reshape(len(self.rows), 9)


@dataclass(slots=True)
class Plan:
    """slots: how many buffers a block needs, the first F end as the features' columns. constants (., 2) float64: slot, value.

    numbers: arguments of all steps, one after the other. fields: names in LOAD's order. wide: full-width values. state: node key -> first
    and last + 1 row of its state. cold (R,): a column's state before its first bar.
    """

    levels: list[Level]
    slots: int
    constants: NDArray[np.float64]
    numbers: NDArray[np.float64]
    fields: tuple[str, ...]
    wide: int
    state: dict[str, tuple[int, int]]
    cold: NDArray[np.float64]


def compile_plan(features: Mapping[str, Expression]) -> Plan:
    """Order the graph into levels and assign slots and state rows; feature f (by sorted name) ends in slot f."""
    return _Planner(features).plan()


def runs_wide(spec: Operator) -> bool:
    """True for cross-sections and for operators whose kernel is not among the machine's."""
    return spec.kind is Kind.CROSS_SECTION or spec.kernel not in machine.CODES


class _Planner:
    def __init__(self, features: Mapping[str, Expression]) -> None:
        self.names = sorted(features)
        self.features = features
        self.nodes = nodes_of(features)
        self.fields = fields_of(features)
        self.level: dict[str, int] = {}
        self.wide: dict[str, int] = {}
        self.free: list[int] = []
        self.slots = len(self.names)
        self.constants: dict[str, int] = {}
        self.loaded: set[str] = set()
        self.numbers: list[float] = []
        self.cold: list[float] = []
        self.state: dict[str, tuple[int, int]] = {}

    def plan(self) -> Plan:
        self._assign_levels()
        last = max(self.level.values())
        self._assign_wide(last)
        levels = [self._build(k, last) for k in range(last + 1)]
        values = {node.key: float(node.params[0][1]) for node in self.nodes if node.operator == "constant"}
        constants = np.array([(slot, values[key]) for key, slot in self.constants.items()], np.float64).reshape(len(self.constants), 2)
        numbers = np.array([*self.numbers, 0.0, 0.0, 0.0])  # the machine reads three numbers of every step
        return Plan(levels, self.slots, constants, numbers, self.fields, len(self.wide), self.state, np.array(self.cold))

    def _is_wide(self, node: Expression) -> bool:
        return node.operator not in LEAVES and runs_wide(operator(node.operator))

    def _assign_levels(self) -> None:
        for node in self.nodes:
            self.level[node.key] = max((self.level[x.key] for x in node.inputs), default=0) + int(self._is_wide(node))

    def _assign_wide(self, last: int) -> None:
        def keep(node: Expression) -> None:
            self.wide.setdefault(node.key, len(self.wide))

        for node in self.nodes:
            if self._is_wide(node):
                keep(node)
            for x in node.inputs:
                later = self.level[x.key] < self.level[node.key] and x.operator not in LEAVES
                if self._is_wide(node) or later:
                    keep(x)
        for name in self.names:
            node = self.features[name]
            if self.level[node.key] < last and node.operator != "field":
                keep(node)

    def _take(self) -> int:
        if self.free:
            return self.free.pop()
        self.slots += 1
        return self.slots - 1

    def _keep_state(self, node: Expression) -> tuple[int, int]:
        cold = operator(node.operator).cold(_numeric(node))
        self.state[node.key] = len(self.cold), len(self.cold) + len(cold)
        self.cold += cold
        return self.state[node.key]

    def _step(self, node: Expression, inputs: tuple[int, ...], out: int) -> tuple[int, ...]:
        at = len(self.numbers)
        self.numbers += [float(x) for x in arguments_of(node)]
        a, b, c = (*inputs, 0, 0, 0)[:3]
        return (machine.CODES[operator(node.operator).kernel], a, b, c, out, *self._keep_state(node), at, phase_of(node))

    def _build(self, k: int, last: int) -> Level:
        level = Level()
        for node in self.nodes:
            if self._is_wide(node) and self.level[node.key] == k:
                self._keep_state(node)
                inputs = tuple(self.wide[x.key] for x in node.inputs)
                out = self.wide[node.key]
                level.wide_steps.append(WideStep(operator(node.operator), inputs, arguments_of(node), out, node.key, phase_of(node)))
        run = [n for n in self.nodes if not self._is_wide(n) and n.operator not in LEAVES and self.level[n.key] == k]
        leaves_kept = [n for n in self.nodes if n.operator in LEAVES and n.key in self.wide] if k == 0 else []
        columns = [self.features[name] for name in self.names] if k == last else []
        remaining: dict[str, int] = {}
        for used in (*(x for n in run for x in n.inputs), *leaves_kept, *columns):
            remaining[used.key] = remaining.get(used.key, 0) + 1
        owner: dict[str, int] = {}
        for slot, node in enumerate(columns):
            owner.setdefault(node.key, slot)
        where: dict[str, int] = {}
        for node in leaves_kept:
            source = self._fetch(node, where, owner, level)
            level.rows.append((machine.WIDE_STORE, source, 0, 0, self.wide[node.key], 0, 0, 0, 0))
        for node in run:
            slots = tuple(self._fetch(x, where, owner, level) for x in node.inputs)
            out = owner[node.key] if node.key in owner else self._take()
            where[node.key] = out
            level.rows.append(self._step(node, slots, out))
            if node.key in self.wide:
                level.rows.append((machine.WIDE_STORE, out, 0, 0, self.wide[node.key], 0, 0, 0, 0))
            self._release(node.inputs, remaining, where, owner)
            if remaining.get(node.key, 0) == 0 and node.key not in owner:
                self.free.append(where.pop(node.key))
        for slot, node in enumerate(columns):
            source = self._fetch(node, where, owner, level)
            if source != slot:
                level.rows.append((machine.COPY, source, 0, 0, slot, 0, 0, 0, 0))
        for key, slot in where.items():
            if key not in owner and key not in self.constants:
                self.free.append(slot)
        return level

    def _fetch(self, node: Expression, where: dict[str, int], owner: dict[str, int], level: Level) -> int:
        if node.operator == "constant" and node.key not in self.constants:
            self.slots += 1
            self.constants[node.key] = self.slots - 1
        if node.operator == "constant":
            return self.constants[node.key]
        if node.key not in where:
            slot = owner[node.key] if node.key in owner else self._take()
            where[node.key] = slot
            if node.operator == "field":
                first = int(node.key not in self.loaded)  # later levels load it again, but its infinities count once
                self.loaded.add(node.key)
                level.rows.append((machine.LOAD, self.fields.index(str(node.params[0][1])), first, 0, slot, 0, 0, 0, 0))
            else:
                level.rows.append((machine.WIDE_LOAD, self.wide[node.key], 0, 0, slot, 0, 0, 0, 0))
        return where[node.key]

    def _release(self, inputs: tuple[Expression, ...], remaining: dict[str, int], where: dict[str, int], owner: dict[str, int]) -> None:
        for x in inputs:
            remaining[x.key] -= 1
            if remaining[x.key] == 0 and x.key in where and x.key not in owner and x.operator != "constant":
                self.free.append(where.pop(x.key))
