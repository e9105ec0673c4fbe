"""Fixtures of the market-data tests: one calendar, the boxed source, and the shared real data where it is present."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.market_data.sources.boxed import BoxedSource
from trading_platform.market_data.sources.files import FileSource


@pytest.fixture(scope="session")
def calendar() -> MarketCalendar:
    return MarketCalendar()


@pytest.fixture(scope="session")
def boxed(calendar: MarketCalendar) -> BoxedSource:
    return BoxedSource(calendar)


@pytest.fixture(scope="session")
def boxed_bars(boxed: BoxedSource) -> pl.DataFrame:
    return boxed.bars("1Day")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[3] / "shared" / "data" / "open"))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}: set {names.ENV_TEST_DATA}")
    return root


@pytest.fixture(scope="session")
def shared_source(shared_data: Path, calendar: MarketCalendar) -> FileSource:
    return FileSource(shared_data, calendar, daily_last=date(2014, 12, 31))  # later sessions are holdouts (T34)


@pytest.fixture(scope="session")
def shared_daily(shared_source: FileSource) -> pl.DataFrame:
    return shared_source.bars("1Day")
