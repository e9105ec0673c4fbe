"""A live row: 500 symbols get a new minute bar; how long until the 32 columns are current, beside every peer that can do it.

usage: python -m benchmarks.features_live [--quick] [--markdown FILE]
Ours is one Program.step of one row, garbage collector on. Peers: TA-Lib 0.8's stream handles, NautilusTrader's and talipp's indicator
objects, and what most people do: recompute the last 300 rows (TA-Lib, Polars, polars-talib, pandas). Bars are in memory on every side.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.agreement import EXACT, SEEDED_ELSEWHERE
from benchmarks.peers.process import Peer, PeerFailedError
from benchmarks.peers.program import LIVE_CHUNK, LIVE_WARM_UP
from benchmarks.rounds import Times, ours, take_turns
from benchmarks.workload import feature_set, make_panel, save_panel
from trading_platform.contracts.panel import Panel
from trading_platform.features.program import Program

HEADS = ("peer", "how", "columns", "p50 ms", "p99 ms", "ours, p50 ms", "p99 ms", "peer / ours at p50", "at p99", "must", "stretch", "")


@dataclass(frozen=True)
class Rival:
    """One row of the table. turns: how many chunks of 50 rows at full size."""

    name: str
    action: str
    how: str
    columns: int
    turns: int
    must: float | None = None
    stretch: float | None = None


RIVALS = (
    Rival("talib", "handles", "stateful stream handles", 32, 8, 10.0, 20.0),
    Rival("nautilus", "indicators", "indicator objects", 23, 8, 20.0, 50.0),
    Rival("talipp", "indicators", "indicator objects", 29, 6),
    Rival("talib", "recompute", "recompute on the last 300 rows", 32, 6),
    Rival("polars", "recompute", "recompute on the last 300 rows", 32, 6),
    Rival("polars_talib", "recompute", "recompute on the last 300 rows", 32, 6),
    Rival("pandas", "recompute", "recompute on the last 300 rows, wide", 32, 6),
)


class Live:
    """Our side: one program, row after row, the newest values kept."""

    def __init__(self, panel: Panel) -> None:
        self.program = Program(feature_set(), panel.instrument_ids)
        self.program.step(panel.rows(0, LIVE_WARM_UP))
        self.rows = [panel.rows(t, t + 1) for t in range(LIVE_WARM_UP, panel.shape[0])]
        self.out = np.empty((1, panel.shape[1], len(feature_set().names)))
        self.at = 0

    def chunk(self) -> list[float]:
        """Seconds of each of the next 50 rows."""
        seconds = []
        for row in self.rows[self.at : self.at + LIVE_CHUNK]:
            started = time.perf_counter()
            self.program.step(row, self.out)
            seconds.append(time.perf_counter() - started)
        self.at += LIVE_CHUNK
        return seconds


def agree(live: Live, peer: Peer) -> str:
    """Newest values of both sides after the same rows. Raises SystemExit beyond 1e-9."""
    columns = list(range(0, live.out.shape[1], max(1, live.out.shape[1] // 8)))
    mine, theirs = live.out[0, columns], peer.values(columns)[0]
    kept = [f for f, name in enumerate(feature_set().names) if name not in SEEDED_ELSEWHERE]
    usual = np.maximum(np.abs(theirs), np.median(np.abs(theirs), axis=0))
    apart = float(np.max((np.abs(mine - theirs) / usual)[:, kept]))
    if not apart <= EXACT:
        raise SystemExit(f"the newest row differs from {peer.version} by {apart:.1e}")
    compared = f"newest row of {len(columns)} symbols (without MACD and ADX)"
    return f"{peer.version}, stream handles: {compared}, largest relative difference {apart:.1e}"


def measure(panel: Panel, rival: Rival, peer: Peer, turns: int) -> tuple[Times, Times, Live]:
    """Ours and the peer's rows, 50 at a time in turns."""
    live = Live(panel)
    turn: Callable[[], dict[str, object]] = lambda: peer.run(rival.action)  # noqa: E731
    found = take_turns({"ours": ours(live.chunk), "peer": turn}, turns)
    return found["ours"], found["peer"], live


def row_of(rival: Rival, version: str, mine: Times, theirs: Times) -> tuple[object, ...]:
    """One row of the table, milliseconds."""
    p50, p99, own50, own99 = (1e3 * times.quantile(q) for times in (theirs, mine) for q in (0.5, 0.99))
    limits = ("", "", "")
    if rival.must is not None:
        limits = (f"{rival.must:g}x", f"{rival.stretch:g}x", report.verdict(p50 / own50 >= rival.must))
    took = (f"{p50:.2f}", f"{p99:.2f}", f"{own50:.3f}", f"{own99:.3f}")
    return (version, rival.how, rival.columns, *took, f"**{p50 / own50:.1f}**", f"{p99 / own99:.1f}", *limits)


def page(symbols: int, most_turns: int) -> list[str]:
    """Measure and tell."""
    turns = max(1, most_turns)
    panel = make_panel(LIVE_WARM_UP + LIVE_CHUNK * (turns + 1), symbols)
    rows: list[tuple[object, ...]] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        path = save_panel(panel, Path(folder) / "panel.npz")
        for rival in RIVALS:
            try:
                with Peer(rival.name, f"benchmarks.peers.with_{rival.name}", str(path), "live") as peer:
                    mine, theirs, live = measure(panel, rival, peer, min(turns, rival.turns))
                    rows.append(row_of(rival, peer.version, mine, theirs))
                    if rival.action == "handles":
                        notes.append(agree(live, peer))
            except PeerFailedError as error:
                rows.append((rival.name, f"**not measured**: {error}", *[""] * 10))
    explained = [
        f"{symbols} symbols, up to {turns * LIVE_CHUNK} rows of each side, {LIVE_CHUNK} at a time in turns, after {LIVE_WARM_UP} rows of "
        "history. `columns` is how many of the 32 the peer computes; ours always computes all 32, and the ratio is not scaled up for those "
        "that a peer lacks.",
        "",
        *notes,
        "",
    ]
    return [*explained, *report.table(HEADS, rows)]


def main() -> None:
    """Print the table; optionally write it."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    lines = page(500, 1 if given.quick else 8)
    report.publish("A live row beside the streaming libraries", "features_live", lines, given, started)


if __name__ == "__main__":
    main()
