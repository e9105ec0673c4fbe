"""Alpha158 beside Qlib's own values: five real symbols, every column, all bars after the 60th.

usage: python benchmarks/alpha158_parity.py --peer-python PYTHON [--symbols A,B] [--markdown FILE]
PYTHON is the interpreter of a virtual environment of its own with pyqlib (`pip install pyqlib`). Both get the same adjusted fields; the
shared daily data has no vwap, so both get (high + low + close) / 3. It is found by TRADING_TEST_DATA, default ../shared/data/open.

A cell agrees if |ours - theirs| <= 1e-4 |theirs| + 1e-7 times the column's largest size: Qlib ends in float32 and its sums slide, so a
number that is 0 in exact arithmetic is noise there. The largest purely relative difference is shown as well.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.features.program import Program
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.files import FileSource

SYMBOLS = "AAPL,IBM,MSFT,XOM,KO"
RELATIVE, NOISE = 1e-4, 1e-7
WARM = 60  # rows after which every window of 60 values, each with the one before, is full
PRICES = ("open", "high", "low", "close", "vwap")


def panel_of(symbols: list[str]) -> Panel:
    """Daily bars 2005-2014 with vwap = typical price."""
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[2] / "shared" / "data" / "open"))
    source = FileSource(root, MarketCalendar(), daily_last=date(2014, 12, 31))
    bars = source.bars("1Day").filter(pl.col("instrument_id").is_in([f"us:{symbol}" for symbol in symbols]))
    bars = bars.with_columns(vwap=(pl.col("high") + pl.col("low") + pl.col("close")) / 3.0)
    return build_panel(bars, action_table(source.corporate_actions()), "1Day", MarketCalendar(), fields=("vwap",))


def adjusted(panel: Panel) -> dict[str, NDArray[np.float64]]:
    """The fields as both sides get them."""
    fields = {name: panel.fields[name] * panel.fields["return_factor"] for name in PRICES}
    return fields | {"volume": panel.fields["volume"] / panel.fields["split_factor"]}


def theirs(panel: Panel, python: str, precision: str) -> dict[str, NDArray]:
    """Qlib's values, by its own engine in its own process."""
    with tempfile.TemporaryDirectory() as folder:
        given, got = Path(folder) / "given.npz", Path(folder) / "got.npz"
        dates = [str(np.datetime64(int(day), "D")) for day in panel.session]
        symbols = [name.removeprefix("us:") for name in panel.instrument_ids]
        np.savez(given, dates=dates, symbols=symbols, **adjusted(panel))
        peer = Path(__file__).with_name("alpha158_qlib.py")
        subprocess.run([python, str(peer), str(given), str(got), f"{folder}/data", precision], check=True, stdout=sys.stderr)
        with np.load(got) as data:
            return {name: data[name] for name in data.files}


def compare(ours: NDArray[np.float64], peer: NDArray[np.float32]) -> tuple[float, float, int, int]:
    """Of one column: worst relative difference, worst in units of the allowance, cells outside it, cells only one side defines."""
    a, b = ours[WARM:].ravel(), peer[WARM:].ravel().astype(np.float64)
    both = np.isfinite(a) & np.isfinite(b)
    gap, size = np.abs(a - b)[both], np.abs(b)[both]
    relative = gap / np.maximum(size, 1e-300)
    allowed = gap / (RELATIVE * size + NOISE * size.max(initial=0.0))
    return relative.max(initial=0.0), allowed.max(initial=0.0), int((allowed > 1.0).sum()), int((np.isfinite(a) != np.isfinite(b)).sum())


def table(panel: Panel, ours: NDArray[np.float64], columns: tuple[str, ...], peer: dict[str, NDArray]) -> tuple[list[str], int]:
    """Rows of the table, one per column in Qlib's order, and how many cells disagree."""
    lines, wrong = [], 0
    for f, name in enumerate(str(x) for x in peer["names"]):
        relative, allowed, outside, lonely = compare(ours[..., columns.index(name)], peer["values"][..., f])
        wrong += outside
        lines.append(f"| `{name}` | {relative:.1e} | {allowed:.2g} | {outside} | {lonely} |")
    return lines, wrong


def main() -> int:
    """Print the comparison; exit code 1 where a cell disagrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", required=True)
    parser.add_argument("--symbols", default=SYMBOLS)
    parser.add_argument("--markdown", type=Path)
    arguments = parser.parse_args()
    panel, chosen = panel_of(arguments.symbols.split(",")), registry.feature_set("alpha158")
    ours = Program(chosen, panel.instrument_ids).step(panel, np.empty((*panel.shape, len(chosen.names))))
    exact, rounded = (theirs(panel, arguments.peer_python, precision) for precision in ("float64", "float32"))
    listing = registry.listing("alpha158").features
    formulas = dict(zip(exact["names"], exact["expressions"], strict=True))
    assert set(chosen.names) == set(formulas) and len(chosen.names) == 158
    different = [name for name in chosen.names if listing[name].meaning.replace(" ", "") != str(formulas[name]).replace(" ", "")]
    lines, wrong = table(panel, ours, chosen.names, exact)
    _, rounded_wrong = table(panel, ours, chosen.names, rounded)
    cells = (panel.shape[0] - WARM) * panel.shape[1] * 158
    text = [
        "# Alpha158 beside Qlib",
        "",
        "Made by `python benchmarks/alpha158_parity.py --peer-python PYTHON --markdown docs/benchmarks/alpha158_parity.md`.",
        "",
        f"{arguments.symbols}, {panel.shape[0]} daily bars each, {np.datetime64(int(panel.session[0]), 'D')} to "
        f"{np.datetime64(int(panel.session[-1]), 'D')}, adjusted forward; rows from the {WARM + 1}st on. pyqlib {exact['version']}, pandas "
        f"{exact['pandas']}: its loader's 158 expressions, its engine, its operators.",
        "",
        f"Of {cells} cells {wrong} are outside the allowance of {RELATIVE:g} relative + {NOISE:g} of the column's largest size, with",
        f"fields handed over in float64. With Qlib's own float32 storage {rounded_wrong} are: $close-$open is then a difference of rounded",
        "numbers.",
        f"Names that only one side has: 0. Expressions that differ from the loader's: {len(different)} {', '.join(different)}".rstrip()
        + ".",
        "",
        "| column | largest relative difference | largest difference / allowance | cells outside | defined on one side only |",
        "|---|---|---|---|---|",
        *lines,
    ]
    print("\n".join(text))
    if arguments.markdown:
        arguments.markdown.write_text("\n".join(text) + "\n")
    return 1 if wrong or different else 0


if __name__ == "__main__":
    sys.exit(main())
