"""Accuracy: each of the 32 columns beside TA-Lib and beside NumPy in extended precision.

usage: python -m benchmarks.features_accuracy [--quick] [--markdown FILE]
On synthetic minutes with 2 % missing bars and on the real daily bars. Differences are relative:
|a - b| / max(|b|, the symbol's median |b|).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import report, truth
from benchmarks.agreement import EXACT, SEEDED_ELSEWHERE, Column, compare, our_values
from benchmarks.peers.process import Peer, PeerFailedError
from benchmarks.peers.program import Bars, present_bars, scatter
from benchmarks.workload import daily_panel, feature_set, make_panel, save_panel
from trading_platform.contracts.panel import BAR_FIELDS, Panel

DEFINITIONS = {
    "macd": "TA-Lib starts the fast mean at the slow one's first bar: compared after 1,500 bars",
    "macd_signal": "as macd",
    "macd_histogram": "as macd",
    "adx_14": "TA-Lib seeds its sums with n - 1 bars: compared after 1,500 bars",
    "rsi_14": "nothing has moved: ours undefined, TA-Lib 0",
    "stochastic": "TA-Lib starts two bars later (its %D); no range: ours undefined, TA-Lib 0; times 100 here, 0..1 in the catalogue",
    "band_place": "equal closes: ours undefined, TA-Lib's sums leave a rest",
    "z_20": "population deviation; equal closes as band_place",
    "volume_z": "population deviation",
    "std_20": "sample deviation: TA-Lib's is rescaled by sqrt(n / (n - 1))",
    "std_60": "as std_20",
    "obv_20": "sum of the last 20 signed volumes; TA-Lib: 20-bar change of its running OBV",
}
HEADS = ("column", "bars", "ours, TA-Lib", "ours, reference", "TA-Lib, reference", "cells compared", "only one defines", "definition")


def reference_values(panel: Panel, columns: list[int]) -> NDArray[np.float64]:
    """(T, symbols, 32) in extended precision."""
    bars: Bars = {name: np.ascontiguousarray(panel.fields[name][:, columns]) for name in BAR_FIELDS}
    each, rows = present_bars(bars)
    return scatter([truth.columns_of(one) for one in each], rows, panel.shape[0])


def rows_of(label: str, panel: Panel, theirs: NDArray[np.float64] | None, columns: list[int]) -> list[tuple[object, ...]]:
    """One row per column. theirs: TA-Lib's values where it is installed."""
    present, names = panel.present[:, columns], feature_set().names
    mine, exact = our_values(panel, columns), reference_values(panel, columns)
    against = {one.name: one for one in compare(mine, exact, names, present, frozenset())}
    peer: dict[str, Column] = {}
    peers_own: dict[str, Column] = {}
    if theirs is not None:
        peer = {one.name: one for one in compare(mine, theirs, names, present, SEEDED_ELSEWHERE)}
        peers_own = {one.name: one for one in compare(theirs, exact, names, present, SEEDED_ELSEWHERE)}

    def told(one: Column | None) -> str:
        if one is None:
            return "absent"
        return f"**{one.worst:.1e}**" if one.worst > EXACT else f"{one.worst:.1e}"

    return [
        (
            name,
            label,
            told(peer.get(name)),
            told(against[name]),
            told(peers_own.get(name)),
            f"{against[name].compared:,}",
            f"{peer[name].one_sided if name in peer else 0} / {against[name].one_sided}",
            DEFINITIONS.get(name, ""),
        )
        for name in names
    ]


def page(quick: bool) -> list[str]:
    """Compare and tell."""
    rows, symbols = (2500, 2) if quick else (8190, 8)
    panels = {"synthetic": make_panel(rows, symbols, 0.02), "real daily": daily_panel()}
    found: list[tuple[object, ...]] = []
    notes: list[str] = []
    version = ""
    with tempfile.TemporaryDirectory() as folder:
        for label, panel in panels.items():
            if panel is None:
                notes.append(f"{label}: **not measured**, the data are absent (TRADING_TEST_DATA).")
                continue
            columns = list(range(0, panel.shape[1], max(1, panel.shape[1] // symbols)))[:symbols]
            theirs = None
            try:
                with Peer("talib", "benchmarks.peers.with_talib", str(save_panel(panel, Path(folder) / "panel.npz")), "batch") as peer:
                    version, theirs = peer.version, peer.values(columns)
            except PeerFailedError as error:
                notes.append(f"{label}: TA-Lib **not measured**: {error}.")
            found += rows_of(label, panel, theirs, columns)
    explained = (
        f"{version or 'TA-Lib absent'}; reference: NumPy longdouble, every window taken out whole, our seeds, compared from the first bar. "
        f"Required: {EXACT:.0e} where definitions agree; what is above it is bold. `only one defines`: cells, TA-Lib / reference."
    )
    good = sum(float(str(row[3]).strip("*")) <= EXACT for row in found)
    notes.append(f"{good} of {len(found)} columns within {EXACT:.0e} of the reference: {report.verdict(good == len(found))}.")
    ordered = sorted(found, key=lambda row: (str(row[0]), str(row[1])))
    return [explained, "", *notes, "", *report.table(HEADS, ordered)]


def main() -> None:
    """Print the table; optionally write it."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    report.publish("Accuracy of the feature engine", "features_accuracy", page(given.quick), given, started)


if __name__ == "__main__":
    main()
