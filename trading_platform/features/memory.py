"""How far back a feature looks, read off its expression: what a proof may demand of two computations that began at different rows.

Nothing here computes a feature. A new recursive operator is added to `_RETENTION`; one that is not makes `features check` fail, not pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from trading_platform.features.expression import Expression
from trading_platform.features.operators.kernel import Kind
from trading_platform.features.operators.table import operator

LEAVES = ("field", "constant")
# The weight that a recursive operator's old value keeps per defined bar; per session for those of _BY_SESSION.
_RETENTION: dict[str, Callable[[float], float]] = {
    "ema": lambda n: 1.0 - 2.0 / (n + 1.0),
    "same_minute_mean": lambda n: 1.0 - 2.0 / (n + 1.0),
    "wilder": lambda n: 1.0 - 1.0 / n,
}
_BY_SESSION = ("same_minute_mean",)
_UNBOUNDED = ("bars_since",)  # remembers an event, however old
# Windows whose result no order of additions can change.
_EXACT = ("lag", "min", "max", "argmin", "argmax", "median", "quantile", "rank", "minute_of_session")
_JUMPS = ("lt", "le", "equal", "sign", "rank", "argmin", "argmax", "cs_rank", "bars_since")  # a hair's difference in, a whole step out


@dataclass(frozen=True, slots=True)
class Memory:
    """What a feature's value depends on beside the row itself.

    session: on the session so far or the one before. cross: on the other instruments of the universe. retention: the slowest weight that an
    old value keeps, per bar or, by_session, per session (0: windows only); depth: how many recursive operators follow each other.
    rounded: a sum over a window is in it, so its last bits depend on where the series began. jumps: a comparison or rank reads something
    rounded or recursive. unbounded: an event of any age may still matter.
    """

    session: bool = False
    cross: bool = False
    retention: float = 0.0
    by_session: bool = False
    depth: int = 0
    rounded: bool = False
    jumps: bool = False
    unbounded: bool = False

    @property
    def kind(self) -> str:
        """exact, rounded or recursive: how equal two computations with different beginnings have to be."""
        return "recursive" if self.depth else "rounded" if self.rounded else "exact"


def memory_of(expression: Expression) -> Memory:
    """The memory of a feature. Errors: InputError for an operator the table does not know."""
    seen: dict[str, Memory] = {}

    def visit(node: Expression) -> Memory:
        if node.key not in seen:
            seen[node.key] = Memory() if node.operator in LEAVES else _joined(node, [visit(x) for x in node.inputs])
        return seen[node.key]

    return visit(expression)


def _joined(node: Expression, inputs: list[Memory]) -> Memory:
    name, kind = node.operator, operator(node.operator).kind
    own = _RETENTION[name](float(dict(node.params)["n"])) if name in _RETENTION else 0.0
    soft = any(x.rounded or x.depth for x in inputs)
    return Memory(
        session=(kind in (Kind.SESSION, Kind.CLOCK) and name not in _UNBOUNDED) or any(x.session for x in inputs),
        cross=kind is Kind.CROSS_SECTION or any(x.cross for x in inputs),
        retention=max([own, *(x.retention for x in inputs)]),
        depth=max((x.depth for x in inputs), default=0) + int(own > 0.0),
        by_session=name in _BY_SESSION or any(x.by_session for x in inputs),
        rounded=(kind in (Kind.WINDOW, Kind.CLOCK) and name not in _EXACT + _UNBOUNDED) or any(x.rounded for x in inputs),
        jumps=(name in _JUMPS and soft) or any(x.jumps for x in inputs),
        unbounded=name in _UNBOUNDED or any(x.unbounded for x in inputs),
    )


def readers_of(expression: Expression, field_name: str) -> tuple[str, ...]:
    """Names of the operators of a feature that read a field directly, sorted; `field` where the feature is the field itself."""
    found: set[str] = set()
    seen: set[str] = set()

    def visit(node: Expression, user: str) -> None:
        if node.operator == "field" and dict(node.params)["name"] == field_name:
            found.add(user)
        if node.key not in seen:
            seen.add(node.key)
            for x in node.inputs:
                visit(x, node.operator)

    visit(expression, "field")
    return tuple(sorted(found))
