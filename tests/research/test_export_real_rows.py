"""Export on real cells: more than 10,000 rows of daily features between 2009 and 2011 (development years, T34)."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.model import ModelConfig
from trading_platform.engine.inference import Inference
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.perturb import sample
from trading_platform.features.program import Program
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.select import open_source
from trading_platform.research import export
from trading_platform.research.labels import forward_return
from trading_platform.research.models import lightgbm, linear
from trading_platform.research.models.folds import Cells
from trading_platform.research.models.learner import Learner, TrainingRows

DATA = Path(os.environ.get(names.ENV_TEST_DATA, "../shared/data/open"))
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real bars at {DATA}; set {names.ENV_TEST_DATA}")
CHOSEN = feature_set("core:atr_20_pct,returns_1d,rsi_14,volatility_20d,volatility_60d,volume_rank,volume_ratio,zscore_20d")
CONFIG = ModelConfig("alpha", "1", "daily", "1Day", "core", "f" * 64, CHOSEN.names, "v", "w", 5, "label", 0, 0, {})
SMALL = lightgbm.Parameters(rounds=60)
LEARNERS = [lightgbm.Trees(SMALL), lightgbm.Trees(replace(SMALL, objective="binary")), linear.Ridge(), linear.Logistic()]


@pytest.fixture(scope="module")
def market() -> tuple[TrainingRows, np.ndarray, list[int]]:
    """(training cells of 252 sessions, real cells of the sessions after them, cells of each of these)."""
    calendar = MarketCalendar()
    source = open_source(DATA, calendar)
    bars = source.bars("1Day", date(2009, 1, 2), date(2011, 6, 30))
    panel = build_panel(bars, action_table(source.corporate_actions()), "1Day", calendar)
    panel = sample(panel, panel.shape[0], 60)
    cells = Cells(panel, Program(CHOSEN, panel.instrument_ids).step(panel), CHOSEN.names, forward_return(panel, 5, demean=True))
    tested = np.arange(340, panel.shape[0])
    sizes = [int(size) for size in cells.usable[tested].sum(axis=1) if size]
    return cells.training(np.arange(80, 332)), cells.spoken(tested), sizes


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner.name)
def test_no_real_row_falls_into_another_leaf(learner: Learner, market: tuple[TrainingRows, np.ndarray, list[int]]) -> None:
    training, rows, sizes = market
    model = learner.train(learner.prepare(training), 7)
    found = export.parity(model, Inference(export.as_model(CONFIG, export.to_onnx(model, len(CHOSEN.names)))), rows, sizes)
    assert found.rows == len(rows) >= export.PARITY_ROWS and found.mixed == 0 and found.scale > 0.0
    assert (found.max_abs, found.differing, found.sign_flips, found.top_overlap) == (0.0, 0.0, 0.0, 1.0)
    assert found.batch_invariant and found.spearman == pytest.approx(1.0, abs=1e-12)


def test_as_trained_the_same_rows_do_differ(market: tuple[TrainingRows, np.ndarray, list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without `exact`, the comparison finds what it is there to find."""
    training, rows, sizes = market
    monkeypatch.setattr(lightgbm, "exact", lambda model: model)
    learner = lightgbm.Trees(SMALL)
    model = learner.train(learner.prepare(training), 7)
    found = export.parity(model, Inference(export.as_model(CONFIG, export.to_onnx(model, len(CHOSEN.names)))), rows, sizes)
    assert found.differing > 0.0 and 0.0 < found.max_abs < 1e-3 * found.scale
