"""What every source of bars offers, and who it is (T5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Protocol

import polars as pl


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Where bars come from: enters every bundle as its feed (T5).

    adjustment: raw, as traded. hours: regular or extended. licence_class: the class the data set states (docs/data.md), `unstated` if none.
    """

    name: str
    vendor: str
    feed: str
    licence_class: str
    adjustment: str = "raw"
    hours: str = "regular"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file a source read: the last link of an order's lineage. `name` is relative to the source, never a path of a machine."""

    name: str
    sha256: str
    size: int


class BarSource(Protocol):
    """A source of bars. All frames are complete and sorted; a fault is an InputError and yields nothing."""

    @property
    def identity(self) -> SourceIdentity:
        """Who this source is."""

    def bars(
        self, timeframe: str, start: date | None = None, end: date | None = None, symbols: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """Bar frame (market_data.bars) of sessions start..end, both included; None means the source's default span.

        Raises InputError for an unknown symbol and for any defect of the file.
        """

    def absence(self, timeframe: str) -> str:
        """Why there are no bars of this timeframe; empty if there are."""

    def corporate_actions(self) -> pl.DataFrame:
        """instrument_id (String), ex_date (Date), split_ratio, cash_dividend (Float64)."""

    def sectors(self) -> pl.DataFrame:
        """instrument_id, sector, name (String); no rows if unknown."""

    def field_series(self, timeframe: str) -> pl.DataFrame:
        """Market-wide fields, such as vix: field (String), timestamp, known_at (Datetime ns UTC), value (Float64)."""

    def files(self) -> tuple[SourceFile, ...]:
        """The files behind this source with their hashes, sorted by name."""

    def read(self, name: str) -> bytes:
        """The bytes of one of these files, for lineage. InputError for another name."""


ACTION_SCHEMA: dict[str, pl.DataType] = {
    "instrument_id": pl.String(),
    "ex_date": pl.Date(),
    "split_ratio": pl.Float64(),
    "cash_dividend": pl.Float64(),
}
SECTOR_SCHEMA: dict[str, pl.DataType] = {"instrument_id": pl.String(), "sector": pl.String(), "name": pl.String()}
FIELD_SCHEMA: dict[str, pl.DataType] = {
    "field": pl.String(),
    "timestamp": pl.Datetime("ns", "UTC"),
    "known_at": pl.Datetime("ns", "UTC"),
    "value": pl.Float64(),
}
