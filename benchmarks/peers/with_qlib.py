"""Qlib's expression engine: the bars dumped to its own .bin files, then D.features with its caches off; the result stays its frame.

usage: python -m benchmarks.peers.with_qlib PANEL.npz batch
Two kernels (worker processes), as many as the machine has. Qlib reads float32. Dumping is not timed.
"""

from __future__ import annotations

import logging
import math
import sys
import tempfile
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import qlib
from numpy.typing import NDArray
from qlib.data import D
from qlib.data.cache import H

from benchmarks.peers.program import COLUMNS, Bars, read_panel, serve

KERNELS = 2
LN2 = math.log(2.0)


def expressions() -> dict[str, str]:
    """The 32 columns by name, in Qlib's language."""

    def wilder(x: str) -> str:
        return f"EMA({x}, 0.0714285714285714)"

    def deviation(x: str, n: int) -> str:
        return f"(Std({x}, {n})*{((n - 1) / n) ** 0.5})"

    before, move, r = "Ref($close,1)", "($close-Ref($close,1))", "($close/Ref($close,1)-1)"
    rise, fall = "($high-Ref($high,1))", "(Ref($low,1)-$low)"
    plus = wilder(f"If(And({rise}>{fall}, {rise}>0), {rise}, 0)")
    minus = wilder(f"If(And({fall}>{rise}, {fall}>0), {fall}, 0)")
    line, average, spread = "(EMA($close,12)-EMA($close,26))", "Mean($close,20)", deviation("$close", 20)
    span, typical = "Power(Log($high/$low),2)", "(($high+$low+$close)/3)"
    up, down = wilder(f"Greater({move},0)"), wilder(f"Greater(0-{move},0)")
    x = {f"returns_{n}": f"$close/Ref($close,{n})-1" for n in (1, 5, 15, 60)}
    x |= {f"sma_{n}": f"Mean($close,{n})" for n in (5, 20, 60)} | {f"ema_{n}": f"EMA($close,{n})" for n in (12, 26, 50)}
    x |= {"log_return": f"Log($close/{before})", "rsi_14": f"100*{up}/({up}+{down})"}
    x |= {"macd": line, "macd_signal": f"EMA({line},9)", "macd_histogram": f"{line}-EMA({line},9)"}
    x |= {"band_upper": f"{average}+2*{spread}", "band_lower": f"{average}-2*{spread}"}
    x |= {"band_place": f"($close-{average}+2*{spread})/(4*{spread})", "z_20": f"($close-{average})/{spread}"}
    x["atr_14"] = wilder(f"Greater($high-$low, Greater(Abs($high-{before}), Abs($low-{before})))")
    x["adx_14"] = wilder(f"(100*Abs({plus}-{minus})/({plus}+{minus}))")
    x |= {f"std_{n}": f"Std({r},{n})" for n in (20, 60)} | {"volume_ratio": "$volume/Mean($volume,20)"}
    x["volume_z"] = f"($volume-Mean($volume,20))/{deviation('$volume', 20)}"
    x["vwap_gap"] = f"$close/(Sum({typical}*$volume,20)/Sum($volume,20))-1"
    x["parkinson"] = f"Power(Mean({span},20)/{4 * LN2},0.5)"
    x["garman_klass"] = f"Power(Mean(0.5*{span}-{2 * LN2 - 1}*Power(Log($close/$open),2),20),0.5)"
    x["stochastic"] = "100*($close-Min($low,14))/(Max($high,14)-Min($low,14))"
    return x | {"obv_20": f"Sum(Sign({move})*$volume,20)", "max_20": "Max($high,20)", "min_20": "Min($low,20)"}


def dump(panel: Bars, root: Path) -> None:
    """Qlib's file layout: a calendar, the instruments, one float32 file per field whose first number is the index of its first bar."""
    height, width = panel["close"].shape
    days = [str(at) for at in pd.date_range("2000-01-03", periods=height, freq="D").date]
    for name in ("calendars", "instruments", "features"):
        (root / name).mkdir()
    (root / "calendars" / "day.txt").write_text("\n".join(days) + "\n")
    spans = []
    for s in range(width):
        at = np.flatnonzero(~np.isnan(panel["close"][:, s]))
        first, last = int(at[0]), int(at[-1])
        spans.append(f"S{s:04d}\t{days[first]}\t{days[last]}\n")
        (root / "features" / f"s{s:04d}").mkdir()
        for name, values in panel.items():
            np.hstack([[first], values[first : last + 1, s]]).astype("<f4").tofile(root / "features" / f"s{s:04d}" / f"{name}.day.bin")
    (root / "instruments" / "all.txt").write_text("".join(spans))


def features(columns: list[int], fields: list[str]) -> pd.DataFrame:
    """One uncached call, as a user makes it."""
    H.clear()
    return D.features([f"S{s:04d}" for s in columns], fields, freq="day")


def values(height: int, fields: list[str], columns: list[int]) -> NDArray[np.float64]:
    """(T, symbols, fields) of some symbols."""
    found = features(columns, fields)
    row = (found.index.get_level_values("datetime") - pd.Timestamp("2000-01-03")).days.to_numpy()
    names = found.index.get_level_values("instrument").to_numpy()
    out = np.full((height, len(columns), len(fields)), np.nan)
    for k, s in enumerate(columns):
        at = names == f"S{s:04d}"
        out[row[at], k] = found.to_numpy()[at]
    return out


def main() -> None:
    """Serve one mode."""
    panel = read_panel(sys.argv[1])
    height, width = panel["close"].shape
    with tempfile.TemporaryDirectory() as folder:
        dump(panel, Path(folder))
        quiet = {"logging_level": logging.ERROR, "expression_cache": None, "dataset_cache": None}
        qlib.init(provider_uri=folder, region="us", kernels=KERNELS, **quiet)
        label = f"Qlib {version('pyqlib')}, {KERNELS} kernels"
        fields = [expressions()[name] for name in COLUMNS]

        def all_symbols() -> None:
            features(list(range(width)), fields)

        serve({"D.features": all_symbols}, partial(values, height, fields), label)


if __name__ == "__main__":
    main()
