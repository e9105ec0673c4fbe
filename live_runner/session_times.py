"""When things happen in a session of one pipeline: a function of calendar and profile alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from live_runner.clock import SECOND
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.panel import TIMEFRAME_NS
from trading_platform.contracts.profile import Profile

AFTER_CLOSE_NS = 5 * SECOND


@dataclass(frozen=True, slots=True)
class SessionTimes:
    """Instants are UTC ns, sessions days since 1970-01-01."""

    calendar: MarketCalendar
    profile: Profile
    timeframe: str

    @property
    def daily(self) -> bool:
        """Rows are whole sessions."""
        return self.timeframe == "1Day"

    def known_at(self, session: int) -> int:
        """When a session bar may be used: official close plus the vendor's delay (T6)."""
        return self.calendar.close_ns(session) + int(self.profile.vendor_delay_s * SECOND)

    def known_at_of_row(self, timestamp: int) -> int:
        """When the row with this timestamp could be used; 0 for none."""
        if timestamp < 0:
            return 0
        if self.daily:
            return self.known_at(self.calendar.session_of(timestamp))
        return timestamp + TIMEFRAME_NS[self.timeframe]

    def row_of(self, session: int) -> int:
        """Timestamp of a session's daily row."""
        return int(self.calendar.midnights_ns(np.array([session], dtype=np.int64))[0])

    def ends_at(self, session: int) -> int:
        """When a session is over for us: its last row has been decided."""
        if self.daily:
            return self.known_at(session)
        return self.calendar.close_ns(session) + int(self.profile.grace_s * SECOND) + AFTER_CLOSE_NS

    def session_at(self, now: int) -> int:
        """The session that is open at `now` or comes next."""
        session = int(self.calendar.sessions_of(np.array([now], dtype=np.int64))[0])
        if session >= 0 and now <= self.ends_at(session):
            return session
        return self.calendar.next_session(session if session >= 0 else now // TIMEFRAME_NS["1Day"])

    def may_swap(self, session: int, now: int) -> bool:
        """No swaps in a session's first and last minutes (T27)."""
        quiet = self.profile.models.no_swap_minutes * 60 * SECOND
        opens, closes = self.calendar.open_ns(session), self.calendar.close_ns(session)
        return not (opens <= now < opens + quiet or closes - quiet <= now < closes)
