"""The 32 columns the slow way: NumPy in extended precision, each window taken out whole, our seeds. An oracle, never timed."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from benchmarks.peers.program import Bars

Long = NDArray[np.longdouble]
LN2 = np.log(np.longdouble(2))


def _windows(x: Long, n: int) -> Long:
    return sliding_window_view(np.concatenate([np.full(n - 1, np.nan, np.longdouble), x]), n)


def lag(x: Long, n: int = 1) -> Long:
    """The value n bars ago."""
    return np.concatenate([np.full(n, np.nan, np.longdouble), x[:-n]])[: x.size]


def mean(x: Long, n: int) -> Long:
    """Mean of each window."""
    return _windows(x, n).mean(axis=1)


def std(x: Long, n: int, ddof: int) -> Long:
    """Two-pass standard deviation of each window."""
    windows = _windows(x, n)
    return np.sqrt(((windows - windows.mean(axis=1, keepdims=True)) ** 2).sum(axis=1) / (n - ddof))


def recursive(x: Long, n: int, weight: Long) -> Long:
    """Exponential mean seeded by the mean of the first n defined values; undefined inputs are skipped."""
    out = np.full(x.size, np.nan, np.longdouble)
    defined = np.flatnonzero(np.isfinite(x))
    if defined.size < n:
        return out
    value = x[defined[:n]].mean()
    out[defined[n - 1]] = value
    for t in defined[n:]:
        value = value + weight * (x[t] - value)
        out[t] = value
    return out


def ema(x: Long, n: int) -> Long:
    """Weight 2 / (n + 1)."""
    return recursive(x, n, np.longdouble(2) / (n + 1))


def wilder(x: Long, n: int) -> Long:
    """Weight 1 / n."""
    return recursive(x, n, np.longdouble(1) / n)


def columns_of(bars: Bars) -> dict[str, NDArray[np.float64]]:
    """The 32 columns of one symbol's present bars, rounded to float64 at the very end."""
    with np.errstate(all="ignore"):
        o, h, l, c, v = (bars[name].astype(np.longdouble) for name in ("open", "high", "low", "close", "volume"))  # noqa: E741
        before = lag(c)
        move = c - before
        x: dict[str, Long] = {f"returns_{n}": c / lag(c, n) - 1 for n in (1, 5, 15, 60)}
        r = x["returns_1"]
        x["log_return"] = np.log(c / before)
        x |= {f"sma_{n}": mean(c, n) for n in (5, 20, 60)} | {f"ema_{n}": ema(c, n) for n in (12, 26, 50)}
        up, down = wilder(np.maximum(move, 0), 14), wilder(np.maximum(-move, 0), 14)
        x["rsi_14"] = 100 * up / (up + down)
        line = ema(c, 12) - ema(c, 26)
        x["macd"], x["macd_signal"] = line, ema(line, 9)
        x["macd_histogram"] = line - x["macd_signal"]
        average, spread = mean(c, 20), std(c, 20, 0)
        x["band_upper"], x["band_lower"] = average + 2 * spread, average - 2 * spread
        x["band_place"], x["z_20"] = (c - average + 2 * spread) / (4 * spread), (c - average) / spread
        x["atr_14"] = wilder(np.maximum(h, before) - np.minimum(l, before), 14)
        rise, fall = h - lag(h), lag(l) - l
        moved = np.isfinite(rise)
        plus = wilder(np.where(moved, np.where((rise > fall) & (rise > 0), rise, 0), np.nan), 14)
        minus = wilder(np.where(moved, np.where((fall > rise) & (fall > 0), fall, 0), np.nan), 14)
        x["adx_14"] = wilder(100 * np.abs(plus - minus) / (plus + minus), 14)
        x["std_20"], x["std_60"] = std(r, 20, 1), std(r, 60, 1)
        volume = mean(v, 20)
        x["volume_ratio"], x["volume_z"] = v / volume, (v - volume) / std(v, 20, 0)
        x["vwap_gap"] = c / (mean((h + l + c) / 3 * v, 20) / volume) - 1
        span = np.log(h / l) ** 2
        x["parkinson"] = np.sqrt(mean(span, 20) / (4 * LN2))
        x["garman_klass"] = np.sqrt(mean(span / 2 - (2 * LN2 - 1) * np.log(c / o) ** 2, 20))
        low, high = _windows(l, 14).min(axis=1), _windows(h, 14).max(axis=1)
        x["stochastic"], x["obv_20"] = 100 * (c - low) / (high - low), 20 * mean(np.sign(move) * v, 20)
        x["max_20"], x["min_20"] = _windows(h, 20).max(axis=1), _windows(l, 20).min(axis=1)
        return {name: values.astype(np.float64) for name, values in x.items()}
