"""The data in the box: AAPL, FB, GOOG, IBM, MSFT, daily 2000-03-01..2013-03-01, public domain, from the bokeh_sampledata package.

Raw OHLCV with a vendor's adjusted close. Splits and dividends are not in the file; they are read off the adjustment factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from fractions import Fraction

import numpy as np
import polars as pl

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.canonical import canonical_bytes, sha256_hex
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import instrument_id_of
from trading_platform.contracts.panel import TIMEFRAME_NS
from trading_platform.market_data.bars import check_source_schema, empty_bars, refuse_bad_rows, to_bar_frame
from trading_platform.market_data.sources.protocol import ACTION_SCHEMA, FIELD_SCHEMA, SECTOR_SCHEMA, SourceFile, SourceIdentity

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
SECTORS = {
    "AAPL": ("Information Technology", "Apple Inc."),
    "FB": ("Communication Services", "Facebook, Inc."),
    "GOOG": ("Communication Services", "Google Inc."),
    "IBM": ("Information Technology", "International Business Machines"),
    "MSFT": ("Information Technology", "Microsoft Corporation"),
}
NOISE = 1e-6  # the vendor prints 8 or more decimals: a change of the factor below this is rounding
SMALLEST_SPLIT = 0.2  # a smaller change of the factor is a dividend (the largest here is MSFT's 3 dollars, 11 %)
TABLE_NAME = "bokeh_sampledata/stocks"


def derive_actions(close: np.ndarray, adjusted_close: np.ndarray) -> list[tuple[int, float, float]]:
    """Events (row of the ex-date, split_ratio, cash_dividend) behind an adjusted close, both inputs (T,) float64.

    With factor = adjusted_close / close, this vendor's factor[t] / factor[t-1] is split_ratio x (close[t] + dividend) / close[t], the
    ex-day form. A change of at least 20 % close to a simple ratio p/q (q <= 4) that the raw price jumps by as well is a split; any other
    is a dividend, to the hundredth of a cent. The two on one day do not occur in this data and would read as an InputError.
    """
    factor = adjusted_close / close
    growth = factor[1:] / factor[:-1]
    events = []
    for before in np.flatnonzero(np.abs(growth - 1.0) > NOISE):
        row, ratio = int(before) + 1, float(growth[before])
        simple = Fraction(ratio).limit_denominator(4)
        jump = float(close[row] / close[row - 1])
        if abs(ratio - 1.0) >= SMALLEST_SPLIT:
            if abs(float(simple) / ratio - 1.0) > 1e-4 or not 0.8 < jump * ratio < 1.25:
                raise InputError(
                    f"the factor changes by {ratio}, the price by {jump}: neither a split nor a dividend", f"row {row}", "name the event"
                )
            events.append((row, float(simple), 0.0))
        else:
            dividend = round((ratio - 1.0) * float(close[row]), 4)
            if dividend <= 0.0:
                raise InputError(f"the factor changes by {ratio}: a negative dividend", f"row {row}", "name the event")
            events.append((row, 1.0, dividend))
    return events


class BoxedSource:
    """The boxed daily data as a BarSource. `daily_first`, `daily_last`: the span read when the caller names none (T34)."""

    def __init__(self, calendar: MarketCalendar, daily_first: date | None = None, daily_last: date | None = None) -> None:
        self._calendar = calendar
        self._daily = (daily_first or date.min, daily_last or date.max)
        self._loaded: pl.DataFrame | None = None

    @property
    def identity(self) -> SourceIdentity:
        """Public domain, Yahoo by way of Bokeh's samples."""
        return SourceIdentity(name="boxed", vendor="bokeh_sampledata", feed="consolidated daily", licence_class="public domain")

    def _table(self) -> pl.DataFrame:
        if self._loaded is None:
            from bokeh_sampledata import stocks  # reads its file at import

            frames = []
            for symbol in SYMBOLS:
                columns = getattr(stocks, symbol)
                frame = pl.DataFrame({name: columns[name] for name in ("date", "open", "high", "low", "close", "volume", "adj_close")})
                frames.append(
                    frame.with_columns(pl.col("date").str.to_date(), symbol=pl.lit(symbol)).rename({"adj_close": "adjusted_close"})
                )
            table = pl.concat(frames)
            days = table["date"].to_physical().to_numpy().astype(np.int64)
            midnights = pl.Series("timestamp", self._calendar.midnights_ns(days)).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
            self._loaded = table.with_columns(midnights)
        return self._loaded

    def bars(
        self, timeframe: str, start: date | None = None, end: date | None = None, symbols: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Daily bars; no rows for any other timeframe (see `absence`)."""
        if timeframe not in TIMEFRAME_NS:
            raise InputError(f"unknown timeframe {timeframe!r}", "boxed data", f"use one of {', '.join(TIMEFRAME_NS)}")
        if timeframe != "1Day":
            return empty_bars()
        table = self._table()
        check_source_schema(table.schema, "bokeh_sampledata stocks")
        refuse_bad_rows(table, "bokeh_sampledata stocks")
        unknown = sorted(set(symbols or ()) - set(SYMBOLS))
        if unknown:
            raise InputError(f"unknown symbol {', '.join(unknown)}", "boxed data", f"the box holds {', '.join(SYMBOLS)}")
        wanted = pl.col("date").is_between(start or self._daily[0], end or self._daily[1]) & pl.col("symbol").is_in(
            list(symbols or SYMBOLS)
        )
        return to_bar_frame(table.filter(wanted), self._calendar.timezone)

    def absence(self, timeframe: str) -> str:
        """The box holds daily bars only."""
        return (
            ""
            if timeframe == "1Day"
            else f"the boxed data holds daily bars only, no {timeframe}; use make demo DATA=<folder of Parquet bars>"
        )

    def corporate_actions(self) -> pl.DataFrame:
        """Splits and dividends read off the adjusted close."""
        rows = []
        for (symbol,), group in self._table().group_by("symbol", maintain_order=True):
            events = derive_actions(group["close"].to_numpy(), group["adjusted_close"].to_numpy())
            rows += [(instrument_id_of(str(symbol)), group["date"][row], ratio, dividend) for row, ratio, dividend in events]
        return pl.DataFrame(rows, schema=ACTION_SCHEMA, orient="row").sort("instrument_id", "ex_date")

    def sectors(self) -> pl.DataFrame:
        """GICS sectors, written down here: the package has none."""
        rows = [(instrument_id_of(symbol), *SECTORS[symbol]) for symbol in SYMBOLS]
        return pl.DataFrame(rows, schema=SECTOR_SCHEMA, orient="row")

    def field_series(self, timeframe: str) -> pl.DataFrame:
        """None in the box."""
        return pl.DataFrame(schema=FIELD_SCHEMA)

    def files(self) -> tuple[SourceFile, ...]:
        """The table itself: the package offers values, not a file, so the hash is over them."""
        data = self.read(TABLE_NAME)
        return (SourceFile(TABLE_NAME, sha256_hex(data), len(data)),)

    def read(self, name: str) -> bytes:
        """Canonical bytes of the table. InputError for any other name."""
        if name != TABLE_NAME:
            raise InputError(f"no file {name!r}", "the boxed data", "name the folder of bars that the assets were made from")
        table = self._table()
        columns = {name: table[name].to_list() if name == "symbol" else table[name].to_physical().to_numpy() for name in table.columns}
        return canonical_bytes(columns)
