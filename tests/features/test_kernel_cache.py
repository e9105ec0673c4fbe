"""Stale machine code: a change in a called function of another file must reach its callers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import trading_platform
from trading_platform import kernel_cache

PACKAGE = Path(trading_platform.__file__).parent
CALLER = """
import numpy as np
from trading_platform.features.operators.cross_section import demean
o = np.zeros((1, 2))
demean(np.ones((1, 2), np.bool_), np.array([[1.0, 7.0]]), np.zeros((1, 2)), o)
print(o[0, 1])
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the packages that kernels need."""
    for name in ("contracts", "features"):
        shutil.copytree(PACKAGE / name, tmp_path / "tree" / "trading_platform" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("__init__.py", "kernel_cache.py"):
        shutil.copy(PACKAGE / name, tmp_path / "tree" / "trading_platform" / name)
    return tmp_path / "tree"


def call(tree: Path) -> float:
    """Run the caller in a process of its own on the copy."""
    environment = {**os.environ, "TRADING_CACHE": str(tree.parent / "cache"), "PYTHONPATH": str(tree)}
    done = subprocess.run(
        [sys.executable, "-c", CALLER], cwd=tree, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def change_the_called_function(tree: Path) -> None:
    """`defined` lives in kernel.py; `demean` of cross_section.py calls it."""
    path = tree / "trading_platform" / "features" / "operators" / "kernel.py"
    text = path.read_text()
    changed = text.replace("return value if abs(value) <= LARGEST else NAN", "return value + 100.0 if abs(value) <= LARGEST else NAN")
    assert changed != text
    path.write_text(changed)


def test_editing_a_called_function_changes_its_caller_in_the_next_process(copy: Path) -> None:
    assert call(copy) == 3.0
    change_the_called_function(copy)
    assert call(copy) == 103.0


def test_without_the_source_hash_the_next_process_runs_stale_code(copy: Path) -> None:
    # The mutant: one folder for every source. It shows that the test above can fail, and that the danger is real.
    path = copy / "trading_platform" / "kernel_cache.py"
    path.write_text(path.read_text().replace("[source_hash(), ", '["one folder for all", '))
    assert call(copy) == 3.0
    change_the_called_function(copy)
    assert call(copy) == 3.0


def test_the_source_hash_sees_contents_and_names_of_engine_features_and_matching_only(tmp_path: Path) -> None:
    for package in kernel_cache.KERNEL_PACKAGES:
        (tmp_path / package).mkdir()
    (tmp_path / "features" / "a.py").write_text("x = 1\n")
    first = kernel_cache.source_hash(tmp_path)
    (tmp_path / "other.py").write_text("y = 1\n")
    assert kernel_cache.source_hash(tmp_path) == first
    (tmp_path / "features" / "a.py").rename(tmp_path / "matching" / "a.py")
    second = kernel_cache.source_hash(tmp_path)
    (tmp_path / "matching" / "a.py").write_text("x = 2\n")
    assert len({first, second, kernel_cache.source_hash(tmp_path)}) == 3


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TRADING_CACHE": "/a"}, "/a/kernels"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/trading-platform/kernels"),
        ({"HOME": "/c"}, "/c/.cache/trading-platform/kernels"),
    ],
)
def test_the_cache_root_follows_the_environment(environment: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRADING_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert kernel_cache.cache_root() == Path(expected)


def test_numba_writes_where_the_sources_say(tmp_path: Path) -> None:
    code = "import numba; from trading_platform import kernel_cache; print(numba.config.CACHE_DIR == str(kernel_cache.cache_folder()))"
    environment = {**os.environ, "TRADING_CACHE": str(tmp_path)}
    assert (
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True).stdout.strip() == "True"
    )


def test_whoever_waits_is_told_once_that_kernels_are_compiled(tmp_path: Path) -> None:
    environment = {**os.environ, "TRADING_CACHE": str(tmp_path)}
    code = CALLER + "demean(np.ones((1, 2), np.bool_), np.ones((1, 2)), np.zeros((1, 2)), o)\n"
    said = [
        subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=True).stderr
        for _ in range(2)
    ]
    assert said == ["compiling kernels, once for these sources (about half a minute)\n", ""]
