"""A benchmark's page: what it says, where it ran, and how to run it again."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

OURS = ("numpy", "numba", "llvmlite")


def processor() -> str:
    """The CPU's name as the kernel tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def machine() -> str:
    """One line: CPU, cores, memory, load average now."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; load average {load} at the start."


def versions(packages: Sequence[str] = OURS) -> str:
    """One line of the versions on our side."""
    return ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Markdown lines."""
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return lines + [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]


def verdict(good: bool) -> str:
    """The word of the last column, bold so that the index can count it."""
    return "**met**" if good else "**missed**"


def parser(text: str | None) -> argparse.ArgumentParser:
    """--quick and --markdown, as every benchmark of features has them."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a small size that proves the script, not a figure to quote")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="also write the page")
    return made


def publish(title: str, module: str, lines: Sequence[str], given: argparse.Namespace, started: str) -> None:
    """Print the page; write it where --markdown says. `started` is machine() as it was before the run."""
    command = f"python -m benchmarks.{module}" + (" --quick" if given.quick else "")
    if given.markdown:
        command += f" --markdown docs/benchmarks/{given.markdown.name}"
    note = ["", "**Quick size: proves the script; the figures are not for quoting.**"] if given.quick else []
    page = [f"# {title}", "", f"Made by `{command}`.", *note, "", started, "", f"Ours: {versions()}.", "", *lines]
    text = "\n".join(page) + "\n"
    sys.stdout.write(text)
    if given.markdown:
        given.markdown.parent.mkdir(parents=True, exist_ok=True)
        given.markdown.write_text(text)
