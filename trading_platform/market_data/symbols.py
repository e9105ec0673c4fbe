"""Who was called what, when: permanent instrument ids against dated tickers (T2). Standard library only, the live runner imports it.

A rename closes one row and opens another with the same id; a ticker used again by someone else is a new id (`us:CB~2`). Who keeps the
table tells the two apart. Days are days since 1970-01-01.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from trading_platform.contracts.errors import InputError

FOREVER = 2**31 - 1


@dataclass(frozen=True, slots=True, order=True)
class SymbolPeriod:
    """`symbol` named `instrument_id` from session day `first` to `last`, both included."""

    symbol: str
    first: int
    last: int
    instrument_id: str


class SymbolTable:
    """All periods; a ticker names one instrument at a time, an instrument has one ticker at a time."""

    def __init__(self, periods: Iterable[SymbolPeriod]) -> None:
        self.periods = tuple(sorted(periods))
        self._by_symbol: dict[str, list[SymbolPeriod]] = {}
        self._by_instrument: dict[str, list[SymbolPeriod]] = {}
        for period in self.periods:
            if period.first > period.last:
                raise InputError(
                    f"{period.symbol} ends on day {period.last} before it begins on {period.first}", "symbol table", "swap the dates"
                )
            self._by_symbol.setdefault(period.symbol, []).append(period)
        for period in sorted(self.periods, key=lambda p: (p.instrument_id, p.first)):
            self._by_instrument.setdefault(period.instrument_id, []).append(period)
        for groups in (self._by_symbol, self._by_instrument):
            for name, group in groups.items():
                _refuse_overlap(name, group)

    def instrument_id(self, symbol: str, session: int) -> str:
        """Who traded under this ticker on this day. InputError if nobody did."""
        for period in self._by_symbol.get(symbol, ()):
            if period.first <= session <= period.last:
                return period.instrument_id
        raise InputError(
            f"unknown symbol {symbol!r} on day {session}", "symbol table", "add its period, or check the spelling and the date"
        )

    def symbol(self, instrument_id: str, session: int) -> str:
        """The ticker of an instrument on this day. InputError if it had none."""
        for period in self._by_instrument.get(instrument_id, ()):
            if period.first <= session <= period.last:
                return period.symbol
        raise InputError(
            f"{instrument_id} has no ticker on day {session}", "symbol table", "add its period: it was not listed, or was renamed"
        )


def _refuse_overlap(name: str, group: list[SymbolPeriod]) -> None:
    for before, after in itertools.pairwise(group):
        if after.first <= before.last:
            raise InputError(
                f"{name}: {before.symbol} = {before.instrument_id} until day {before.last} overlaps "
                f"{after.symbol} = {after.instrument_id} from day {after.first}",
                "symbol table",
                "end one period before the next begins",
            )
