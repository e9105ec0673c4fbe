"""The demo, timed: a first run on an empty home and empty kernel cache, then runs that re-use it. Seconds and peak memory of each.

Memory is the sum of proportional set sizes (Linux: smaps_rollup) over the demo and every process it starts, looked at each half second.
usage: python benchmarks/demo.py [--data DIR] [--runs N] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from trading_platform.contracts import names

LOOK_EVERY_S = 0.5
MUST = {("boxed", True): 180, ("boxed", False): 40, ("data", True): 420, ("data", False): 40}
MUST_GIB = 4.0


def descendants(root: int) -> list[int]:
    """A process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue  # it has ended
            children.setdefault(int(stat[stat.rindex(")") + 2 :].split()[1]), []).append(int(entry.name))
    found, todo = [], [root]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def resident_gib(root: int) -> float:
    """Proportional set size of a process tree, GiB."""
    total = 0
    for process in descendants(root):
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 2**20


def timed(command: list[str], environment: dict[str, str], log: Path) -> tuple[float, float]:
    """Run to its end: (seconds, peak GiB). Ends this script where the command fails."""
    started, peak = time.perf_counter(), 0.0
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        while process.poll() is None:
            peak = max(peak, resident_gib(process.pid))
            time.sleep(LOOK_EVERY_S)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n" + log.read_text(errors="replace")[-3000:])
    return time.perf_counter() - started, peak


def table(data: Path | None, runs: int) -> list[str]:
    """The Markdown table of one data set."""
    kind = "boxed" if data is None else "data"
    lines = ["| data | run | seconds | must | peak GiB, all processes | must |", "|---|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        command = [sys.executable, "-m", "trading_platform.cli", "demo", "--home", str(home)]
        command += [] if data is None else ["--data", str(data)]
        environment = {**os.environ, names.ENV_CACHE: str(Path(folder) / "kernels")}
        for run in range(1, runs + 1):
            seconds, peak = timed(command, environment, Path(folder) / "demo.log")
            must = MUST[kind, run == 1]
            said = f"{run}, kernels not compiled yet" if run == 1 else str(run)
            lines.append(f"| {'boxed' if data is None else 'DATA='} | {said} | {seconds:.1f} | {must} | {peak:.2f} | {MUST_GIB:.0f} |")
            print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of Parquet bars; default: the boxed data alone")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args()
    head = [
        "# The demo, timed",
        "",
        "Made by `python benchmarks/demo.py --data DIR --markdown docs/benchmarks/demo.md`; installation excluded.",
    ]
    load = f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at the start."
    lines = [*head, "", load, "", *table(None, options.runs)]
    if options.data is not None:
        lines += ["", *table(options.data, options.runs)]
    if options.markdown is not None:
        options.markdown.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
