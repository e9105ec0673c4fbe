"""From bars to a row: presence, coverage, causal factors, the panel the engine reads.

A minute row closes when every instrument that has printed in this session has reported, or at bar end + grace (T3). What arrives later is
journaled and never re-decided (T4).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from live_runner.external_fields import ExternalFields
from live_runner.wire_time import instant_ns
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journaled_row import BAR_KEYS
from trading_platform.contracts.panel import BAR_FIELDS, Panel
from trading_platform.market_data.corporate_actions import FactorState


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar as it arrived. values: field name -> number. source: stream, rest or updated."""

    instrument_id: str
    timestamp: int
    values: Mapping[str, float]
    source: str


def bar_of(instrument_id: str, message: Mapping[str, Any], source: str) -> Bar:
    """A bar of the venue's JSON or msgpack form. InputError where a price is missing or impossible."""
    values = {name: float(message[key]) for name, key in BAR_KEYS.items() if message.get(key) is not None}
    prices = [values.get(name, float("nan")) for name in ("open", "high", "low", "close")]
    if (
        not all(np.isfinite(prices))
        or min(prices) <= 0.0
        or prices[1] < max(prices)
        or prices[2] > min(prices)
        or values.get("volume", -1.0) < 0.0
    ):
        raise InputError(f"a bar that cannot be: {values}", instrument_id, "the bar is left out; look at the vendor's data")
    return Bar(instrument_id, instant_ns(message["t"]), values, source)


@dataclass(slots=True)
class RowAssembler:
    """Collects the bars of the row that is open and makes its panel.

    instrument_ids: S columns. fields: optional fields beside OHLCV. external: market-wide fields. printed: instruments that have printed in
    this session. newest: bars of the row that was closed last.
    """

    timeframe: str
    instrument_ids: tuple[str, ...]
    fields: tuple[str, ...]
    factors: FactorState
    external: ExternalFields
    bars: dict[int, dict[str, Bar]] = field(default_factory=dict)
    printed: set[str] = field(default_factory=set)
    newest: dict[str, Bar] = field(default_factory=dict)

    def add(self, bar: Bar, last_closed: int) -> bool:
        """Take a bar; False where its row has closed already or the cell has its first version (T4: the first complete one counts)."""
        if bar.timestamp <= last_closed or bar.instrument_id in self.bars.get(bar.timestamp, {}):
            return False
        self.bars.setdefault(bar.timestamp, {})[bar.instrument_id] = bar
        self.printed.add(bar.instrument_id)
        return True

    def repeats(self, bar: Bar) -> bool:
        """This very bar is in the open row, or was in the one that closed last: REST and stream overlap where a connection begins."""
        held = self.bars.get(bar.timestamp, {}).get(bar.instrument_id) or self.newest.get(bar.instrument_id)
        return held is not None and (held.timestamp, held.values) == (bar.timestamp, bar.values)

    def complete(self, timestamp: int) -> bool:
        """Every instrument and every index that has printed in this session has reported for this row."""
        return bool(self.printed) and self.printed <= set(self.bars.get(timestamp, {})) and self.external.complete(timestamp)

    def start_session(self) -> None:
        """Nobody has printed yet, and no bar waits."""
        self.printed.clear()
        self.bars.clear()

    def close(self, timestamp: int, known_at: int, session: int, member: NDArray[np.bool_]) -> Panel:
        """The row's panel (T = 1). Absent cells are NaN in every field, never carried forward."""
        bars = self.newest = self.bars.pop(timestamp, {})
        for early in [at for at in self.bars if at < timestamp]:
            del self.bars[early]
        width = len(self.instrument_ids)
        present = np.array([name in bars for name in self.instrument_ids], dtype=np.bool_)
        arrays: dict[str, NDArray[np.float64]] = {}
        for name in (*BAR_FIELDS, *self.fields):
            arrays[name] = np.array([bars[i].values.get(name, np.nan) if i in bars else np.nan for i in self.instrument_ids])[None, :]
        for name, value in self.external.values(known_at, session).items():
            arrays[name] = np.where(present, value, np.nan)[None, :]
        split_factor, return_factor = self.factors.open_row(session)
        arrays["split_factor"] = np.where(present, split_factor, np.nan)[None, :]
        arrays["return_factor"] = np.where(present, return_factor, np.nan)[None, :]
        at, known, day = (np.array([value], dtype=np.int64) for value in (timestamp, known_at, session))
        panel = Panel(self.timeframe, self.instrument_ids, at, known, day, arrays, present.reshape(1, width), member.reshape(1, width))
        return panel.check("live row")
