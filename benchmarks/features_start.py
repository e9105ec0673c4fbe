"""Start of the feature engine in fresh processes: import to first live row with kernels on disk, and the one cold compile.

usage: python -m benchmarks.features_start [--quick] [--markdown FILE]
The clock runs from the creation of the process (the interpreter's own start included) to the end of the first live row of 500 symbols
through the set `intraday`. Cold: an empty TRADING_CACHE, and whether the person who waits was told so.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.peers.process import ROOT

SYMBOLS = 500
MUST_CACHED, MUST_COLD = 1.5, 60.0
HEADS = ("what", "runs", "median s", "worst s", "imports s", "program s", "first row ms", "must", "")
FIRST_ROW = """
import time
began = time.perf_counter()
import json, sys
import numpy as np
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.features.program import Program
imported = time.perf_counter()
S = int(sys.argv[1])
ids = tuple(f"us:A{i:05d}" for i in range(S))
fields = {name: np.full((1, S), 100.0) for name in ("open", "high", "low", "close", "volume")}
fields |= {"split_factor": np.ones((1, S)), "return_factor": np.ones((1, S))}
at, one = np.array([1_700_000_000_000_000_000]), np.ones((1, S), bool)
panel = Panel("1Min", ids, at, at + 60_000_000_000, np.array([19_675]), fields, one, one)
program = Program(registry.feature_set("intraday"), ids)
made = time.perf_counter()
out = program.step(panel)
done = time.perf_counter()
assert out.shape[1] == S
print(json.dumps({"imports": imported - began, "program": made - imported, "row": done - made}))
"""


@dataclass(frozen=True)
class Start:
    """Seconds of one fresh process, its parts, and what it said to the person on stderr."""

    whole: float
    parts: dict[str, float]
    said: str


def fresh(cache: Path) -> Start:
    """One process with this kernel cache."""
    environment = os.environ | {"TRADING_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    began = time.perf_counter()
    command = [sys.executable, "-c", FIRST_ROW, str(SYMBOLS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    return Start(time.perf_counter() - began, json.loads(done.stdout.splitlines()[-1]), done.stderr.strip())


def row_of(what: str, starts: list[Start], must: float) -> tuple[object, ...]:
    """One row of the table."""
    whole = statistics.median(start.whole for start in starts)
    parts = {name: statistics.median(start.parts[name] for start in starts) for name in starts[0].parts}
    cells = (f"**{whole:.2f}**", f"{max(start.whole for start in starts):.2f}", f"{parts['imports']:.2f}", f"{parts['program']:.2f}")
    return (what, len(starts), *cells, f"{1e3 * parts['row']:.1f}", f"{must:g} s", report.verdict(whole <= must))


def page(runs: int) -> list[str]:
    """Measure and tell."""
    with tempfile.TemporaryDirectory() as folder:
        cold = fresh(Path(folder))
        cached = [fresh(Path(folder)) for _ in range(runs)]
        kept = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 2**20
    rows = [row_of("kernels cached on disk", cached, MUST_CACHED), row_of("cold compile, once", [cold], MUST_COLD)]
    told = "**It says nothing on stderr: the progress line is missing.**"
    if cold.said:
        told = f"It says on stderr: `{cold.said.splitlines()[0]}`."
    silent = "none" if not any(start.said for start in cached) else cached[0].said.splitlines()[0]
    explained = f"{SYMBOLS} symbols, set `intraday`. The cache takes {kept:.1f} MiB on disk. Cold compile: {told} Cached: {silent}."
    return [explained, "", *report.table(HEADS, rows)]


def main() -> None:
    """Print the table; optionally write it."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    report.publish("Start of the feature engine", "features_start", page(2 if given.quick else 5), given, started)


if __name__ == "__main__":
    main()
