"""Splits and cash dividends: the causal factors of a price series (T1) and what an event does to a held position (T10).

Light on purpose: the live runner imports this module. The position arithmetic itself is the
engine's (`engine.corporate`). Both users of the factors, a whole panel (`factors`) and one
row after another (`FactorState`), run the same additions and multiplications in the same order, so their bits are equal.

A dividend is the cash one share receives that trades ex on `ex_date`: with a split on the same day, one share after the split.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.engine.corporate import rescale

Floats = NDArray[np.float64]
STATE_FORMAT = "factor-state-1"


@dataclass(frozen=True, slots=True, order=True)
class CorporateAction:
    """One event of one instrument, effective before the open of session `ex_date` (days since 1970-01-01).

    split_ratio: new shares per old share, 4.0 for 4:1 and 0.1 for 1:10, 1.0 for none. cash_dividend: quote currency per (new) share, 0.0
    for none.
    """

    ex_date: int
    instrument_id: str
    split_ratio: float = 1.0
    cash_dividend: float = 0.0

    def __post_init__(self) -> None:
        if not (
            math.isfinite(self.split_ratio) and self.split_ratio > 0.0 and math.isfinite(self.cash_dividend) and self.cash_dividend >= 0.0
        ):
            raise InputError(
                f"split_ratio {self.split_ratio}, cash_dividend {self.cash_dividend} is no corporate action",
                f"{self.instrument_id}, ex-date day {self.ex_date}",
                "a ratio is positive (1.0 for none), a dividend is not negative",
            )


class ActionTable:
    """All known events, ascending by (ex_date, instrument_id), one per instrument and ex-date.

    Several rows of one instrument and day (a split and a dividend, a regular and a special dividend) become one event: ratios multiply,
    cash adds. The very same row twice is an InputError.
    """

    def __init__(self, actions: Iterable[CorporateAction] = ()) -> None:
        merged: list[CorporateAction] = []
        before: CorporateAction | None = None
        for action in sorted(actions):
            if action == before:
                raise InputError(
                    "the same corporate action twice", f"{action.instrument_id}, ex-date day {action.ex_date}", "drop the duplicate row"
                )
            before = action
            last = merged[-1] if merged else None
            if last is not None and (last.ex_date, last.instrument_id) == (action.ex_date, action.instrument_id):
                merged[-1] = replace(
                    last, split_ratio=last.split_ratio * action.split_ratio, cash_dividend=last.cash_dividend + action.cash_dividend
                )
            else:
                merged.append(action)
        self.actions = tuple(merged)
        self._dates = np.array([action.ex_date for action in merged], dtype=np.int64)
        self._by_instrument: dict[str, list[CorporateAction]] = {}
        for action in merged:
            self._by_instrument.setdefault(action.instrument_id, []).append(action)

    def of(self, instrument_id: str) -> tuple[CorporateAction, ...]:
        """Events of one instrument, ascending by ex-date."""
        return tuple(self._by_instrument.get(instrument_id, ()))

    def between(self, after: int, until: int) -> tuple[CorporateAction, ...]:
        """Events with after < ex_date <= until."""
        low, high = np.searchsorted(self._dates, (after, until), side="right")
        return self.actions[low:high]

    @cached_property
    def hash(self) -> str:
        """Content hash of the table (T37)."""
        return content_hash([[a.ex_date, a.instrument_id, a.split_ratio, a.cash_dividend] for a in self.actions])


def _dividend_ratio(reference: float, action: CorporateAction) -> float:
    """previous close / (previous close - dividend), the textbook (CRSP) form, never the ex-day close (T1)."""
    if not action.cash_dividend < reference < math.inf:
        raise InputError(
            f"a dividend of {action.cash_dividend} on a previous close of {reference}",
            f"{action.instrument_id}, ex-date day {action.ex_date}",
            "correct the corporate action, or the price before it",
        )
    return reference / (reference - action.cash_dividend)


def factors(
    actions: ActionTable, instrument_ids: Sequence[str], session: NDArray[np.int64], close: Floats, present: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Causal (split_factor, return_factor) of a panel, both (T, S) float64 (T1).

    session: (T,) int64 days, non-descending. close: (T, S) raw. Both factors are 1.0 up to the session of an instrument's first bar and
    change only at the first row of an ex-date: row t is a function of events with ex_date <= session[t] and of closes before that ex-date.
    Filled in every cell, absent ones included. InputError where a dividend is not below the close before it.
    """
    rows, width = present.shape
    split_factor: Floats = np.ones((rows, width))
    dividend_factor = np.ones((rows, width))
    for column, instrument_id in enumerate(instrument_ids):
        events = actions.of(instrument_id)
        if not events:
            continue
        seen = np.flatnonzero(present[:, column])
        if len(seen) == 0:
            continue
        first_session = session[seen[0]]
        starts = np.searchsorted(session, [event.ex_date for event in events])
        reference, taken = math.nan, -1
        for event, start in zip(events, starts, strict=True):
            if event.ex_date <= first_session or start == rows:
                continue
            last = seen[np.searchsorted(seen, start) - 1]
            if last > taken:
                reference, taken = float(close[last, column]), int(last)
            split_factor[start:, column] *= event.split_ratio
            reference = reference / event.split_ratio
            if event.cash_dividend > 0.0:
                dividend_factor[start:, column] *= _dividend_ratio(reference, event)
                reference = reference - event.cash_dividend
    return split_factor, split_factor * dividend_factor


class FactorState:
    """The factors as a scan: one row in, one row of factors out, with the bits of `factors`.

    Use per row: `state.open_row(session)` before anything reads prices, then `state.close_row(close, present)` once the bars
    are known. State is saved with the features' state and travels to the runner.
    """

    def __init__(self, actions: ActionTable, instrument_ids: Sequence[str]) -> None:
        width = len(instrument_ids)
        self.instrument_ids = tuple(instrument_ids)
        self.session = -(2**62)  # before every session
        self.split_factor = np.ones(width)
        self.dividend_factor = np.ones(width)
        self.reference = np.full(width, np.nan)  # last close in today's shares, less the dividends since
        self.first_session = np.full(width, 2**62, dtype=np.int64)
        self._column = {name: column for column, name in enumerate(self.instrument_ids)}
        self.set_actions(actions)

    def set_actions(self, actions: ActionTable) -> None:
        """Replace the table. Events up to the current session are history and are not applied again."""
        self._actions = actions

    def open_row(self, session: int) -> tuple[Floats, Floats]:
        """Apply every event gone ex since the last row; return (split_factor, return_factor), each (S,), owned by the caller."""
        if session < self.session:
            raise InputError(f"session {session} after session {self.session}", "FactorState", "rows must come in time order")
        for event in self._actions.between(self.session, session) if session > self.session else ():
            column = self._column.get(event.instrument_id)
            if column is None or event.ex_date <= self.first_session[column]:
                continue
            self.split_factor[column] *= event.split_ratio
            reference = float(self.reference[column]) / event.split_ratio
            if event.cash_dividend > 0.0:
                self.dividend_factor[column] *= _dividend_ratio(reference, event)
                reference = reference - event.cash_dividend
            self.reference[column] = reference
        self.session = session
        return self.split_factor.copy(), self.split_factor * self.dividend_factor

    def close_row(self, close: Floats, present: NDArray[np.bool_]) -> None:
        """Note the raw closes (S,) of the bars that were there."""
        self.reference = np.where(present, close, self.reference)
        self.first_session = np.where(present, np.minimum(self.first_session, self.session), self.first_session)

    def state_bytes(self) -> bytes:
        """The state as one .npz, without the action table."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            format=np.array(STATE_FORMAT),
            instrument_ids=np.array(self.instrument_ids, dtype=np.str_),
            session=np.array(self.session, dtype=np.int64),
            split_factor=self.split_factor,
            dividend_factor=self.dividend_factor,
            reference=self.reference,
            first_session=self.first_session,
        )
        return buffer.getvalue()

    def load_state(self, data: bytes) -> None:
        """Take over a saved state, re-indexed to this object's instruments; those it does not know start cold."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as saved:
                if str(saved["format"]) != STATE_FORMAT:
                    raise CorruptionError(f"state format {saved['format']!s}", "FactorState", "publish the state again with this version")
                arrays = {name: saved[name] for name in ("split_factor", "dividend_factor", "reference", "first_session")}
                names, session = [str(name) for name in saved["instrument_ids"]], int(saved["session"])
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise CorruptionError(f"not a factor state: {error}", "FactorState", "publish the state again") from error
        known = [(self._column[name], index) for index, name in enumerate(names) if name in self._column]
        here, there = (list(side) for side in zip(*known, strict=True)) if known else ([], [])
        for name, values in arrays.items():
            getattr(self, name)[here] = values[there]
        self.session = session


@dataclass(frozen=True, slots=True)
class Rescaled:
    """A held position after an event (T10). Cash is positive when received; a short owes, so its cash is negative.

    lots: signed. average_cost, stop_price: quote currency per share (`price_scale` times the old ones, for any other price kept with the
    position). cash_in_lieu: for the fraction of a lot a split leaves over, at the last close. dividend_cash: the dividend due or owed.
    """

    lots: int
    average_cost: float
    stop_price: float
    cash_in_lieu: float
    dividend_cash: float
    price_scale: float


def apply_to_position(
    lots: int, average_cost: float, stop_price: float, action: CorporateAction, previous_close: float, lots_per_unit: int = 1
) -> Rescaled:
    """What one event does to one position held over the ex-date's open; the one function of backtest and runner (T10)."""
    return Rescaled(*rescale(lots, average_cost, stop_price, action.split_ratio, action.cash_dividend, previous_close, lots_per_unit))
