"""Bars from a folder of Parquet files. Two layouts:

plain    1Day/*.parquet, 1Min/*.parquet (any subset), and beside them optionally corporate_actions.parquet (symbol, ex_date,
         cash_dividend, split_ratio), sectors.parquet or constituents_sectors.parquet (symbol, sector, name), vix_daily.parquet (date, vix),
         symbols.parquet (symbol, first, last, instrument_id; last null = until today) where tickers changed hands or names (T2)
catalog  one plain folder per data set, us_daily_sp500 for daily and us_minute_2019 for minute bars, VIX in reference/vix_daily.parquet

A symbol of FIELD_SYMBOLS is a market-wide field, never an instrument.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from pathlib import Path

import numpy as np
import orjson
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from trading_platform.calendar import MarketCalendar, day_of
from trading_platform.contracts.canonical import sha256_hex
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import TIMEFRAME_NS
from trading_platform.market_data.bars import (
    TIMESTAMP,
    check_source_schema,
    empty_bars,
    number_rows,
    refuse_bad_keys,
    refuse_bad_rows,
    refuse_duplicates,
    to_bar_frame,
    with_instrument_ids,
)
from trading_platform.market_data.sources.protocol import ACTION_SCHEMA, FIELD_SCHEMA, SECTOR_SCHEMA, SourceFile, SourceIdentity
from trading_platform.market_data.symbols import FOREVER, SymbolPeriod, SymbolTable

FIELD_SYMBOLS = {"VIX": "vix"}
CATALOG = {"1Day": "us_daily_sp500", "1Min": "us_minute_2019", "15Min": "us_minute_2019"}
INDEX_DELAY_NS = 15 * TIMEFRAME_NS["1Min"]  # the VIX is computed until a quarter of an hour after the shares' close
SPLIT_NOISE = 3e-6  # vendors print ratios to six decimals: 1.499999 is 3:2


@dataclass(frozen=True, slots=True)
class Layout:
    """Where each kind of file lies; absent kinds have no files."""

    bars: dict[str, tuple[Path, ...]]
    actions: tuple[Path, ...]
    sectors: tuple[Path, ...]
    vix: tuple[Path, ...]
    symbols: tuple[Path, ...]


def find_layout(root: Path) -> Layout:
    """Recognise the layout of a folder. InputError if it holds no bars."""
    if not root.is_dir():
        raise InputError("the data folder does not exist", str(root), "give a folder of Parquet bars, or none for the boxed data")
    catalog = any((root / folder).is_dir() for folder in CATALOG.values())
    homes = {timeframe: root / CATALOG[timeframe] if catalog else root for timeframe in CATALOG}
    bars = {timeframe: tuple(sorted((homes[timeframe] / timeframe).glob("*.parquet"))) for timeframe in homes}
    bars = {timeframe: paths for timeframe, paths in bars.items() if paths}
    if not bars:
        raise InputError("no bars here", str(root), "expected 1Day/*.parquet or 1Min/*.parquet (see docs/data.md)")
    daily, reference = homes["1Day"], root / "reference" if catalog else root
    sectors = [daily / name for name in ("sectors.parquet", "constituents_sectors.parquet") if (daily / name).is_file()]
    actions, vix, symbols = daily / "corporate_actions.parquet", reference / "vix_daily.parquet", root / "symbols.parquet"
    return Layout(bars, _if_there(actions), tuple(sectors[:1]), _if_there(vix), _if_there(symbols))


def _if_there(path: Path) -> tuple[Path, ...]:
    return (path,) if path.is_file() else ()


def simple_ratio(ratio: float) -> float:
    """A vendor's rounded split ratio as the fraction it stands for, if one with a denominator of at most 20 is within its rounding."""
    simple = float(Fraction(ratio).limit_denominator(20))
    return simple if abs(simple / ratio - 1.0) <= SPLIT_NOISE else ratio


class FileSource:
    """A folder of Parquet bars as a BarSource. `daily_first`, `daily_last`: the daily span read when the caller names none (T34)."""

    def __init__(self, root: Path, calendar: MarketCalendar, daily_first: date | None = None, daily_last: date | None = None) -> None:
        self._root = root
        self._calendar = calendar
        self._daily = (daily_first, daily_last)
        self._layout = find_layout(root)

    @property
    def identity(self) -> SourceIdentity:
        """The folder's name, with the licence classes its MANIFEST.json states."""
        return SourceIdentity(name=self._root.name, vendor="files", feed="parquet", licence_class=self._licence())

    def _licence(self) -> str:
        manifest = self._root / "MANIFEST.json"
        if not manifest.is_file():
            return "unstated"
        try:
            entries = orjson.loads(manifest.read_bytes())
            used = {str(path.relative_to(self._root)) for path in self._paths()}
            classes = {str(entry["licence"]).partition(" (")[0] for entry in entries if str(entry["path"]).removeprefix("open/") in used}
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"not a manifest: {error!r}", str(manifest), "each entry has path and licence") from error
        return ", ".join(sorted(classes)) or "unstated"

    def bars(
        self, timeframe: str, start: date | None = None, end: date | None = None, symbols: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Bars of the sessions start..end; see the protocol. Files of a whole folder are one table."""
        if timeframe not in TIMEFRAME_NS:
            raise InputError(f"unknown timeframe {timeframe!r}", str(self._root), f"use one of {', '.join(TIMEFRAME_NS)}")
        if timeframe not in self._layout.bars:
            return empty_bars()
        if timeframe == "1Day":
            start, end = start or self._daily[0], end or self._daily[1]
        table = self._read_bars(timeframe, start, end)
        if table.is_empty() and timeframe == "1Day":
            what = f"no daily bars {f'from {start} ' if start else ''}to {end or 'today'}" if start or end else "no daily bars"
            fix = "give bars of this span, or set TRADING_DAILY_FIRST and TRADING_DAILY_LAST to a span that the files hold"
            raise InputError(what, f"{timeframe}/*.parquet of {self._root.name}", fix)
        known = sorted(set(table["symbol"].unique().to_list()) - FIELD_SYMBOLS.keys())
        self._refuse_unknown(timeframe, symbols, known)
        wanted = table.filter(pl.col("symbol").is_in(list(symbols) if symbols is not None else known))
        return to_bar_frame(wanted, self._calendar.timezone, self._symbols(), f"{timeframe} bars of {self._root.name}")

    def _symbols(self) -> SymbolTable | None:
        """The dated tickers of the folder, None if it states none."""
        if not self._layout.symbols:
            return None
        path = self._layout.symbols[0]
        table = self._table(path, {"symbol": pl.String, "first": pl.Date, "last": pl.Date, "instrument_id": pl.String})
        return SymbolTable(
            SymbolPeriod(symbol, day_of(first), FOREVER if last is None else day_of(last), name)
            for symbol, first, last, name in table.rows()
        )

    def _identified(self, table: pl.DataFrame, day: str) -> pl.DataFrame:
        """Rows of our instruments with their ids; what another owner of the ticker did is not ours."""
        symbols = self._symbols()
        if symbols is None:
            return table.with_columns((pl.lit("us:") + pl.col("symbol")).alias("instrument_id"))
        return with_instrument_ids(table, symbols, day).drop_nulls("instrument_id")

    def _read_bars(self, timeframe: str, start: date | None, end: date | None, only: Sequence[str] | None = None) -> pl.DataFrame:
        frames = []
        names = [self._name(path) for path in self._layout.bars[timeframe]]
        for path, where in zip(self._layout.bars[timeframe], names, strict=True):
            frame = self._load(path)
            check_source_schema(frame.schema, where)
            frame = number_rows(frame, where, names)
            refuse_bad_keys(frame, where)
            if start is not None or end is not None:
                local = pl.col("timestamp").dt.convert_time_zone(self._calendar.timezone).dt.date()
                frame = frame.filter(local.is_between(start or date.min, end or date.max))
            if only is not None:
                frame = frame.filter(pl.col("symbol").is_in(list(only)))
            refuse_bad_rows(frame, where)
            frames.append(frame)
        table = pl.concat(frames, how="diagonal_relaxed")
        if len(frames) > 1:
            refuse_duplicates(table, f"{timeframe}/*.parquet")
        return table.drop("file", "row")

    def _refuse_unknown(self, timeframe: str, symbols: Sequence[str] | None, known: Sequence[str]) -> None:
        unknown = sorted(set(symbols or ()) - set(known))
        if unknown:
            close = difflib.get_close_matches(unknown[0], known, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"{len(known)} symbols are known, such as {', '.join(known[:3])}"
            raise InputError(f"unknown symbol {', '.join(unknown)}", f"{timeframe} bars of {self._root.name}", hint)

    def absence(self, timeframe: str) -> str:
        """Why there are no bars of this timeframe; empty if there are."""
        return (
            "" if timeframe in self._layout.bars else f"{self._root.name} holds no {timeframe} bars: it has {', '.join(self._layout.bars)}"
        )

    def corporate_actions(self) -> pl.DataFrame:
        """All stated events, split ratios freed of the vendor's rounding; no rows if the folder states none."""
        if not self._layout.actions:
            return pl.DataFrame(schema=ACTION_SCHEMA)
        path = self._layout.actions[0]
        table = self._table(path, {"symbol": pl.String, "ex_date": pl.Date, "cash_dividend": pl.Float64, "split_ratio": pl.Float64})
        sound = (pl.col("split_ratio").is_finite() & (pl.col("split_ratio") > 0.0)).fill_null(False)
        sound &= (pl.col("cash_dividend").is_finite() & (pl.col("cash_dividend") >= 0.0)).fill_null(False)
        bad = table.with_row_index("row").filter(~sound | pl.col("symbol").is_null() | pl.col("ex_date").is_null()).head(1)
        if bad.height:
            row, symbol, day, dividend, ratio = bad.row(0)
            what = f"cash_dividend {dividend}, split_ratio {ratio} for {symbol} on {day} is no corporate action"
            fix = "name symbol and ex_date; a ratio is positive (1.0 for none), a dividend is not negative (0.0 for none)"
            raise InputError(what, f"{self._name(path)}, row {row}", fix)
        exact = pl.Series("split_ratio", [simple_ratio(ratio) for ratio in table["split_ratio"].to_list()], dtype=pl.Float64)
        return self._identified(table.with_columns(exact), "ex_date").select(list(ACTION_SCHEMA)).sort("instrument_id", "ex_date")

    def sectors(self) -> pl.DataFrame:
        """Sector and name per instrument; no rows if the folder states none."""
        if not self._layout.sectors:
            return pl.DataFrame(schema=SECTOR_SCHEMA)
        table = self._table(self._layout.sectors[0], {"symbol": pl.String, "sector": pl.String, "name": pl.String})
        newest = table.with_columns(pl.lit(self._calendar.last).alias("_day"))  # sectors are stated as of today
        return self._identified(newest, "_day").select(list(SECTOR_SCHEMA)).sort("instrument_id")

    def field_series(self, timeframe: str) -> pl.DataFrame:
        """Closes of FIELD_SYMBOLS among the bars of this timeframe; for 1Day also vix_daily.parquet, known 15 minutes after the close."""
        parts = [pl.DataFrame(schema=FIELD_SCHEMA)]
        if timeframe in self._layout.bars:
            first, last = self._daily if timeframe == "1Day" else (None, None)
            table = self._read_bars(timeframe, first, last, tuple(FIELD_SYMBOLS))
            if timeframe == "1Day":
                parts.append(
                    self._daily_field(table.with_columns(date=pl.col("timestamp").dt.convert_time_zone(self._calendar.timezone).dt.date()))
                )
            else:
                known_at = pl.col("timestamp").cast(TIMESTAMP) + pl.duration(nanoseconds=TIMEFRAME_NS[timeframe])
                parts.append(
                    table.select(
                        pl.col("symbol").replace_strict(FIELD_SYMBOLS).alias("field"),
                        pl.col("timestamp").cast(TIMESTAMP),
                        known_at.cast(TIMESTAMP).alias("known_at"),
                        pl.col("close").cast(pl.Float64).alias("value"),
                    )
                )
        if timeframe == "1Day" and self._layout.vix:
            table = self._table(self._layout.vix[0], {"date": pl.Date, "vix": pl.Float64}).drop_nulls("vix")
            if self._daily[1] is not None:
                table = table.filter(pl.col("date") <= self._daily[1])
            parts.append(self._daily_field(table.select(pl.lit("VIX").alias("symbol"), "date", pl.col("vix").alias("close"))))
        return pl.concat(parts).unique(["field", "timestamp"], keep="first", maintain_order=True).sort("field", "timestamp")

    def _daily_field(self, table: pl.DataFrame) -> pl.DataFrame:
        days = table["date"].to_physical().to_numpy().astype(np.int64)
        stamps = {"timestamp": self._calendar.midnights_ns(days), "known_at": self._calendar.closes_ns(days) + INDEX_DELAY_NS}
        return table.select(
            pl.col("symbol").replace_strict(FIELD_SYMBOLS).alias("field"),
            *(pl.Series(name, values).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC") for name, values in stamps.items()),
            pl.col("close").cast(pl.Float64).alias("value"),
        )

    def files(self) -> tuple[SourceFile, ...]:
        """Every file this source may read, hashed as it is now."""
        names = sorted(self._name(path) for path in self._paths())
        contents = ((name, self.read(name)) for name in names)
        return tuple(SourceFile(name, sha256_hex(data), len(data)) for name, data in contents)

    def read(self, name: str) -> bytes:
        """The bytes of one file of `files()`. InputError for a name that is none of them."""
        for path in self._paths():
            if self._name(path) == name:
                return path.read_bytes()
        raise InputError(f"no file {name!r}", "the folder of bars", "give the folder that the assets were made from")

    def _paths(self) -> list[Path]:
        layout = self._layout
        return [*(path for paths in layout.bars.values() for path in paths), *layout.actions, *layout.sectors, *layout.vix, *layout.symbols]

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _load(self, path: Path) -> pl.DataFrame:
        """A whole file as it stands. Arrow reads it: a damaged page is an exception there, where Polars' reader panics."""
        try:
            with pq.ParquetFile(path) as file:
                return pl.DataFrame(file.read())
        except (pa.ArrowException, pl.exceptions.PolarsError, OSError) as error:
            what = f"not a readable Parquet file: {' '.join(str(error).split())}"
            raise InputError(what, self._name(path), "the file is corrupt or cut short: fetch it again") from error

    def _table(self, path: Path, schema: dict[str, type[pl.DataType]]) -> pl.DataFrame:
        table = self._load(path)
        wrong = [
            f"{name} is {table.schema.get(name, 'missing')}, expected {dtype.__name__}"
            for name, dtype in schema.items()
            if table.schema.get(name) != dtype
        ]
        if wrong:
            raise InputError("; ".join(wrong), self._name(path), f"columns: {', '.join(schema)}")
        return table.select(list(schema))
