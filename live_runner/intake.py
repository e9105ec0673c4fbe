"""Where bars come in: from the stream one by one, by REST for a session or a gap; all of them end in the row assembler."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from live_runner.broker import Broker
from live_runner.fold import Fold
from live_runner.rows import Bar, RowAssembler, bar_of
from live_runner.wire_time import instant_ns, instant_text
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError


class Intake:
    """Bars of one pipeline's instruments; `symbols` maps the venue's ticker to the instrument id."""

    def __init__(self, broker: Broker, fold: Fold, calendar: MarketCalendar, assembler: RowAssembler) -> None:
        self._broker, self._fold, self._calendar, self._assembler = broker, fold, calendar, assembler
        self.symbols = {instrument.symbol: name for name, instrument in fold.instruments.items()}

    def take(self, message: Mapping[str, Any], name: str, source: str) -> Bar | None:
        """Take a bar; None where it came too late or cannot be."""
        try:
            bar = bar_of(name, message, source)
        except InputError:
            return None
        return bar if self._assembler.add(bar, self._fold.last_row) else None

    async def fetch_session(self, session: int, timestamp: int) -> None:
        """Daily bars of one session by REST; the vendor may stamp them at any instant of the session's local date."""
        start, end = instant_text(timestamp), instant_text(self._calendar.close_ns(session))
        mine: dict[Any, bool] = {}
        for symbol, bars in (await self._broker.bars(sorted(self.symbols), "1Day", start, end)).items():
            for message in bars:
                stamp = message["t"]
                if stamp not in mine:
                    mine[stamp] = self._calendar.sessions_of(np.array([instant_ns(stamp)], dtype=np.int64))[0] == session
                if mine[stamp]:
                    self.take({**message, "t": start}, self.symbols[symbol], "rest")

    async def fetch_minutes(self, first: int, last: int) -> set[int]:
        """Minute bars that start from `first` to `last` (UTC ns, both included); the timestamps of what was taken."""
        found = await self._broker.bars(sorted(self.symbols), self._assembler.timeframe, instant_text(first), instant_text(last))
        taken = (self.take(message, self.symbols[symbol], "rest") for symbol, bars in found.items() for message in bars)
        return {bar.timestamp for bar in taken if bar is not None}
