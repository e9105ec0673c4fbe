"""Book, flow and trade features on real order books of 2024-08-08 (one-second rows) and quotes of 2013-10-08, against NumPy and pandas."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from feature_panels import compute

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.market_data.book_events import read_books, read_trades, to_books, to_trades
from trading_platform.market_data.order_book import all_hours, book_panel, session_rows

TICKS = ("quotes.parquet", "trades.parquet")
BOOK, QUOTES = registry.feature_set("microstructure"), registry.feature_set("microstructure_quotes")


def shared() -> Path:
    """The shared real data, or a visible skip."""
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[3] / "shared" / "data" / "open"))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}: set {names.ENV_TEST_DATA}")
    return root


@pytest.fixture(scope="module", params=["binance_spot_BTCUSDT", "binance_cm_ETHUSD_PERP"])
def panel(request: pytest.FixtureRequest) -> Panel:
    home, symbol = shared() / "lob_binance" / request.param, request.param.split("_", 2)[2]
    books, trades = (
        read(home / file, {symbol: "crypto:X"}) for read, file in ((read_books, "book10.parquet"), (read_trades, "trades.parquet"))
    )
    stamps = books["timestamp"].to_physical().to_numpy()
    return book_panel(books, trades, "1Sec", all_hours(int(stamps[0]), int(stamps[-1]), "1Sec"))


class Slow:
    """The features again, from the panel's arrays, one definition per line."""

    def __init__(self, panel: Panel) -> None:
        f = {name: values[:, 0] for name, values in panel.fields.items()}
        ends = ["", *(f"_{k}" for k in range(2, 11))]
        self.bid, self.ask = (np.stack([f[f"{side}_price{e}"] for e in ends]) for side in ("bid", "ask"))
        self.bids, self.asks = (np.stack([f[f"{side}_size{e}"] for e in ends]) for side in ("bid", "ask"))
        self.middle = (self.bid[0] + self.ask[0]) / 2.0
        self.f = f

    def rolling(self, values: np.ndarray, n: int) -> pd.core.window.Rolling:
        return pd.Series(values).rolling(n)

    def row_flow(self) -> np.ndarray:
        """Order flow between row ends, summed over five levels."""
        total = np.full(self.bid.shape[1], np.nan)
        for t in range(1, len(total)):
            total[t] = 0.0
            for k in range(5):
                b, b0, a, a0 = self.bid[k, t], self.bid[k, t - 1], self.ask[k, t], self.ask[k, t - 1]
                qb, qb0, qa, qa0 = self.bids[k, t], self.bids[k, t - 1], self.asks[k, t], self.asks[k, t - 1]
                total[t] += (qb if b >= b0 else 0.0) - (qb0 if b <= b0 else 0.0) - (qa if a <= a0 else 0.0) + (qa0 if a >= a0 else 0.0)
        return total

    def features(self) -> dict[str, np.ndarray]:
        f, weights = self.f, 1.0 / np.arange(1, 11)[:, None]
        spread = (self.ask[0] - self.bid[0]) / self.middle
        depth = self.rolling((self.bids[0] + self.asks[0]) / 2.0, 60).mean()
        micro = (self.bid[0] * self.asks[0] + self.ask[0] * self.bids[0]) / (self.bids[0] + self.asks[0])
        moves = np.log(pd.Series(self.middle)).diff()
        bought, sold = f["buy_volume"], f["sell_volume"]
        liquidity = (self.bid[0] * self.bids[0] + self.ask[0] * self.asks[0]) / (spread * 1e4)
        near = self.bids[:5].sum(0) + self.asks[:5].sum(0)
        return {
            "spread_bps": spread * 1e4,
            "imbalance": (self.bids[0] - self.asks[0]) / (self.bids[0] + self.asks[0]),
            "microprice_gap_bps": (micro / self.middle - 1.0) * 1e4,
            "mid_volatility_60_bps": moves.rolling(60).std() * 1e4,
            "liquidity_score": np.log(liquidity),
            "order_flow_10": self.rolling(f["order_flow"], 10).sum() / depth,
            "flow_corr_60": moves.rolling(60).corr(pd.Series(f["order_flow"])),
            "trade_imbalance_60": self.rolling(bought - sold, 60).sum() / self.rolling(bought + sold, 60).sum(),
            "tick_imbalance_60": self.rolling(f["signed_ticks"], 60).sum() / self.rolling(f["trade_count"], 60).sum(),
            "volume_ratio": f["volume"] / self.rolling(f["volume"], 60).mean(),
            "depth_imbalance_5": (self.bids[:5].sum(0) - self.asks[:5].sum(0)) / near,
            "depth_pressure": ((self.bids - self.asks) * weights).sum(0) / ((self.bids + self.asks) * weights).sum(0),
            "bid_reach_bps": (self.bid[0] - self.bid[9]) / self.middle * 1e4,
            "deep_order_flow_10": self.rolling(self.row_flow(), 10).sum() / self.rolling(near, 60).mean(),
        }


def test_book_features_are_their_definitions_on_a_real_book(panel: Panel) -> None:
    ours = compute(BOOK, panel)[:, 0]
    for name, expected in Slow(panel).features().items():
        got, wanted = ours[BOOK.warm_up :, BOOK.names.index(name)], np.asarray(expected)[BOOK.warm_up :]
        np.testing.assert_allclose(got, np.nan_to_num(wanted), rtol=1e-6, atol=1e-8, err_msg=name)


def test_every_feature_of_a_real_book_is_finite_once_warm(panel: Panel) -> None:
    features = compute(BOOK, panel)[BOOK.warm_up :]
    assert np.isfinite(features).mean() > 0.999
    bounded = [BOOK.names.index(name) for name in BOOK.names if "imbalance" in name or name == "depth_pressure"]
    assert len(bounded) == 9 and np.nanmax(np.abs(features[..., bounded])) <= 1.0 + 1e-9


def test_order_flow_moves_the_price_its_own_way(panel: Panel) -> None:
    features = compute(BOOK, panel)[BOOK.warm_up :, 0]
    assert np.nanmedian(features[:, BOOK.names.index("flow_corr_60")]) > 0.3
    assert np.nanmean(features[:, BOOK.names.index("flow_impact_60")] > 0.0) > 0.9


def test_quotes_and_trades_of_a_share_give_finite_features_and_a_flow_that_moves_its_price() -> None:
    home, ids, day = shared() / "lean_us_equity" / "tick", {"IBM": "us:IBM"}, date(2013, 10, 8)
    files = (pl.read_parquet(home / file).filter((pl.col("symbol") == "IBM") & (pl.col("timestamp").dt.date() == day)) for file in TICKS)
    quotes, trades = (made(frame, ids) for made, frame in zip((to_books, to_trades), files, strict=True))
    calendar = MarketCalendar()
    panel = book_panel(quotes, trades, "1Min", session_rows(calendar, day, day, "1Min"), calendar)
    features = compute(QUOTES, panel)[QUOTES.warm_up :, 0]
    assert features.shape[0] == 390 - QUOTES.warm_up and np.isfinite(features).mean() > 0.999
    value = {name: features[:, f] for f, name in enumerate(QUOTES.names)}
    assert np.median(value["flow_corr_60"]) > 0.6
    assert 0.5 < np.median(value["spread_bps"]) < 5.0 and 0.4 < np.median(value["effective_ratio"]) < 1.1


def test_the_set_of_quotes_is_the_set_of_books_without_depth() -> None:
    assert set(QUOTES.names) < set(BOOK.names)
    assert all(QUOTES.features[name] == BOOK.features[name] for name in QUOTES.names)
    assert not any(field.endswith("_2") for field in QUOTES.fields)
    assert {"spread_bps", "imbalance", "depth_pressure", "liquidity_score", "order_flow", "tick_imbalance_60"} <= set(
        BOOK.names
    )  # FEAT-06, 08
