"""The calendar against the table of an independent file, and its edges."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_platform.calendar import MarketCalendar, date_of, day_of
from trading_platform.contracts import names
from trading_platform.contracts.errors import InputError

MINUTE = 60_000_000_000


@pytest.fixture(scope="module")
def calendar() -> MarketCalendar:
    return MarketCalendar()


CALENDAR = MarketCalendar("XNYS", date(2004, 1, 1), date(2008, 12, 31))


def test_sessions_opens_and_closes_equal_the_reference_table(calendar: MarketCalendar) -> None:
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[2] / "shared" / "data" / "open"))
    path = root / "reference" / "nyse_sessions.parquet"
    if not path.is_file():
        pytest.skip(f"no reference sessions at {path}: set {names.ENV_TEST_DATA}")
    table = pl.read_parquet(path)
    expected = table["session"].to_physical().to_numpy().astype(np.int64)
    assert np.array_equal(calendar.sessions(date(1998, 1, 1), date(2027, 12, 31)), expected)
    for ours, column in ((calendar.opens_ns, "open_utc"), (calendar.closes_ns, "close_utc")):
        assert np.array_equal(ours(expected), table[column].dt.cast_time_unit("ns").to_physical().to_numpy())


def test_a_half_day_closes_at_one_and_a_full_day_at_four(calendar: MarketCalendar) -> None:
    thanksgiving_friday, monday = day_of(date(2012, 11, 23)), day_of(date(2012, 11, 26))
    assert np.datetime64(calendar.close_ns(thanksgiving_friday), "ns") == np.datetime64("2012-11-23T18:00", "ns")
    assert np.datetime64(calendar.close_ns(monday), "ns") == np.datetime64("2012-11-26T21:00", "ns")
    assert len(calendar.bar_starts(thanksgiving_friday, "1Min")) == 210
    assert len(calendar.bar_starts(monday, "1Min")) == 390


def test_daily_bars_start_at_midnight_in_new_york(calendar: MarketCalendar) -> None:
    winter, summer = day_of(date(2012, 1, 3)), day_of(date(2012, 7, 2))
    stamps = calendar.midnights_ns(np.array([winter, summer]))
    assert [str(stamp) for stamp in stamps.astype("datetime64[ns]").astype("datetime64[s]")] == [
        "2012-01-03T05:00:00",
        "2012-07-02T04:00:00",
    ]


@settings(deadline=None)
@given(st.integers(day_of(date(2004, 1, 20)), day_of(date(2008, 12, 1))))
def test_next_and_previous_are_the_neighbours_of_any_day(day: int) -> None:
    after, before = CALENDAR.next_session(day), CALENDAR.previous_session(day)
    assert before < day < after
    between = CALENDAR.sessions(date_of(before), date_of(after)).tolist()
    assert [session for session in between if session != day] == [before, after]


@settings(deadline=None)
@given(st.integers(day_of(date(2004, 1, 20)), day_of(date(2008, 12, 1))), st.integers(0, 24 * 60 - 1))
def test_every_instant_of_a_local_date_belongs_to_its_session(day: int, minute: int) -> None:
    session = CALENDAR.next_session(day)
    midnight = int(CALENDAR.midnights_ns(np.array([session]))[0])
    assert CALENDAR.session_of(midnight + minute * MINUTE) == session
    assert CALENDAR.sessions_of(np.array([midnight - 1]))[0] != session


def test_a_weekend_is_no_session(calendar: MarketCalendar) -> None:
    saturday = day_of(date(2016, 2, 27))
    with pytest.raises(InputError, match="2016-02-27 is not a session"):
        calendar.close_ns(saturday)
    with pytest.raises(InputError, match="falls on no session"):
        calendar.session_of(calendar.close_ns(day_of(date(2016, 2, 26))) + 24 * 60 * MINUTE)


def test_questions_outside_the_span_are_refused_not_guessed() -> None:
    with pytest.raises(InputError, match="outside the calendar's span"):
        CALENDAR.previous_session(day_of(date(2012, 1, 3)))
    with pytest.raises(InputError, match="outside the calendar's span"):
        CALENDAR.next_session(day_of(date(2008, 12, 31)))
    with pytest.raises(InputError, match="no calendar 'NOWHERE'"):
        MarketCalendar("NOWHERE")


def test_the_hash_is_of_content_and_the_same_for_any_span_that_agrees(calendar: MarketCalendar) -> None:
    first, last = date(2005, 1, 1), date(2007, 12, 31)
    assert CALENDAR.hash_between(first, last) == calendar.hash_between(first, last)
    assert calendar.hash_between(first, last) != calendar.hash_between(first, date(2007, 12, 30))
    assert date_of(day_of(first)) == first


def test_importing_the_calendar_imports_no_pandas() -> None:
    script = "import sys, trading_platform.calendar as c; sys.exit('pandas' in sys.modules or 'exchange_calendars' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
