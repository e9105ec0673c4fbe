"""The compiled row cycle: a P&L by hand, when orders may fill, stops, sessions, corporate actions, purity with and without the compiler."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_market import DAY_NS, HOUR_NS, daily_market, feature_set, instruments_of, linear_model, minute_market, profile

from trading_platform.backtest.run import LEG_OF, BacktestResult, Sessions, run
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.orders import Leg
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Costs, Profile
from trading_platform.engine.signals import Signals, block_from_alpha
from trading_platform.market_data.corporate_actions import CorporateAction

HERE = Path(__file__).resolve()


def small_panel(bars: list[list[tuple[float, float, float, float]]]) -> tuple[Panel, Sessions]:
    """Daily panel from (open, high, low, close) per instrument and row; unlimited volume."""
    values = np.array(bars)  # (T, S, 4)
    rows, width = values.shape[:2]
    days = np.arange(rows, dtype=np.int64) + 18_000
    fields = {name: np.ascontiguousarray(values[:, :, k]) for k, name in enumerate(("open", "high", "low", "close"))}
    fields["volume"] = np.full((rows, width), 1e9)
    sessions = Sessions(days * DAY_NS + 14 * HOUR_NS, days * DAY_NS + 21 * HOUR_NS, (days + 1) * DAY_NS + 14 * HOUR_NS)
    everywhere = np.ones((rows, width), np.bool_)
    names = tuple(instrument.instrument_id for instrument in instruments_of(width))
    return Panel("1Day", names, days * DAY_NS, sessions.close_ns, days, fields, everywhere, everywhere).check(), sessions


def free_profile(**limits: float) -> Profile:
    """No costs, half of equity per name."""
    chosen = profile(max_position=0.5, max_risk_per_trade=1.0, max_sector=9.0, **limits)
    strategy = replace(chosen.strategy, exit_rank=0.6)  # of two names (ranks 0.5 and 1.0) the worse one leaves
    return replace(chosen, strategy=strategy, costs=Costs(half_spread_bps=0.0, impact_bps=0.0, participation=1.0))


def trade(chosen: Profile, panel: Panel, sessions: Sessions, alpha: list[list[float]], cash: float, **options: object) -> BacktestResult:
    shape = panel.shape
    block = block_from_alpha(chosen, panel, np.array(alpha), np.full(shape, 1e-4), np.full(shape, 0.02))
    actions = options.pop("actions", ())
    return run(chosen, panel, block, sessions, actions, instruments_of(shape[1]), cash, audit=True, **options)  # type: ignore[arg-type]


def test_seven_rows_by_hand() -> None:
    flat_b = (50.0, 51.0, 49.0, 50.0)
    bars = [
        [(100.0, 101.0, 99.0, 100.0), flat_b],
        [(100.0, 101.0, 99.0, 100.0), flat_b],
        [(101.0, 103.0, 100.0, 102.0), flat_b],
        [(103.0, 105.0, 102.0, 104.0), flat_b],
        [(104.0, 105.0, 103.0, 104.0), flat_b],
        [(104.0, 105.0, 103.0, 104.0), (49.0, 49.5, 48.5, 49.0)],
        [(104.0, 105.0, 103.0, 104.0), (45.0, 46.0, 44.0, 45.0)],
    ]
    panel, sessions = small_panel(bars)
    result = trade(free_profile(), panel, sessions, [[1.0, 0.0]] * 3 + [[0.0, 1.0]] * 4, 100_000.0)
    fills = [
        (int(f["row"]), int(f["column"]), int(f["side"]), int(f["lots"]), int(f["ticks"]), LEG_OF[int(f["leg"])]) for f in result.fills
    ]
    assert fills == [
        (1, 0, 1, 499, 10_000, Leg.ENTER),  # int(0.5 x 100,000 / 100.05) at the typical price
        (4, 0, -1, 499, 10_400, Leg.REDUCE),
        (5, 1, 1, 1_019, 4_900, Leg.ENTER),  # int(0.5 x 101,996 / 50.025); wanted at row 3 already, when cash did not reach
        (6, 1, -1, 1_019, 4_500, Leg.PROTECT),  # the stop at 46.06 gapped: the open
    ]
    assert result.equity.tolist() == [100_000.0, 100_000.0, 100_998.0, 101_996.0, 101_996.0, 101_996.0, 97_920.0]
    assert result.returns.tolist() == pytest.approx([0.0, 0.0, 0.00998, 998 / 100_998, 0.0, 0.0, 97_920 / 101_996 - 1.0], rel=1e-12)
    assert result.check_counts == {"GROSS_EXPOSURE": 1, "LEVERAGE": 1, "BUYING_POWER": 1}
    assert result.turnover[4] == pytest.approx(499 * 104 / 101_996)
    assert result.gross[5] == pytest.approx(1_019 * 49 / 101_996)
    assert result.account.realised.tolist() == [1_996.0, -4_076.0]
    assert result.account.stopped.tolist() == [False, True] and result.decisions[6].orders == ()


def test_costs_are_paid_by_every_fill() -> None:
    panel, sessions = small_panel([[(100.0, 101.0, 99.0, 100.0), (50.0, 51.0, 49.0, 50.0)]] * 4)
    chosen = replace(free_profile(), costs=Costs(half_spread_bps=2.0, impact_bps=0.0, participation=1.0, fee_per_share=0.01))
    result = trade(chosen, panel, sessions, [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2, 100_000.0)
    # 499 bought at 100.02 and sold at 99.98, 999 of the other bought at 50.01, each share a cent of fee
    assert result.account.cash[0] == pytest.approx(100_000.0 - 499 * (0.04 + 0.02) - 999 * (50.01 + 0.01), abs=1e-6)


@pytest.fixture(scope="module")
def audited() -> tuple[BacktestResult, Panel, Profile]:
    panel, sessions = daily_market(160, 24, 11)
    chosen, features = profile(), feature_set()
    block = Signals(chosen, features, linear_model(features, {"momentum_3": 1.0}), panel.instrument_ids).step(panel)
    return run(chosen, panel, block, sessions, (), instruments_of(24), 1e6, audit=True), panel, chosen


def test_no_fill_is_before_its_decision_or_outside_its_order(audited: tuple[BacktestResult, Panel, Profile]) -> None:
    result, panel, _ = audited
    planned = 0
    for fill in result.fills:
        if LEG_OF[int(fill["leg"])] is Leg.PROTECT:
            continue
        planned += 1
        decision = result.decisions[int(fill["row"]) - 1]
        order = next(o for o in decision.orders if o.instrument_id == panel.instrument_ids[fill["column"]])
        assert decision.known_at <= order.valid_from < fill["at"]
        assert order.side.sign == fill["side"] and order.leg is LEG_OF[int(fill["leg"])]
        assert 0 < fill["lots"] <= order.lots
        assert (order.limit_ticks - fill["ticks"]) * order.side.sign >= 0
    assert planned > 50
    assert not (result.fills["row"] == 0).any()


def test_equity_moves_by_exactly_the_fills_and_marks(audited: tuple[BacktestResult, Panel, Profile]) -> None:
    result, panel, _ = audited
    cash, held, last = 1e6, np.zeros(panel.shape[1]), np.zeros(panel.shape[1])
    for t in range(panel.shape[0]):
        for fill in result.fills[result.fills["row"] == t]:
            cash -= fill["side"] * fill["lots"] * fill["ticks"] / 100
            held[fill["column"]] += fill["side"] * fill["lots"]
        last = np.where(panel.present[t], panel.fields["close"][t], last)
        assert result.equity[t] == pytest.approx(cash + float(held @ last), abs=0.005)
    assert (held >= 0).all() and held.tolist() == result.account.position.tolist()


def test_limits_hold_after_every_row(audited: tuple[BacktestResult, Panel, Profile]) -> None:
    result, _, chosen = audited
    assert result.gross.max() <= chosen.limits.max_gross * 1.05  # prices move after the check
    for decision in result.decisions:
        assert (decision.position > 0).sum() <= chosen.limits.max_positions
        for outcome in decision.checks:
            order = next((o for o in decision.orders if o.instrument_id == outcome.instrument_id), None)
            assert outcome.allowed or order is None
    assert sum(len(decision.orders) for decision in result.decisions) > 100


def test_an_intraday_order_never_reaches_the_next_session() -> None:
    panel, early = minute_market(4, 50, 10, 2)
    sessions = replace(early, close_ns=early.close_ns + HOUR_NS)  # bars of the last hour are missing: the last row still plans orders
    chosen, features = profile(), feature_set()
    block = Signals(chosen, features, linear_model(features, {"momentum_3": 1.0}), panel.instrument_ids).step(panel)
    result = run(chosen, panel, block, sessions, (), instruments_of(10), 1e6, audit=True)
    first_rows = np.flatnonzero(np.diff(panel.session, prepend=-1))
    planned = result.fills[[LEG_OF[int(leg)] is not Leg.PROTECT for leg in result.fills["leg"]]]
    assert len(planned) > 20 and not np.isin(planned["row"], first_rows).any()
    assert any(result.decisions[t - 1].orders for t in first_rows[1:])
    whole = run(chosen, panel, block, early, (), instruments_of(10), 1e6, audit=True)
    assert not any(whole.decisions[t - 1].orders for t in first_rows[1:])  # the session is over: nothing is planned


def test_a_split_and_a_dividend_leave_no_step_in_equity_and_drop_the_old_price_order() -> None:
    before, after = (100.0, 101.0, 99.0, 100.0), (24.5, 24.6, 24.4, 24.5)
    other = (50.0, 51.0, 49.0, 50.0)
    panel, sessions = small_panel([[before, other]] * 3 + [[after, other]] * 3)
    action = (CorporateAction(int(panel.session[3]), "us:S000", 4.0, 0.5),)  # 4:1 and 0.50: 100 -> 25 -> 24.50
    result = trade(free_profile(), panel, sessions, [[1.0, 0.0]] * 6, 100_000.0, actions=action)
    assert result.equity.tolist() == [100_000.0] * 6
    assert result.account.position.tolist() == [4 * 499, 0]
    assert result.account.stop_ticks[0] == 2_350


def test_a_splitting_name_drops_the_order_priced_for_the_old_share() -> None:
    before, after, other = (100.0, 101.0, 99.0, 100.0), (400.0, 401.0, 399.0, 400.0), (50.0, 51.0, 49.0, 50.0)
    panel, sessions = small_panel([[before, other]] * 3 + [[after, other]] * 3)
    action = (CorporateAction(int(panel.session[3]), "us:S000", 0.25, 0.0),)  # 1:4
    result = trade(free_profile(), panel, sessions, [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 4, 100_000.0, actions=action)
    assert next((order.instrument_id, order.lots) for order in result.decisions[2].orders) == ("us:S000", 499)
    mine = result.fills[result.fills["column"] == 0]
    assert [(int(f["row"]), int(f["side"]), int(f["lots"])) for f in mine] == [(1, 1, 499), (4, -1, 124)]
    assert result.account.cash[0] + result.account.position[1] * 50.0 == pytest.approx(100_000.0)  # three quarters of a share in cash


def test_a_reductions_shares_are_not_under_the_stop_too() -> None:
    calm, other = (100.0, 101.0, 99.0, 100.0), (50.0, 51.0, 49.0, 50.0)
    wild = (100.0, 112.0, 90.0, 101.0)  # reaches the stop at 94 and the exit's limit in one bar
    panel, sessions = small_panel([[calm, other]] * 3 + [[wild, other], [calm, other]])
    result = trade(free_profile(), panel, sessions, [[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 3, 100_000.0)
    sold = result.fills[(result.fills["column"] == 0) & (result.fills["side"] < 0)]
    assert [(int(f["row"]), int(f["lots"]), LEG_OF[int(f["leg"])]) for f in sold] == [(3, 499, Leg.REDUCE)]


def test_kill_levels_halt_entries_and_flatten_everything() -> None:
    panel, sessions = daily_market(60, 12, 8, missing=0.0)
    chosen, features = profile(), feature_set()
    block = Signals(chosen, features, linear_model(features, {"momentum_3": 1.0}), panel.instrument_ids).step(panel)
    level = np.zeros(60, np.int64)
    level[30:] = 1
    halted = run(chosen, panel, block, sessions, (), instruments_of(12), 1e6, kill_level=level)
    entries = halted.fills[[LEG_OF[int(leg)] is Leg.ENTER for leg in halted.fills["leg"]]]
    assert (entries["row"] < 31).all() and len(entries) > 0 and halted.check_counts["KILL_SWITCH"] > 0
    level[30:] = 3
    flat = run(chosen, panel, block, sessions, (), instruments_of(12), 1e6, kill_level=level)
    assert flat.account.position.tolist() == [0] * 12 and (flat.gross[32:] == 0.0).all() and flat.gross[29] > 0.0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1_000), st.integers(20, 90))
def test_the_future_changes_no_past_decision(seed: int, cut: int) -> None:
    panel, sessions = daily_market(100, 8, seed)
    chosen, features = profile(), feature_set()
    model = linear_model(features, {"momentum_3": 1.0})

    def decisions(view: Panel) -> list[bytes]:
        block = Signals(chosen, features, model, view.instrument_ids).step(view)
        times = Sessions(*(getattr(sessions, name)[: view.shape[0]] for name in ("open_ns", "close_ns", "next_open_ns")))
        return [d.to_bytes() for d in run(chosen, view, block, times, (), instruments_of(8), 1e6, audit=True).decisions]

    assert decisions(panel)[:cut] == decisions(panel.rows(0, cut))


def digest_of_a_small_run() -> str:
    """sha256 over everything a small run gives; printed by the uncompiled process."""
    panel, sessions = daily_market(40, 6, 21)
    chosen = replace(profile(), costs=Costs(participation=0.0001))
    shape = panel.shape
    alpha = np.cumsum(np.random.default_rng(4).normal(size=shape), axis=0)
    block = block_from_alpha(chosen, panel, alpha, np.full(shape, 0.02), np.full(shape, 0.02))
    action = (CorporateAction(18_020, "us:S001", 2.0, 0.1),)
    result = run(chosen, panel, block, sessions, action, instruments_of(6), 1e6, audit=True)
    digest = hashlib.sha256(result.fills.tobytes() + result.equity.tobytes())
    for decision in result.decisions:
        digest.update(replace(decision, decision_id="", hashes={}).to_bytes())  # both carry the sources' hash, which is no result
    return f"{len(result.fills)} {digest.hexdigest()}"


def test_the_same_bits_without_the_compiler() -> None:
    folders = [str(HERE.parent), str(HERE.parents[1] / "engine")]
    script = f"import sys; sys.path[:0] = {folders!r}; import test_run; print(test_run.digest_of_a_small_run())"
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    compiled = digest_of_a_small_run()
    assert done.stdout.strip() == compiled and int(compiled.split()[0]) > 10


def test_axes_that_do_not_fit_are_refused() -> None:
    panel, sessions = daily_market(10, 4, 1)
    block = block_from_alpha(profile(), panel, np.zeros(panel.shape), np.ones(panel.shape), np.ones(panel.shape))
    with pytest.raises(InputError, match="instruments"):
        run(profile(), panel, block, sessions, (), instruments_of(3), 1e6)
    with pytest.raises(InputError, match="signals"):
        run(profile(), panel, block.rows(0, 5), sessions, (), instruments_of(4), 1e6)
    with pytest.raises(InputError, match="sector"):
        run(profile(), panel, block, sessions, (), instruments_of(4), 1e6, sector=np.full(4, 99, np.int64))
