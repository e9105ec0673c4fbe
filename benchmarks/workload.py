"""What all feature benchmarks run on: the 32 columns, seeded synthetic minutes, the real daily bars, features of the catalogue."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from benchmarks.peers.program import COLUMNS
from trading_platform.contracts.panel import BAR_FIELDS, FACTOR_FIELDS, PRICE_FIELDS, TIMEFRAME_NS, Panel
from trading_platform.features import indicators as ind
from trading_platform.features.catalog import registry
from trading_platform.features.expression import Expression, adj, diff, ema, lag, log, max_, mean, min_, pct_change, sign, sqrt, std, sum_
from trading_platform.features.program import FeatureSet

LN2 = float(np.log(2.0))
MINUTE = TIMEFRAME_NS["1Min"]
SESSION_ROWS = 390
CATALOGUE_ORDER = ("core", "intraday", "cross_section", "alpha158")


def feature_set() -> FeatureSet:
    """The 32 columns as expressions."""
    o, h, l, c, v = adj("open"), adj("high"), adj("low"), adj("close"), adj("volume")  # noqa: E741
    r, span, move = pct_change(c), log(h / l), log(c / o)
    line, average, spread, typical = ind.macd(c), mean(c, 20), std(c, 20) * (19 / 20) ** 0.5, ind.typical_price()
    signal, volume_average = ema(line, 9), mean(v, 20)
    upper, lower = average + 2.0 * spread, average - 2.0 * spread
    features = {f"returns_{n}": pct_change(c, n) for n in (1, 5, 15, 60)}
    features |= {f"sma_{n}": mean(c, n) for n in (5, 20, 60)} | {f"ema_{n}": ema(c, n) for n in (12, 26, 50)}
    features |= {"log_return": log(c / lag(c)), "rsi_14": ind.rsi(c, 14), "atr_14": ind.atr(14), "adx_14": ind.adx(14)}
    features |= {"macd": line, "macd_signal": signal, "macd_histogram": line - signal, "band_upper": upper, "band_lower": lower}
    features |= {"band_place": (c - lower) / (upper - lower), "z_20": (c - average) / spread, "std_20": std(r, 20), "std_60": std(r, 60)}
    features |= {"volume_ratio": v / volume_average, "volume_z": (v - volume_average) / (std(v, 20) * (19 / 20) ** 0.5)}
    features |= {"vwap_gap": c / (sum_(typical * v, 20) / sum_(v, 20)) - 1.0, "parkinson": sqrt(mean(span * span, 20) / (4.0 * LN2))}
    features |= {"garman_klass": sqrt(mean(0.5 * span * span - (2.0 * LN2 - 1.0) * move * move, 20))}
    features |= {"stochastic": ind.stochastic(14) * 100.0, "obv_20": sum_(sign(diff(c)) * v, 20)}
    features |= {"max_20": max_(h, 20), "min_20": min_(l, 20)}
    made = FeatureSet("benchmark_32", "v1", features)
    assert list(made.names) == list(COLUMNS)
    return made


def catalogue_features(count: int) -> FeatureSet:
    """The first `count` different features of the catalogue that need only bars (fewer where it has fewer: see len(names))."""
    usable = {*BAR_FIELDS, *FACTOR_FIELDS}
    sets = [name for name in CATALOGUE_ORDER if name in registry.names()]
    found: dict[str, Expression] = {}
    for name in sets:
        features = registry.feature_set(name).features
        for feature in sorted(features):
            expression = features[feature]
            fits = set(FeatureSet("one", "one", {feature: expression}).fields) <= usable
            if fits and expression not in found.values() and len(found) < count:
                found[f"{name}.{feature}" if feature in found else feature] = expression
    return FeatureSet(f"benchmark_{len(found)}", "v1", found)


def instrument_ids(symbols: int) -> tuple[str, ...]:
    """`symbols` ascending ids."""
    return tuple(f"us:A{i:05d}" for i in range(symbols))


def make_panel(rows: int, symbols: int, missing: float = 0.0, seed: int = 42) -> Panel:
    """Seeded synthetic minute bars (a load test: not a market), prices in cents; a share `missing` of the cells has no bar."""
    rng = np.random.default_rng(seed)
    close = rng.uniform(20, 400, symbols) * np.exp(np.cumsum(rng.standard_normal((rows, symbols)) * 6e-4, axis=0))
    open_ = np.vstack([close[:1], close[:-1]]) * np.exp(rng.standard_normal(close.shape) * 6e-5)
    high = np.maximum(open_, close) * np.exp(np.abs(rng.standard_normal(close.shape)) * 3e-4)
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.standard_normal(close.shape)) * 3e-4)
    prices = {"open": open_, "high": high, "low": low, "close": close}
    bars = {name: np.round(x, 2) for name, x in prices.items()} | {"volume": np.round(np.exp(rng.standard_normal(close.shape) * 0.8 + 8))}
    present = rng.random(close.shape) >= missing if missing else np.ones(close.shape, np.bool_)
    timestamp = 1_700_000_000_000_000_000 + np.arange(rows) * MINUTE
    return panel_of("1Min", instrument_ids(symbols), timestamp, np.arange(rows) // SESSION_ROWS + 19_000, bars, present)


def panel_of(
    timeframe: str,
    ids: tuple[str, ...],
    timestamp: NDArray[np.int64],
    session: NDArray[np.int64],
    bars: dict[str, NDArray[np.float64]],
    present: NDArray[np.bool_],
) -> Panel:
    """A panel of these bars, absent cells NaN, factors 1 (the prices come adjusted), every instrument a member."""
    one = np.where(present, 1.0, np.nan)
    fields = {name: np.where(present, x, np.nan) for name, x in bars.items()} | dict.fromkeys(FACTOR_FIELDS, one)
    return Panel(timeframe, ids, timestamp, timestamp + TIMEFRAME_NS[timeframe], session, fields, present, np.ones_like(present))


def later(panel: Panel, rows: int) -> Panel:
    """The same bars `rows` rows later: how a stream of any length is fed without holding it."""
    shift, sessions = rows * TIMEFRAME_NS[panel.timeframe], rows // SESSION_ROWS
    return replace(panel, timestamp=panel.timestamp + shift, known_at=panel.known_at + shift, session=panel.session + sessions)


def some_columns(panel: Panel, columns: list[int]) -> Panel:
    """The panel of these symbols only."""
    fields = {name: np.ascontiguousarray(x[:, columns]) for name, x in panel.fields.items()}
    ids = tuple(panel.instrument_ids[s] for s in columns)
    present, member = np.ascontiguousarray(panel.present[:, columns]), np.ascontiguousarray(panel.member[:, columns])
    return replace(panel, instrument_ids=ids, fields=fields, present=present, member=member)


def test_data() -> Path:
    """The folder of real data that tests and benchmarks may read (it may be absent)."""
    return Path(os.environ.get("TRADING_TEST_DATA") or Path(__file__).resolve().parents[1].parent / "shared" / "data" / "open")


def daily_panel(symbols: int | None = None) -> Panel | None:
    """The real daily bars of us_daily_sp500, prices adjusted by the vendor's factor, volume as traded; None where the data are absent."""
    path = test_data() / "us_daily_sp500" / "1Day" / "bars.parquet"
    if not path.exists():
        return None
    bars = pq.read_table(path, columns=["symbol", "date", *BAR_FIELDS, "adjusted_close"])
    names, days = sorted(set(bars["symbol"].to_pylist()))[:symbols], np.unique(bars["date"].to_numpy().astype("datetime64[D]"))
    bars = bars.filter(pc.is_in(bars["symbol"], value_set=pa.array(names)))
    column = np.searchsorted(np.array(names), bars["symbol"].to_numpy(zero_copy_only=False).astype(str))
    row = np.searchsorted(days, bars["date"].to_numpy().astype("datetime64[D]"))
    factor = bars["adjusted_close"].to_numpy() / bars["close"].to_numpy()
    present = np.zeros((days.size, len(names)), np.bool_)
    present[row, column] = True
    cells = {}
    for name in BAR_FIELDS:
        cells[name] = np.full(present.shape, np.nan)
        cells[name][row, column] = bars[name].to_numpy() * (factor if name in PRICE_FIELDS else 1.0)
    session = days.astype(np.int64)
    return panel_of("1Day", tuple(f"us:{name}" for name in names), session * 86_400_000_000_000, session, cells, present)


def save_panel(panel: Panel, path: Path) -> Path:
    """The bars as peers read them: float64 (T, S) arrays, absent cells NaN."""
    np.savez(path, **{name: panel.fields[name] for name in BAR_FIELDS})
    return path
