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
from trading_platform.contracts.panel import TIMEFRAME_NS


class Intake:
    """Bars of one pipeline's instruments; `symbols` maps the venue's ticker to the instrument id."""

    def __init__(self, broker: Broker, fold: Fold, calendar: MarketCalendar, assembler: RowAssembler) -> None:
        self._broker, self._fold, self._calendar, self._assembler = broker, fold, calendar, assembler
        self.symbols = {instrument.symbol: name for name, instrument in fold.instruments.items()}
        self.external = assembler.external

    def take(self, message: Mapping[str, Any], name: str, source: str) -> Bar | None:
        """Take a bar; None where it came too late or cannot be."""
        try:
            bar = bar_of(name, message, source)
        except InputError:
            return None
        return bar if self._assembler.add(bar, self._fold.stepped) else None

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

    def repeats(self, message: Mapping[str, Any], name: str) -> bool:
        """The bar is one that was taken already."""
        try:
            return self._assembler.repeats(bar_of(name, message, "stream"))
        except InputError:
            return False

    def late_index(self, name: str, message: Mapping[str, Any]) -> bool:
        """Take an index's bar for the rows to come; True where rows that might have read it are closed, or it is another version."""
        return not self.external.repeats(name, message) and self.external.add(name, message) <= self._fold.last_row

    async def fetch_indexes(self, session: int, now: int) -> list[tuple[str, Mapping[str, Any]]]:
        """Bars of the indexes that may still be in force in `session`, by REST; returned: those too late for a row this process closed."""
        if not self.external.symbols:
            return []
        last = now - TIMEFRAME_NS[self._assembler.timeframe]
        start, end = instant_text(self.external.oldest_usable(session)), instant_text(last)
        late = []
        for symbol, bars in (await self._broker.bars(sorted(self.external.symbols), self._assembler.timeframe, start, end)).items():
            name = self.external.symbols[symbol]
            newest = self.external.newest(name)
            for message in bars:
                at = self.external.add(name, message)
                if 0 <= newest < at <= self._fold.last_row:
                    late.append((name, message))
        return late

    async def fetch_minutes(self, first: int, last: int) -> set[int]:
        """Minute bars that start from `first` to `last` (UTC ns, both included); the timestamps of what was taken."""
        found = await self._broker.bars(sorted(self.symbols), self._assembler.timeframe, instant_text(first), instant_text(last))
        taken = (self.take(message, self.symbols[symbol], "rest") for symbol, bars in found.items() for message in bars)
        return {bar.timestamp for bar in taken if bar is not None}
