"""Drift of the daily features on real bars: the autumn of 2008 and its aftermath are seen, a quiet year is not."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.profile import DriftRules
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.perturb import sample
from trading_platform.features.program import Program
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.select import open_source
from trading_platform.research.drift import Held, drift_of, held, trained_on

DATA = Path(os.environ.get(names.ENV_TEST_DATA, "../shared/data/open"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real bars at {DATA}; set {names.ENV_TEST_DATA}")
CHOSEN = feature_set("core:atr_20_pct,returns_1d,rsi_14,volatility_20d,volatility_60d,volume_rank,volume_ratio,zscore_20d")
INSTRUMENTS, TRAINED = 80, 252


@pytest.fixture(scope="module")
def market() -> tuple[np.ndarray, np.ndarray]:
    """(month of each row, features (T, S, F)) of 80 names, 2007 to 2013."""
    calendar = MarketCalendar()
    source = open_source(DATA, calendar)
    bars = source.bars("1Day", date(2007, 1, 2), date(2013, 12, 31))
    panel = build_panel(bars, action_table(source.corporate_actions()), "1Day", calendar)
    panel = sample(panel, panel.shape[0], INSTRUMENTS)
    return panel.session.astype("datetime64[D]").astype("datetime64[M]"), Program(CHOSEN, panel.instrument_ids).step(panel)


def after(market: tuple[np.ndarray, np.ndarray], first: str, second: str) -> Held:
    """Whether drift held over two months for a model trained on the 252 rows before them."""
    month, values = market
    start = int(np.flatnonzero(month == np.datetime64(first))[0])
    span = values[start - TRAINED : start].reshape(-1, values.shape[2])
    trained = [trained_on(name, span[:, index]) for index, name in enumerate(CHOSEN.names)]
    windows = [values[month == np.datetime64(name)].reshape(-1, values.shape[2]) for name in (first, second)]
    found = [[drift_of(one, window[:, index], DriftRules()) for index, one in enumerate(trained)] for window in windows]
    return held([(first, found[0]), (second, found[1])], DriftRules())


def test_a_crash_and_the_calm_after_it_drift_in_volatility_and_not_in_ranks(market: tuple[np.ndarray, np.ndarray]) -> None:
    for first, second in (("2008-10", "2008-11"), ("2009-09", "2009-10")):
        found = after(market, first, second)
        assert found.holds and {"atr_20_pct", "volatility_60d"} <= set(found.features), found
        assert "volume_rank" not in found.features  # a rank is uniform in every market


def test_a_quiet_year_does_not_hold(market: tuple[np.ndarray, np.ndarray]) -> None:
    for first, second in (("2013-03", "2013-04"), ("2013-09", "2013-10")):
        assert not after(market, first, second).holds
