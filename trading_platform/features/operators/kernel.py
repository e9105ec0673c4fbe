"""How a kernel is written and described: the decorator, the spec, the arithmetic every kernel shares.

A kernel runs one operator over a block of T rows and W neighbouring columns (time outer, column inner). It reads and writes C-contiguous
float64 (T, W) blocks and returns how many infinities it made undefined. Its state is one float64 (R, S) array whose cold columns equal
`Operator.cold`; column s of the block is column lo + s of the state. A call is, by kind:

    ELEMENTWISE    kernel(*inputs, *params, out)
    WINDOW         kernel(present, seen, aligned, places, lo, state, *inputs, *params, out)
    SESSION        kernel(present, opens, lo, state, *inputs, *params, out)
    CLOCK          kernel(present, minutes, steps, lo, state, *inputs, *params, out)
    CROSS_SECTION  kernel(member, *inputs, *params, out)                           all columns at once, no state

present (T, W) bool: the bars of the block. seen (W,) float64: present bars of each column before the block. aligned: every cell is present
and every column has seen the same number of bars, so that a row may be done as a vector. places (W,) int64: scratch. opens (T, W) bool:
the cell is its column's first present bar of an exchange session. minutes (T,) float64: since the session's first row. steps (T + 1,)
int64: timestamp / timeframe of the row before the block and of its rows. Inputs hold NaN where a cell is absent or undefined, never an
infinity; outputs keep that promise through `defined`.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numba
import numpy as np

from trading_platform import kernel_cache  # first: it chooses the folder of compiled kernels

kernel_cache.tell_compiling()
LARGEST = float(np.finfo(np.float64).max)
NAN = math.nan

kernel = numba.njit(cache=True, nogil=True, error_model="numpy")
pasted = numba.njit(nogil=True, error_model="numpy", inline="always")  # becomes part of its caller before that is compiled
inlined = numba.njit(nogil=True, error_model="numpy", forceinline=True)  # for kernels so short that a call would cost as much


class Kind(Enum):
    """How a kernel is called (see the module's docstring)."""

    ELEMENTWISE = "elementwise"
    WINDOW = "window"
    SESSION = "session"
    CLOCK = "clock"
    CROSS_SECTION = "cross_section"


Params = Mapping[str, int | float]
ColdOf = Callable[[Params], tuple[float, ...]]
ExtraOf = Callable[[Params], tuple[float, ...]]


def _nothing(_: Params) -> tuple[float, ...]:
    return ()


def _no_bars(_: Params) -> int:
    return 0


def all_but_one(params: Params) -> int:
    """Warm-up of a window: n - 1 bars before the first result."""
    return int(params["n"]) - 1


@dataclass(frozen=True, slots=True)
class Operator:
    """Spec of one operator; the property tests, the oracle table and the docs are generated from it.

    params: names in call order; extra: further arguments derived from them. cold: a column's state before its first bar, one number per
    state row. warm_up: present bars it adds to those of its inputs.
    """

    name: str
    kind: Kind
    kernel: Callable[..., int]
    arity: int
    summary: str
    params: tuple[str, ...] = ()
    extra: ExtraOf = _nothing
    cold: ColdOf = _nothing
    warm_up: Callable[[Params], int] = _no_bars


def syntax_hash(function: Callable[..., Any]) -> str:
    """sha256 of the syntax tree of a kernel and of every kernel it calls; blind to layout, comments and docstrings."""
    seen: dict[str, str] = {}
    _collect_syntax(function, seen)
    return hashlib.sha256("\n".join(f"{name} {tree}" for name, tree in sorted(seen.items())).encode()).hexdigest()


def _collect_syntax(function: Callable[..., Any], seen: dict[str, str]) -> None:
    plain = getattr(function, "py_func", function)
    name = f"{plain.__module__}.{plain.__qualname__}"
    if name in seen:
        return
    tree = ast.parse(textwrap.dedent(inspect.getsource(plain))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    tree.decorator_list = []
    if tree.body and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant):
        tree.body = tree.body[1:]
    seen[name] = ast.dump(tree)
    for used in sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}):
        value = plain.__globals__.get(used)
        if isinstance(value, (int, float)):
            seen[f"{plain.__module__}.{used}"] = repr(value)
        elif hasattr(value, "py_func") or (inspect.isfunction(value) and value.__module__.startswith(__package__ or "")):
            _collect_syntax(value, seen)


@kernel
def defined(value):
    """`value` if it is finite, else NaN (of one bit pattern)."""
    return value if abs(value) <= LARGEST else NAN


@kernel
def is_infinite(value):
    """1 if `value` is +inf or -inf, else 0."""
    return 1 if abs(value) > LARGEST else 0


@kernel
def copy_row(source, target):
    """target[:] = source, in a loop that becomes a block copy (numba's own assignment of slices does not)."""
    for s in range(target.size):
        target[s] = source[s]


@kernel
def place_of_next(seen, n):
    """Where the next bar goes in a ring of n (a whole float64: exact below 2^53, and done as a vector, unlike division of integers)."""
    return seen - n * math.floor(seen / n)


@kernel
def begin(seen, n, lo, stride, places):
    """Index of each column's next bar in a flattened ring of n rows of `stride` columns."""
    for s in range(places.size):
        places[s] = int(place_of_next(seen[s], n)) * stride + lo + s


@kernel
def advance(here, stride, end, places):
    """Move the index of each column that had a bar; return how many rings are now full (index not below `end`)."""
    full = 0
    for s in range(places.size):
        places[s] += stride if here[s] else 0
        full += places[s] >= end
    return full
