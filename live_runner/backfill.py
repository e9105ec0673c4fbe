"""Rows that closed while nobody looked: they move the state, and only the newest may still be decided if it is fresh (T4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from live_runner.fold import Fold
from live_runner.intake import Intake
from live_runner.session_times import SessionTimes
from trading_platform.calendar import date_of
from trading_platform.contracts.panel import TIMEFRAME_NS

StepRow = Callable[[int, int, int, str], Awaitable[None]]  # timestamp, known_at, session, provenance
CloseRows = Callable[[set[int], int], Awaitable[None]]  # timestamps, now


class Backfill:
    """Fetches what is missing by REST and gives it to the session: `step` closes a daily row, `close` minute rows."""

    def __init__(self, times: SessionTimes, fold: Fold, intake: Intake, step: StepRow, close: CloseRows) -> None:
        self._times, self._fold, self._intake, self._step, self._close = times, fold, intake, step, close

    async def run(self, since_known_at: int, now: int) -> None:
        """Everything after the row known at `since_known_at` (0: nothing is known, so nothing is missing) until `now`, UTC ns."""
        if self._times.daily:
            await self._daily(since_known_at, now)
        elif self._fold.in_session:
            await self._minutes(now)

    async def _daily(self, since: int, now: int) -> None:
        if not since:
            return
        until = date_of(self._times.session_at(now))
        for day in (int(d) for d in self._times.calendar.sessions(date_of(since // TIMEFRAME_NS["1Day"]), until)):
            timestamp, known_at = self._times.row_of(day), self._times.known_at(day)
            missing = since < known_at <= now and timestamp > self._fold.stepped
            if missing and not (self._fold.in_session and day == self._fold.session):
                await self._intake.fetch_session(day, timestamp)
                await self._step(timestamp, known_at, day, "backfilled")

    async def _minutes(self, now: int) -> None:
        step = TIMEFRAME_NS[self._times.timeframe]
        first = max(self._times.calendar.open_ns(self._fold.session), self._fold.stepped + step)
        if first + step <= now:
            await self._close(await self._intake.fetch_minutes(first, now - step), now)
