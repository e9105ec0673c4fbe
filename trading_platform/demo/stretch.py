"""The stretch of real bars that nobody trained on, as files for the simulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from trading_platform.assets.bars import read_periods
from trading_platform.assets.panels import cutoff_rows, market_fields, panel_of, session_date, set_of, stretch_start
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import Reader
from trading_platform.assets.session_inputs import external_fields
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import symbol_of
from trading_platform.contracts.panel import PRICE_FIELDS
from trading_platform.market_data.lake import write_atomically

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.contracts.panel import Panel

FACTS, INDEXES = "stretch.json", "indexes.parquet"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Files and dates of one pipeline's stretch. cutoffs: training cutoff -> number of the first stretch row its bundle trades (from 0).

    indexes: bars of what feeds the rows' market-wide fields, None where they have none.
    """

    pipeline: Pipeline
    bars: Path
    actions: Path
    indexes: Path | None
    first: str
    last: str
    rows: int
    instruments: int
    cutoffs: dict[str, int]


def write_stretch(out: Reader, pipeline: Pipeline, folder: Path) -> Stretch:
    """Write the bars (all of them: earlier ones are the venue's history) and the corporate actions of a pipeline."""
    import polars as pl

    folder.mkdir(parents=True, exist_ok=True)
    panel: Panel = panel_of(out, pipeline)
    rows = out.place.settings.stretch_rows
    start = stretch_start(panel.session, pipeline, rows)
    symbol = pl.col("instrument_id").map_elements(symbol_of, return_dtype=pl.String).alias("symbol")
    first_session = np.datetime64(int(panel.session[max(start - 30, 0)]), "D").astype("datetime64[ns]").astype(np.int64)
    bars = read_periods(out, pipeline.bars, pipeline).filter(pl.col("timestamp").to_physical() >= int(first_session))
    columns = [name for name in ("timestamp", "open", "high", "low", "close", "volume", "vwap", "trade_count") if name in bars.columns]
    bars.select(symbol, *columns).write_parquet(folder / "bars.parquet")
    actions = out.read(pipeline.bars, "corporate_actions")
    actions.select(symbol, "ex_date", "split_ratio", "cash_dividend").write_parquet(folder / "actions.parquet")
    series = out.read(pipeline.bars, "fields").filter(pl.col("timestamp").to_physical() >= int(first_session))
    wanted = market_fields(set_of(out, pipeline))
    (folder / INDEXES).unlink(missing_ok=True)
    if wanted:
        index_bars(series, wanted).write_parquet(folder / INDEXES)
    cutoffs = {cutoff: row - start for cutoff, row in cutoff_rows(panel.session, pipeline, rows).items()}
    facts = {
        "first": session_date(panel.session, start),
        "last": session_date(panel.session, panel.shape[0] - 1),
        "rows": panel.shape[0] - start,
        "instruments": len(panel.instrument_ids),
        "cutoffs": cutoffs,
    }
    write_atomically(folder / FACTS, canonical_bytes(facts))
    return read_stretch(pipeline, folder)


def index_bars(series: pl.DataFrame, wanted: Sequence[str]) -> pl.DataFrame:
    """Bars of the indexes behind some market-wide fields. The lake keeps their closes: all four prices are the close, nothing is traded."""
    import polars as pl

    symbols = {field.name: field.symbol for field in external_fields(wanted)}
    prices = [pl.col("value").alias(name) for name in PRICE_FIELDS]
    chosen = series.filter(pl.col("field").is_in(list(symbols)))
    return chosen.select(pl.col("field").replace_strict(symbols).alias("symbol"), "timestamp", *prices, pl.lit(0.0).alias("volume"))


def read_stretch(pipeline: Pipeline, folder: Path) -> Stretch:
    """The stretch that `write_stretch` wrote. InputError where there is none."""
    if not (folder / FACTS).is_file():
        raise InputError("no stretch here", str(folder), "run the demo once on this home")
    indexes = folder / INDEXES if (folder / INDEXES).is_file() else None
    return Stretch(pipeline, folder / "bars.parquet", folder / "actions.parquet", indexes, **parse((folder / FACTS).read_bytes()))
