"""Machine code is loaded before the first row needs it: a scratch engine of the session's own shape lives through one short session.

Loading compiled kernels takes 0.1-0.3 s, ten times what a row takes; without this the first decision after a start would be that late.
"""

from __future__ import annotations

import numpy as np

from trading_platform.contracts.orders import Leg, Side
from trading_platform.contracts.panel import BAR_FIELDS, TIMEFRAME_NS, Panel
from trading_platform.engine.context import RowContext
from trading_platform.engine.engine import Engine

ROWS = 2
CASH = 1_000_000.0


def warm_up(engine: Engine, fields: tuple[str, ...] = ()) -> None:
    """Run everything a row touches once on a copy; nothing of `engine` changes. fields: bar fields its rows carry beside OHLCV."""
    scratch = Engine(engine.profile, engine.instruments, engine.timeframe, engine.signals.feature_set, engine.signals.model, {}, CASH)
    width, name = len(engine.instruments), engine.instrument_ids[0]
    panel = _flat_panel(engine, (*BAR_FIELDS, *fields, "split_factor", "return_factor"))
    context = RowContext(
        quote_mid=np.full(width, 10.0),
        quote_age_s=np.zeros(width),
        session_open_ns=0,
        session_close_ns=TIMEFRAME_NS["1Day"],
        next_open_ns=2 * TIMEFRAME_NS["1Day"],
        sector=np.zeros(width, np.int64),
        adv_lots=np.full(width, 1e6),
    )
    scratch.start_session(0)
    scratch.apply_fill(name, Side.BUY, 1, 1000.0, Leg.ENTER)
    for row in range(ROWS):
        one = panel.rows(row, row + 1)
        scratch.set_naked(name, 1)
        scratch.decide(one, scratch.signals.step(one), context)
        scratch.apply_action(name, 2.0, 0.01)
    scratch.apply_cash(0.0)
    scratch.apply_flow(0.0)
    scratch.desired_protection()
    scratch.equity()
    scratch.load_account(scratch.account_bytes())


def _flat_panel(engine: Engine, fields: tuple[str, ...]) -> Panel:
    width, step = len(engine.instruments), TIMEFRAME_NS[engine.timeframe]
    stamps = np.arange(ROWS, dtype=np.int64) * step
    everything = np.ones((ROWS, width), np.bool_)
    values = {name: np.full((ROWS, width), 1.0 if name.endswith("_factor") else 10.0) for name in fields}
    days = stamps // TIMEFRAME_NS["1Day"]
    return Panel(engine.timeframe, engine.instrument_ids, stamps, stamps + step, days, values, everything, everything)
