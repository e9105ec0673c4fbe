"""Where compiled kernels are kept: one folder per state of the sources, so stale machine code cannot run.

Numba's own cache stamps only the file of the outermost function: a change in a function it calls from another file would go unnoticed.
So the cache folder is named by the sha256 of every source file of features, matching and engine plus the compiler's versions, and importing
this module (the first import of every kernel module) points Numba at it. `tell_compiling` lets a person know that kernels are being
compiled, once per state of the sources. Standard library only (Numba's events aside, and our error tree); nothing else belongs here.
"""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from trading_platform.contracts.errors import InputError

KERNEL_PACKAGES = ("engine", "features", "matching")
COMPILER_PACKAGES = ("llvmlite", "numba", "numpy")


def source_hash(root: Path | None = None) -> str:
    """sha256 (64 hex) of every source file of features, matching and engine below `root` (default: this package); it enters lineage."""
    base = Path(__file__).resolve().parent if root is None else root
    digest = hashlib.sha256()
    for package in KERNEL_PACKAGES:
        for path in sorted((base / package).rglob("*.py"), key=lambda p: p.relative_to(base).as_posix()):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(base).as_posix()}\0{len(data)}\0".encode())
            digest.update(data)
    return digest.hexdigest()


def cache_root() -> Path:
    """The folder of all kernel caches: $TRADING_CACHE, else $XDG_CACHE_HOME/trading-platform, else ~/.cache/trading-platform."""
    chosen = os.environ.get("TRADING_CACHE")
    if chosen:
        return Path(chosen).expanduser() / "kernels"
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "trading-platform" / "kernels"


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def cache_folder() -> Path:
    """The folder of the kernels compiled from exactly these sources by exactly these compilers."""
    material = "\n".join([source_hash(), *(f"{name} {_installed(name)}" for name in COMPILER_PACKAGES)])
    return cache_root() / hashlib.sha256(material.encode()).hexdigest()


def _point_numba_at(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # compiled code is read back and run: nobody else may write it
    except OSError as error:
        raise InputError(f"no kernel cache at {folder}: {error}", "TRADING_CACHE", "set TRADING_CACHE to a folder you can write") from error
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    config = sys.modules.get("numba.core.config")
    if config is not None:  # numba read its environment before us (another package imported it): tell it directly
        config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]


class _CompilingLine:
    """One line on standard error that says what takes so long; on a terminal it counts."""

    def __init__(self) -> None:
        self._depth = self._count = 0

    def start(self) -> None:
        """A function begins to compile, perhaps within another one."""
        self._depth += 1
        if self._count == 0 and self._depth == 1:
            sys.stderr.write("compiling kernels, once for these sources (about half a minute)\n")
            sys.stderr.flush()

    def end(self) -> None:
        """It is done."""
        self._depth -= 1
        self._count += 1
        if sys.stderr.isatty():
            finish = "\n" if self._depth == 0 else ""
            sys.stderr.write(f"\r  {self._count} functions{finish}")
            sys.stderr.flush()


def tell_compiling() -> None:
    """Have Numba's compile events shown to whoever waits. Kernels found in the cache raise none."""
    from numba.core import event

    line = _CompilingLine()

    class Listener(event.Listener):
        def on_start(self, _: event.Event) -> None:
            line.start()

        def on_end(self, _: event.Event) -> None:
            line.end()

    event.register("numba:compile", Listener())


_point_numba_at(cache_folder())
