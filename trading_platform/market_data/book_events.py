"""Order-book, quote and trade files as event tables of one form. Rows and features of them are the business of `market_data.order_book`.

Book table: instrument_id, timestamp (UTC, when it was received), bid_price, bid_size, ask_price, ask_size after the event, and for deeper
levels bid_price_2, bid_size_2, ask_price_2, ask_size_2 and so on. Trade table: instrument_id, timestamp, price, size, side (1 the buyer was
the aggressor, -1 the seller, null unknown). Both sorted by (instrument_id, timestamp), events of one instant in the order of the file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from trading_platform.contracts.errors import InputError
from trading_platform.market_data.bars import TIMESTAMP

BEST = ("bid_price", "bid_size", "ask_price", "ask_size")
BOOK_SCHEMA: dict[str, pl.DataType] = {"instrument_id": pl.String(), "timestamp": TIMESTAMP, **dict.fromkeys(BEST, pl.Float64())}
TRADE_SCHEMA: dict[str, pl.DataType] = {
    "instrument_id": pl.String(),
    "timestamp": TIMESTAMP,
    "price": pl.Float64(),
    "size": pl.Float64(),
    "side": pl.Int8(),
}
_LEVEL = re.compile(r"(bid|ask)_(price|size|px|sz)(?:_(\d+))?")
_WORDS = {"px": "price", "sz": "size", "price": "price", "size": "size"}


def level_name(side: str, what: str, level: int) -> str:
    """Column and field of a level: bid_price for the best (level 1), bid_price_2 for the next."""
    return f"{side}_{what}" if level == 1 else f"{side}_{what}_{level}"


def levels_of(columns: list[str]) -> int:
    """How many levels a book table has: all four columns of each, without a gap."""
    level = 0
    while all(level_name(side, what, level + 1) in columns for side in ("bid", "ask") for what in ("price", "size")):
        level += 1
    return level


def read_books(path: Path, ids: Mapping[str, str]) -> pl.DataFrame:
    """A Parquet file of book states or quotes as a book table; `to_books` says what it may hold."""
    return to_books(_read(path), ids, str(path))


def read_trades(path: Path, ids: Mapping[str, str]) -> pl.DataFrame:
    """A Parquet file of trades as a trade table; `to_trades` says what it may hold."""
    return to_trades(_read(path), ids, str(path))


def to_books(frame: pl.DataFrame, ids: Mapping[str, str], where: str = "books") -> pl.DataFrame:
    """Book states as a book table.

    frame: symbol, timestamp (UTC), and per level bid_price_1 or bid_px_1 or, for the best, bid_price or bid_px; the same for sizes (size,
    sz) and for the ask. ids: symbol -> instrument_id. In a frame of one level a price and size of 0 mean that this side did not change.
    States before both sides are known, and states with the bid above the ask (one side has been told, the other not yet), are left out.
    InputError for a missing column, an unknown symbol, time running backwards, or an impossible number; the message names the row.
    """
    renamed = {name: level_name(m[1], _WORDS[m[2]], int(m[3] or 1)) for name in frame.columns if (m := _LEVEL.fullmatch(name))}
    table = _keyed(frame, renamed, BEST, ids, where)
    levels = levels_of(table.columns)
    fields = [level_name(side, what, k) for k in range(1, levels + 1) for side in ("bid", "ask") for what in ("price", "size")]
    table = table.select("row", "instrument_id", "timestamp", pl.col(fields).cast(pl.Float64))
    if levels == 1:
        for side in ("bid", "ask"):
            unchanged = (pl.col(f"{side}_price") == 0.0) & (pl.col(f"{side}_size") == 0.0)
            known = [pl.when(~unchanged).then(pl.col(f"{side}_{what}")).alias(f"{side}_{what}") for what in ("price", "size")]
            table = table.with_columns(known)
        refuse_values(table, fields, where, known_only=True)
        table = table.with_columns(pl.col(fields).forward_fill().over("instrument_id")).drop_nulls(fields)
    else:
        refuse_values(table, fields, where)
    return table.filter(pl.col("bid_price") <= pl.col("ask_price")).drop("row")


def to_trades(frame: pl.DataFrame, ids: Mapping[str, str], where: str = "trades") -> pl.DataFrame:
    """Trades as a trade table.

    frame: symbol, timestamp (UTC), price, size or qty, and optionally buyer_is_maker (then the seller was the aggressor) or side, and
    suspicious: such prints are left out. ids: symbol -> instrument_id. InputError as in `to_books`.
    """
    table = _keyed(frame, {"qty": "size"}, ("price", "size"), ids, where)
    if "buyer_is_maker" in table.columns:
        table = table.with_columns(pl.when("buyer_is_maker").then(-1).otherwise(1).alias("side"))
    if "side" not in table.columns:
        table = table.with_columns(pl.lit(None).alias("side"))
    refuse_values(table, ("price", "size"), where)
    kept = table.filter(~pl.col("suspicious")) if "suspicious" in table.columns else table
    return kept.select(pl.col(name).cast(dtype) for name, dtype in TRADE_SCHEMA.items())


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"cannot be read as Parquet: {error}", str(path), "give a Parquet file, or fetch it again") from error


def _keyed(frame: pl.DataFrame, renamed: Mapping[str, str], needed: tuple[str, ...], ids: Mapping[str, str], where: str) -> pl.DataFrame:
    """The frame with our column names and instrument ids, in (instrument_id, timestamp) order; refuses what has no key."""
    table = frame.rename({old: new for old, new in renamed.items() if old in frame.columns})
    missing = [name for name in ("symbol", "timestamp", *needed) if name not in table.columns]
    if missing:
        raise InputError(f"no column {', '.join(missing)}", where, "give symbol, timestamp (UTC) and the columns of a book or of trades")
    dtype = table.schema["timestamp"]
    if not (isinstance(dtype, pl.Datetime) and dtype.time_zone == "UTC"):
        raise InputError(f"column timestamp is {dtype}, expected Datetime with time zone UTC", where, "give the instant of receipt, in UTC")
    unknown = sorted(set(table["symbol"].unique().to_list()) - set(ids), key=str)
    if unknown:
        raise InputError(f"unknown symbol {unknown[0]!r}", where, "name its instrument id in `ids`, or leave its rows out")
    keyed = table.with_row_index("row").with_columns(
        pl.col("symbol").replace_strict(dict(ids), return_dtype=pl.String).alias("instrument_id"), pl.col("timestamp").cast(TIMESTAMP)
    )
    back = keyed.filter(pl.col("timestamp").is_null() | (pl.col("timestamp").diff().over("instrument_id") < pl.duration())).head(1)
    if back.height:
        raise InputError("time is absent or runs backwards", f"{where}, row {back['row'][0]}", "sort each symbol by time of receipt")
    return keyed.sort("instrument_id", maintain_order=True)


def refuse_values(table: pl.DataFrame, fields: Sequence[str], where: str, known_only: bool = False) -> None:
    """InputError for a price that is not positive and finite, or a size that is negative; absent ones pass where `known_only`.

    table: with its place in the file as column `row`.
    """
    for name in fields:
        value = pl.col(name)
        sound = value.is_finite() & ((value > 0) if "price" in name else (value >= 0))
        bad = table.filter(~sound.fill_null(known_only)).head(1)
        if bad.height:
            raise InputError(f"{name} is {bad[name][0]}", f"{where}, row {bad['row'][0]}", "correct or drop the row")
