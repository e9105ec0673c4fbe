"""Backtest and live are one engine: audit decisions equal Engine.decide row by row, on synthetic and on real bars."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from synthetic_market import contexts, daily_market, feature_set, instruments_of, linear_model, minute_market, profile

from trading_platform.backtest.run import LEG_OF, BacktestResult, Sessions, run
from trading_platform.contracts.decision import Decision
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.orders import Side
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Profile
from trading_platform.engine.context import RowContext
from trading_platform.engine.engine import Engine
from trading_platform.engine.signals import SignalBlock, Signals
from trading_platform.market_data.corporate_actions import CorporateAction

HASHES = {"universe": "u" * 64, "corporate_actions": "a" * 64, "calendar": "c" * 64}


def live(
    engine: Engine, panel: Panel, rows: list[RowContext], fills: np.ndarray, actions: tuple[CorporateAction, ...] = ()
) -> list[Decision]:
    """What a runner does with one row after another: actions, session, the venue's fills, signals of one row, decide."""
    decisions = []
    for t in range(panel.shape[0]):
        session = int(panel.session[t])
        if t == 0 or session != panel.session[t - 1]:
            earlier = int(panel.session[t - 1]) if t else session - 1
            for action in sorted(actions):
                if earlier < action.ex_date <= session:
                    engine.apply_action(action.instrument_id, action.split_ratio, action.cash_dividend)
            engine.start_session(session)
        for fill in fills[fills["row"] == t]:
            side = Side.BUY if fill["side"] > 0 else Side.SELL
            engine.apply_fill(panel.instrument_ids[fill["column"]], side, int(fill["lots"]), float(fill["ticks"]), LEG_OF[int(fill["leg"])])
        row = panel.rows(t, t + 1)
        decisions.append(engine.decide(row, engine.signals.step(row), rows[t]))
    return decisions


def both(
    chosen: Profile, panel: Panel, sessions: Sessions, instruments: tuple[Instrument, ...], actions: tuple[CorporateAction, ...] = ()
) -> tuple[BacktestResult, list[Decision]]:
    features = feature_set()
    model = linear_model(features, {"momentum_3": 1.0, "returns_1": -0.5})
    names = panel.instrument_ids
    block: SignalBlock = Signals(chosen, features, model, names).step(panel)
    schedule = ((0, (model.bundle_id,)),)
    result = run(
        chosen,
        panel,
        block,
        sessions,
        actions,
        instruments,
        1e6,
        audit=True,
        models_schedule=schedule,
        hashes=HASHES,
        feature_hash=features.hash,
    )
    engine = Engine(chosen, instruments, panel.timeframe, features, model, HASHES, 1e6)
    return result, live(engine, panel, contexts(panel, sessions), result.fills, actions)


def assert_same_bytes(result: BacktestResult, decisions: list[Decision], least_fills: int) -> None:
    assert len(result.decisions) == len(decisions)
    for t, (backtest, engine) in enumerate(zip(result.decisions, decisions, strict=True)):
        assert backtest.to_bytes() == engine.to_bytes(), f"row {t}"
    assert len(result.fills) >= least_fills
    assert sum(len(decision.checks) for decision in decisions) > 0


def test_daily_audit_decisions_are_the_engines_byte_for_byte() -> None:
    panel, sessions = daily_market(120, 24, 3)
    actions = (CorporateAction(18_060, "us:S003", 4.0, 0.0), CorporateAction(18_070, "us:S005", 1.0, 0.25))
    result, decisions = both(profile(), panel, sessions, instruments_of(24), actions)
    assert_same_bytes(result, decisions, 40)


def test_minute_audit_decisions_are_the_engines_byte_for_byte() -> None:
    panel, sessions = minute_market(3, 60, 12, 5)
    chosen = profile(max_gross=0.5)
    chosen = replace(chosen, strategy=replace(chosen.strategy, flat_at_end_of_day=True, entry_cutoff_minutes=30))
    result, decisions = both(chosen, panel, sessions, instruments_of(12))
    assert_same_bytes(result, decisions, 20)


def test_without_audit_the_same_account_and_curves_come_out() -> None:
    panel, sessions = daily_market(120, 24, 3)
    features = feature_set()
    model = linear_model(features, {"momentum_3": 1.0})
    block = Signals(profile(), features, model, panel.instrument_ids).step(panel)
    quick = run(profile(), panel, block, sessions, (), instruments_of(24), 1e6)
    audited = run(profile(), panel, block, sessions, (), instruments_of(24), 1e6, audit=True)
    assert quick.equity.tobytes() == audited.equity.tobytes()
    assert quick.fills.tobytes() == audited.fills.tobytes()
    assert quick.check_counts == audited.check_counts
    assert all(one.tobytes() == other.tobytes() for one, other in zip(quick.account, audited.account, strict=True))
    assert quick.decisions == ()


def test_a_decision_that_differs_in_one_input_is_another_decision() -> None:
    panel, sessions = daily_market(40, 8, 3)
    result, decisions = both(profile(), panel, sessions, instruments_of(8))
    other, _ = both(profile(max_position=0.049), panel, sessions, instruments_of(8))
    assert result.decisions[-1].decision_id == decisions[-1].decision_id
    assert result.decisions[-1].decision_id != other.decisions[-1].decision_id


def real_daily(rows: int, width: int) -> tuple[Panel, Sessions, tuple[CorporateAction, ...]]:
    root = Path(os.environ.get("TRADING_TEST_DATA", "../shared/data/open"))
    if not (root / "us_daily_sp500").is_dir():
        pytest.skip(f"no real daily bars under {root}: set TRADING_TEST_DATA")
    from trading_platform.calendar import MarketCalendar
    from trading_platform.market_data.panel import action_table, build_panel
    from trading_platform.market_data.sources.files import FileSource

    calendar = MarketCalendar()
    source = FileSource(root, calendar)
    bars = source.bars("1Day", date(2008, 1, 2), date(2008, 12, 31))
    names = tuple(sorted(set(bars["instrument_id"].to_list())))[:width]
    chosen = bars.filter(bars["instrument_id"].is_in(names))
    actions = action_table(source.corporate_actions())
    panel = build_panel(chosen, actions, "1Day", calendar, vendor_delay_ns=900_000_000_000).rows(0, rows)
    return panel, Sessions.of(panel, calendar), tuple(action for name in panel.instrument_ids for action in actions.of(name))


def test_real_bars_of_2008_give_the_same_bytes_in_backtest_and_engine() -> None:
    panel, sessions, actions = real_daily(150, 40)
    instruments = tuple(Instrument(name, name[3:]) for name in panel.instrument_ids)
    result, decisions = both(profile(), panel, sessions, instruments, actions)
    assert any(panel.session[0] < action.ex_date <= panel.session[-1] for action in actions)
    assert_same_bytes(result, decisions, 100)
