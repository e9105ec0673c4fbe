"""Every benchmark of the feature engine, one after the other, each in its own process; then the index page from all pages.

usage: python -m benchmarks.all [--quick] [--index] [NAME ...]      (make benchmarks)
Pages go to docs/benchmarks/, the index to docs/benchmarks.md; with --quick both go to build/benchmarks/. --index runs nothing and only
assembles. Run it on a quiet machine: about a quarter of an hour and, for features_stream, 12 GB of disk.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.peers.install import PACKAGES, python_of, why_absent
from benchmarks.peers.process import ROOT

MEANINGS = {
    "features_batch": "How long a whole history takes beside TA-Lib's C loops, when both must leave the matrix that a model reads.",
    "features_frames": "The same columns beside the frame libraries in which features are usually written.",
    "features_live": "What a trader waits for: from a minute's new bars of 500 symbols to 500 current rows.",
    "features_hundred": "The same wait at the width of a real model, with ranks across the universe, and its tail.",
    "features_growth": "Whether ten times the symbols or fifty times the history cost more per value.",
    "features_stream": "A year of minutes of 500 symbols, more than memory holds, to features on disk.",
    "features_start": "How long a restarted runner is blind, and what the one compilation costs.",
    "alpha158_parity": "Whether the catalogue's alpha158 are Qlib's own numbers.",
    "features_accuracy": "How far each column is from TA-Lib and from the same formula in extended precision; where definitions differ.",
}
ARGUMENTS = {"alpha158_parity": ("--peer-python", str(python_of("qlib")))}  # it has one size
INTRODUCTION = """# Benchmarks

Assembled by `python -m benchmarks.all --index` from the pages of [docs/benchmarks](benchmarks/); `make benchmarks` measures everything
about features again (`make peers` installs the peers, each in its own environment below `.peers/`).

How to read the tables. Machines are noisy, and absolute seconds of two machines, or of two hours, cannot be compared: **the ratio
counts**. Ours and a peer run on the same machine in the same run and take turns, so that whatever else the machine does hits both; a
figure is the median of the turns, a ratio is one of medians. CPU seconds (all threads and workers) stand in brackets beside wall seconds:
they suffer less from neighbours. `ns per value` is wall time divided by bars x columns. Values are compared before anything is timed. A
peer that could not be installed or failed keeps its row, and the row says so. `must` and `stretch` are what this project demands of itself.
"""


def measure(names: list[str], folder: Path, quick: bool) -> list[str]:
    """Run each benchmark; names of those that failed."""
    failed = []
    for name in names:
        print(f"{name} ...", flush=True)
        began = time.perf_counter()
        arguments = ARGUMENTS.get(name, ("--quick",) if quick else ())
        command = [sys.executable, "-m", f"benchmarks.{name}", "--markdown", str(folder / f"{name}.md"), *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        print(f"{name}: {'done' if done.returncode == 0 else 'FAILED'} in {time.perf_counter() - began:.0f} s", flush=True)
        if done.returncode:
            failed.append(name)
    return failed


def verdicts(lines: list[str]) -> str:
    """How many of a page's requirements are met, for the list of contents; empty where the page has none."""
    met, missed = ("\n".join(lines).count(report.verdict(good)) for good in (True, False))
    return f": {met} of {met + missed} required figures met" if met + missed else ""


def assemble(folder: Path) -> str:
    """The index: every page below its own heading, features first, with what its figures mean."""
    others = sorted(path.stem for path in folder.glob("*.md") if path.stem not in MEANINGS)
    contents, sections = [], []
    for name in [*MEANINGS, *others]:
        page = folder / f"{name}.md"
        if not page.exists():
            sections += [f"## {name}", "", f"**Not measured yet**: `python -m benchmarks.{name} --markdown docs/benchmarks/{name}.md`", ""]
            continue
        title, *lines = page.read_text().splitlines()
        title = title.removeprefix("# ")
        anchor = "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter == "-")
        contents.append(f"- [{title}](#{anchor}){verdicts(lines)}")
        meaning = [MEANINGS[name], ""] if name in MEANINGS else []
        body = "\n".join(f"#{line}" if line.startswith("#") else line for line in lines).strip()
        sections += [f"## {title}", "", *meaning, body, ""]
    return "\n".join([INTRODUCTION, *contents, "", *sections]).rstrip() + "\n"


def main() -> int:
    """Measure, assemble; 1 where a benchmark failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEANINGS))
    parser.add_argument("--quick", action="store_true", help="small sizes that prove the scripts")
    parser.add_argument("--index", action="store_true", help="only assemble the index from the pages that exist")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(MEANINGS))
    if unknown:
        parser.error(f"unknown benchmark {', '.join(unknown)}; use {', '.join(MEANINGS)}")
    folder = ROOT / ("build" if given.quick else "docs") / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    if not given.index:
        for name in PACKAGES:
            absent = why_absent(name)
            if absent:
                print(f"peer {name}: {absent}; its rows will say so", flush=True)
        failed = measure(given.names or list(MEANINGS), folder, given.quick)
    index = folder.with_suffix(".md")
    index.write_text(assemble(folder))
    print(f"{index.relative_to(ROOT)}" + (f"; FAILED: {', '.join(failed)}" if failed else ""), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
