"""polars-talib: TA-Lib's functions as Polars plugin expressions, same forms and modes as with_polars.

usage: python -m benchmarks.peers.with_polars_talib PANEL.npz batch|live
"""

from __future__ import annotations

from importlib.metadata import version

import polars as pl
import polars_talib  # noqa: F401 - registers the `ta` namespace

from benchmarks.peers.program import FIELDS
from benchmarks.peers.with_polars import LN2, Expressions, run


def expressions() -> Expressions:
    """The 32 columns by name."""
    o, h, l, c, v = (pl.col(name) for name in FIELDS)  # noqa: E741
    x = {f"returns_{n}": c.ta.rocp(n) for n in (1, 5, 15, 60)}
    r = c.ta.rocp(1)
    x["log_return"] = r.log1p()
    x |= {f"sma_{n}": c.ta.sma(n) for n in (5, 20, 60)} | {f"ema_{n}": c.ta.ema(n) for n in (12, 26, 50)}
    x["rsi_14"], x["atr_14"], x["adx_14"] = c.ta.rsi(14), c.ta.atr(h, l, 14), c.ta.adx(h, l, 14)
    macd = c.ta.macd(12, 26, 9)
    x["macd"], x["macd_signal"], x["macd_histogram"] = (macd.struct.field(name) for name in ("macd", "macdsignal", "macdhist"))
    bands = c.ta.bbands(20, 2.0, 2.0, 0)
    upper, middle, lower = (bands.struct.field(name) for name in ("upperband", "middleband", "lowerband"))
    x["band_upper"], x["band_lower"], x["band_place"] = upper, lower, (c - lower) / (upper - lower)
    x["z_20"] = (c - middle) / ((upper - lower) * 0.25)
    x["std_20"], x["std_60"] = r.ta.stddev(20, 1.0) * (20 / 19) ** 0.5, r.ta.stddev(60, 1.0) * (60 / 59) ** 0.5
    volume = v.ta.sma(20)
    x["volume_ratio"], x["volume_z"] = v / volume, (v - volume) / v.ta.stddev(20, 1.0)
    x["vwap_gap"] = c / (((h + l + c) / 3 * v).ta.sum(20) / (volume * 20)) - 1
    span = (h / l).log().pow(2)
    x["parkinson"] = (span.ta.sma(20) / (4 * LN2)).sqrt()
    x["garman_klass"] = (0.5 * span - (2 * LN2 - 1) * (c / o).log().pow(2)).ta.sma(20).sqrt()
    low, high = l.ta.min(14), h.ta.max(14)
    x["stochastic"], x["obv_20"] = 100 * (c - low) / (high - low), c.ta.obv(v).ta.mom(20)
    x["max_20"], x["min_20"] = h.ta.max(20), l.ta.min(20)
    return x


if __name__ == "__main__":
    run(expressions(), f"polars-talib {version('polars_talib')} on Polars {pl.__version__}")
