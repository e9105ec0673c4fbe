"""What a row's decision reads besides bars: quotes, the session's times, the universe's numbers, kill level and account flags."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_runner.broker import Broker
from live_runner.clock import SECOND
from live_runner.fold import Fold
from live_runner.reconcile import Gate
from live_runner.wire_time import instant_ns
from trading_platform.calendar import MarketCalendar, date_of
from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.panel import TIMEFRAME_NS, Panel
from trading_platform.contracts.session_inputs import Universe
from trading_platform.engine.context import RowContext

SANE_QUOTE = 0.2  # a mid further than this from the bar's close is no mark (T19)
QUOTE_DECIMALS = 6
QUOTE_TRIES = 3
MADE = "M"


class ContextMaker:
    """Makes `RowContext`s. `model_age(session)`: sessions since the active bundle's last training row."""

    def __init__(
        self,
        broker: Broker,
        fold: Fold,
        gate: Gate,
        calendar: MarketCalendar,
        universe: Universe,
        timeframe: str,
        model_age: Callable[[int], int],
    ) -> None:
        self._broker = broker
        self._fold = fold
        self._gate = gate
        self._calendar = calendar
        self._universe = universe
        self._daily = timeframe == "1Day"
        self._timeframe = timeframe
        self._model_age = model_age
        self._columns = [fold.instruments[name].symbol for name in fold.engine.instrument_ids]
        self._symbols = sorted(self._columns)
        self._sectors = universe.sector_codes()

    async def make(self, panel: Panel, session: int) -> RowContext:
        """The context of a row that has just closed; a named break counts as a blocked account (T12)."""
        mid, age = await self._quotes(panel)
        date = date_of(session).isoformat()
        following = self._calendar.next_session(session)
        return RowContext(
            quote_mid=mid,
            quote_age_s=age,
            session_open_ns=self._calendar.open_ns(session),
            session_close_ns=self._calendar.close_ns(session),
            next_open_ns=self._calendar.open_ns(following),
            sector=self._sectors,
            adv_lots=self._universe.adv_row(date),
            kill_level=int(self._fold.level),
            model_age_sessions=self._model_age(session),
            trading_blocked=self._gate.trading_blocked or bool(self._fold.breaks),
        )

    async def _quotes(self, panel: Panel) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Mids and their ages at the row's known_at, of the names that reported; NaN where there is no sane quote (T9, T19)."""
        width = len(panel.instrument_ids)
        mid, age = np.full(width, np.nan), np.full(width, np.nan)
        quotes = await self._latest_quotes()
        known_at, bar_end, closes = int(panel.known_at[0]), self._bar_end(panel), panel.fields["close"][0].tolist()
        for column in np.flatnonzero(panel.present[0]).tolist():
            quote = quotes.get(self._columns[column])
            if quote is None:
                continue
            bid, ask = float(quote.get("bp") or 0.0), float(quote.get("ap") or 0.0)
            middle = round((bid + ask) / 2.0, QUOTE_DECIMALS)
            if bid > 0.0 and ask >= bid and abs(middle / closes[column] - 1.0) <= SANE_QUOTE:
                # A simulator's quote is made from the bar (condition M) and is as old as the bar, whenever it is asked for.
                at = bar_end if MADE in (quote.get("c") or ()) else instant_ns(quote["t"])
                mid[column], age[column] = middle, max(known_at - at, 0) / SECOND
        return mid, age

    async def _latest_quotes(self) -> Mapping[str, Mapping[str, Any]]:
        """The venue's quotes; empty when it keeps failing: then no new risk, and reductions are planned at the last good mark."""
        for _ in range(QUOTE_TRIES):
            try:
                return await self._broker.quotes(self._symbols)
            except TransientError:
                continue
        return {}

    def _bar_end(self, panel: Panel) -> int:
        if self._daily:
            return self._calendar.close_ns(int(panel.session[0]))
        return int(panel.timestamp[0]) + TIMEFRAME_NS[self._timeframe]
