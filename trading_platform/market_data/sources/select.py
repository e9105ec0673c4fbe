"""Which source a run reads: a folder if one is named, otherwise the box."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from trading_platform.calendar import MarketCalendar
from trading_platform.market_data.sources.boxed import BoxedSource
from trading_platform.market_data.sources.files import FileSource
from trading_platform.market_data.sources.protocol import BarSource


def open_source(data: Path | None, calendar: MarketCalendar, daily_first: date | None = None, daily_last: date | None = None) -> BarSource:
    """The source of `Settings.data`. The daily span holds where a caller names none (T34). InputError if the folder holds no bars."""
    if data is None:
        return BoxedSource(calendar, daily_first, daily_last)
    return FileSource(data, calendar, daily_first, daily_last)
