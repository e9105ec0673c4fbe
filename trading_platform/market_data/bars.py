"""The bar frame: columns, types and the defects that no later stage may see. What sources return and the lake stores.

Columns: instrument_id, symbol (String), timestamp (Datetime ns UTC, bar start), session (Date, the exchange's local date), open, high,
low, close, volume (Float64); optional vwap, trade_count, adjusted_close (Float64). Sorted by (instrument_id, timestamp), no duplicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import polars as pl

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import BAR_FIELDS, PRICE_FIELDS
from trading_platform.market_data.symbols import SymbolTable

TIMESTAMP = pl.Datetime("ns", "UTC")
EARLIEST, LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
OPTIONAL_FIELDS = ("vwap", "trade_count", "adjusted_close")
BAR_SCHEMA: dict[str, pl.DataType] = {
    "instrument_id": pl.String(),
    "symbol": pl.String(),
    "timestamp": TIMESTAMP,
    "session": pl.Date(),
    **dict.fromkeys(BAR_FIELDS, pl.Float64()),
}


def empty_bars() -> pl.DataFrame:
    """A bar frame without rows."""
    return pl.DataFrame(schema=BAR_SCHEMA)


def check_source_schema(schema: pl.Schema, where: str) -> None:
    """Refuse a source frame that lacks a column or has one of a wrong type; the message names every problem."""
    problems = []
    for name in ("symbol", "timestamp", *BAR_FIELDS):
        dtype = schema.get(name)
        if dtype is None:
            problems.append(f"column {name} is missing")
        elif name == "symbol" and dtype not in (pl.String, pl.Categorical):
            problems.append(f"column symbol is {dtype}, expected String")
        elif name == "timestamp" and not (isinstance(dtype, pl.Datetime) and dtype.time_zone == "UTC"):
            problems.append(f"column timestamp is {dtype}, expected Datetime with time zone UTC")
        elif name in BAR_FIELDS and not dtype.is_numeric():
            problems.append(f"column {name} is {dtype}, expected a number")
    problems += [
        f"column {name} is {schema[name]}, expected a number"
        for name in OPTIONAL_FIELDS
        if name in schema and not schema[name].is_numeric() and schema[name] != pl.Null
    ]
    if problems:
        raise InputError("; ".join(problems), where, "bars have symbol, timestamp (UTC, bar start), open, high, low, close, volume")


def number_rows(frame: pl.DataFrame, file: str, files: Sequence[str]) -> pl.DataFrame:
    """The bar columns of a checked file, and where each row stood in it before any filter: `file`, one of `files`, and `row`."""
    known = [name for name in ("symbol", "timestamp", *BAR_FIELDS, *OPTIONAL_FIELDS) if name in frame.columns]
    return frame.select(known).with_row_index("row").with_columns(pl.lit(file, dtype=pl.Enum(files)).alias("file"))


def _first(frame: pl.DataFrame, bad: pl.Expr) -> dict[str, object] | None:
    rows = (frame if "row" in frame.columns else frame.with_row_index("row")).filter(bad).head(1)
    return rows.row(0, named=True) if rows.height else None


def _place(bad: Mapping[str, object], where: str) -> str:
    return f"{bad.get('file', where)}, row {bad['row']}"


def refuse_bad_keys(frame: pl.DataFrame, where: str) -> None:
    """Refuse a source frame with a row of no symbol, no timestamp, or a timestamp of no market; called before any date is computed."""
    microseconds = pl.col("timestamp").dt.timestamp("us")
    no_time = ~microseconds.is_between(int(EARLIEST.timestamp() * 1e6), int(LATEST.timestamp() * 1e6)).fill_null(False)
    bad = _first(frame.select("symbol", us=microseconds, bad=no_time), pl.col("bad"))
    if bad:
        found = "is absent" if bad["us"] is None else f"is {bad['us']} microseconds after 1970"
        what = f"timestamp {found} for {bad['symbol']}, expected {EARLIEST.year} to {LATEST.year}"
        raise InputError(what, f"{where}, row {bad['row']}", "correct or drop the row, or fetch the file again")
    bad = _first(frame.select("symbol", "timestamp"), pl.col("symbol").is_null() | (pl.col("symbol").cast(pl.String) == ""))
    if bad:
        raise InputError(f"symbol is absent at {bad['timestamp']}", f"{where}, row {bad['row']}", "correct or drop the row")


def refuse_bad_rows(frame: pl.DataFrame, where: str) -> None:
    """Refuse a source frame (columns symbol, timestamp, OHLCV) whose rows are impossible; the message names row, symbol, time and value.

    Impossible: null or NaN or non-positive or infinite price, negative or absent volume, (symbol, timestamp) twice, time running
    backwards within a symbol. Implausible rows are the business of `market_data.quality`. A row's place is that of `number_rows`, else its
    position in the frame.
    """
    for name in BAR_FIELDS:
        value = pl.col(name)
        sound = value.is_finite() & ((value > 0) if name in PRICE_FIELDS else (value >= 0))
        bad = _first(frame, ~sound.fill_null(False))
        if bad:
            raise InputError(
                f"{name} is {bad[name]} for {bad['symbol']} at {bad['timestamp']}", _place(bad, where), "correct or drop the row"
            )
    refuse_duplicates(frame, where)
    bad = _first(frame, (pl.col("timestamp").diff().over("symbol") < pl.duration()).fill_null(False))
    if bad:
        raise InputError(
            f"timestamps run backwards for {bad['symbol']} at {bad['timestamp']}",
            _place(bad, where),
            "sort each symbol's rows by timestamp",
        )


def refuse_duplicates(frame: pl.DataFrame, where: str) -> None:
    """Refuse a source frame with a (symbol, timestamp) twice; the message names the places of both rows. Several files may be one frame."""
    bad = _first(frame, pl.struct("symbol", "timestamp").is_first_distinct().not_())
    if bad:
        first = _first(frame, (pl.col("symbol") == bad["symbol"]) & (pl.col("timestamp") == bad["timestamp"]))
        raise InputError(
            f"duplicate (symbol, timestamp): {bad['symbol']} at {bad['timestamp']}",
            _place(bad, where),
            f"keep one of the two rows; the other is {_place(first or bad, where)}",
        )


def with_instrument_ids(frame: pl.DataFrame, symbols: SymbolTable, day: str) -> pl.DataFrame:
    """Adds instrument_id by (symbol, the Date column `day`) through the dated table (T2); null where nobody had that ticker then."""
    periods = pl.DataFrame(
        [(period.symbol, period.first, period.last, period.instrument_id) for period in symbols.periods],
        schema={"symbol": pl.String, "_first": pl.Int64, "_last": pl.Int64, "instrument_id": pl.String},
        orient="row",
    ).sort("_first")
    placed = frame.with_columns(pl.col(day).to_physical().cast(pl.Int64).alias("_day")).with_row_index("_row").sort("_day")
    joined = placed.join_asof(periods, left_on="_day", right_on="_first", by="symbol", check_sortedness=False)
    then = pl.when(pl.col("_day") <= pl.col("_last")).then("instrument_id").alias("instrument_id")
    return joined.with_columns(then).sort("_row").drop("_row", "_day", "_first", "_last")


def to_bar_frame(frame: pl.DataFrame, timezone: str, symbols: SymbolTable | None = None, where: str = "bars") -> pl.DataFrame:
    """A checked source frame as a bar frame: ids, local session dates and float columns, sorted by (instrument_id, timestamp).

    symbols: who had which ticker when; without one each ticker is its own instrument for ever. InputError for a bar of nobody.
    """
    fields = [*BAR_FIELDS, *(name for name in OPTIONAL_FIELDS if name in frame.columns)]
    local = pl.col("timestamp").dt.convert_time_zone(timezone).dt.date().alias("session")
    table = frame.with_columns(pl.col("symbol").cast(pl.String), local)
    if symbols is None:
        table = table.with_columns((pl.lit("us:") + pl.col("symbol")).alias("instrument_id"))
    else:
        table = with_instrument_ids(table, symbols, "session")
        bad = _first(table, pl.col("instrument_id").is_null())
        if bad:
            raise InputError(f"unknown symbol {bad['symbol']} on {bad['session']}", where, "add its period to symbols.parquet")
    return table.select(
        "instrument_id",
        "symbol",
        pl.col("timestamp").cast(TIMESTAMP),
        "session",
        *(pl.col(name).cast(pl.Float64) for name in fields),
    ).sort("instrument_id", "timestamp")
