"""The catalogue on real bars: daily 2012-2014 (AAPL's 7:1 split, hundreds of dividends) and one week of minutes with VIX."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import talib
from feature_panels import assert_same_bits, compute

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.features.program import Program
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.files import FileSource

NAMES = ("AAPL", "IBM", "MSFT", "GE", "XOM", "JPM", "KO", "PFE", "WMT", "T", "KIM", "SPGI")
CORE = registry.feature_set("core")


@pytest.fixture(scope="module")
def source() -> FileSource:
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[3] / "shared" / "data" / "open"))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}: set {names.ENV_TEST_DATA}")
    return FileSource(root, MarketCalendar(), daily_last=date(2014, 12, 31))  # later sessions are holdouts (T34)


def daily_panel(source: FileSource, last_event: date) -> Panel:
    """Daily bars 2012-2014 with the events up to a day."""
    ids = [f"us:{name}" for name in NAMES]
    bars = source.bars("1Day", date(2012, 1, 3), date(2014, 12, 31)).filter(pl.col("instrument_id").is_in(ids))
    actions = source.corporate_actions().filter(pl.col("ex_date") <= last_event)
    return build_panel(bars, action_table(actions), "1Day", MarketCalendar())


@pytest.fixture(scope="module")
def daily(source: FileSource) -> Panel:
    return daily_panel(source, date(2014, 12, 31))


def test_any_split_of_real_bars_gives_the_same_bits(daily: Panel) -> None:
    rows = daily.shape[0]
    cuts = tuple(sorted(np.random.default_rng(1).choice(np.arange(1, rows), 12, replace=False).tolist()))
    assert_same_bits(CORE, compute(CORE, daily, cuts), compute(CORE, daily))


def test_an_event_after_a_row_changes_no_bit_at_or_before_it(source: FileSource, daily: Panel) -> None:
    known = date(2013, 6, 28)
    earlier = daily_panel(source, known)
    before = earlier.session <= (known - date(1970, 1, 1)).days
    assert not np.array_equal(earlier.fields["return_factor"], daily.fields["return_factor"], equal_nan=True)
    assert_same_bits(CORE, compute(CORE, daily)[before], compute(CORE, earlier)[before])


def test_the_seven_for_one_split_of_apple_is_no_return(daily: Panel) -> None:
    column, row = daily.instrument_ids.index("us:AAPL"), int(np.searchsorted(daily.session, (date(2014, 6, 9) - date(1970, 1, 1)).days))
    returns = compute(CORE, daily)[row, column, CORE.names.index("returns_1d")]
    assert daily.fields["close"][row, column] < 100.0 < 600.0 < daily.fields["close"][row - 1, column]
    assert returns == pytest.approx(0.016, abs=0.001)


def test_rsi_of_real_bars_agrees_with_talib(daily: Panel) -> None:
    features = compute(CORE, daily)[..., CORE.names.index("rsi_14")]
    for s in range(daily.shape[1]):
        here = daily.present[:, s]
        close = daily.fields["close"][here, s] * daily.fields["return_factor"][here, s]
        np.testing.assert_allclose(features[here, s], talib.RSI(close, 14), rtol=1e-9, atol=1e-9)


def test_real_features_are_defined_once_warm(daily: Panel) -> None:
    program = Program(CORE, daily.instrument_ids)
    features = program.step(daily)
    assert program.ready.all()
    assert np.isfinite(features[program.warm_up :][daily.present[program.warm_up :]]).mean() > 0.999


def test_a_week_of_minutes_with_vix_splits_like_any_other(source: FileSource) -> None:
    feature_set = registry.feature_set("intraday_vix")
    bars, actions = source.bars("1Min"), action_table(source.corporate_actions())
    panel = build_panel(bars, actions, "1Min", MarketCalendar(), field_series=source.field_series("1Min"))
    assert panel.shape[1] == 14
    whole = compute(feature_set, panel)
    assert_same_bits(feature_set, compute(feature_set, panel, (390, 391, 800, 1560)), whole)
    friday = panel.session == panel.session[-1]
    assert np.isfinite(whole[friday][panel.present[friday]]).mean() > 0.99
