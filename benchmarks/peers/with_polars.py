"""Polars: the 32 columns as expressions, per symbol, in its two forms; its result stays a frame of float64 columns.

usage: python -m benchmarks.peers.with_polars PANEL.npz batch|live
`group_by` aggregates to lists and explodes them, `over` is the window form; both use every thread Polars takes. live: the newest row
recomputed from the last 300.
"""

from __future__ import annotations

import math
import sys
from functools import partial

import numpy as np
import polars as pl
from numpy.typing import NDArray

from benchmarks.peers.program import COLUMNS, FIELDS, LIVE_WARM_UP, Bars, live_chunks, read_panel, serve

LN2 = math.log(2.0)
Expressions = dict[str, pl.Expr]


def expressions() -> Expressions:
    """The 32 columns by name."""
    o, h, l, c, v = (pl.col(name) for name in FIELDS)  # noqa: E741
    before = c.shift(1)
    move = c - before

    def wilder(x: pl.Expr) -> pl.Expr:
        return x.ewm_mean(alpha=1 / 14, adjust=False)

    def ema(x: pl.Expr, n: int) -> pl.Expr:
        return x.ewm_mean(span=n, adjust=False)

    x = {f"returns_{n}": c / c.shift(n) - 1 for n in (1, 5, 15, 60)}
    r = x["returns_1"]
    x["log_return"] = (c / before).log()
    x |= {f"sma_{n}": c.rolling_mean(n) for n in (5, 20, 60)} | {f"ema_{n}": ema(c, n) for n in (12, 26, 50)}
    up, down = wilder(move.clip(lower_bound=0).fill_null(0)), wilder((-move).clip(lower_bound=0).fill_null(0))
    x["rsi_14"] = 100 * up / (up + down)
    line = ema(c, 12) - ema(c, 26)
    x["macd"], x["macd_signal"], x["macd_histogram"] = line, ema(line, 9), line - ema(line, 9)
    average, spread = c.rolling_mean(20), c.rolling_std(20, ddof=0)
    x["band_upper"], x["band_lower"] = average + 2 * spread, average - 2 * spread
    x["band_place"], x["z_20"] = (c - average + 2 * spread) / (4 * spread), (c - average) / spread
    x["atr_14"] = wilder(pl.max_horizontal(h - l, (h - before).abs(), (l - before).abs()))
    rise, fall = (h - h.shift(1)).fill_null(0), (l.shift(1) - l).fill_null(0)
    plus = wilder(pl.when((rise > fall) & (rise > 0)).then(rise).otherwise(0.0))
    minus = wilder(pl.when((fall > rise) & (fall > 0)).then(fall).otherwise(0.0))
    x["adx_14"] = wilder((100 * (plus - minus).abs() / (plus + minus)).fill_nan(0.0))
    x["std_20"], x["std_60"] = r.rolling_std(20), r.rolling_std(60)
    volume = v.rolling_mean(20)
    x["volume_ratio"], x["volume_z"] = v / volume, (v - volume) / v.rolling_std(20, ddof=0)
    x["vwap_gap"] = c / (((h + l + c) / 3 * v).rolling_sum(20) / v.rolling_sum(20)) - 1
    span = (h / l).log().pow(2)
    x["parkinson"] = (span.rolling_mean(20) / (4 * LN2)).sqrt()
    x["garman_klass"] = (0.5 * span - (2 * LN2 - 1) * (c / o).log().pow(2)).rolling_mean(20).sqrt()
    low, high = l.rolling_min(14), h.rolling_max(14)
    x["stochastic"], x["obv_20"] = 100 * (c - low) / (high - low), (move.sign().fill_null(0) * v).rolling_sum(20)
    x["max_20"], x["min_20"] = h.rolling_max(20), l.rolling_min(20)
    return x


def frame(panel: Bars, columns: list[int] | None = None) -> pl.DataFrame:
    """The present bars as one long frame sorted by symbol, with their row."""
    wanted = range(panel["close"].shape[1]) if columns is None else columns
    symbol, row = np.nonzero(~np.isnan(panel["close"][:, wanted]).T)
    at = np.asarray(wanted)[symbol]
    data = {"symbol": symbol.astype(np.int32), "row": row} | {name: panel[name][row, at] for name in FIELDS}
    return pl.DataFrame(data).with_columns(pl.col("symbol").set_sorted())


def compute(form: str, bars: pl.DataFrame, x: Expressions) -> pl.DataFrame:
    """All columns of all rows."""
    named = [x[name].alias(name) for name in COLUMNS]
    if form == "over":
        return bars.lazy().with_columns([one.over("symbol") for one in named]).select(COLUMNS).collect()
    return bars.lazy().group_by("symbol", maintain_order=True).agg(named).explode(COLUMNS).select(COLUMNS).collect()


def values(panel: Bars, x: Expressions, columns: list[int]) -> NDArray[np.float64]:
    """(T, symbols, 32) of some symbols, NaN where there is no bar."""
    bars = frame(panel, columns)
    out = np.full((panel["close"].shape[0], len(columns), len(COLUMNS)), np.nan)
    out[bars["row"].to_numpy(), bars["symbol"].to_numpy()] = compute("group_by", bars, x).cast(pl.Float64).to_numpy()
    return out


class Live:
    """The bars symbol by symbol, so that a window of rows is cut with one copy per field (dense bars)."""

    def __init__(self, panel: Bars, x: Expressions) -> None:
        self.bars = {name: np.ascontiguousarray(panel[name].T) for name in FIELDS}
        width = self.bars["close"].shape[0]
        self.symbol = pl.Series(np.repeat(np.arange(width, dtype=np.int32), LIVE_WARM_UP)).set_sorted()
        self.last = [x[name].last().alias(name) for name in COLUMNS]

    def newest(self, row: int) -> None:
        """The newest row from the last 300; the frame of the window is built in the timed part, as it must be in live."""
        cut = {name: values[:, row - LIVE_WARM_UP + 1 : row + 1].ravel() for name, values in self.bars.items()}
        pl.DataFrame({"symbol": self.symbol} | cut).lazy().group_by("symbol", maintain_order=True).agg(self.last).collect()


def run(x: Expressions, version: str) -> None:
    """Serve one mode with these expressions."""
    panel = read_panel(sys.argv[1])
    label = f"{version}, {pl.thread_pool_size()} threads"
    if sys.argv[2] == "batch":
        bars = frame(panel)
        actions = {form: lambda form=form: _done(compute(form, bars, x)) for form in ("group_by", "over")}
        serve(actions, partial(values, panel, x), label)
    else:
        serve({"recompute": live_chunks(Live(panel, x).newest, LIVE_WARM_UP, panel["close"].shape[0])}, None, label)


def _done(result: pl.DataFrame) -> None:
    assert result.width == len(COLUMNS)


if __name__ == "__main__":
    run(expressions(), f"Polars {pl.__version__}")
