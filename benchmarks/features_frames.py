"""Batch features beside the frame libraries: Polars, polars-talib, pandas and Qlib, each in its best form, on the same 32 columns.

usage: python -m benchmarks.features_frames [--quick] [--markdown FILE]
Peers stop at their own natural result (a frame of 32 columns): nobody is asked to transpose into our matrix, which ours does write. Values
are compared first. Loading is excluded: each peer's frame (or Qlib's files) exists before the clock starts.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.agreement import RECURSIVE, SEEDED_ELSEWHERE, compare, our_values, worst
from benchmarks.peers.process import Peer, PeerFailedError
from benchmarks.rounds import Times, ours, take_turns
from benchmarks.workload import daily_panel, feature_set, make_panel, save_panel
from trading_platform.contracts.panel import Panel
from trading_platform.features.program import Program

HEADS = ("bars", "peer", "form", "s wall (CPU)", "ns per value", "ours, s wall (CPU)", "peer / ours, wall (CPU)", "must", "stretch", "")


FLOAT32_NEAR = 1e-3  # what reading float32 leaves of a column made of small differences of prices


@dataclass(frozen=True)
class Rival:
    """A peer: its environment, what is required against it, how close its values must come, the columns that it seeds differently."""

    name: str
    must: float | None
    stretch: float | None
    tolerance: float | None
    seeded: frozenset[str]


# Rolling sums that add and subtract drift by about 1e-9; Qlib reads float32, so its values are told, not bounded.
RIVALS = (
    Rival("polars", 5.0, 12.0, 1e-6, RECURSIVE),
    Rival("polars_talib", None, None, 1e-6, SEEDED_ELSEWHERE),
    Rival("pandas", None, None, 1e-6, RECURSIVE),
    Rival("qlib", 25.0, 60.0, None, RECURSIVE),
)


def panels(quick: bool) -> dict[str, Panel | None]:
    """What is measured, by its name in the table."""
    rows, symbols = (2000, 16) if quick else (8190, 500)
    return {"synthetic minutes": make_panel(rows, symbols), "real daily": daily_panel(16 if quick else None)}


def agree(rival: Rival, peer: Peer, panel: Panel) -> str:
    """How close its values are. Raises SystemExit beyond the tolerance."""
    columns = list(range(0, panel.shape[1], max(1, panel.shape[1] // 4)))
    theirs = peer.values(columns)
    found = compare(our_values(panel, columns), theirs, feature_set().names, panel.present[:, columns], rival.seeded)
    furthest = worst(found)
    if rival.tolerance is not None and furthest.worst > rival.tolerance:
        raise SystemExit(f"{furthest.name} differs from {peer.version} by {furthest.worst:.1e}")
    near = sum(one.worst < FLOAT32_NEAR for one in found)
    more = "" if rival.tolerance is not None else f"; {near} of {len(found)} columns within {FLOAT32_NEAR:.0e}"
    return f"{furthest.worst:.1e} ({furthest.name}){more}"


def measure(panel: Panel, peer: Peer, runs: int) -> dict[str, Times]:
    """Seconds of ours (2 threads) and of each of the peer's forms, in turns."""
    out = np.empty((*panel.shape, len(feature_set().names)), np.float32)
    program = Program(feature_set(), panel.instrument_ids, 2)

    def run() -> None:
        program.reset()
        program.step(panel, out)

    return take_turns({"ours": ours(run)} | {action: lambda action=action: peer.run(action) for action in peer.actions}, runs)


def row_of(label: str, rival: Rival, version: str, times: dict[str, Times], values: int) -> tuple[object, ...]:
    """One row: the peer's best form beside ours of the same turns."""
    best = min((name for name in times if name != "ours"), key=lambda name: times[name].wall)
    theirs, mine = times[best], times["ours"]
    ratio, busy = theirs.wall / mine.wall, theirs.cpu / mine.cpu
    limits = ("", "", "")
    if rival.must is not None:
        limits = (f"{rival.must:g}x", f"{rival.stretch:g}x", report.verdict(ratio >= rival.must))
    took, own = f"{theirs.wall:.3f} ({theirs.cpu:.3f})", f"{mine.wall:.3f} ({mine.cpu:.3f})"
    return (label, version, best, took, f"{theirs.wall / values * 1e9:.1f}", own, f"**{ratio:.1f}** ({busy:.1f})", *limits)


def page(given_panels: dict[str, Panel | None], runs: int) -> list[str]:
    """Measure and tell."""
    rows: list[tuple[object, ...]] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for label, panel in given_panels.items():
            if panel is None:
                notes.append(f"- {label}: **not measured**, the data are absent (TRADING_TEST_DATA)")
                continue
            path = save_panel(panel, Path(folder) / "panel.npz")
            values = int(panel.present.sum()) * len(feature_set().names)
            for rival in RIVALS:
                try:
                    with Peer(rival.name, f"benchmarks.peers.with_{rival.name}", str(path), "batch") as peer:
                        gap = agree(rival, peer, panel)
                        notes.append(f"- {label}, {peer.version}: largest relative difference {gap}")
                        rows.append(row_of(label, rival, peer.version, measure(panel, peer, runs), values))
                except PeerFailedError as error:
                    rows.append((label, rival.name, f"**not measured**: {error}", *[""] * 7))
    explained = [
        "32 columns; ours with 2 threads into the float32 matrix, the peers to their own result with all threads they take, the best form "
        f"of each; median of {runs} turns, ours and the peer taking turns.",
        "",
        "Values (recursions after 1,500 bars, because frames seed an EMA with its first value; Qlib reads float32, so ties and small "
        "differences come out differently there):",
        "",
    ]
    return [*explained, *notes, "", *report.table(HEADS, rows)]


def main() -> None:
    """Print the table; optionally write it."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    lines = page(panels(given.quick), 2 if given.quick else 3)
    report.publish("Batch features beside Polars, pandas and Qlib", "features_frames", lines, given, started)


if __name__ == "__main__":
    main()
