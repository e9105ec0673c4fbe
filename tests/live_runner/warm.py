"""Preloaded by the fork server of the crash tests: imports the runner and loads its kernels once, so that a life starts at once."""

from __future__ import annotations

import numpy as np

import live_runner.runner  # noqa: F401
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.orders import Leg, Side
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Profile
from trading_platform.engine.context import RowContext
from trading_platform.engine.engine import Engine
from trading_platform.features.catalog.registry import feature_set

ROWS, WIDTH = 3, 8


def _warm() -> None:
    MarketCalendar()
    ids = tuple(f"us:{letter}" for letter in "ABCDEFGH")
    days = np.arange(16_000, 16_000 + ROWS, dtype=np.int64)
    stamps = days * 86_400_000_000_000
    values = np.full((ROWS, WIDTH), 10.0)
    fields = {name: values.copy() for name in ("open", "high", "low", "close", "volume", "split_factor", "return_factor")}
    flags = np.ones((ROWS, WIDTH), np.bool_)
    panel = Panel("1Day", ids, stamps, stamps + 1, days, fields, flags, flags)
    engine = Engine(Profile("warm"), tuple(Instrument(name, name[3:]) for name in ids), "1Day", feature_set("core"), None, {}, 1000.0)
    nothing = np.full(WIDTH, np.nan)
    for row in range(ROWS):
        one = panel.rows(row, row + 1)
        block = engine.signals.step(one)
        engine.start_session(int(days[row]))
        engine.decide(one, block, RowContext(nothing, nothing, 0, 1, 2, np.zeros(WIDTH, np.int64), nothing))
        engine.apply_fill(ids[0], Side.BUY, 1, 1000.0, Leg.ENTER)
        engine.apply_action(ids[0], 1.0, 0.0)
        engine.apply_cash(0.0)
        engine.apply_flow(0.0)


_warm()
