"""Rows of book and trade events against the slow way on real files: Binance books of 2024-08-08, IBM's quotes and trades of 2013-10-08."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.market_data.book_events import levels_of, read_books, read_trades, to_books, to_trades
from trading_platform.market_data.corporate_actions import ActionTable, CorporateAction
from trading_platform.market_data.order_book import all_hours, book_panel, session_rows

SECOND = 1_000_000_000
NOON = datetime(2024, 8, 8, 12, tzinfo=UTC)
IDS = {"X": "crypto:X"}


@pytest.fixture(scope="module")
def shared() -> Path:
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[3] / "shared" / "data" / "open"))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}: set {names.ENV_TEST_DATA}")
    return root


@pytest.fixture(scope="module")
def spot(shared: Path) -> tuple[pl.DataFrame, pl.DataFrame, Panel]:
    """Books, trades and one-second rows of BTCUSDT."""
    home, ids = shared / "lob_binance" / "binance_spot_BTCUSDT", {"BTCUSDT": "crypto:BTC/USDT"}
    books, trades = read_books(home / "book10.parquet", ids), read_trades(home / "trades.parquet", ids)
    stamps = books["timestamp"].to_physical().to_numpy()
    return books, trades, book_panel(books, trades, "1Sec", all_hours(int(stamps[0]), int(stamps[-1]), "1Sec"))


@pytest.fixture(scope="module")
def ibm(shared: Path) -> tuple[pl.DataFrame, pl.DataFrame, Panel]:
    """Quotes, trades and one-minute rows of IBM on one session."""
    home, ids = shared / "lean_us_equity" / "tick", {"IBM": "us:IBM"}
    day = pl.col("timestamp").dt.date() == date(2013, 10, 8)
    quotes = to_books(pl.read_parquet(home / "quotes.parquet").filter(day), ids)
    trades = to_trades(pl.read_parquet(home / "trades.parquet").filter(day & (pl.col("symbol") == "IBM")), ids)
    calendar = MarketCalendar()
    starts = session_rows(calendar, date(2013, 10, 8), date(2013, 10, 8), "1Min")
    return quotes, trades, book_panel(quotes, trades, "1Min", starts, calendar)


def at(seconds: float) -> datetime:
    """An instant after noon."""
    return NOON + timedelta(seconds=seconds)


def books_of(*events: tuple[float, float, float, float, float]) -> pl.DataFrame:
    """(seconds, bid, bid size, ask, ask size) as a book table."""
    rows = {"symbol": "X", "timestamp": pl.Series([at(e[0]) for e in events], dtype=pl.Datetime("ns", "UTC"))}
    return to_books(
        pl.DataFrame(rows | {n: [e[i] for e in events] for i, n in enumerate(("bid_px", "bid_sz", "ask_px", "ask_sz"), 1)}), IDS
    )


def starts_of(count: int) -> np.ndarray:
    """One-second rows from noon on."""
    return int(NOON.timestamp()) * SECOND + np.arange(count) * SECOND


def column(panel: Panel, name: str) -> np.ndarray:
    return panel.fields[name][:, 0]


def slow_state(books: pl.DataFrame, panel: Panel, name: str) -> np.ndarray:
    """The last value before each row's end, by pandas."""
    events = pd.DataFrame({"t": books["timestamp"].to_physical().to_numpy(), "v": books[name].to_numpy()})
    return pd.merge_asof(pd.DataFrame({"t": panel.known_at}), events, on="t", allow_exact_matches=False)["v"].to_numpy()


def slow_flow(books: pl.DataFrame, panel: Panel) -> np.ndarray:
    """Order flow imbalance per row, event after event."""
    flow, before = dict.fromkeys(panel.timestamp.tolist(), 0.0), None
    step = int(panel.known_at[0] - panel.timestamp[0])
    stamps = books["timestamp"].to_physical().to_list()
    for t, *now in zip(stamps, *(books[n].to_list() for n in ("bid_price", "bid_size", "ask_price", "ask_size")), strict=True):
        if before is not None and (row := t // step * step) in flow:
            bid = now[1] if now[0] > before[0] else -before[1] if now[0] < before[0] else now[1] - before[1]
            ask = now[3] if now[2] < before[2] else -before[3] if now[2] > before[2] else now[3] - before[3]
            flow[row] += bid - ask
        before = now
    return np.array(list(flow.values()))


@pytest.mark.parametrize("name", ["bid_price", "ask_size", "bid_price_10", "ask_size_7"])
def test_a_row_holds_the_last_book_before_its_end(spot: tuple[pl.DataFrame, pl.DataFrame, Panel], name: str) -> None:
    books, _, panel = spot
    assert panel.shape == (649, 1) and panel.present.all()
    np.testing.assert_array_equal(column(panel, name), slow_state(books, panel, name))


def test_quotes_with_one_side_at_a_time_become_books(ibm: tuple[pl.DataFrame, pl.DataFrame, Panel]) -> None:
    quotes, _, panel = ibm
    assert panel.shape == (390, 1) and panel.present.all()
    assert (quotes["bid_price"] <= quotes["ask_price"]).all()
    assert 0.5e-4 < np.median(column(panel, "ask_price") / column(panel, "bid_price") - 1.0) < 5e-4
    np.testing.assert_array_equal(column(panel, "bid_price"), slow_state(quotes, panel, "bid_price"))


@pytest.mark.parametrize("which", ["spot", "ibm"])
def test_order_flow_is_the_papers_sum_over_events(which: str, request: pytest.FixtureRequest) -> None:
    books, _, panel = request.getfixturevalue(which)
    np.testing.assert_allclose(column(panel, "order_flow"), slow_flow(books, panel), rtol=1e-9, atol=1e-9)
    inside = books.filter(pl.col("timestamp").dt.timestamp("ns").is_between(int(panel.timestamp[0]), int(panel.known_at[-1]) - 1))
    assert column(panel, "book_updates").sum() == inside.height


def test_order_flow_explains_most_of_the_price_as_in_the_paper(ibm: tuple[pl.DataFrame, pl.DataFrame, Panel]) -> None:
    panel = ibm[2]
    moves = np.diff((column(panel, "bid_price") + column(panel, "ask_price")) / 2.0)
    assert np.corrcoef(moves, column(panel, "order_flow")[1:])[0, 1] > 0.6  # Cont et al.: R squared 65 % on average


@pytest.mark.parametrize("which", ["spot", "ibm"])
def test_trades_of_a_row_are_bars_counts_and_sides(which: str, request: pytest.FixtureRequest) -> None:
    _, trades, panel = request.getfixturevalue(which)
    step = int(panel.known_at[0] - panel.timestamp[0])
    table = pd.DataFrame({"t": trades["timestamp"].to_physical().to_numpy() // step * step, "p": trades["price"], "q": trades["size"]})
    bars = table.groupby("t").agg(
        open=("p", "first"), high=("p", "max"), low=("p", "min"), close=("p", "last"), volume=("q", "sum"), trade_count=("q", "size")
    )
    bars = bars.reindex(panel.timestamp)
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(column(panel, name), bars[name].to_numpy())
    for name in ("volume", "trade_count"):
        np.testing.assert_allclose(column(panel, name), bars[name].fillna(0.0).to_numpy(), rtol=1e-12)


def test_the_aggressor_that_the_venue_states_counts(spot: tuple[pl.DataFrame, pl.DataFrame, Panel], shared: Path) -> None:
    raw = pl.read_parquet(shared / "lob_binance" / "binance_spot_BTCUSDT" / "trades.parquet")
    rows = raw["timestamp"].dt.timestamp("ns").to_numpy() // SECOND * SECOND
    bought = raw["qty"].to_numpy() * ~raw["buyer_is_maker"].to_numpy()
    expected = pd.Series(bought).groupby(rows).sum().reindex(spot[2].timestamp).fillna(0.0)
    np.testing.assert_allclose(column(spot[2], "buy_volume"), expected, rtol=1e-9, atol=1e-12)
    total = column(spot[2], "buy_volume") + column(spot[2], "sell_volume")
    np.testing.assert_allclose(total, column(spot[2], "volume"), rtol=1e-9, atol=1e-12)


def test_the_guessed_aggressor_is_the_stated_one_nearly_always(shared: Path) -> None:
    home, ids = shared / "lob_binance" / "binance_usdm_BTCUSDT", {"BTCUSDT": "crypto:BTC"}
    quotes, trades = read_books(home / "bbo.parquet", ids), read_trades(home / "trades.parquet", ids)
    stamps = quotes["timestamp"].to_physical().to_numpy()
    starts = all_hours(int(stamps[0]), int(stamps[-1]), "1Sec")
    stated = column(book_panel(quotes, trades, "1Sec", starts), "buy_volume")
    guessed = column(book_panel(quotes, trades.with_columns(side=pl.lit(None, pl.Int8)), "1Sec", starts), "buy_volume")
    assert np.corrcoef(stated, guessed)[0, 1] > 0.9


def test_nothing_at_or_after_a_rows_end_is_in_it(spot: tuple[pl.DataFrame, pl.DataFrame, Panel]) -> None:
    books, trades, panel = spot
    cut = int(panel.known_at[300])
    before = pl.col("timestamp").dt.timestamp("ns") < cut
    earlier = book_panel(books.filter(before), trades.filter(before), "1Sec", panel.timestamp[:301])
    for name, values in panel.fields.items():
        np.testing.assert_array_equal(earlier.fields[name], values[:301], err_msg=name)
    exact = book_panel(books_of((0.5, 10.0, 1.0, 11.0, 1.0), (1.0, 20.0, 1.0, 21.0, 1.0)), None, "1Sec", starts_of(2))
    assert column(exact, "bid_price").tolist() == [10.0, 20.0]


def test_a_book_that_is_too_old_is_absent_and_a_row_before_any_book_too() -> None:
    books = books_of((1.5, 10.0, 1.0, 11.0, 1.0), (7.5, 10.0, 1.0, 11.0, 4.0))
    panel = book_panel(books, None, "1Sec", starts_of(9), max_age_ns=3 * SECOND)
    assert panel.present[:, 0].tolist() == [False, True, True, True, False, False, False, True, True]
    assert column(panel, "order_flow")[7] == 0.0  # nobody looked for six seconds


def test_trades_are_signed_by_the_quote_before_them_and_by_ticks_at_the_middle() -> None:
    books = books_of((0.1, 10.0, 1.0, 12.0, 1.0), (0.6, 13.0, 1.0, 15.0, 1.0))
    rows = {"symbol": "X", "timestamp": pl.Series([at(s) for s in (0.05, 0.2, 0.3, 0.4, 0.5, 0.6)], dtype=pl.Datetime("ns", "UTC"))}
    sizes = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    trades = to_trades(pl.DataFrame(rows | {"price": [10.0, 12.0, 11.0, 10.0, 11.0, 11.5], "size": sizes}), IDS)
    panel = book_panel(books, trades, "1Sec", starts_of(1))
    # before any book and no tick: nobody; above; at the middle after a fall; below; at the middle after a rise; above the book before it,
    # though below the one of the same instant
    assert column(panel, "buy_volume")[0] == 2.0 + 16.0 + 32.0 and column(panel, "sell_volume")[0] == 4.0 + 8.0
    assert column(panel, "signed_ticks")[0] == 0.0 + 1.0 - 1.0 - 1.0 + 1.0 + 1.0
    assert column(panel, "effective_spread")[0] == pytest.approx((2.0 * 2.0 / 11.0 + 8.0 * 2.0 / 11.0 + 32.0 * 1.0 / 11.0) / 62.0)


def test_a_split_enters_the_factors_of_a_book() -> None:
    calendar = MarketCalendar()
    starts = session_rows(calendar, date(2024, 8, 8), date(2024, 8, 9), "1Min")
    times = [datetime.fromtimestamp(int(s) // SECOND, UTC) for s in starts]
    prices = [40.0] * 390 + [10.0] * 390
    rows = {
        "symbol": "X",
        "timestamp": pl.Series(times, dtype=pl.Datetime("ns", "UTC")),
        "bid_px": prices,
        "ask_px": [p * 1.01 for p in prices],
    }
    books = to_books(pl.DataFrame(rows | {"bid_sz": [1.0] * 780, "ask_sz": [1.0] * 780}), {"X": "us:X"})
    split = ActionTable([CorporateAction(int(np.datetime64("2024-08-09", "D").astype(int)), "us:X", 4.0)])
    panel = book_panel(books, None, "1Min", starts, calendar, split)
    assert np.unique(column(panel, "bid_price") * column(panel, "return_factor")).tolist() == [40.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bid_px": [10.0, -1.0]}, r"bid_price is -1.0.*row 1"),
        ({"ask_sz": [1.0, float("nan")]}, r"ask_size is nan.*row 1"),
        ({"symbol": ["X", "Y"]}, "unknown symbol 'Y'"),
        ({"timestamp": [at(1.0), at(0.5)]}, "runs backwards.*row 1"),
    ],
)
def test_impossible_books_are_refused_by_row(change: dict[str, list[object]], message: str) -> None:
    rows = {"symbol": ["X", "X"], "timestamp": [at(0.0), at(1.0)], "bid_px": [10.0, 10.0], "bid_sz": [1.0, 1.0]}
    rows |= {"ask_px": [11.0, 11.0], "ask_sz": [1.0, 1.0]} | change
    with pytest.raises(InputError, match="(?s)" + message):
        to_books(pl.DataFrame(rows), IDS)


def test_files_and_frames_that_are_no_book_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match="Parquet"):
        read_books(tmp_path / "cut.parquet", IDS)
    with pytest.raises(InputError, match="no column bid_size, ask_price, ask_size"):
        to_books(pl.DataFrame({"symbol": ["X"], "timestamp": [NOON], "bid_price": [1.0]}), IDS)
    with pytest.raises(InputError, match="UTC"):
        to_trades(pl.DataFrame({"symbol": ["X"], "timestamp": [NOON.replace(tzinfo=None)], "price": [1.0], "size": [1.0]}), IDS)
    books, trades = books_of((0.0, 1.0, 1.0, 2.0, 1.0)), pl.DataFrame({"symbol": ["Z"], "timestamp": [NOON], "price": [1.0], "size": [1.0]})
    with pytest.raises(InputError, match="no book of it"):
        book_panel(books, to_trades(trades, {"Z": "crypto:Z"}), "1Sec", starts_of(1))
    with pytest.raises(InputError, match="overlap"):
        book_panel(books, None, "1Min", starts_of(2))
    assert levels_of(books.columns) == 1
