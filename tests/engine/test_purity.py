"""Engine and matching do no I/O, read no clock, draw no random number: what they import and call is a short closed list."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import trading_platform

ROOT = Path(trading_platform.__file__).resolve().parent
STANDARD = {"__future__", "collections", "collections.abc", "dataclasses", "functools", "io", "itertools", "math", "typing"}
OUTSIDE = {"numba", "numpy", "numpy.typing", "onnxruntime"}
ROOMS = ("trading_platform.contracts", "trading_platform.features", "trading_platform.matching", "trading_platform.engine")
CALLS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
ATTRIBUTES = {"random", "fromfile", "tofile", "savetxt", "loadtxt", "memmap", "datetime64", "environ"}


def offences(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" if node.module == "trading_platform" else str(node.module) for alias in node.names]
        for name in names:
            if not (name in STANDARD | OUTSIDE or name == "trading_platform.kernel_cache" or name.startswith(ROOMS)):
                found.append(f"line {node.lineno} imports {name}")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            found.append(f"line {node.lineno} calls {node.func.id}")
        if isinstance(node, ast.Attribute) and node.attr in ATTRIBUTES:
            found.append(f"line {node.lineno} uses .{node.attr}")
    return found


@pytest.mark.parametrize("path", sorted([*ROOT.glob("engine/**/*.py"), *ROOT.glob("matching/*.py")]), ids=lambda path: path.stem)
def test_the_module_touches_nothing_outside(path: Path) -> None:
    assert offences(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("code", ["import time", "from os import path", "import numpy as np\nnp.random.default_rng()", "open('x')"])
def test_the_scan_finds_what_it_looks_for(code: str) -> None:
    assert offences(ast.parse(code))
