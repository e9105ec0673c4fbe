"""Sessions of one market: which days trade, when they open and close, half days included. The only user of exchange_calendars.

A session is its local exchange date as whole days since 1970-01-01 (int64), the same number everywhere in the platform; instants are
UTC int64 ns. pandas and exchange_calendars are touched in the constructor alone; afterwards a calendar is four NumPy arrays.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import TIMEFRAME_NS

EPOCH = date(1970, 1, 1)
FIRST_DAY = date(1998, 1, 1)
LAST_DAY = date(2030, 12, 31)


def day_of(day: date) -> int:
    """Days since 1970-01-01 of a date."""
    return (day - EPOCH).days


def date_of(session: int) -> date:
    """The date of a session day."""
    return EPOCH + timedelta(days=int(session))


class MarketCalendar:
    """Sessions of exchange `name` (an exchange_calendars code) between two dates, both included.

    The default span is fixed so that research and the live runner hash the same table; days after the exchange's published holidays are
    projections of exchange_calendars. Questions outside the span raise InputError: a calendar never guesses.
    """

    def __init__(self, name: str = "XNYS", first: date = FIRST_DAY, last: date = LAST_DAY) -> None:
        from exchange_calendars import get_calendar  # 0.4 s with pandas: paid by whoever builds a calendar, not by whoever imports this
        from exchange_calendars.errors import CalendarError

        try:
            source = get_calendar(name, start=first.isoformat(), end=last.isoformat())
        except (CalendarError, ValueError) as error:
            raise InputError(
                f"no calendar {name!r} from {first} to {last}: {error}", "calendar", "use an exchange_calendars code, such as XNYS"
            ) from error
        self.name = name
        self.first = first
        self.last = last
        self.timezone = str(source.tz)
        self._sessions: NDArray[np.int64] = source.sessions.to_numpy().astype("datetime64[D]").astype(np.int64)
        self._opens: NDArray[np.int64] = source.opens.to_numpy(dtype="datetime64[ns]").astype(np.int64)
        self._closes: NDArray[np.int64] = source.closes.to_numpy(dtype="datetime64[ns]").astype(np.int64)
        midnights = source.sessions.tz_localize(source.tz).tz_convert("UTC").tz_localize(None)
        self._midnights: NDArray[np.int64] = midnights.to_numpy(dtype="datetime64[ns]").astype(np.int64)
        for table in (self._sessions, self._opens, self._closes, self._midnights):
            table.setflags(write=False)
        self.hash = self.hash_between(first, last)

    def hash_between(self, first: date, last: date) -> str:
        """Content hash of the sessions, opens and closes from `first` to `last`: two calendars that agree there hash alike."""
        rows = slice(*np.searchsorted(self._sessions, (self._inside(day_of(first)), self._inside(day_of(last)) + 1)))
        return content_hash({"name": self.name, "sessions": self._sessions[rows], "opens": self._opens[rows], "closes": self._closes[rows]})

    def sessions(self, first: date, last: date) -> NDArray[np.int64]:
        """Session days from `first` to `last`, both included, ascending, int64 days since 1970-01-01 (read-only view)."""
        low, high = np.searchsorted(self._sessions, (self._inside(day_of(first)), self._inside(day_of(last)) + 1))
        return self._sessions[low:high]

    def position(self, session: int) -> int:
        """Number of sessions before this one in the span: the difference of two positions is an age in sessions."""
        return int(self.positions(np.array([session], dtype=np.int64))[0])

    def positions(self, sessions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of many sessions. InputError names the first day that is no session."""
        at = np.searchsorted(self._sessions, sessions)
        known = self._sessions[np.minimum(at, len(self._sessions) - 1)] == sessions
        if not bool(np.all(known)):
            bad = int(np.asarray(sessions)[np.argmin(known)])
            raise InputError(
                f"{date_of(bad)} is not a session of {self.name}",
                f"calendar {self.first} to {self.last}",
                "drop rows on weekends and holidays, or use the calendar of their market",
            )
        return at.astype(np.int64)

    def open_ns(self, session: int) -> int:
        """The official open, UTC ns."""
        return int(self._opens[self.position(session)])

    def close_ns(self, session: int) -> int:
        """The official close, UTC ns; early on half days."""
        return int(self._closes[self.position(session)])

    def opens_ns(self, sessions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Official opens of many sessions, UTC ns."""
        return self._opens[self.positions(sessions)]

    def closes_ns(self, sessions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Official closes of many sessions, UTC ns."""
        return self._closes[self.positions(sessions)]

    def midnights_ns(self, sessions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Local midnight at which each session's date begins, UTC ns: the timestamp of its daily bar."""
        return self._midnights[self.positions(sessions)]

    def next_session(self, session: int) -> int:
        """The first session after this day (which need not be a session itself)."""
        at = int(np.searchsorted(self._sessions, self._inside(session), side="right"))
        if at == len(self._sessions):
            raise self._outside(session + 1)
        return int(self._sessions[at])

    def previous_session(self, session: int) -> int:
        """The last session before this day (which need not be a session itself)."""
        at = int(np.searchsorted(self._sessions, self._inside(session), side="left")) - 1
        if at < 0:
            raise self._outside(session - 1)
        return int(self._sessions[at])

    def session_of(self, instant_ns: int) -> int:
        """The session whose local date contains this instant, before the open and after the close included.

        InputError on a day that does not trade.
        """
        session = int(self.sessions_of(np.array([instant_ns], dtype=np.int64))[0])
        if session < 0:
            when = np.datetime64(instant_ns, "ns")
            raise InputError(
                f"{when}Z falls on no session of {self.name}", f"calendar {self.first} to {self.last}", "drop weekend and holiday rows"
            )
        return session

    def sessions_of(self, instants_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """Sessions of many instants, -1 where the local date is no session of the span."""
        at = np.searchsorted(self._midnights, instants_ns, side="right") - 1
        begun = np.maximum(at, 0)
        # A local date lasts 23 to 25 hours, and clocks change on Sundays, which XNYS never trades; round-the-clock markets see at most one
        # hour of doubt, settled by the next midnight, which the search above already did.
        inside = (at >= 0) & (instants_ns - self._midnights[begun] < TIMEFRAME_NS["1Day"])
        return np.where(inside, self._sessions[begun], -1)

    def bar_starts(self, session: int, timeframe: str) -> NDArray[np.int64]:
        """Starts of the regular-hours bars of one session, UTC ns; one bar at local midnight for 1Day."""
        position = self.position(session)
        if timeframe == "1Day":
            return self._midnights[position : position + 1]
        if timeframe not in TIMEFRAME_NS:
            raise InputError(f"unknown timeframe {timeframe!r}", "calendar.bar_starts", f"use one of {', '.join(TIMEFRAME_NS)}")
        return np.arange(self._opens[position], self._closes[position], TIMEFRAME_NS[timeframe], dtype=np.int64)

    def _inside(self, session: int) -> int:
        if not day_of(self.first) <= session <= day_of(self.last):
            raise self._outside(session)
        return session

    def _outside(self, session: int) -> InputError:
        return InputError(
            f"{date_of(session)} is outside the calendar's span", f"calendar {self.name} {self.first} to {self.last}", "widen the span"
        )
