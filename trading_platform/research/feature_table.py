"""Features of a bars file as a table on disk, chunk after chunk: the same program as everywhere, with bounded memory.

The table has one row per bar, ordered by (timestamp, instrument_id): instrument_id, timestamp, one float32 column per feature.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import BAR_FIELDS, FACTOR_FIELDS, PRICE_FIELDS, Panel
from trading_platform.features.memory import readers_of
from trading_platform.features.program import FeatureSet, Program
from trading_platform.market_data.bar_file import BarFile, panels

UNFINISHED = ".writing-"
THREADS = 2
Progress = Callable[[int, int], None]


@dataclass(slots=True)
class Computed:
    """What was written. rows: bars. infinite: input cells that are infinite, by field. undefined: share of undefined cells, by feature.

    made_undefined: infinities that operators made undefined. without_factors: the file names no split_factor or return_factor.
    """

    rows: int = 0
    chunks: int = 0
    made_undefined: int = 0
    infinite: dict[str, int] = field(default_factory=dict)
    undefined: dict[str, float] = field(default_factory=dict)
    without_factors: bool = False


def compute_table(
    bars: BarFile, chosen: FeatureSet, out: Path, calendar: MarketCalendar, chunk: int, progress: Progress = lambda done, total: None
) -> Computed:
    """Compute `chosen` over the file and write `out`, whole or not at all.

    chunk: rows of a panel computed at once. InputError: a field that the set needs is missing or never holds a number, a price that is
    not positive, and whatever `bar_file` refuses; nothing is written then.
    """
    check_fields(bars, chosen)
    bars = replace(bars, fields=tuple(name for name in bars.fields if name in (*BAR_FIELDS, *FACTOR_FIELDS, *chosen.fields)))
    if chunk < 1:
        raise InputError(f"a chunk of {chunk} rows", "features compute", "use at least 1")
    said = Computed(without_factors=not set(FACTOR_FIELDS) <= set(bars.fields))
    defined = np.zeros(len(chosen.names), np.int64)
    numbers = dict.fromkeys(chosen.fields, 0)
    program = Program(chosen, bars.instrument_ids, threads=THREADS)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=out.parent) as folder:
        scratch = Path(folder)
        (scratch / "dealt").mkdir()
        with pq.ParquetWriter(scratch / out.name, _schema(chosen), compression="zstd") as writer:
            for panel in panels(bars, calendar, chunk, scratch / "dealt", progress):
                _look_at(panel, chosen, numbers, said, bars.path.name)
                values = program.step(panel)
                writer.write_table(_table(panel, chosen, values, defined))
                said.rows, said.chunks = said.rows + int(panel.present.sum()), said.chunks + 1
        _refuse_empty(numbers, chosen, bars.path.name)
        with (scratch / out.name).open("rb") as file:
            os.fsync(file.fileno())
        os.replace(scratch / out.name, out)
    said.made_undefined = program.undefined_count
    said.undefined = {name: 1.0 - int(count) / said.rows for name, count in zip(chosen.names, defined, strict=True)}
    return said


def check_fields(bars: BarFile, chosen: FeatureSet) -> None:
    """Raise InputError where the file lacks a field, naming the features and the operators that read it."""
    for name in chosen.fields:
        if name not in bars.fields and name not in FACTOR_FIELDS:
            what = f"the file has no column {name}; {_users(chosen, name)}"
            raise InputError(what, f"{bars.path.name}, feature set {chosen.name}", "add the column, or use a set without these features")


def _users(chosen: FeatureSet, name: str) -> str:
    users = [f"{feature} ({', '.join(readers_of(chosen.features[feature], name))})" for feature in chosen.needed_by(name)]
    return f"needed by {', '.join(users[:5])}{f' and {len(users) - 5} more' if len(users) > 5 else ''}"


def _look_at(panel: Panel, chosen: FeatureSet, numbers: dict[str, int], said: Computed, where: str) -> None:
    """Count what is no number, and refuse an impossible price: a feature of it would look like any other."""
    for name in chosen.fields:
        values = panel.fields[name][panel.present]
        infinite = int(np.isinf(values).sum())
        if infinite:
            said.infinite[name] = said.infinite.get(name, 0) + infinite
        numbers[name] += int(np.isfinite(values).sum())
        if name in PRICE_FIELDS and bool((values <= 0.0).any()):
            row, column = (int(i) for i in np.argwhere(panel.present & (panel.fields[name] <= 0.0))[0])
            when = f"{np.datetime64(int(panel.timestamp[row]), 'ns').astype('datetime64[s]')}Z"
            what = f"{name} is {panel.fields[name][row, column]} for {panel.instrument_ids[column]} at {when}"
            raise InputError(what, where, "correct or drop the row")


def _refuse_empty(numbers: dict[str, int], chosen: FeatureSet, where: str) -> None:
    for name, count in numbers.items():
        if not count:
            what = f"column {name} holds no number at all; {_users(chosen, name)}"
            raise InputError(what, f"{where}, feature set {chosen.name}", "fill the column, or use a set without these features")


def _schema(chosen: FeatureSet) -> pa.Schema:
    keys = [pa.field("instrument_id", pa.string()), pa.field("timestamp", pa.timestamp("ns", "UTC"))]
    said = {"feature_set": f"{chosen.name} {chosen.label}", "feature_hash": chosen.hash}
    return pa.schema([*keys, *(pa.field(name, pa.float32()) for name in chosen.names)], metadata=said)


def _table(panel: Panel, chosen: FeatureSet, values: NDArray[np.float32], defined: NDArray[np.int64]) -> pa.Table:
    """The present cells of a chunk as rows; counts the defined ones of each feature into `defined`."""
    row, column = np.nonzero(panel.present)
    cells = values[row, column]
    defined += np.isfinite(cells).sum(axis=0)
    ids = pa.DictionaryArray.from_arrays(pa.array(column.astype(np.int32)), pa.array(panel.instrument_ids)).cast(pa.string())
    stamps = pa.array(panel.timestamp[row], pa.timestamp("ns", "UTC"))
    columns = [pa.array(np.ascontiguousarray(cells[:, index])) for index in range(cells.shape[1])]
    return pa.Table.from_arrays([ids, stamps, *columns], schema=_schema(chosen))
