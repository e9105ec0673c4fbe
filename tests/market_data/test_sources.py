"""Sources: the box against its own adjusted close, folders against what can be wrong with a file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.market_data.bars import BAR_SCHEMA, refuse_bad_rows
from trading_platform.market_data.sources.boxed import SYMBOLS, BoxedSource, derive_actions
from trading_platform.market_data.sources.files import FileSource, simple_ratio
from trading_platform.market_data.sources.select import open_source


def rebuilt_adjusted_close(close: np.ndarray, days: list[date], events: pl.DataFrame, last: float) -> np.ndarray:
    """The vendor's back-adjusted close from raw closes and stated events, in its own ex-day form."""
    step = np.ones(len(close))
    for _, day, ratio, dividend in events.rows():
        row = days.index(day)
        step[row] *= ratio * (close[row] + dividend) / close[row]
    factor = np.cumprod(step)
    return close * factor / factor[-1] * (last / close[-1])


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_the_derived_events_rebuild_the_adjusted_close(boxed: BoxedSource, boxed_bars: pl.DataFrame, symbol: str) -> None:
    bars = boxed_bars.filter(pl.col("symbol") == symbol)
    events = boxed.corporate_actions().filter(pl.col("instrument_id") == f"us:{symbol}")
    stated = bars["adjusted_close"].to_numpy()
    rebuilt = rebuilt_adjusted_close(bars["close"].to_numpy(), bars["session"].to_list(), events, float(stated[-1]))
    assert float(np.max(np.abs(rebuilt / stated - 1.0))) < 1e-5


def test_the_box_knows_the_splits_and_dividends_that_happened(boxed: BoxedSource) -> None:
    events = boxed.corporate_actions()
    splits = events.filter(pl.col("split_ratio") != 1.0).select("instrument_id", "ex_date", "split_ratio").rows()
    assert splits == [("us:AAPL", date(2000, 6, 21), 2.0), ("us:AAPL", date(2005, 2, 28), 2.0), ("us:MSFT", date(2003, 2, 18), 2.0)]
    paid = {(name, day): cash for name, day, _, cash in events.rows()}
    assert paid[("us:AAPL", date(2012, 8, 9))] == 2.65
    assert paid[("us:MSFT", date(2004, 11, 15))] == pytest.approx(3.08, abs=1e-9)  # the special 3 dollars and the regular 8 cents
    assert events.filter(pl.col("instrument_id").is_in(["us:FB", "us:GOOG"])).height == 0


def test_a_factor_that_is_neither_split_nor_dividend_is_refused() -> None:
    close = np.array([100.0, 100.0])
    with pytest.raises(InputError, match="neither a split nor a dividend"):
        derive_actions(close, close * np.array([0.5, 1.0]))  # the factor halves, the price does not move
    with pytest.raises(InputError, match="a negative dividend"):
        derive_actions(close, close * np.array([1.1, 1.0]))


def test_the_box_is_a_bar_frame_of_real_sessions(boxed: BoxedSource, boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    assert {name: boxed_bars.schema[name] for name in BAR_SCHEMA} == BAR_SCHEMA
    assert boxed_bars["session"].max() == date(2013, 3, 1)
    stamps = boxed_bars["timestamp"].to_physical().to_numpy()
    assert np.array_equal(calendar.sessions_of(stamps), boxed_bars["session"].to_physical().to_numpy())
    assert boxed.bars("1Min").is_empty() and "daily bars only" in boxed.absence("1Min")
    assert boxed.bars("1Day", date(2005, 1, 1), date(2005, 12, 31), ["IBM"]).height == 252
    with pytest.raises(InputError, match="unknown symbol XYZ"):
        boxed.bars("1Day", symbols=["IBM", "XYZ"])
    assert boxed.files() == BoxedSource(calendar).files()
    narrow = open_source(None, calendar, date(2010, 1, 4), date(2010, 1, 5)).bars("1Day")
    assert narrow["session"].unique().to_list() == [date(2010, 1, 4), date(2010, 1, 5)]


def good_daily(calendar: MarketCalendar) -> pl.DataFrame:
    days = calendar.sessions(date(2012, 1, 1), date(2012, 1, 31))
    stamps = pl.Series("timestamp", calendar.midnights_ns(days)).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
    one = pl.DataFrame({"timestamp": stamps}).with_columns(open=10.0, high=11.0, low=9.0, close=10.5, volume=1000)
    return pl.concat([one.select(pl.lit(symbol).alias("symbol"), pl.all()) for symbol in ("AAA", "BBB")])


@pytest.fixture
def folder(tmp_path: Path, calendar: MarketCalendar) -> Path:
    (tmp_path / "1Day").mkdir()
    good_daily(calendar).write_parquet(tmp_path / "1Day" / "bars.parquet")
    return tmp_path


def rewrite(folder: Path, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
    path = folder / "1Day" / "bars.parquet"
    change(pl.read_parquet(path)).write_parquet(path)


def cell(column: str, value: object) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) == 7).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)
    )


DEFECTS: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "a missing column": (lambda frame: frame.drop("volume"), "column volume is missing"),
    "a column of a wrong type": (
        lambda frame: frame.with_columns(pl.col("close").cast(pl.String)),
        "column close is String, expected a number",
    ),
    "an optional column of a wrong type": (
        lambda frame: frame.with_columns(vwap=pl.lit("10")),
        "column vwap is String, expected a number",
    ),
    "timestamps without a zone": (
        lambda frame: frame.with_columns(pl.col("timestamp").dt.replace_time_zone(None)),
        "column timestamp is Datetime.*expected Datetime with time zone UTC",
    ),
    "a negative price": (cell("low", -9.0), r"low is -9.0 for AAA at 2012-01-12.*\n.*row 7"),
    "a zero price": (cell("open", 0.0), "open is 0.0 for AAA"),
    "a NaN price": (cell("close", float("nan")), "close is nan for AAA"),
    "an absent price": (cell("close", None), "close is None for AAA"),
    "a negative volume": (cell("volume", -1), "volume is -1 for AAA"),
    "an absent timestamp": (cell("timestamp", None), "timestamp is absent for AAA"),
    "a timestamp of no market": (cell("timestamp", datetime(2999, 1, 1, tzinfo=UTC)), "timestamp is 32472144000000000 .*for AAA"),
    "an absent symbol": (cell("symbol", None), "symbol is absent at 2012-01-12"),
    "a duplicate row": (lambda frame: pl.concat([frame, frame[7:8]]), r"duplicate \(symbol, timestamp\): AAA at 2012-01-12"),
    "time running backwards": (
        lambda frame: pl.concat([frame[:5], frame[6:7], frame[5:6], frame[7:]]),
        "timestamps run backwards for AAA at 2012-01-10",
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defective_folder_ends_in_one_precise_message(folder: Path, calendar: MarketCalendar, name: str) -> None:
    change, message = DEFECTS[name]
    rewrite(folder, change)
    with pytest.raises(InputError, match=message) as caught:
        FileSource(folder, calendar, date(2012, 1, 1), date(2012, 12, 31)).bars("1Day")
    assert "1Day/bars.parquet" in caught.value.where and caught.value.fix
    assert str(folder) not in caught.value.where


def test_a_row_is_counted_in_its_file_whatever_span_is_read(folder: Path, calendar: MarketCalendar) -> None:
    rewrite(folder, lambda frame: cell("low", -9.0)(frame.with_columns(row=pl.lit(0), file=pl.lit("x"))))
    with pytest.raises(InputError) as caught:
        FileSource(folder, calendar).bars("1Day", start=date(2012, 1, 10))
    assert caught.value.where == "1Day/bars.parquet, row 7"


def test_a_bar_in_two_files_names_both_places(folder: Path, calendar: MarketCalendar) -> None:
    twice = pl.read_parquet(folder / "1Day" / "bars.parquet").reverse().filter(pl.col("symbol") == "BBB")[[3]]
    other = twice.with_columns(symbol=pl.lit("CCC"))
    pl.concat([other, twice]).write_parquet(folder / "1Day" / "more.parquet")
    with pytest.raises(InputError, match=r"duplicate \(symbol, timestamp\): BBB at 2012-01-26") as caught:
        FileSource(folder, calendar).bars("1Day", start=date(2012, 1, 5))
    assert caught.value.where == "1Day/more.parquet, row 1" and "1Day/bars.parquet, row 36" in caught.value.fix


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"not parquet at all", lambda data: b""])
def test_an_unreadable_file_is_named(folder: Path, calendar: MarketCalendar, damage: Callable[[bytes], bytes]) -> None:
    path = folder / "1Day" / "bars.parquet"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"not a readable Parquet file(.|\n)*1Day/bars.parquet"):
        FileSource(folder, calendar).bars("1Day")


@pytest.mark.parametrize("compression", ["zstd", "uncompressed"])
def test_damage_anywhere_is_an_input_error_or_leaves_every_row_sound(folder: Path, calendar: MarketCalendar, compression: str) -> None:
    path = folder / "1Day" / "bars.parquet"
    pl.read_parquet(path).write_parquet(path, compression=compression)
    whole = path.read_bytes()
    refused = 0
    for begin in range(4, len(whole) - 40, max(len(whole) // 60, 1)):
        path.write_bytes(whole[:begin] + bytes(byte ^ 0xFF for byte in whole[begin : begin + 40]) + whole[begin + 40 :])
        try:
            rows = FileSource(folder, calendar, date(2012, 1, 1), date(2012, 12, 31)).bars("1Day")
        except InputError as error:
            assert error.where.startswith("1Day/bars.parquet") and error.fix
            refused += 1
        else:
            refuse_bad_rows(rows, "what was read")
    assert refused > 30


def test_a_missing_or_empty_folder_is_named(tmp_path: Path, calendar: MarketCalendar) -> None:
    with pytest.raises(InputError, match="the data folder does not exist"):
        open_source(tmp_path / "nowhere", calendar)
    with pytest.raises(InputError, match="no bars here"):
        open_source(tmp_path, calendar)
    assert open_source(None, calendar).identity.name == "boxed"


def test_a_plain_folder_reads_spans_symbols_and_optional_fields(folder: Path, calendar: MarketCalendar) -> None:
    rewrite(folder, lambda frame: frame.with_columns(vwap=10.2))
    source = FileSource(folder, calendar, daily_last=date(2012, 1, 20))
    bars = source.bars("1Day")
    assert bars["session"].max() == date(2012, 1, 20) and "vwap" in bars.columns
    assert source.bars("1Day", end=date(2012, 1, 31))["session"].max() == date(2012, 1, 31)
    assert source.bars("1Day", symbols=["BBB"])["instrument_id"].unique().to_list() == ["us:BBB"]
    with pytest.raises(InputError, match=r"unknown symbol BBC(.|\n)*did you mean BBB"):
        source.bars("1Day", symbols=["BBC"])
    assert source.bars("1Min").is_empty() and "no 1Min bars" in source.absence("1Min")
    assert source.corporate_actions().is_empty() and source.sectors().is_empty() and source.field_series("1Day").is_empty()
    assert [file.name for file in source.files()] == ["1Day/bars.parquet"]


@pytest.mark.parametrize(
    ("ratio", "dividend", "day"),
    [
        (0.0, 0.0, date(2012, 1, 9)),
        (-2.0, 0.0, date(2012, 1, 9)),
        (None, 0.0, date(2012, 1, 9)),
        (1.0, -0.5, date(2012, 1, 9)),
        (2.0, 0.0, None),
    ],
)
def test_an_impossible_corporate_action_is_named_with_its_row(
    folder: Path, calendar: MarketCalendar, ratio: float | None, dividend: float, day: date | None
) -> None:
    columns = {"symbol": ["AAA", "AAA"], "ex_date": [date(2012, 1, 5), day], "cash_dividend": [0.1, dividend], "split_ratio": [1.0, ratio]}
    pl.DataFrame(columns).write_parquet(folder / "corporate_actions.parquet")
    with pytest.raises(InputError, match=r"for AAA on .* is no corporate action") as caught:
        FileSource(folder, calendar).corporate_actions()
    assert caught.value.where == "corporate_actions.parquet, row 1"


def test_a_span_without_any_bar_names_the_settings_that_choose_it(folder: Path, calendar: MarketCalendar) -> None:
    with pytest.raises(InputError, match=r"no daily bars to 2004-12-31(.|\n)*TRADING_DAILY_LAST"):
        FileSource(folder, calendar, None, date(2004, 12, 31)).bars("1Day")


def test_a_wrong_actions_file_is_named(folder: Path, calendar: MarketCalendar) -> None:
    pl.DataFrame({"symbol": ["AAA"], "ex_date": ["2012-01-05"]}).write_parquet(folder / "corporate_actions.parquet")
    with pytest.raises(InputError, match=r"ex_date is String, expected Date(.|\n)*corporate_actions.parquet"):
        FileSource(folder, calendar).corporate_actions()


@pytest.mark.parametrize(
    ("printed", "meant"), [(1.499999, 1.5), (7.000007, 7.0), (0.333333, 1 / 3), (1.122, 1.122), (1.0, 1.0), (1.068833, 1.068833)]
)
def test_printed_split_ratios_lose_their_rounding_and_nothing_else(printed: float, meant: float) -> None:
    assert simple_ratio(printed) == meant


def test_the_shared_catalog_has_two_pipelines_and_vix_as_a_field(
    shared_source: FileSource, shared_daily: pl.DataFrame, calendar: MarketCalendar
) -> None:
    assert shared_daily["session"].max() == date(2014, 12, 31) and shared_daily["symbol"].n_unique() == 283
    minute = shared_source.bars("1Min")
    assert minute["symbol"].n_unique() == 14 and "VIX" not in minute["symbol"]
    fields = shared_source.field_series("1Min")
    assert fields["field"].unique().to_list() == ["vix"] and fields.height == 1923
    assert ((fields["known_at"] - fields["timestamp"]).dt.total_seconds() == 60).all()
    daily = shared_source.field_series("1Day")
    closes = calendar.closes_ns(daily["timestamp"].dt.date().to_physical().to_numpy())
    assert ((daily["known_at"].to_physical().to_numpy() - closes) == 15 * 60 * 10**9).all()
    assert daily["timestamp"].dt.date().max() == date(2014, 12, 31) and daily["value"].null_count() == 0
    assert shared_source.sectors().height == 299


def test_a_rename_keeps_the_instrument_and_a_reused_ticker_starts_another(folder: Path, calendar: MarketCalendar) -> None:
    renamed = date(2012, 1, 17)
    rewrite(
        folder,
        lambda frame: frame.with_columns(
            pl.when((pl.col("symbol") == "AAA") & (pl.col("timestamp").dt.date() >= renamed))
            .then(pl.lit("CCC"))
            .otherwise("symbol")
            .alias("symbol")
        ),
    )
    periods = [
        ("AAA", date(2000, 1, 1), date(2012, 1, 16), "us:AAA"),
        ("CCC", renamed, None, "us:AAA"),
        ("BBB", date(2000, 1, 1), date(2012, 1, 10), "us:BBB"),
        ("BBB", date(2012, 1, 11), None, "us:BBB~2"),
    ]
    table = pl.DataFrame(periods, schema={"symbol": pl.String, "first": pl.Date, "last": pl.Date, "instrument_id": pl.String}, orient="row")
    table.write_parquet(folder / "symbols.parquet")
    events = [("AAA", date(2012, 1, 5), 0.0, 2.0), ("AAA", date(2012, 1, 20), 0.0, 3.0), ("BBB", date(2012, 1, 20), 0.1, 1.0)]
    pl.DataFrame(
        events, schema={"symbol": pl.String, "ex_date": pl.Date, "cash_dividend": pl.Float64, "split_ratio": pl.Float64}, orient="row"
    ).write_parquet(folder / "corporate_actions.parquet")
    source = FileSource(folder, calendar)
    bars = source.bars("1Day")
    one = bars.filter(pl.col("instrument_id") == "us:AAA")
    assert one.height == 20 and one["symbol"].unique(maintain_order=True).to_list() == ["AAA", "CCC"]
    other = (
        bars.filter(pl.col("symbol") == "BBB").group_by("instrument_id").agg(pl.col("session").min(), pl.col("session").max().alias("last"))
    )
    assert sorted(other.rows()) == [("us:BBB", date(2012, 1, 3), date(2012, 1, 10)), ("us:BBB~2", date(2012, 1, 11), date(2012, 1, 31))]
    assert source.corporate_actions().rows() == [("us:AAA", date(2012, 1, 5), 2.0, 0.0), ("us:BBB~2", date(2012, 1, 20), 1.0, 0.1)]
    table.filter(pl.col("symbol") != "CCC").write_parquet(folder / "symbols.parquet")
    with pytest.raises(InputError, match="unknown symbol CCC on 2012-01-17"):
        FileSource(folder, calendar).bars("1Day")
