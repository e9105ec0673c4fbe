"""TA-Lib: its C functions per symbol, NumPy for what it lacks, in every form of output that could be its best.

usage: python -m benchmarks.peers.with_talib PANEL.npz batch|live
batch, one or two threads each: `natural` leaves (symbol, column, time) float64; the others end in the (time, symbol, column) float32 matrix
by way of a scratch of a few symbols (this was faster than writing from TA-Lib's result arrays): `writer2` and `writer8` through a float32
scratch of 2 or 8 symbols and a compiled tile writer, `numpy1` through a float64 scratch and a NumPy assignment. Scratches are reused, and
compilation happens before the first timed turn.
live: the stateful stream handles of TA-Lib 0.8, and recomputing the last 300 rows.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np
import talib
from numpy.typing import NDArray
from talib import stream

from benchmarks.peers.program import COLUMNS, LIVE_WARM_UP, Bars, present_bars, read_panel, scatter, serve
from benchmarks.peers.program import live_chunks as chunks

LN2 = math.log(2.0)
K20, K60 = math.sqrt(20 / 19), math.sqrt(60 / 59)
TILE = 8


def columns_of(b: Bars) -> dict[str, NDArray[np.float64]]:
    """The 32 columns of one symbol's present bars."""
    o, h, l, c, v, t = b["open"], b["high"], b["low"], b["close"], b["volume"], talib  # noqa: E741
    x = {f"returns_{n}": t.ROCP(c, n) for n in (1, 5, 15, 60)}
    r = x["returns_1"]
    x["log_return"] = np.log1p(r)
    x |= {f"sma_{n}": t.SMA(c, n) for n in (5, 20, 60)} | {f"ema_{n}": t.EMA(c, n) for n in (12, 26, 50)}
    x["rsi_14"], x["atr_14"], x["adx_14"] = t.RSI(c, 14), t.ATR(h, l, c, 14), t.ADX(h, l, c, 14)
    x["macd"], x["macd_signal"], x["macd_histogram"] = t.MACD(c, 12, 26, 9)
    upper, middle, lower = t.BBANDS(c, 20, 2, 2)
    width = upper - lower
    x["band_upper"], x["band_lower"], x["band_place"], x["z_20"] = upper, lower, (c - lower) / width, (c - middle) / (width * 0.25)
    x["std_20"], x["std_60"] = t.STDDEV(r, 20) * K20, t.STDDEV(r, 60) * K60
    average = t.SMA(v, 20)
    x["volume_ratio"], x["volume_z"] = v / average, (v - average) / t.STDDEV(v, 20)
    x["vwap_gap"] = c / (t.SUM(t.TYPPRICE(h, l, c) * v, 20) / (average * 20)) - 1
    span = np.log(h / l) ** 2
    x["parkinson"] = np.sqrt(t.SMA(span, 20) / (4 * LN2))
    x["garman_klass"] = np.sqrt(t.SMA(0.5 * span - (2 * LN2 - 1) * np.log(c / o) ** 2, 20))
    x["stochastic"], x["obv_20"] = t.STOCHF(h, l, c, 14, 3)[0], t.MOM(t.OBV(c, v), 20)
    x["max_20"], x["min_20"] = t.MAX(h, 20), t.MIN(l, 20)
    return x


@numba.njit(nogil=True)
def write_dense(scratch, out, first):  # pragma: no cover - compiled
    """out[t, first + j] = scratch[j, t], in tiles of 8 x 8 that stay in the first cache."""
    count, rows = scratch.shape
    for start in range(0, rows, TILE):
        stop = min(start + TILE, rows)
        for j in range(0, count, TILE):
            for t in range(start, stop):
                for k in range(TILE):
                    out[t, first + j + k] = scratch[j + k, t]


@numba.njit(nogil=True)
def write_sparse(scratch, place, out, first):  # pragma: no cover - compiled
    """The same where place[s, t] is the index of row t among the present bars of the scratch's symbol s, -1: absent."""
    count, rows = scratch.shape
    each = count // place.shape[0]
    for start in range(0, rows, TILE):
        stop = min(start + TILE, rows)
        for j in range(0, count, TILE):
            at = place[j // each]
            for t in range(start, stop):
                p = at[t]
                for k in range(TILE):
                    out[t, first + j + k] = scratch[j + k, p] if p >= 0 else np.nan


class Batch:
    """Bars of all symbols, and every way to fill an output."""

    def __init__(self, panel: Bars) -> None:
        self.bars, self.rows = present_bars(panel)
        self.height, self.width = panel["close"].shape
        self.dense = all(at.size == self.height for at in self.rows)
        self.place = np.full((self.width, self.height), -1, np.int64)
        for s, at in enumerate(self.rows):
            self.place[s, at] = np.arange(at.size)
        self.matrix = np.empty((self.height, self.width * len(COLUMNS)), np.float32)
        self.natural = np.empty((self.width, len(COLUMNS), self.height))
        self.pool = ThreadPoolExecutor(2)
        self._held = threading.local()

    def _scratch(self, first: int, width: int, dtype: type) -> NDArray[np.floating]:
        """All columns of a block of symbols, (width * 32, T), present bars packed to the left."""
        key = f"{width} {np.dtype(dtype).name}"
        if not hasattr(self._held, key):
            setattr(self._held, key, np.empty((width * len(COLUMNS), self.height), dtype))
        scratch = getattr(self._held, key)
        for k in range(width):
            found = columns_of(self.bars[first + k])
            for f, name in enumerate(COLUMNS):
                scratch[k * len(COLUMNS) + f, : found[name].size] = found[name]
        return scratch

    def fill_writer(self, first: int, width: int) -> None:
        """Through the compiled writer."""
        scratch = self._scratch(first, width, np.float32)
        if self.dense:
            write_dense(scratch, self.matrix, first * len(COLUMNS))
        else:
            write_sparse(scratch, self.place[first : first + width], self.matrix, first * len(COLUMNS))

    def fill_numpy(self, first: int, width: int) -> None:
        """Through NumPy's own transposed cast."""
        scratch, size = self._scratch(first, width, np.float64), len(COLUMNS)
        for k in range(width):
            out, part = self.matrix[:, (first + k) * size : (first + k + 1) * size], scratch[k * size : (k + 1) * size]
            at = self.rows[first + k]
            if at.size == self.height:
                out[:] = part.T
            else:
                out[:] = np.nan
                out[at] = part[:, : at.size].T

    def fill_natural(self, first: int, width: int) -> None:
        """TA-Lib's own layout: each column of each symbol contiguous, float64, a reused array; present bars packed to the left."""
        for s in range(first, first + width):
            found = columns_of(self.bars[s])
            for f, name in enumerate(COLUMNS):
                self.natural[s, f, : found[name].size] = found[name]

    def run(self, fill: Callable[[int, int], None], width: int, threads: int) -> None:
        """All symbols, `width` at a time (the rest one by one)."""
        whole = self.width - self.width % width
        parts = [(first, width) for first in range(0, whole, width)] + [(s, 1) for s in range(whole, self.width)]
        with np.errstate(all="ignore"):
            if threads == 1:
                for part in parts:
                    fill(*part)
            else:
                list(self.pool.map(lambda part: _quietly(fill, *part), parts))

    def values(self, columns: list[int]) -> NDArray[np.float64]:
        """Float64 values of some symbols, (T, symbols, 32)."""
        with np.errstate(all="ignore"):
            return scatter([columns_of(self.bars[s]) for s in columns], [self.rows[s] for s in columns], self.height)


def _quietly(fill: Callable[[int, int], None], first: int, width: int) -> None:
    with np.errstate(all="ignore"):  # NumPy's error state belongs to the thread
        fill(first, width)


class Handles:
    """One symbol's stream handles, opened on its history; step() fills the newest values of the 32 columns."""

    def __init__(self, b: Bars) -> None:
        o, h, l, c, v, t = b["open"], b["high"], b["low"], b["close"], b["volume"], stream  # noqa: E741
        r, span = c[1:] / c[:-1] - 1, np.log(h / l) ** 2
        gk = 0.5 * span - (2 * LN2 - 1) * np.log(c / o) ** 2
        of_close = [*(t.ROCP(c, n) for n in (1, 5, 15, 60)), *(t.SMA(c, n) for n in (5, 20, 60)), *(t.EMA(c, n) for n in (12, 26, 50))]
        of_close += [t.RSI(c, 14), t.MACD(c, 12, 26, 9), t.BBANDS(c, 20, 2.0, 2.0)]
        others = [t.ATR(h, l, c, 14), t.ADX(h, l, c, 14), t.STDDEV(r, 20), t.STDDEV(r, 60), t.SMA(v, 20), t.STDDEV(v, 20)]
        others += [t.SUM((h + l + c) / 3 * v, 20), t.SMA(span, 20), t.SMA(gk, 20), t.STOCHF(h, l, c, 14, 3), t.OBV(c, v)]
        others += [t.MOM(talib.OBV(c, v), 20), t.MAX(h, 20), t.MIN(l, 20)]
        self.update = [one.update for one in of_close + others]

    def step(self, o: float, h: float, l: float, c: float, v: float, x: list[float]) -> None:  # noqa: E741
        """One bar; x receives the values in the order of ORDER."""
        f, log = self.update, math.log
        x[0] = r = f[0](c)
        x[1], x[2], x[3], x[4] = f[1](c), f[2](c), f[3](c), log(1 + r)
        x[5], x[6], x[7], x[8], x[9], x[10], x[11] = f[4](c), f[5](c), f[6](c), f[7](c), f[8](c), f[9](c), f[10](c)
        x[12], x[13], x[14] = f[11](c)
        upper, middle, lower = f[12](c)
        width = upper - lower
        x[15], x[16], x[17], x[18] = upper, lower, (c - lower) / width, (c - middle) / (width * 0.25)
        x[19], x[20], x[21], x[22] = f[13](h, l, c), f[14](h, l, c), f[15](r) * K20, f[16](r) * K60
        average = f[17](v)
        x[23], x[24] = v / average, (v - average) / f[18](v)
        x[25] = c / (f[19]((h + l + c) / 3 * v) / (average * 20)) - 1
        span = log(h / l) ** 2
        x[26] = (f[20](span) / (4 * LN2)) ** 0.5
        x[27] = f[21](0.5 * span - (2 * LN2 - 1) * log(c / o) ** 2) ** 0.5
        x[28], x[29], x[30], x[31] = f[22](h, l, c)[0], f[24](f[23](c, v)), f[25](h), f[26](l)


ORDER = (
    *("returns_1", "returns_5", "returns_15", "returns_60", "log_return", "sma_5", "sma_20", "sma_60", "ema_12", "ema_26", "ema_50"),
    *("rsi_14", "macd", "macd_signal", "macd_histogram", "band_upper", "band_lower", "band_place", "z_20", "atr_14", "adx_14", "std_20"),
    *("std_60", "volume_ratio", "volume_z", "vwap_gap", "parkinson", "garman_klass", "stochastic", "obv_20", "max_20", "min_20"),
)


class Live:
    """500 symbols, a new bar each."""

    def __init__(self, panel: Bars) -> None:
        self.rows, self.width = panel["close"].shape
        names = ("open", "high", "low", "close", "volume")
        self.columns = [{name: np.ascontiguousarray(panel[name][:, s]) for name in names} for s in range(self.width)]
        self.handles = [Handles({name: b[name][:LIVE_WARM_UP] for name in names}) for b in self.columns]
        self.bars = [panel[name].tolist() for name in names]
        self.newest = [[0.0] * len(ORDER) for _ in range(self.width)]
        self.first: NDArray[np.float64] | None = None

    def step(self, row: int) -> None:
        """One row through the handles."""
        o, h, l, c, v = (field[row] for field in self.bars)  # noqa: E741
        handles, newest = self.handles, self.newest
        for s in range(self.width):
            handles[s].step(o[s], h[s], l[s], c[s], v[s], newest[s])

    def recompute(self, row: int) -> None:
        """The last 300 rows again, the newest value of each column kept."""
        out = np.empty((self.width, len(COLUMNS)))
        with np.errstate(all="ignore"):
            for s, b in enumerate(self.columns):
                found = columns_of({name: x[row - LIVE_WARM_UP + 1 : row + 1] for name, x in b.items()})
                for f, name in enumerate(COLUMNS):
                    out[s, f] = found[name][-1]

    def values(self, columns: list[int]) -> NDArray[np.float64]:
        """The newest values of some symbols, (1, symbols, 32)."""
        place = [ORDER.index(name) for name in COLUMNS]
        return np.array([[[self.newest[s][k] for k in place] for s in columns]])


def main() -> None:
    """Serve one mode."""
    panel = read_panel(sys.argv[1])
    if sys.argv[2] == "batch":
        batch = Batch(panel)
        forms = {
            "natural": (batch.fill_natural, 1),
            "writer2": (batch.fill_writer, 2),
            "writer8": (batch.fill_writer, 8),
            "numpy1": (batch.fill_numpy, 1),
        }
        actions = {f"{name} {n}": partial(batch.run, fill, size, n) for name, (fill, size) in forms.items() for n in (1, 2)}
        serve(actions, batch.values, f"TA-Lib {talib.__version__}")
    else:
        live = Live(panel)
        serve(
            {"handles": chunks(live.step, LIVE_WARM_UP, live.rows), "recompute": chunks(live.recompute, LIVE_WARM_UP, live.rows)},
            live.values,
            f"TA-Lib {talib.__version__}",
        )


if __name__ == "__main__":
    main()
