"""Sentiment scores per instrument as a field of the panel: from a file for training, one after another from a stream, the same numbers.

A score says what a source (a news model, an analyst) thought of an instrument, `known_at` when this platform could have known it. A row
has the newest score with known_at at or before its own, NaN before the first and once older than `max_age` sessions. No score is ever
filled backwards. The platform ships no source; the feature set `core_sentiment` reads the field, and no pipeline trades it unless told to.

    instrument_id,known_at,sentiment
    us:AAPL,2014-01-27T21:31:05Z,-0.62
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.market_data.bars import TIMESTAMP
from trading_platform.market_data.panel import MAX_AGE_SESSIONS

FIELD = "sentiment"
SCORE_SCHEMA: dict[str, pl.DataType] = {"instrument_id": pl.String(), "known_at": TIMESTAMP, FIELD: pl.Float64()}


def read_scores(path: Path) -> pl.DataFrame:
    """Scores of a Parquet or CSV file, sorted by (instrument_id, known_at), scores of one instant in the order of the file.

    Columns: instrument_id, known_at (UTC; in CSV as 2014-01-27T21:31:05Z), sentiment (a finite number, in the source's unit); others are
    ignored. InputError names the file and the row that is wrong.
    """
    try:
        frame = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"cannot be read: {error}", str(path), "give a Parquet or CSV file of scores") from error
    missing = [name for name in SCORE_SCHEMA if name not in frame.columns]
    if missing:
        raise InputError(f"no column {', '.join(missing)}", str(path), f"scores have {', '.join(SCORE_SCHEMA)}")
    if frame.schema["known_at"] == pl.String:
        instants = pl.col("known_at").str.to_datetime("%Y-%m-%dT%H:%M:%S%.fZ", time_unit="ns", strict=False).dt.replace_time_zone("UTC")
        frame = frame.with_columns(instants, pl.col(FIELD).cast(pl.Float64, strict=False))
    dtype = frame.schema["known_at"]
    if not (isinstance(dtype, pl.Datetime) and dtype.time_zone == "UTC"):
        raise InputError(f"column known_at is {dtype}, expected Datetime with time zone UTC", str(path), "say when it was known, in UTC")
    table = frame.select(pl.col(name).cast(kind) for name, kind in SCORE_SCHEMA.items()).with_row_index("row")
    wrong = pl.col("instrument_id").is_null() | pl.col("known_at").is_null() | ~pl.col(FIELD).is_finite().fill_null(False)
    bad = table.filter(wrong).head(1)
    if bad.height:
        raise InputError(f"{bad.row(0)[1:]} is no score", f"{path}, row {bad['row'][0]}", "correct or drop the row")
    return table.drop("row").sort("instrument_id", "known_at", maintain_order=True)


class Scores:
    """The scores known so far, by instrument. `add` takes them as they come; `at` is the field of one row."""

    def __init__(self, calendar: MarketCalendar, max_age: int = MAX_AGE_SESSIONS) -> None:
        sessions = calendar.sessions(calendar.first, calendar.last)
        self._sessions, self._midnights = sessions, calendar.midnights_ns(sessions)
        self._max_age = max_age
        self._known: dict[str, list[int]] = {}
        self._values: dict[str, list[float]] = {}

    def add(self, instrument_id: str, known_at: int, value: float) -> None:
        """A score (finite, the source's unit) that became known at `known_at` (UTC ns). One that comes late takes its place in time."""
        if not np.isfinite(value):
            raise InputError(f"{value} is no score", f"{instrument_id} at {known_at}", "drop it, or send a finite number")
        known, values = self._known.setdefault(instrument_id, []), self._values.setdefault(instrument_id, [])
        place = int(np.searchsorted(known, known_at, side="right"))
        known.insert(place, known_at)
        values.insert(place, float(value))

    def at(self, instrument_ids: Sequence[str], known_at: int, session: int) -> NDArray[np.float64]:
        """(S,) scores in force in a row: the newest known at `known_at` (UTC ns), NaN for none or where it is too old in `session`."""
        moments, sessions = np.array([known_at], dtype=np.int64), np.array([session], dtype=np.int64)
        return np.array([self.series(name, moments, sessions)[0] for name in instrument_ids])

    def series(self, instrument_id: str, known_at: NDArray[np.int64], session: NDArray[np.int64]) -> NDArray[np.float64]:
        """(T,) scores of one instrument in force in many rows."""
        known = np.array(self._known.get(instrument_id, ()), dtype=np.int64)
        if not len(known):
            return np.full(len(known_at), np.nan)
        newest = np.searchsorted(known, known_at, side="right") - 1
        taken = np.maximum(newest, 0)
        # A score belongs to the last session that had begun: weekend news to Friday's, so that it is as old as Friday's close is.
        begun = np.searchsorted(self._midnights, known, side="right") - 1
        age = np.searchsorted(self._sessions, session) - begun[taken]
        values = np.array(self._values[instrument_id])
        return np.where((newest >= 0) & (age <= self._max_age), values[taken], np.nan)


def with_sentiment(panel: Panel, scores: pl.DataFrame, calendar: MarketCalendar, max_age: int = MAX_AGE_SESSIONS) -> Panel:
    """The panel with the field sentiment: each row's newest score known at its known_at; NaN where a bar is absent.

    scores: of `read_scores`. Scores of instruments that the panel does not have are not used. max_age: sessions.
    """
    known = Scores(calendar, max_age)
    for instrument_id, instant, value in scores.with_columns(pl.col("known_at").to_physical()).iter_rows():
        known.add(instrument_id, instant, value)
    values = np.stack([known.series(name, panel.known_at, panel.session) for name in panel.instrument_ids], axis=1)
    return replace(panel, fields={**panel.fields, FIELD: np.where(panel.present, values, np.nan)})
