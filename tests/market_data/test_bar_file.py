"""A bars file as panels: the same cells whatever the file's order and the chunk's length, and every defect named with its row."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.market_data import bar_file
from trading_platform.market_data.bar_file import open_bars, panels

CALENDAR = MarketCalendar()
DAYS = CALENDAR.sessions(date(2014, 3, 3), date(2014, 6, 30))


def frame(symbols: str = "CAB", days: int = len(DAYS)) -> pl.DataFrame:
    """Daily bars instrument by instrument; C is listed late, A leaves early, some of B's bars are missing."""
    rng = np.random.default_rng(4)
    stamps = CALENDAR.midnights_ns(DAYS[:days])
    parts = []
    for symbol in symbols:
        close = 50.0 + np.cumsum(rng.normal(0.0, 0.5, days))
        part = pl.DataFrame(
            {"symbol": [symbol] * days, "timestamp": stamps, "open": close, "high": close + 1.0, "low": close - 1.0, "close": close}
        )
        part = part.with_columns(volume=pl.lit(1e6) + pl.int_range(pl.len()), vwap=pl.col("close") + 0.1)
        keep = {"A": slice(0, days - 20), "C": slice(13, days)}.get(symbol, slice(0, days))
        parts.append(part[keep].filter(pl.int_range(pl.len()) % 7 != 3) if symbol == "B" else part[keep])
    return pl.concat(parts).with_columns(pl.col("timestamp").cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"))


def written(path: Path, table: pl.DataFrame, group: int = 50) -> Path:
    table.write_parquet(path, row_group_size=group)
    return path


def joined(parts: list[Panel], field: str) -> np.ndarray:
    return np.concatenate([part.fields[field] for part in parts])


@pytest.mark.parametrize("order", ["instrument", "time"])
@pytest.mark.parametrize("chunk", [1, 7, 32, 1000])
def test_every_order_and_every_chunk_give_the_same_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, chunk: int) -> None:
    monkeypatch.setattr(bar_file, "BATCH", 40)
    monkeypatch.setattr(bar_file, "DEALT_FILES", 5)
    table = frame() if order == "instrument" else frame().sort("timestamp", "symbol")
    bars = open_bars(written(tmp_path / "bars.parquet", table))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    parts = list(panels(bars, CALENDAR, chunk, scratch))
    assert (bars.timeframe, bars.instrument_ids, bars.rows, bars.time_major) == (
        "1Day",
        ("us:A", "us:B", "us:C"),
        table.height,
        order == "time",
    )
    assert {part.shape[0] for part in parts[:-1]} <= {chunk} and not list(scratch.iterdir())
    for field in ("close", "volume", "vwap"):
        expected = np.full((len(DAYS), 3), np.nan)
        for symbol, stamp, value in table.select("symbol", pl.col("timestamp").to_physical(), field).rows():
            expected[np.searchsorted(CALENDAR.midnights_ns(DAYS), stamp), "ABC".index(symbol)] = value
        assert np.array_equal(joined(parts, field), expected, equal_nan=True)
    assert set(np.unique(joined(parts, "return_factor")[joined(parts, "close") > 0])) == {1.0}


def test_factors_of_the_file_are_taken(tmp_path: Path) -> None:
    table = frame("A").with_columns(split_factor=pl.lit(4.0), return_factor=pl.lit(4.5))
    bars = open_bars(written(tmp_path / "bars.parquet", table))
    (part,) = panels(bars, CALENDAR, 10_000, tmp_path)
    assert np.nanmax(part.fields["split_factor"]) == 4.0 and np.nanmin(part.fields["return_factor"]) == 4.5
    assert not [name for name in part.fields if "of the file" in name]


def at(row: int, column: str, value: object) -> pl.Expr:
    return pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)


def test_each_defect_is_one_precise_error(tmp_path: Path) -> None:
    table = frame("AB")
    swapped = np.arange(table.height)
    swapped[[100, 101]] = [101, 100]
    midnight = table.with_columns(pl.col("timestamp").dt.truncate("1d"))
    tuesdays = midnight.filter(pl.col("timestamp").dt.weekday().is_in([3, 4]))
    defects = {
        "timestamps run backwards for B": table[swapped],
        "duplicate bar of A at 2014-03-17": pl.concat([table[:11], table[10:]]),
        "column close is missing; column volume is missing": table.drop("close", "volume"),
        "column timestamp is Datetime": table.with_columns(pl.col("timestamp").dt.replace_time_zone(None)),
        "column open is String": table.with_columns(pl.col("open").cast(pl.String)),
        "symbol is absent": table.with_columns(at(17, "symbol", None)),
        "bars of several timeframes: 1Day, 1Min": table.with_columns(
            timeframe=pl.when(pl.int_range(pl.len()) > 5).then(pl.lit("1Day")).otherwise(pl.lit("1Min"))
        ),
        "no local midnight": tuesdays,
        "holds no bars": table[:0],
        "of no known timeframe": table.with_columns(pl.col("timestamp").dt.offset_by("7s"))[:1],
    }
    for text, bad in defects.items():
        with pytest.raises(InputError, match=text):
            list(panels(open_bars(written(tmp_path / "bad.parquet", bad)), CALENDAR, 30, tmp_path))


def test_a_row_number_is_that_of_the_file_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bar_file, "BATCH", 16)
    table = frame("AB")
    with pytest.raises(InputError) as caught:
        open_bars(written(tmp_path / "bad.parquet", pl.concat([table[:40], table[39:]])))
    assert caught.value.where == "bad.parquet, row 40"


def test_minute_bars_off_the_grid_or_of_no_session_are_refused(tmp_path: Path) -> None:
    minutes = pl.DataFrame({"timestamp": CALENDAR.bar_starts(int(DAYS[0]), "1Min")}).with_columns(
        pl.col("timestamp").cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"), instrument_id=pl.lit("us:A")
    )
    minutes = minutes.with_columns(**dict.fromkeys(("open", "high", "low", "close", "volume"), pl.lit(1.0)))
    assert open_bars(written(tmp_path / "fine.parquet", minutes)).timeframe == "1Min"
    odd = minutes.with_columns(pl.col("timestamp").dt.offset_by("30s"))
    weekend = minutes.with_columns(pl.col("timestamp").dt.offset_by("5d"))
    for text, bad in (("no start of a 1Min bar", odd), ("falls on no session", weekend)):
        with pytest.raises(InputError, match=text):
            list(panels(open_bars(written(tmp_path / "bad.parquet", bad)), CALENDAR, 30, tmp_path))


def test_a_file_that_is_none_and_one_that_is_cut_off_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        open_bars(tmp_path / "nowhere.parquet")
    whole = written(tmp_path / "bars.parquet", frame())
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(InputError, match="not a Parquet file"):
        open_bars(tmp_path / "cut.parquet")
