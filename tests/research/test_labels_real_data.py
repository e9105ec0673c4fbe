"""Labels on real bars: what a holder of a real share got, through splits and dividends, counted in shares and cash."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.panel import Panel
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.select import open_source
from trading_platform.research.label_rules import ForwardReturn, TripleBarrier
from trading_platform.research.labels import Labels, make
from trading_platform.research.sample_weights import sample_weights

DATA = Path(os.environ.get(names.ENV_TEST_DATA, "../shared/data/open"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real bars at {DATA}; set {names.ENV_TEST_DATA}")
HORIZON = 5


@pytest.fixture(scope="module")
def market() -> tuple[Panel, pl.DataFrame]:
    """(panel, corporate actions) of the daily set, 2013 and 2014."""
    calendar = MarketCalendar()
    source = open_source(DATA, calendar)
    actions = source.corporate_actions()
    bars = source.bars("1Day", date(2013, 1, 2), date(2014, 12, 31))
    return build_panel(bars, action_table(actions), "1Day", calendar), actions


def held(panel: Panel, actions: pl.DataFrame, row: int, column: int) -> float:
    """One share bought in row + 1 and sold in row + 1 + HORIZON: shares and cash, dividends kept as cash."""
    fields, first, last = panel.fields, row + 1, row + 1 + HORIZON

    def price(k: int) -> float:
        return float(fields["high"][k, column] + fields["low"][k, column] + fields["close"][k, column]) / 3.0

    shares, cash = 1.0, 0.0
    days = pl.col("ex_date").is_between(
        date.fromordinal(719_163 + int(panel.session[first]) + 1), date.fromordinal(719_163 + int(panel.session[last]))
    )
    for split, dividend in (
        actions.filter((pl.col("instrument_id") == panel.instrument_ids[column]) & days)
        .sort("ex_date")
        .select("split_ratio", "cash_dividend")
        .rows()
    ):
        shares *= split or 1.0
        cash += shares * (dividend or 0.0)
    return (shares * price(last) + cash) / price(first) - 1.0


def test_a_label_is_what_a_holder_got_through_splits_and_dividends(market: tuple[Panel, pl.DataFrame]) -> None:
    panel, actions = market
    labels = make(panel, ForwardReturn(horizon=HORIZON))
    days = panel.session.astype("datetime64[D]")
    events = actions.filter(pl.col("ex_date").is_between(date(2013, 3, 1), date(2014, 11, 30)))
    ordinary = pl.col("cash_dividend").fill_null(0.0) < 1.0  # a spin-off's worth, re-invested or kept as cash, is a different return
    splits = events.filter((pl.col("split_ratio").fill_null(1.0) != 1.0) & ordinary)
    dividends = events.filter((pl.col("cash_dividend") > 0.0) & ordinary)[::40]
    judged = 0
    for name, day in pl.concat([splits, dividends]).select("instrument_id", "ex_date").rows():
        if name not in panel.instrument_ids:
            continue
        column, ex = panel.instrument_ids.index(name), int(np.searchsorted(days, np.datetime64(day)))
        for row in range(ex - HORIZON - 2, ex + 1):
            assert labels.values[row, column] == pytest.approx(held(panel, actions, row, column), abs=2e-3), (name, day, row)
            judged += 1
    assert judged > 200 and splits.height >= 3


def test_barriers_of_real_names_overlap_less_than_their_horizon(market: tuple[Panel, pl.DataFrame]) -> None:
    panel = market[0]
    labels: Labels = make(panel, TripleBarrier(horizon=20, volatility_rows=60, profit=0.7, stop=0.7))
    weights = sample_weights(labels, panel)
    labelled = np.isfinite(labels.values)
    lengths = labels.exits[labelled] - np.nonzero(labelled)[0]
    assert lengths.min() == 2 and lengths.max() == 21 and (lengths < 21).mean() > 0.3
    assert labelled.sum() / 21.0 < weights.independent < labelled.sum() / 2.0
