"""pandas: the 32 columns in three forms; the result stays pandas' (or NumPy's) own float64.

usage: python -m benchmarks.peers.with_pandas PANEL.npz batch|live
`loop` takes one symbol's present bars after another, `group_by` one long frame, `wide` whole (time, symbol) frames (dense bars only).
live: the newest row recomputed from the last 300, wide.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.peers.program import COLUMNS, FIELDS, LIVE_WARM_UP, Bars, live_chunks, present_bars, read_panel, scatter, serve

LN2 = math.log(2.0)
Array = NDArray[np.float64]
Wrap = Callable[[Array], "pd.Series | pd.DataFrame | pd.core.groupby.SeriesGroupBy"]


def columns_of(wrap: Wrap, b: Bars) -> Bars:
    """The 32 columns; `wrap` makes of an array what pandas rolls over."""
    o, h, l, c, v = (b[name] for name in FIELDS)  # noqa: E741

    def roll(x: Array, n: int, what: str, **more: int) -> Array:
        return getattr(wrap(x).rolling(n), what)(**more).to_numpy()

    def ewm(x: Array, **more: float) -> Array:
        return wrap(x).ewm(adjust=False, **more).mean().to_numpy()

    def shift(x: Array, n: int) -> Array:
        return wrap(x).shift(n).to_numpy()

    before = shift(c, 1)
    move = c - before
    x = {f"returns_{n}": c / (before if n == 1 else shift(c, n)) - 1 for n in (1, 5, 15, 60)}
    r = x["returns_1"]
    x["log_return"] = np.log(c / before)
    x |= {f"sma_{n}": roll(c, n, "mean") for n in (5, 20, 60)} | {f"ema_{n}": ewm(c, span=n) for n in (12, 26, 50)}
    up, down = ewm(np.where(move > 0, move, 0.0), alpha=1 / 14), ewm(np.where(move < 0, -move, 0.0), alpha=1 / 14)
    x["rsi_14"] = 100 * up / (up + down)
    x["macd"] = x["ema_12"] - x["ema_26"]
    x["macd_signal"] = ewm(x["macd"], span=9)
    x["macd_histogram"] = x["macd"] - x["macd_signal"]
    average, spread = x["sma_20"], roll(c, 20, "std", ddof=0)
    x["band_upper"], x["band_lower"] = average + 2 * spread, average - 2 * spread
    x["band_place"], x["z_20"] = (c - x["band_lower"]) / (4 * spread), (c - average) / spread
    x["atr_14"] = ewm(np.fmax(h - l, np.fmax(np.abs(h - before), np.abs(l - before))), alpha=1 / 14)
    rise, fall = h - shift(h, 1), shift(l, 1) - l
    plus = ewm(np.where((rise > fall) & (rise > 0), rise, 0.0), alpha=1 / 14)
    minus = ewm(np.where((fall > rise) & (fall > 0), fall, 0.0), alpha=1 / 14)
    x["adx_14"] = ewm(np.nan_to_num(100 * np.abs(plus - minus) / (plus + minus)), alpha=1 / 14)
    x["std_20"], x["std_60"] = roll(r, 20, "std"), roll(r, 60, "std")
    volume = roll(v, 20, "mean")
    x["volume_ratio"], x["volume_z"] = v / volume, (v - volume) / roll(v, 20, "std", ddof=0)
    x["vwap_gap"] = c / (roll((h + l + c) / 3 * v, 20, "sum") / roll(v, 20, "sum")) - 1
    span = np.log(h / l) ** 2
    x["parkinson"] = np.sqrt(roll(span, 20, "mean") / (4 * LN2))
    x["garman_klass"] = np.sqrt(roll(0.5 * span - (2 * LN2 - 1) * np.log(c / o) ** 2, 20, "mean"))
    low, high = roll(l, 14, "min"), roll(h, 14, "max")
    x["stochastic"], x["obv_20"] = 100 * (c - low) / (high - low), roll(np.sign(np.nan_to_num(move)) * v, 20, "sum")
    x["max_20"], x["min_20"] = roll(h, 20, "max"), roll(l, 20, "min")
    return x


def _series(x: Array) -> pd.Series:
    return pd.Series(x, copy=False)


def _wide(x: Array) -> pd.DataFrame:
    return pd.DataFrame(x, copy=False)


class Batch:
    """The bars in the three shapes."""

    def __init__(self, panel: Bars) -> None:
        self.panel = panel
        self.bars, self.rows = present_bars(panel)
        self.height = panel["close"].shape[0]
        self.key = np.repeat(np.arange(len(self.rows)), [at.size for at in self.rows])
        self.long = {name: np.concatenate([b[name] for b in self.bars]) for name in FIELDS}

    def loop(self) -> None:
        """One symbol after another, into one array."""
        out = np.empty((len(self.bars), len(COLUMNS), self.height))
        with np.errstate(all="ignore"):
            for s, b in enumerate(self.bars):
                found = columns_of(_series, b)
                for f, name in enumerate(COLUMNS):
                    out[s, f, : found[name].size] = found[name]

    def group_by(self) -> None:
        """One long frame."""
        with np.errstate(all="ignore"):
            pd.DataFrame(columns_of(lambda x: pd.Series(x, copy=False).groupby(self.key, sort=False), self.long))

    def wide(self) -> None:
        """Whole frames, all symbols at once."""
        with np.errstate(all="ignore"):
            columns_of(_wide, self.panel)

    def values(self, columns: list[int]) -> Array:
        """(T, symbols, 32) of some symbols."""
        with np.errstate(all="ignore"):
            return scatter([columns_of(_series, self.bars[s]) for s in columns], [self.rows[s] for s in columns], self.height)


def main() -> None:
    """Serve one mode."""
    panel = read_panel(sys.argv[1])
    if sys.argv[2] == "batch":
        batch = Batch(panel)
        actions = {"loop": batch.loop, "group_by": batch.group_by}
        if not np.isnan(panel["close"]).any():
            actions["wide"] = batch.wide
        serve(actions, batch.values, f"pandas {pd.__version__}")
        return

    def newest(row: int) -> None:
        with np.errstate(all="ignore"):
            found = columns_of(_wide, {name: panel[name][row - LIVE_WARM_UP + 1 : row + 1] for name in FIELDS})
            np.stack([found[name][-1] for name in COLUMNS])

    serve({"recompute": live_chunks(newest, LIVE_WARM_UP, panel["close"].shape[0])}, None, f"pandas {pd.__version__}")


if __name__ == "__main__":
    main()
