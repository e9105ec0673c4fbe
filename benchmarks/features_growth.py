"""Growth: nanoseconds per value as symbols grow a hundredfold and as a stream grows fiftyfold. Linear means: they stay the same.

usage: python -m benchmarks.features_growth [--quick] [--markdown FILE]
Symbols: one panel of 1,000 rows x 50, 500, 5,000 symbols. Bars: 500 symbols streamed through one program in chunks of 1,000 rows, from
10^6 to 5 x 10^7 bars; the stream repeats the same chunk with later timestamps, so memory does not grow. Sizes take turns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks import report
from benchmarks.rounds import Times, ours, take_turns
from benchmarks.workload import feature_set, later, make_panel
from trading_platform.contracts.panel import Panel
from trading_platform.features.program import Program

LINEAR = 1.2  # the slowest size may cost 20 % more per value than the fastest
THREADS = 1  # 50 symbols are one block: two threads could not share it
HEADS = ("what grows", "size", "bars", "turns", "s wall (CPU)", "ns per value (CPU)", "of the cheapest size (CPU)", "")


def one_panel(panel: Panel, repeats: int) -> Callable[[], None]:
    """`repeats` times the whole panel from a cold state, so that a small size is not lost in the clock."""
    program = Program(feature_set(), panel.instrument_ids, THREADS)
    out = np.empty((*panel.shape, len(feature_set().names)), np.float32)

    def run() -> None:
        for _ in range(repeats):
            program.reset()
            program.step(panel, out)

    return run


def stream(panel: Panel, chunks: int) -> Callable[[], None]:
    """`chunks` chunks through one state."""
    program = Program(feature_set(), panel.instrument_ids, THREADS)
    out = np.empty((*panel.shape, len(feature_set().names)), np.float32)

    def run() -> None:
        program.reset()
        for k in range(chunks):
            program.step(later(panel, k * panel.shape[0]), out)

    return run


def rows_of(label: str, times: dict[int, Times], bars: dict[int, int]) -> list[tuple[object, ...]]:
    """The rows of one family; the verdict on the last."""
    values = {size: bars[size] * len(feature_set().names) for size in times}
    each = {size: times[size].wall / values[size] * 1e9 for size in times}
    busy = {size: times[size].cpu / values[size] * 1e9 for size in times}
    least, idlest, found = min(each.values()), min(busy.values()), []
    for size, took in times.items():
        seconds = f"{took.wall:.3f} ({took.cpu:.3f})"
        costs = (seconds, f"{each[size]:.2f} ({busy[size]:.2f})", f"{each[size] / least:.2f} ({busy[size] / idlest:.2f})")
        found.append([label, f"{size:,}", f"{bars[size]:,}", len(took.walls), *costs, ""])
    found[-1][-1] = f"within {LINEAR - 1:.0%}: {report.verdict(max(each.values()) <= LINEAR * least)}"
    return [tuple(row) for row in found]


def page(symbols: list[int], rows: int, streamed: list[int], stream_symbols: int, runs: int) -> list[str]:
    """Measure and tell. streamed: numbers of bars."""
    panels = {width: make_panel(rows, width) for width in symbols}
    repeats = {width: max(1, symbols[-1] // width) for width in symbols}
    wide = take_turns({str(width): ours(one_panel(panels[width], repeats[width])) for width in symbols}, runs)
    found = rows_of("symbols", {w: wide[str(w)] for w in symbols}, {w: rows * w * repeats[w] for w in symbols})
    del panels
    chunk = make_panel(rows, stream_symbols)
    chunks = {bars: max(1, round(bars / (rows * stream_symbols))) for bars in streamed}
    long = take_turns({str(bars): ours(stream(chunk, chunks[bars])) for bars in streamed}, runs)
    done = {bars: chunks[bars] * rows * stream_symbols for bars in streamed}
    found += rows_of("bars streamed", {bars: long[str(bars)] for bars in streamed}, done)
    explained = f"32 columns, {THREADS} thread, float32; {rows:,} rows a chunk; the stream has {stream_symbols} symbols; median of {runs}."
    repeated = "Smaller sizes of the first block run several times per turn, so that every turn has the same number of bars."
    return [explained + " " + repeated, "", *report.table(HEADS, found)]


def main() -> None:
    """Print the table; optionally write it."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    if given.quick:
        lines = page([50, 500, 2000], 390, [200_000, 1_000_000], 500, 3)
    else:
        lines = page([50, 500, 5000], 1000, [1_000_000, 5_000_000, 50_000_000], 500, 5)
    report.publish("Growth of the feature engine", "features_growth", lines, given, started)


if __name__ == "__main__":
    main()
