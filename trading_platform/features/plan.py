"""From a feature set to an execution plan: shared subexpressions, order, buffers, warm-up, content hash. No arrays are touched here.

A plan is a list of levels. Level k first runs the cross-sectional nodes that need level k - 1 at full width, then the column nodes, which
run block by block in a handful of re-used buffers. A value that a later level or a cross-section needs is kept at full width (`wide`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError
from trading_platform.features.expression import Expression
from trading_platform.features.operators.kernel import Kind, syntax_hash
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
            "arguments": {node.key: list(arguments_of(node)) for node in inner},
        }
    )


def arguments_of(node: Expression) -> tuple[float, ...]:
    """What a node's kernel gets beside state and inputs: its parameters in call order, then what the spec derives from them."""
    spec = operator(node.operator)
    params = {name: value for name, value in node.params if not isinstance(value, str)}
    return (*(params[name] for name in spec.params), *spec.extra(params))


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
class Step:
    """One kernel call. Inputs and output are buffer slots; for a cross-section they are wide slots."""

    node: Expression
    inputs: tuple[int, ...]
    out: int


@dataclass(frozen=True, slots=True)
class FieldLoad:
    """Copy a panel field's block into a buffer, NaN where absent."""

    name: str
    out: int


@dataclass(frozen=True, slots=True)
class WideLoad:
    """Copy a block of a full-width value into a buffer."""

    wide: int
    out: int


@dataclass(frozen=True, slots=True)
class WideStore:
    """Keep a buffer at full width."""

    source: int
    wide: int


@dataclass(frozen=True, slots=True)
class Copy:
    """One value under two names."""

    source: int
    out: int


@dataclass(slots=True)
class Level:
    """cross: full-width steps, done first. steps: what each block of columns then does, in order."""

    cross: list[Step] = dataclass_field(default_factory=list)
    steps: list[Step | FieldLoad | WideLoad | WideStore | Copy] = dataclass_field(default_factory=list)


@dataclass(slots=True)
class Plan:
    """buffers: how many slots a block needs, the first F are the features' columns. constants: (slot, value). wide: full-width slots."""

    levels: list[Level]
    buffers: int
    constants: list[tuple[int, float]]
    wide: int


def compile_plan(features: Mapping[str, Expression]) -> Plan:
    """Order the graph into levels and assign buffers; feature f (by sorted name) ends in buffer f."""
    return _Planner(features).plan()


class _Planner:
    def __init__(self, features: Mapping[str, Expression]) -> None:
        self.names = sorted(features)
        self.features = features
        self.nodes = nodes_of(features)
        self.level: dict[str, int] = {}
        self.wide: dict[str, int] = {}
        self.free: list[int] = []
        self.buffers = len(self.names)
        self.constants: dict[str, int] = {}

    def plan(self) -> Plan:
        self._assign_levels()
        last = max(self.level.values())
        self._assign_wide(last)
        levels = [self._build(k, last) for k in range(last + 1)]
        values = {node.key: float(node.params[0][1]) for node in self.nodes if node.operator == "constant"}
        return Plan(levels, self.buffers, [(slot, values[key]) for key, slot in self.constants.items()], len(self.wide))

    def _is_cross(self, node: Expression) -> bool:
        return node.operator not in LEAVES and operator(node.operator).kind is Kind.CROSS_SECTION

    def _assign_levels(self) -> None:
        for node in self.nodes:
            self.level[node.key] = max((self.level[x.key] for x in node.inputs), default=0) + int(self._is_cross(node))

    def _assign_wide(self, last: int) -> None:
        def keep(node: Expression) -> None:
            self.wide.setdefault(node.key, len(self.wide))

        for node in self.nodes:
            if self._is_cross(node):
                keep(node)
            for x in node.inputs:
                later = self.level[x.key] < self.level[node.key] and x.operator not in LEAVES
                if self._is_cross(node) or later:
                    keep(x)
        for name in self.names:
            node = self.features[name]
            if self.level[node.key] < last and node.operator != "field":
                keep(node)

    def _take(self) -> int:
        if self.free:
            return self.free.pop()
        self.buffers += 1
        return self.buffers - 1

    def _build(self, k: int, last: int) -> Level:
        level = Level()
        for node in self.nodes:
            if self._is_cross(node) and self.level[node.key] == k:
                level.cross.append(Step(node, tuple(self.wide[x.key] for x in node.inputs), self.wide[node.key]))
        run = [n for n in self.nodes if not self._is_cross(n) and n.operator not in LEAVES and self.level[n.key] == k]
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
            level.steps.append(WideStore(self._fetch(node, k, where, owner, level), self.wide[node.key]))
        for node in run:
            slots = tuple(self._fetch(x, k, where, owner, level) for x in node.inputs)
            out = owner[node.key] if node.key in owner else self._take()
            where[node.key] = out
            level.steps.append(Step(node, slots, out))
            if node.key in self.wide:
                level.steps.append(WideStore(out, self.wide[node.key]))
            self._release(node.inputs, remaining, where, owner)
            if remaining.get(node.key, 0) == 0 and node.key not in owner:
                self.free.append(where.pop(node.key))
        for slot, node in enumerate(columns):
            source = self._fetch(node, k, where, owner, level)
            if source != slot:
                level.steps.append(Copy(source, slot))
        for key, slot in where.items():
            if key not in owner and key not in self.constants:
                self.free.append(slot)
        return level

    def _fetch(self, node: Expression, k: int, where: dict[str, int], owner: dict[str, int], level: Level) -> int:
        if node.operator == "constant" and node.key not in self.constants:
            self.buffers += 1
            self.constants[node.key] = self.buffers - 1
        if node.operator == "constant":
            return self.constants[node.key]
        if node.key not in where:
            slot = owner[node.key] if node.key in owner else self._take()
            where[node.key] = slot
            if node.operator == "field":
                level.steps.append(FieldLoad(str(node.params[0][1]), slot))
            else:
                level.steps.append(WideLoad(self.wide[node.key], slot))
        return where[node.key]

    def _release(self, inputs: tuple[Expression, ...], remaining: dict[str, int], where: dict[str, int], owner: dict[str, int]) -> None:
        for x in inputs:
            remaining[x.key] -= 1
            if remaining[x.key] == 0 and x.key in where and x.key not in owner and x.operator != "constant":
                self.free.append(where.pop(x.key))
