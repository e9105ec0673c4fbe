"""The rulings' seals on the shared daily set: research reads 2005 to 2014, and the walk-forward counts the exchange's sessions."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from trading_platform.calendar import MarketCalendar, day_of
from trading_platform.contracts import names
from trading_platform.contracts.panel import Panel
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.select import open_source
from trading_platform.research.holdout import T34_SEALS, Holdouts
from trading_platform.research.labels import NEVER, forward_return
from trading_platform.research.splits import combinatorial, walk_forward

DATA = Path(os.environ.get(names.ENV_TEST_DATA, "../shared/data/open"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real bars at {DATA}; set {names.ENV_TEST_DATA}")


@pytest.fixture(scope="module")
def market() -> tuple[Panel, MarketCalendar]:
    calendar = MarketCalendar()
    source = open_source(DATA, calendar)
    bars = source.bars("1Day", date(2005, 1, 3), date(2017, 12, 29))
    return build_panel(bars, action_table(source.corporate_actions()), "1Day", calendar), calendar


def test_research_reads_to_the_last_session_of_2014_and_no_label_looks_beyond(tmp_path: Path, market: tuple[Panel, MarketCalendar]) -> None:
    panel, _ = market
    place = Holdouts(tmp_path / "holdouts.jsonl", T34_SEALS)
    seen = place.cut(panel)
    assert panel.session[-1] > day_of(date(2017, 6, 1)) and seen.session[-1] == day_of(date(2014, 12, 31))
    labels = forward_return(seen, 5)
    outcomes = labels.t1[labels.t1 != NEVER]
    assert outcomes.max() == seen.known_at[-1] and np.isnan(labels.values[labels.t1 == NEVER]).all()
    opening = place.open("validation_2015_2016", recipe="r", run="test", by="ann", reason="test of the seal", at=1)
    assert place.cut(panel, opening, "r").session[-1] == day_of(date(2016, 12, 30))


def test_the_walk_forward_of_the_exchanges_sessions(tmp_path: Path, market: tuple[Panel, MarketCalendar]) -> None:
    panel, calendar = market
    seen = Holdouts(tmp_path / "holdouts.jsonl", T34_SEALS).cut(panel)
    labels, places = forward_return(seen, 5), calendar.positions(seen.session)
    folds = walk_forward(labels.t0, labels.t1, places=places)
    spoken = np.concatenate([fold.speaks for fold in folds])
    assert spoken.tolist() == list(range(int(folds[0].test[0]), seen.shape[0]))
    for fold in folds:
        assert labels.t1[fold.train].max() < labels.t0[fold.test[0]]
        assert places[fold.train[-1]] - places[fold.train[0]] == 251 and places[fold.test[0]] - places[fold.train[-1]] == 6 + 1 + 3
    crossed = combinatorial(labels.t0[:-6], labels.t1[:-6])
    assert min(train.size for train, _ in crossed.splits) > 0.6 * seen.shape[0]
