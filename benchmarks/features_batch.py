"""Batch features: 500 symbols x 8,190 minute bars x 32 columns beside TA-Lib, values first, then the ratio of medians in one run.

usage: python benchmarks/features_batch.py [--rows N] [--symbols N] [--runs N] [--markdown FILE]
The 32 columns are those of the usual technical set (returns, means, RSI, MACD, bands, ATR, ADX, ranges, volume). Where TA-Lib seeds a
recursion differently (MACD, ADX) values are compared after it has faded; with missing bars a symbol's TA-Lib input is its present bars.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import talib
from numpy.typing import NDArray

from trading_platform.contracts.panel import Panel
from trading_platform.features import indicators as ind
from trading_platform.features.expression import adj, diff, ema, log, max_, mean, min_, pct_change, sign, sqrt, std, sum_
from trading_platform.features.program import FeatureSet, Program

LN2 = float(np.log(2.0))
FADED = 1500  # bars after which TA-Lib's other seeds no longer show at 1e-9
SEEDED_ELSEWHERE = {"macd", "macd_signal", "macd_histogram", "adx_14"}
Bars = dict[str, NDArray[np.float64]]


def feature_set() -> FeatureSet:
    """The 32 columns as expressions."""
    o, h, l, c, v = adj("open"), adj("high"), adj("low"), adj("close"), adj("volume")  # noqa: E741
    r, span, move = pct_change(c), log(h / l), log(c / o)
    line, average, spread, typical = ind.macd(c), mean(c, 20), std(c, 20) * (19 / 20) ** 0.5, ind.typical_price()
    signal, volume_average = ema(line, 9), mean(v, 20)
    upper, lower = average + 2.0 * spread, average - 2.0 * spread
    features = {f"returns_{n}": pct_change(c, n) for n in (1, 5, 15, 60)}
    features |= {f"sma_{n}": mean(c, n) for n in (5, 20, 60)} | {f"ema_{n}": ema(c, n) for n in (12, 26, 50)}
    features |= {"log_return": log(c / ind.lag(c)), "rsi_14": ind.rsi(c, 14), "atr_14": ind.atr(14), "adx_14": ind.adx(14)}
    features |= {"macd": line, "macd_signal": signal, "macd_histogram": line - signal, "band_upper": upper, "band_lower": lower}
    features |= {"band_place": (c - lower) / (upper - lower), "z_20": (c - average) / spread, "std_20": std(r, 20), "std_60": std(r, 60)}
    features |= {"volume_ratio": v / volume_average, "volume_z": (v - volume_average) / (std(v, 20) * (19 / 20) ** 0.5)}
    features |= {"vwap_gap": c / (sum_(typical * v, 20) / sum_(v, 20)) - 1.0, "parkinson": sqrt(mean(span * span, 20) / (4.0 * LN2))}
    features |= {"garman_klass": sqrt(mean(0.5 * span * span - (2.0 * LN2 - 1.0) * move * move, 20))}
    features |= {
        "stochastic": ind.stochastic(14) * 100.0,
        "obv_20": sum_(sign(diff(c)) * v, 20),
        "max_20": max_(h, 20),
        "min_20": min_(l, 20),
    }
    assert len(features) == 32
    return FeatureSet("batch_benchmark", "v1", features)


def with_talib(b: Bars, out: Bars) -> None:
    """The same 32 columns by TA-Lib and NumPy, one symbol, into `out`."""
    o, h, l, c, v, t = b["open"], b["high"], b["low"], b["close"], b["volume"], talib  # noqa: E741
    for n in (1, 5, 15, 60):
        out[f"returns_{n}"][:] = t.ROCP(c, n)
    r = out["returns_1"]
    out["log_return"][:] = np.log1p(r)
    for n in (5, 20, 60):
        out[f"sma_{n}"][:] = t.SMA(c, n)
    for n in (12, 26, 50):
        out[f"ema_{n}"][:] = t.EMA(c, n)
    out["rsi_14"][:], out["atr_14"][:], out["adx_14"][:] = t.RSI(c, 14), t.ATR(h, l, c, 14), t.ADX(h, l, c, 14)
    out["macd"][:], out["macd_signal"][:], out["macd_histogram"][:] = t.MACD(c, 12, 26, 9)
    upper, middle, lower = t.BBANDS(c, 20, 2, 2)
    out["band_upper"][:], out["band_lower"][:] = upper, lower
    out["band_place"][:], out["z_20"][:] = (c - lower) / (upper - lower), (c - middle) / ((upper - lower) * 0.25)
    out["std_20"][:], out["std_60"][:] = t.STDDEV(r, 20) * (20 / 19) ** 0.5, t.STDDEV(r, 60) * (60 / 59) ** 0.5
    volume_average = t.SMA(v, 20)
    out["volume_ratio"][:], out["volume_z"][:] = v / volume_average, (v - volume_average) / t.STDDEV(v, 20)
    out["vwap_gap"][:] = c / (t.SUM(t.TYPPRICE(h, l, c) * v, 20) / (volume_average * 20)) - 1
    span = np.log(h / l) ** 2
    out["parkinson"][:] = np.sqrt(t.SMA(span, 20) / (4 * LN2))
    out["garman_klass"][:] = np.sqrt(t.SMA(0.5 * span - (2 * LN2 - 1) * np.log(c / o) ** 2, 20))
    out["stochastic"][:], out["obv_20"][:] = t.STOCHF(h, l, c, 14, 3)[0], t.MOM(t.OBV(c, v), 20)
    out["max_20"][:], out["min_20"][:] = t.MAX(h, 20), t.MIN(l, 20)


def make_panel(rows: int, symbols: int, missing: float) -> Panel:
    """Seeded synthetic minute bars (a load test: not a market), prices in cents."""
    rng = np.random.default_rng(42)
    close = rng.uniform(20, 400, symbols) * np.exp(np.cumsum(rng.standard_normal((rows, symbols)) * 6e-4, axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.standard_normal(close.shape) * 6e-5)
    high = np.maximum(open_, close) * np.exp(np.abs(rng.standard_normal(close.shape)) * 3e-4)
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.standard_normal(close.shape)) * 3e-4)
    fields = {"open": open_, "high": high, "low": low, "close": close}
    fields = {name: np.round(x, 2) for name, x in fields.items()} | {"volume": np.round(np.exp(rng.standard_normal(close.shape) * 0.8 + 8))}
    present = rng.random(close.shape) >= missing
    fields = {name: np.where(present, x, np.nan) for name, x in fields.items()}
    one = np.where(present, 1.0, np.nan)
    fields |= {"split_factor": one, "return_factor": one}
    timestamp = 1_700_000_000_000_000_000 + np.arange(rows) * 60_000_000_000
    ids = tuple(f"us:A{i:04d}" for i in range(symbols))
    return Panel(
        "1Min", ids, timestamp, timestamp + 60_000_000_000, np.arange(rows) // 390 + 19_000, fields, present, np.ones_like(present)
    )


def talib_inputs(panel: Panel) -> list[Bars]:
    """Per symbol: contiguous present bars (prepared outside the timed part)."""
    names = ("open", "high", "low", "close", "volume")
    columns = range(panel.shape[1])
    return [{name: np.ascontiguousarray(panel.fields[name][panel.present[:, s], s]) for name in names} for s in columns]


def talib_run(inputs: list[Bars], names: tuple[str, ...], out: NDArray, threads: int) -> None:
    """All symbols; out is (S, F, T), a reused array."""

    def one(s: int) -> None:
        size = inputs[s]["close"].size
        with np.errstate(all="ignore"):
            with_talib(inputs[s], {name: out[s, f, :size] for f, name in enumerate(names)})

    if threads == 1:
        for s in range(len(inputs)):
            one(s)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(len(inputs))))


def compare(fs: FeatureSet, panel: Panel, inputs: list[Bars], columns: range) -> tuple[float, str]:
    """Largest difference relative to max(1, |value|), and its column, over all rows (after FADED where seeds differ)."""
    wanted = list(columns)
    fields = {name: np.ascontiguousarray(x[:, wanted]) for name, x in panel.fields.items()}
    ids = tuple(panel.instrument_ids[s] for s in wanted)
    small = replace(panel, instrument_ids=ids, fields=fields, present=panel.present[:, wanted], member=panel.member[:, wanted])
    small = replace(small, present=np.ascontiguousarray(small.present), member=np.ascontiguousarray(small.member))
    ours = Program(fs, ids).step(small, np.empty((*small.shape, len(fs.names))))
    worst, where = 0.0, ""
    for k, s in enumerate(wanted):
        size = inputs[s]["close"].size
        theirs = {name: np.empty(size) for name in fs.names}
        with np.errstate(all="ignore"):
            with_talib(inputs[s], theirs)
        for f, name in enumerate(fs.names):
            first = FADED if name in SEEDED_ELSEWHERE else 0
            mine, peer = ours[small.present[:, k], k, f][first:], theirs[name][first:]
            both = np.isfinite(mine) & np.isfinite(peer)
            assert both.sum() > 0.9 * mine.size, name
            gap = float(np.max(np.abs(mine - peer)[both] / np.maximum(1.0, np.abs(peer[both]))))
            worst, where = (gap, name) if gap > worst else (worst, where)
    return worst, where


def median_seconds(call: Callable[[], object], runs: int) -> tuple[float, float]:
    """Median wall and CPU seconds of `runs` calls after one warm-up call (CPU seconds bear a busy machine better)."""
    call()
    wall, busy = [], []
    for _ in range(runs):
        start, start_busy = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start)
        busy.append(time.process_time() - start_busy)
    return statistics.median(wall), statistics.median(busy)


def measure(rows: int, symbols: int, runs: int, missing: float) -> list[str]:
    """Table rows of one panel; raises if a value differs by more than 1e-9."""
    fs, panel = feature_set(), make_panel(rows, symbols, missing)
    inputs = talib_inputs(panel)
    worst, where = compare(fs, panel, inputs, range(0, symbols, max(1, symbols // 8)))
    if worst > 1e-9:
        raise SystemExit(f"{where} differs from TA-Lib by {worst:.2e}")
    values, lines = rows * symbols * len(fs.names), []
    label = "dense" if missing == 0 else f"{missing:.0%} missing"
    peer_out = np.empty((symbols, len(fs.names), rows))
    peers = {threads: median_seconds(lambda threads=threads: talib_run(inputs, fs.names, peer_out, threads), runs) for threads in (1, 2)}
    for dtype in (np.float32, np.float64):
        out = np.empty((rows, symbols, len(fs.names)), dtype)
        for threads in (1, 2):
            ours = median_seconds(lambda threads=threads, out=out: Program(fs, panel.instrument_ids, threads).step(panel, out), runs)
            (wall, busy), (peer_wall, peer_busy) = ours, peers[threads]
            lines.append(
                f"| {label} | {np.dtype(dtype).name} | {threads} | {wall:.3f} ({busy:.3f}) | {wall / values * 1e9:.2f} | "
                f"{peer_wall:.3f} ({peer_busy:.3f}) | {peer_wall / values * 1e9:.2f} | {peer_wall / wall:.2f} ({peer_busy / busy:.2f}) |"
            )
    lines.append(f"| {label} | | | largest difference of values: {worst:.1e} ({where}) | | | | |")
    return lines


def live_row(symbols: int) -> str:
    """Microseconds of one row of all symbols, warm, median of 200."""
    fs, panel = feature_set(), make_panel(400, symbols, 0.0)
    program, seconds = Program(fs, panel.instrument_ids), []
    program.step(panel.rows(0, 200))
    out = np.empty((1, symbols, len(fs.names)), np.float32)
    for t in range(200, 400):
        row = panel.rows(t, t + 1)
        start = time.perf_counter()
        program.step(row, out)
        seconds.append(time.perf_counter() - start)
    middle, worst = statistics.median(seconds) * 1e6, max(seconds) * 1e6
    return f"One live row of {symbols} symbols through the 32 columns: median {middle:.0f} us, worst {worst:.0f} us."


def main() -> None:
    """Print the table; optionally write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8190)
    parser.add_argument("--symbols", type=int, default=500)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--markdown", type=Path)
    given = parser.parse_args()
    lines = [
        f"{given.symbols} symbols x {given.rows} minute bars x 32 columns, TA-Lib {talib.__version__}, "
        f"reused output arrays, median of {given.runs} runs; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores at the start.",
        "",
        "| bars | output | threads | ours, s wall (CPU) | ns per value | TA-Lib, s wall (CPU) | ns per value | TA-Lib / ours, wall (CPU) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for missing in (0.0, 0.02):
        lines += measure(given.rows, given.symbols, given.runs, missing)
    lines += ["", live_row(given.symbols)]
    print("\n".join(lines))
    if given.markdown:
        command = "python benchmarks/features_batch.py --markdown docs/benchmarks/features_batch.md"
        text = f"# Batch features beside TA-Lib\n\nMade by `{command}`.\n\n"
        given.markdown.parent.mkdir(parents=True, exist_ok=True)
        given.markdown.write_text(text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
