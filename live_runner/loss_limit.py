"""The daily loss limit on confirmed marks (T19): a function of the rows that were decided. Nothing here asks, latches or writes.

The engine refuses entries on one bar's closes; to latch a level takes more. A mark is good when every held instrument reported with a quote
inside the sanity band. Two good marks in a row are needed to raise the high-water mark, and two, seconds apart, to confirm a breach.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from live_runner.clock import SECOND
from trading_platform.contracts.panel import Panel
from trading_platform.engine.context import RowContext
from trading_platform.engine.engine import Engine

APART_NS = 5 * SECOND
KEPT = ("high", "equity", "good", "good_equity", "breached_at", "confirmed", "spent")


class LossLimit:
    """Losses of one session, in fractions of its high-water mark. `limit`: the profile's daily drawdown."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.high = 0.0
        self.equity = 0.0
        self.good = False  # the newest mark is good
        self.good_equity = 0.0  # at the last good mark
        self.breached_at = 0  # known_at (UTC ns) of the first of the breaching good marks in a row, 0 for none
        self.confirmed = False
        self.spent = False  # it has latched in this session; what an operator then releases stays released

    def start(self, equity: float) -> None:
        """A session begins, with this equity after its corporate actions."""
        self.high = self.equity = self.good_equity = equity
        self.good, self.breached_at, self.confirmed, self.spent = False, 0, False, False

    def flow(self, amount: float) -> None:
        """A deposit (+) or withdrawal (-) is neither a gain nor a loss (T12)."""
        self.high += amount
        self.equity += amount
        self.good_equity += amount

    @property
    def floor(self) -> float:
        """Equity at which the limit is reached."""
        return self.high * (1.0 - self.limit)

    @property
    def breached(self) -> bool:
        """The newest mark is at the limit or below it."""
        return self.high > 0.0 and self.equity <= self.floor

    def mark(self, panel: Panel, context: RowContext, engine: Engine) -> None:
        """Take the marks of a decided row: mids where they are sane, else the last good marks."""
        state, at = engine.account, int(panel.known_at[0])
        held = state.position != 0
        last = np.where(np.isfinite(state.mark), state.mark, state.avg_cost)
        price = np.where(np.isfinite(context.quote_mid), context.quote_mid, last)
        units = state.position[held] / engine.grid.lots_per_unit[held]
        self.equity = float(state.cash[0] + np.sum(units * price[held]))
        self.good = bool(np.isfinite(context.quote_mid[held]).all())
        if not self.good:
            return
        self.high = max(self.high, min(self.equity, self.good_equity))
        self.good_equity = self.equity
        if not self.breached:
            self.breached_at, self.confirmed = 0, False
        elif not self.breached_at:
            self.breached_at = at
        else:
            self.confirmed = at - self.breached_at >= APART_NS

    def to_body(self) -> dict[str, Any]:
        """State for a snapshot."""
        return {name: getattr(self, name) for name in KEPT}

    def load_body(self, body: Mapping[str, Any]) -> None:
        """Take over what `to_body` wrote; what it does not name stays."""
        for name in KEPT:
            setattr(self, name, body.get(name, getattr(self, name)))
