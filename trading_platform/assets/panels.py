"""From an upstream asset's tables to the arrays that features, labels and the backtest read, and from arrays back to tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import read_periods
from trading_platform.assets.feature_policy import in_force, plain_in_force
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import Reader
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import BAR_FIELDS, FACTOR_FIELDS, Panel

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.features.program import FeatureSet
    from trading_platform.market_data.corporate_actions import ActionTable

OPTIONAL_FIELDS = ("vwap", "trade_count")


def set_of(out: Reader, pipeline: Pipeline) -> FeatureSet:
    """The features in force, or the pipeline's plain ones where these bars lack a market-wide field that its own set reads.

    InputError where a person put another set in force that these bars cannot feed: that is not answered with something else.
    """
    from trading_platform.features.catalog.selection import parse

    wanted = in_force(out.place, pipeline)
    missing = sorted(set(market_fields(wanted)) - set(out.read(pipeline.bars, "fields")["field"].unique()))
    if missing and parse(wanted.name).name != pipeline.feature_set:
        what = f"the features in force, {wanted.name}, read {', '.join(missing)}, and {pipeline.bars} holds no such field"
        raise InputError(what, f"pipeline {pipeline.name}", "features rollback, or read a source that has it")
    return plain_in_force(out.place, pipeline) if missing else wanted


def market_fields(chosen: FeatureSet) -> tuple[str, ...]:
    """The market-wide fields a set reads: those that no bar carries."""
    return tuple(name for name in chosen.fields if name not in (*BAR_FIELDS, *FACTOR_FIELDS, *OPTIONAL_FIELDS))


def panel_of(out: Reader, pipeline: Pipeline, chosen: FeatureSet | None = None) -> Panel:
    """The pipeline's panel, from the bars and the universe this reader sees. Every asset builds the same one.

    chosen: carry the optional fields that this set reads, instead of those of the features in force.
    """
    from trading_platform.market_data.panel import build_panel

    optional = tuple(name for name in (chosen or set_of(out, pipeline)).fields if name in OPTIONAL_FIELDS)
    fields = out.read(pipeline.bars, "fields")
    return build_panel(
        read_periods(out, pipeline.bars, pipeline),
        actions_of(out, pipeline),
        pipeline.timeframe,
        out.place.calendar,
        out.read(pipeline.asset("universe"), "members"),
        fields=optional,
        field_series=fields if fields.height else None,
        vendor_delay_ns=int(out.place.profile(pipeline).vendor_delay_s * 1e9),
    )


def actions_of(out: Reader, pipeline: Pipeline) -> ActionTable:
    """The corporate actions beside the bars."""
    from trading_platform.market_data.panel import action_table

    return action_table(out.read(pipeline.bars, "corporate_actions"))


def stretch_start(session: NDArray[np.int64], pipeline: Pipeline, stretch_rows: int) -> int:
    """First row of the stretch that no training may see: the last `stretch_rows` daily rows, or the last session of minute rows.

    session: (T,) int64, the session day of every row. InputError where no row is left before it.
    """
    rows = len(session)
    start = rows - stretch_rows if pipeline.timeframe == "1Day" else int(np.searchsorted(session, session[-1])) if rows else 0
    if start <= 0:
        fix = "read a longer span, or shorten the stretch (TRADING_STRETCH_ROWS)"
        raise InputError(f"{rows} rows leave none for training before the stretch", f"pipeline {pipeline.name}", fix)
    return start


def cutoff_rows(session: NDArray[np.int64], pipeline: Pipeline, stretch_rows: int) -> dict[str, int]:
    """Training cutoffs (ISO session date) and the first row each bundle trades: the stretch's first row, then `cutoffs_apart` on."""
    start = stretch_start(session, pipeline, stretch_rows)
    rows = [start] if pipeline.cutoffs_apart == 0 else list(range(start, len(session), pipeline.cutoffs_apart))[:2]
    return {session_date(session, row): row for row in rows}


def session_date(session: NDArray[np.int64], row: int) -> str:
    """ISO date of a row's session."""
    return str(np.datetime64(int(session[row]), "D"))


@dataclass(frozen=True, slots=True)
class Cells:
    """The present cells of a panel in table order (instrument, then time): row and column of each."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]


def present_cells(panel: Panel) -> Cells:
    """Present cells, ascending by (instrument_id, timestamp)."""
    column, row = np.nonzero(panel.present.T)
    return Cells(row.astype(np.int64), column.astype(np.int64))


def cell_frame(panel: Panel, cells: Cells, values: dict[str, NDArray]) -> pl.DataFrame:
    """A table of some cells: instrument_id, timestamp, known_at, session, and `values` (name -> one number per cell)."""
    import polars as pl

    utc = pl.Datetime("ns", "UTC")
    ids = pl.Series("instrument_id", np.array(panel.instrument_ids, dtype=object)[cells.column], dtype=pl.String)
    return pl.DataFrame(
        {
            "instrument_id": ids,
            "timestamp": pl.Series(panel.timestamp[cells.row]).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC").cast(utc),
            "known_at": pl.Series(panel.known_at[cells.row]).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC").cast(utc),
            "session": pl.Series(panel.session[cells.row].astype(np.int32)).cast(pl.Date),
            **values,
        }
    )


def cells_of(panel: Panel, frame: pl.DataFrame) -> Cells:
    """Where the rows of a table made by `cell_frame` lie in the panel. InputError for a row the panel does not have."""
    import polars as pl

    columns = {name: index for index, name in enumerate(panel.instrument_ids)}
    column = frame["instrument_id"].replace_strict(columns, default=-1, return_dtype=pl.Int64).to_numpy()
    stamps = frame["timestamp"].to_physical().to_numpy()
    row = np.minimum(np.searchsorted(panel.timestamp, stamps), max(panel.shape[0] - 1, 0))
    if bool(np.any(column < 0)) or bool(np.any(panel.timestamp[row] != stamps)):
        raise InputError("a table has rows that the panel does not have", "assets.panels", "materialize the assets between them again")
    return Cells(row, column)


def scatter(panel: Panel, cells: Cells, values: NDArray) -> NDArray:
    """An array (T, S) of one value per cell, NaN elsewhere."""
    array = np.full(panel.shape, np.nan, dtype=values.dtype)
    array[cells.row, cells.column] = values
    return array
