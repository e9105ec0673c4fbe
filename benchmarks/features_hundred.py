"""A live row at full width: 500 symbols x 100 features of the catalogue, cross-sections included, garbage collector on.

usage: python -m benchmarks.features_hundred [--quick] [--markdown FILE]
Each row is one Program.step into a float32 matrix, as the runner makes it; a row's panel exists before the clock starts.
"""

from __future__ import annotations

import gc
import time

import numpy as np

from benchmarks import report
from benchmarks.rounds import Times
from benchmarks.workload import catalogue_features, make_panel
from trading_platform.features.expression import Expression
from trading_platform.features.program import FeatureSet, Program

WANTED = 100
MUST_MS, STRETCH_MS = 1.0, 0.4
HEADS = ("clock", "rows", "p50 ms", "p99 ms", "p99.9 ms", "worst ms", "must (p99)", "stretch", "")


def crosses(expression: Expression) -> bool:
    """Whether a cross-sectional operator stands anywhere below."""
    return expression.operator.startswith("cs_") or any(crosses(x) for x in expression.inputs)


def live_rows(feature_set: FeatureSet, symbols: int, rows: int, warm_up: int) -> tuple[Times, Times]:
    """Wall seconds, and CPU seconds of the thread, of each of `rows` live rows after `warm_up` rows of history."""
    panel = make_panel(warm_up + rows, symbols)
    program = Program(feature_set, panel.instrument_ids)
    program.step(panel.rows(0, warm_up))
    out = np.empty((1, symbols, len(feature_set.names)), np.float32)
    ahead = [panel.rows(t, t + 1) for t in range(warm_up, warm_up + rows)]
    program.step(ahead[0], out)
    walls, cpus = [], []
    assert gc.isenabled()
    for row in ahead[1:]:
        busy, started = time.thread_time(), time.perf_counter()
        program.step(row, out)
        walls.append(time.perf_counter() - started)
        cpus.append(time.thread_time() - busy)
    whole = ((sum(walls),), (sum(cpus),))
    return Times(*whole, tuple(walls)), Times(*whole, tuple(cpus))


def row_of(clock: str, times: Times, limits: tuple[str, str, str]) -> tuple[object, ...]:
    """One row of the table, milliseconds."""
    middle, most, rare = (1e3 * times.quantile(q) for q in (0.5, 0.99, 0.999))
    worst = 1e3 * max(times.samples)
    return (clock, f"{len(times.samples):,}", f"{middle:.3f}", f"**{most:.3f}**", f"{rare:.3f}", f"{worst:.3f}", *limits)


def page(symbols: int, rows: int) -> list[str]:
    """Measure and tell."""
    chosen = catalogue_features(WANTED)
    count, across = len(chosen.names), sum(crosses(x) for x in chosen.features.values())
    wall, cpu = live_rows(chosen, symbols, rows, max(150, chosen.warm_up + 1))
    verdict = report.verdict(1e3 * wall.quantile(0.99) <= MUST_MS) + ("" if count == WANTED else f", on {count} features only")
    found = [row_of("wall", wall, (f"{MUST_MS} ms", f"{STRETCH_MS} ms", verdict)), row_of("CPU of the thread", cpu, ("", "", ""))]
    short = "" if count == WANTED else f" **The catalogue has only {count} different features that need bars alone, not {WANTED}.**"
    explained = f"{symbols} symbols x {count} features, {across} of them across the universe, warm-up {chosen.warm_up} bars.{short}"
    told = "The tail on the wall clock is also the machine's: what its neighbours took away is missing from the CPU clock."
    return [explained, told, "", *report.table(HEADS, found)]


def main() -> None:
    """Print the table; optionally write it."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    report.publish("A live row of 100 features", "features_hundred", page(500, 600 if given.quick else 5000), given, started)


if __name__ == "__main__":
    main()
