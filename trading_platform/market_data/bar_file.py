"""A long Parquet file of bars as consecutive panels, with the memory of a few chunks whatever the file's length.

Columns: instrument_id or symbol, timestamp (UTC, bar start), open, high, low, close, volume; more numeric columns are fields (vwap,
trade_count, split_factor, return_factor, ...). The rows of one instrument run forward in time; whether the file goes time by time or
instrument by instrument does not matter: the second kind is first dealt out into files of neighbouring times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import BAR_FIELDS, FACTOR_FIELDS, TIMEFRAME_NS, Panel
from trading_platform.market_data.bars import TIMESTAMP
from trading_platform.market_data.corporate_actions import ActionTable
from trading_platform.market_data.panel import build_panel

BATCH = 262_144  # rows decoded at once
DEALT_FILES = 64  # at most so many are open while an instrument-wise file is dealt out
HOUR_NS = TIMEFRAME_NS["1Hour"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class BarFile:
    """What a first pass over the keys of a file found.

    instrument_ids: ascending. timestamps: (T,) int64 UTC ns, every bar start once, ascending. rows: bars. time_major: the file goes time by
    time. fields: numeric columns that a panel will carry. id_column: instrument_id or symbol (`us:` is put before a symbol).
    """

    path: Path
    timeframe: str
    instrument_ids: tuple[str, ...]
    timestamps: NDArray[np.int64]
    rows: int
    time_major: bool
    fields: tuple[str, ...]
    id_column: str


def open_bars(path: Path, timeframe: str = "") -> BarFile:
    """Read the keys of a file. timeframe: stated, or found from the smallest step between two bars.

    InputError, naming row, instrument and time: no Parquet file, a missing or mistyped column, an absent key, a duplicate, time that runs
    backwards within an instrument, several timeframes in one file.
    """
    where = path.name
    try:
        file = pq.ParquetFile(path)
    except FileNotFoundError as error:
        raise InputError("there is no such file", str(path), "give a Parquet file of bars") from error
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"not a Parquet file: {error}", where, "give a Parquet file of bars") from error
    with file:
        id_column, fields = _columns(file, where)
        _refuse_two_timeframes(file, where)
        ids: set[str] = set()
        newest = pl.DataFrame(schema={id_column: pl.String, "newest": pl.Int64})
        stamps, last, row, time_major = np.empty(0, np.int64), np.iinfo(np.int64).min, 0, True
        for frame in _batches(file, [id_column, "timestamp"], where):
            _refuse_absent_keys(frame, id_column, row, where)
            newest = _newest(frame, id_column, newest, row, where)
            here = frame["timestamp"].to_physical().to_numpy()
            time_major = time_major and bool(here[0] >= last) and bool(np.all(np.diff(here) >= 0))
            stamps, last, row = np.union1d(stamps, here), here[-1], row + frame.height
            ids |= set(frame[id_column].unique().to_list())
    if not row:
        raise InputError("the file holds no bars", where, "give a file with rows")
    found = timeframe or _timeframe(stamps, where)
    return BarFile(path, found, tuple(sorted(_named(ids, id_column))), stamps, row, time_major, fields, id_column)


def panels(
    bars: BarFile, calendar: MarketCalendar, chunk: int, scratch: Path, progress: Progress = lambda done, total: None
) -> Iterator[Panel]:
    """Panels of `chunk` rows (the last one may be shorter) over all instruments of the file, in time order.

    Columns split_factor and return_factor are taken where the file has them, else 1.0; every instrument is a member of every row.
    scratch: an empty folder for the dealt-out files of an instrument-wise file, about as large as the file; left empty.
    progress: bars read so far, of how many. InputError for a bar outside the calendar, or a daily bar that is not at local midnight.
    """
    if bars.timeframe not in TIMEFRAME_NS:
        raise InputError(f"unknown timeframe {bars.timeframe!r}", bars.path.name, f"use one of {', '.join(TIMEFRAME_NS)}")
    _refuse_other_grid(bars, calendar)
    edges = bars.timestamps[chunk::chunk]
    done = 0
    for frame in _in_chunks(_frames(bars, chunk, scratch), edges):
        done += frame.height
        yield _panel(bars, frame, calendar)
        progress(done, bars.rows)


def _frames(bars: BarFile, chunk: int, scratch: Path) -> Iterator[pl.DataFrame]:
    """The file's rows, time by time, in pieces."""
    columns = [bars.id_column, "timestamp", *bars.fields]
    with pq.ParquetFile(bars.path) as file:
        if bars.time_major:
            yield from _batches(file, columns, bars.path.name)
            return
        parts = _deal(bars, _batches(file, columns, bars.path.name), chunk, scratch)
    for part in parts:
        yield pl.read_parquet(part).sort("timestamp", maintain_order=True)
        part.unlink()


def _deal(bars: BarFile, frames: Iterator[pl.DataFrame], chunk: int, scratch: Path) -> list[Path]:
    """The rows dealt out into files of neighbouring times, each a whole number of chunks long."""
    chunks = -(-len(bars.timestamps) // chunk)
    each = chunk * -(-chunks // DEALT_FILES)
    edges = bars.timestamps[each::each]
    paths = [scratch / f"{number:03d}.parquet" for number in range(len(edges) + 1)]
    with ExitStack() as stack:
        writers: dict[int, pq.ParquetWriter] = {}
        for frame in frames:
            number = np.searchsorted(edges, frame["timestamp"].to_physical().to_numpy(), side="right")
            for part in np.unique(number):
                table = frame.filter(pl.Series(number == part)).to_arrow()
                if part not in writers:
                    writers[part] = stack.enter_context(pq.ParquetWriter(paths[part], table.schema, compression="lz4"))
                writers[part].write_table(table)
    return [paths[number] for number in sorted(writers)]


def _in_chunks(frames: Iterator[pl.DataFrame], edges: NDArray[np.int64]) -> Iterator[pl.DataFrame]:
    """Frames in time order cut at the edges: one per stretch between two of them."""
    held: list[pl.DataFrame] = []
    number = 0
    for frame in frames:
        stamps = frame["timestamp"].to_physical().to_numpy()
        start = 0
        while number < len(edges) and stamps[-1] >= edges[number]:
            stop = int(np.searchsorted(stamps, edges[number]))
            yield pl.concat([*held, frame[start:stop]])
            held, start, number = [], stop, number + 1
        held.append(frame[start:])
    if held:
        yield pl.concat(held)


def _panel(bars: BarFile, frame: pl.DataFrame, calendar: MarketCalendar) -> Panel:
    """One chunk. What the file says about factors takes the place of what no corporate action says."""
    given = {name: f"{name} of the file" for name in FACTOR_FIELDS if name in bars.fields}
    others = tuple(name for name in bars.fields if name not in (*BAR_FIELDS, *given))
    named = frame.rename(given)
    if bars.id_column == "symbol":
        named = named.with_columns(("us:" + pl.col("symbol")).alias("instrument_id"))
    extra = (*others, *given.values())
    panel = build_panel(named, ActionTable(()), bars.timeframe, calendar, fields=extra, instrument_ids=bars.instrument_ids)
    fields = dict(panel.fields)
    for name, column in given.items():
        fields[name] = fields.pop(column)
    return replace(panel, fields=fields)


def _batches(file: pq.ParquetFile, columns: list[str], where: str) -> Iterator[pl.DataFrame]:
    try:
        for batch in file.iter_batches(BATCH, columns=columns):
            frame = pl.DataFrame(pl.from_arrow(batch))
            key = columns[0]
            yield frame.with_columns(pl.col(key).cast(pl.String), pl.col("timestamp").cast(TIMESTAMP))
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"the file is damaged: {error}", where, "fetch or write it again") from error


def _columns(file: pq.ParquetFile, where: str) -> tuple[str, tuple[str, ...]]:
    schema = pl.DataFrame(pl.from_arrow(file.schema_arrow.empty_table())).schema
    id_column = "instrument_id" if "instrument_id" in schema else "symbol"
    problems = [f"column {name} is missing" for name in (id_column, "timestamp", *BAR_FIELDS) if name not in schema]
    if id_column in schema and schema[id_column] not in (pl.String, pl.Categorical):
        problems.append(f"column {id_column} is {schema[id_column]}, expected String")
    stamp = schema.get("timestamp")
    if stamp is not None and not (isinstance(stamp, pl.Datetime) and stamp.time_zone == "UTC"):
        problems.append(f"column timestamp is {stamp}, expected Datetime with time zone UTC")
    problems += [
        f"column {name} is {schema[name]}, expected a number" for name in BAR_FIELDS if name in schema and not schema[name].is_numeric()
    ]
    if problems:
        raise InputError("; ".join(problems), where, "bars have instrument_id or symbol, timestamp (UTC, bar start), open to volume")
    return id_column, tuple(name for name, dtype in schema.items() if dtype.is_numeric())


def _refuse_two_timeframes(file: pq.ParquetFile, where: str) -> None:
    if "timeframe" in file.schema_arrow.names:
        found = sorted(
            {str(name) for batch in file.iter_batches(BATCH, columns=["timeframe"]) for name in batch.column(0).unique().to_pylist()}
        )
        if len(found) > 1:
            raise InputError(f"bars of several timeframes: {', '.join(found)}", where, "give one file per timeframe")


def _refuse_absent_keys(frame: pl.DataFrame, id_column: str, row: int, where: str) -> None:
    for name in (id_column, "timestamp"):
        if frame[name].null_count():
            at = row + int(frame[name].is_null().arg_max() or 0)
            raise InputError(f"{name} is absent", f"{where}, row {at}", "correct or drop the row")


def _newest(frame: pl.DataFrame, id_column: str, before: pl.DataFrame, row: int, where: str) -> pl.DataFrame:
    """The newest bar of each instrument so far. InputError where one is not newer than the one before it."""
    stamps = frame.select(id_column, pl.col("timestamp").to_physical().alias("t")).with_row_index("row", offset=row)
    joined = stamps.join(before, on=id_column, how="left", maintain_order="left")
    earlier = pl.col("t").shift(1).over(id_column).fill_null(pl.col("newest"))
    bad = joined.with_columns(earlier.alias("earlier")).filter(pl.col("t") <= pl.col("earlier")).head(1)
    if bad.height:
        found = bad.row(0, named=True)
        when = f"{np.datetime64(found['t'], 'ns').astype('datetime64[s]')}Z"
        same = found["t"] == found["earlier"]
        what = f"duplicate bar of {found[id_column]} at {when}" if same else f"timestamps run backwards for {found[id_column]} at {when}"
        fix = "keep one of the two rows" if same else "sort each instrument's rows by timestamp"
        raise InputError(what, f"{where}, row {found['row']}", fix)
    here = stamps.group_by(id_column).agg(pl.col("t").last().alias("newest"))
    return pl.concat([before, here]).group_by(id_column).agg(pl.col("newest").max())


def _named(ids: set[str], id_column: str) -> set[str]:
    return ids if id_column == "instrument_id" else {f"us:{symbol}" for symbol in ids}


def _timeframe(stamps: NDArray[np.int64], where: str) -> str:
    """The timeframe whose length is the smallest step between two bars; a day is 23 to 25 hours long, and weekends are longer."""
    step = int(np.diff(stamps).min()) if len(stamps) > 1 else 0
    for name, length in TIMEFRAME_NS.items():
        if step == length or (name == "1Day" and step >= length - HOUR_NS):
            return name
    raise InputError(f"bars {step / 1e9:g} s apart are of no known timeframe", where, f"state one of {', '.join(TIMEFRAME_NS)}")


def _refuse_other_grid(bars: BarFile, calendar: MarketCalendar) -> None:
    """Bars that do not lie where bars of the timeframe lie: another timeframe is mixed in, or the stamps are not bar starts."""
    stamps, where = bars.timestamps, bars.path.name
    if bars.timeframe == "1Day":
        session = calendar.sessions_of(stamps)
        inside = session >= 0
        off = inside.copy()
        off[inside] = calendar.midnights_ns(session[inside]) != stamps[inside]
        why, fix = "is no local midnight, which is where a daily bar starts", "stamp daily bars with local midnight, in UTC"
    else:
        off = stamps % TIMEFRAME_NS[bars.timeframe] != 0
        why, fix = f"is no start of a {bars.timeframe} bar", "give one file per timeframe, with bar starts as timestamps"
    if bool(off.any()):
        when = f"{np.datetime64(int(stamps[np.argmax(off)]), 'ns').astype('datetime64[s]')}Z"
        raise InputError(f"{when} {why} ({int(off.sum())} such times)", where, fix)


def newest_rows(bars: BarFile, calendar: MarketCalendar, rows: int, width: int) -> Panel:
    """The last `rows` rows of at most `width` instruments, evenly spaced over the file's, as one panel."""
    _refuse_other_grid(bars, calendar)
    spread = np.unique(np.linspace(0, len(bars.instrument_ids) - 1, min(width, len(bars.instrument_ids))).astype(np.int64))
    ids = tuple(bars.instrument_ids[index] for index in spread)
    known = ids if bars.id_column == "instrument_id" else tuple(name.removeprefix("us:") for name in ids)
    start = int(bars.timestamps[max(len(bars.timestamps) - rows, 0)])
    columns = [bars.id_column, "timestamp", *bars.fields]
    wanted = pl.col(bars.id_column).is_in(known) & (pl.col("timestamp").cast(TIMESTAMP).dt.timestamp("ns") >= start)
    frame = pl.scan_parquet(bars.path).select(columns).filter(wanted).collect(engine="streaming")
    frame = frame.with_columns(pl.col(bars.id_column).cast(pl.String), pl.col("timestamp").cast(TIMESTAMP))
    return _panel(replace(bars, instrument_ids=ids), frame, calendar)
