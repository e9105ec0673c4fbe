"""Market-wide fields of a row: what the indexes of the feed said last, as the training panel joins them (market_data.panel.join_fields).

An index is no instrument: no column, no membership, no coverage, no order. Its bars may be late or absent without a cell being absent: the
newest value that was known when the row was stays in force until it is too old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from live_runner.broker import Broker
from live_runner.wire_time import instant_ns
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import TIMEFRAME_NS
from trading_platform.contracts.session_inputs import ExternalField, SessionInputs
from trading_platform.features.catalog import registry


def sets_without(name: str, field: str) -> list[str]:
    """Sets of the catalogue that are the set `name` without features, none of which reads the field."""
    whole = set(registry.feature_set(name).names)
    others = [registry.feature_set(other) for other in registry.names()]
    return [other.name for other in others if set(other.names) < whole and field not in other.fields]


async def check_indexes(inputs: SessionInputs, broker: Broker) -> None:
    """Every index that feeds a field must be known to the venue as something nobody can trade. InputError says what to do otherwise."""
    for field in inputs.external:
        asset = await broker.asset(field.symbol)
        if asset is not None and not asset.get("tradable", True):
            continue
        found = "the venue has none" if asset is None else "to the venue that is a share"
        without = ", ".join(sets_without(inputs.feature_set, field.name)) or "none in the catalogue"
        what = f"the field {field.name} of feature set {inputs.feature_set} needs the index {field.symbol}, and {found}"
        raise InputError(what, inputs.pipeline, f"trade a venue that publishes it, or publish and train a set without it: {without}")


class ExternalFields:
    """Closes of the indexes by bar start. `symbols`: of the feed -> name of the field."""

    def __init__(self, fields: Sequence[ExternalField], timeframe: str, calendar: MarketCalendar) -> None:
        if fields and timeframe == "1Day":
            what = f"{fields[0].name} is fed by an index, and these rows are whole sessions"
            raise InputError(what, "external fields", "use a feature set without it for session bars")
        self._fields = tuple(fields)
        self._step, self._calendar = TIMEFRAME_NS[timeframe], calendar
        self._closes: dict[str, dict[int, float]] = {field.name: {} for field in fields}
        self.symbols = {field.symbol: field.name for field in fields}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(field.name for field in self._fields)

    def add(self, name: str, message: Mapping[str, Any]) -> int:
        """Take an index's bar of the venue's form; its start (UTC ns), or -1 where it has its first version already or is no bar (T4)."""
        start, close = instant_ns(message["t"]), float(message.get("c") or np.nan)
        outside = int(self._calendar.sessions_of(np.array([start], dtype=np.int64))[0]) < 0
        if outside or not np.isfinite(close) or start in self._closes[name]:
            return -1
        self._closes[name][start] = close
        return start

    def repeats(self, name: str, message: Mapping[str, Any]) -> bool:
        """The bar says what is known of it already: history by REST and the stream overlap where a connection begins."""
        return self._closes[name].get(instant_ns(message["t"]), np.nan) == message.get("c")

    def newest(self, name: str) -> int:
        """Start (UTC ns) of a field's newest bar, -1 for none."""
        return max(self._closes[name], default=-1)

    def complete(self, timestamp: int) -> bool:
        """Every index that has printed in this row's session has reported for this row."""
        if not self._fields:
            return True
        opened = self._calendar.open_ns(self._calendar.session_of(timestamp))
        return all(timestamp in closes or max(closes, default=-1) < opened for closes in self._closes.values())

    def values(self, known_at: int, session: int) -> dict[str, float]:
        """Field -> the newest value known at `known_at` (UTC ns), NaN where there is none or it is too old. Older ones are forgotten."""
        return {field.name: self._value(field, known_at, session) for field in self._fields}

    def _value(self, field: ExternalField, known_at: int, session: int) -> float:
        closes = self._closes[field.name]
        known = [start for start in closes if start + self._step <= known_at]
        if not known:
            return float("nan")
        newest = max(known)
        for start in known:
            if start < newest:
                del closes[start]
        age = self._calendar.position(session) - self._calendar.position(self._calendar.session_of(newest))
        return closes[newest] if age <= field.max_age_sessions else float("nan")

    def oldest_usable(self, session: int) -> int:
        """Local midnight (UTC ns) of the earliest session whose values may still be in force in `session`."""
        for _ in range(max((field.max_age_sessions for field in self._fields), default=0)):
            session = self._calendar.previous_session(session)
        return int(self._calendar.midnights_ns(np.array([session], dtype=np.int64))[0])
