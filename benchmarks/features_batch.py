"""Batch features beside TA-Lib: 32 columns of synthetic minute bars (dense, 2 % missing) and of real daily bars, values first.

usage: python -m benchmarks.features_batch [--quick] [--markdown FILE]
Both sides end in the same float32 (time, symbol, column) matrix, reused; TA-Lib by the fastest of six ways there. A second ratio gives
TA-Lib its own layout, (symbol, column, time) float64. Compilation and loading are excluded on both sides, and the two take turns.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.agreement import EXACT, SEEDED_ELSEWHERE, compare, our_values, worst
from benchmarks.peers.process import Peer, PeerFailedError
from benchmarks.rounds import Times, ours, take_turns
from benchmarks.workload import daily_panel, feature_set, make_panel, save_panel
from trading_platform.contracts.panel import Panel
from trading_platform.features.program import Program

HEADS = ("bars", "side", "output", "threads", "s wall (CPU)", "ns per value", "TA-Lib / ours, wall (CPU)", "must", "stretch", "")
MUST = {"dense": (1.2, 4.0), "2% missing": (0.5, 2.0)}
OUR_THREADS = (1, 2)
OURS = "ours 2"  # what the ratios are taken to


def panels(quick: bool) -> dict[str, Panel | None]:
    """What is measured, by its name in the table."""
    rows, symbols = (2000, 40) if quick else (8190, 500)
    return {
        "dense": make_panel(rows, symbols),
        "2% missing": make_panel(rows, symbols, 0.02),
        "real daily": daily_panel(40 if quick else None),
    }


def agree(peer: Peer, panel: Panel) -> str:
    """The line about values. Raises SystemExit where a column is further apart than 1e-9."""
    columns = list(range(0, panel.shape[1], max(1, panel.shape[1] // 8)))
    names = feature_set().names
    found = compare(our_values(panel, columns), peer.values(columns), names, panel.present[:, columns], SEEDED_ELSEWHERE)
    furthest = worst(found)
    if furthest.worst > EXACT:
        raise SystemExit(f"{furthest.name} differs from TA-Lib by {furthest.worst:.1e}")
    compared = sum(one.compared for one in found)
    return f"largest relative difference of the {compared:,} values compared: {furthest.worst:.1e} ({furthest.name})"


def measure(panel: Panel, peer: Peer, runs: int) -> dict[str, Times]:
    """Seconds of ours (1 and 2 threads) and of each of the peer's ways, in turns."""
    out = np.empty((*panel.shape, len(feature_set().names)), np.float32)
    programs = {threads: Program(feature_set(), panel.instrument_ids, threads) for threads in OUR_THREADS}

    def run(threads: int) -> None:
        programs[threads].reset()
        programs[threads].step(panel, out)

    contenders = {f"ours {threads}": ours(lambda threads=threads: run(threads)) for threads in OUR_THREADS}
    return take_turns(contenders | {action: lambda action=action: peer.run(action) for action in peer.actions}, runs)


def rows_of(label: str, times: dict[str, Times], values: int) -> list[tuple[object, ...]]:
    """The table's rows: ours, TA-Lib in our layout (its best), TA-Lib in its own (its best), each with its ratio."""
    natural = min((name for name in times if name.startswith("natural")), key=lambda name: times[name].wall)
    same = min((name for name in times if not name.startswith(("ours", "natural"))), key=lambda name: times[name].wall)
    must, stretch = MUST.get(label, (None, None))

    def row(side: str, output: str, name: str, against: str | None, bound: bool) -> tuple[object, ...]:
        took = times[name]
        threads = name.split()[-1] + (f" ({name.split()[0]})" if name == same else "")
        cells = (label, side, output, threads, f"{took.wall:.4f} ({took.cpu:.4f})", f"{took.wall / values * 1e9:.2f}")
        if against is None:
            return (*cells, "", "", "", "")
        base = times[against]
        ratio, busy = took.wall / base.wall, took.cpu / base.cpu
        limits = (f"{must}x", f"{stretch}x", report.verdict(ratio >= must)) if bound and must is not None else ("", "", "")
        return (*cells, f"**{ratio:.2f}** ({busy:.2f})" if bound else f"{ratio:.2f} ({busy:.2f})", *limits)

    matrix, own = "float32 (time, symbol, column)", "float64 (symbol, column, time)"
    found = [row("ours", matrix, name, None, False) for name in sorted(times) if name.startswith("ours")]
    return [*found, row("TA-Lib", matrix, same, OURS, True), row("TA-Lib", own, natural, OURS, False)]


def page(given_panels: dict[str, Panel | None], runs: int) -> list[str]:
    """Measure and tell."""
    rows: list[tuple[object, ...]] = []
    notes: list[str] = []
    version = ""
    with tempfile.TemporaryDirectory() as folder:
        for label, panel in given_panels.items():
            if panel is None:
                notes.append(f"- {label}: **not measured**, the data are absent (TRADING_TEST_DATA)")
                continue
            path = save_panel(panel, Path(folder) / "panel.npz")
            try:
                with Peer("talib", "benchmarks.peers.with_talib", str(path), "batch") as peer:
                    version = peer.version
                    notes.append(f"- {label}: {panel.shape[1]} symbols x {panel.shape[0]} bars; {agree(peer, panel)}")
                    rows += rows_of(label, measure(panel, peer, runs), int(panel.present.sum()) * len(feature_set().names))
            except PeerFailedError as error:
                notes.append(f"- {label}: **not measured**: {error}")
    explained = [
        f"{version}, best of 1 and 2 threads and of its ways into the matrix (named in brackets); 32 columns; median of {runs} turns "
        "each, the sides taking turns. Ratios are to ours with 2 threads; the one in bold is required: both sides write the same float32 "
        "matrix. The last row of each block leaves TA-Lib its own layout. With missing bars TA-Lib gets each symbol's present bars, cut "
        "out before the clock starts.",
        "",
        "Values are compared first, in float64, over every eighth of the symbols (MACD and ADX after 1,500 bars: TA-Lib seeds them "
        "differently):",
        "",
    ]
    return [*explained, *notes, "", *report.table(HEADS, rows)]


def main() -> None:
    """Print the table; optionally write it."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    lines = page(panels(given.quick), 3 if given.quick else 7)
    report.publish("Batch features beside TA-Lib", "features_batch", lines, given, started)


if __name__ == "__main__":
    main()
