"""The panel's edge: what breaks one of its promises is refused by name and place; what may be strange and true passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import TIMEFRAME_NS, Panel

ROWS, IDS = 6, ("us:A", "us:B", "us:C")
SHAPE = (ROWS, len(IDS))
START = 1_325_601_000_000_000_000  # 2012-01-03 14:30 UTC
MINUTE, DAY = TIMEFRAME_NS["1Min"], TIMEFRAME_NS["1Day"]


def minutes() -> Panel:
    """Six sound minutes of three names."""
    timestamp = START + np.arange(ROWS) * MINUTE
    fields = {name: np.full(SHAPE, 10.0) for name in ("open", "high", "low", "close", "volume")}
    session = np.full(ROWS, 15_342)
    return Panel("1Min", IDS, timestamp, timestamp + MINUTE, session, fields, np.ones(SHAPE, bool), np.ones(SHAPE, bool))


def with_field(values: object) -> Callable[[Panel], Panel]:
    return lambda panel: replace(panel, fields={**panel.fields, "close": values})  # type: ignore[dict-item]


def with_rows(order: list[int], *axes: str) -> Callable[[Panel], Panel]:
    return lambda panel: replace(panel, **{name: getattr(panel, name)[order] for name in axes})


TIME = ("timestamp", "known_at", "session")
SHUFFLED, TWICE = [0, 1, 3, 2, 4, 5], [0, 1, 1, 3, 4, 5]

BROKEN: dict[str, tuple[Callable[[Panel], Panel], str, str]] = {
    "a timeframe nobody knows": (lambda p: replace(p, timeframe="2Min"), "unknown timeframe '2Min'", "1Min, 5Min"),
    "shuffled rows": (
        with_rows(SHUFFLED, *TIME),
        "timestamp is not ascending: at row 3, 2012-01-03T14:32:00.000000000Z comes after 2012-01-03T14:33:00",
        "sort the rows",
    ),
    "a row twice": (
        with_rows(TWICE, *TIME),
        "at row 2, 2012-01-03T14:31:00.000000000Z is in the row before, too",
        "drop duplicates",
    ),
    "a moment of knowledge that runs backwards": (
        lambda p: replace(p, known_at=p.known_at[[0, 1, 2, 3, 5, 4]] + MINUTE),
        "known_at is not ascending: at row 5",
        "sort the rows",
    ),
    "sessions that run backwards": (
        lambda p: replace(p, session=p.session - np.arange(ROWS)),
        "session is not ascending: at row 1, 2012-01-02 comes after 2012-01-03",
        "sort the rows",
    ),
    "a row that is known before its bar has ended": (
        lambda p: replace(p, known_at=p.timestamp.copy()),
        "row 0, a bar from 2012-01-03T14:30:00.000000000Z, is known at 2012-01-03T14:30",
        "the bar's end",
    ),
    "minutes that are called five minutes": (
        lambda p: replace(p, timeframe="5Min"),
        "rows 0 and 1 lie within one 5Min bar",
        "one panel per timeframe",
    ),
    "minutes that are called days": (
        lambda p: replace(p, timeframe="1Day"),
        "rows 0 and 1 lie within one 1Day bar",
        "one panel per timeframe",
    ),
    "a timestamp axis of another type": (
        lambda p: replace(p, timestamp=p.timestamp.astype(np.float64)),
        r"timestamp is float64 \(6,\), expected int64 \(6,\)",
        "market_data.panel",
    ),
    "a session axis of another length": (lambda p: replace(p, session=p.session[:-1]), r"session is int64 \(5,\), expected", "panel"),
    "an id without a column": (lambda p: replace(p, instrument_ids=(*IDS, "us:D")), "4 instrument ids for 3 columns", "one id per column"),
    "ids out of order": (lambda p: replace(p, instrument_ids=("us:A", "us:C", "us:B")), "'us:B' comes after 'us:C'", "sort the columns"),
    "an id twice": (lambda p: replace(p, instrument_ids=("us:A", "us:B", "us:B")), "'us:B' comes after 'us:B'", "drop duplicates"),
    "presence of another shape": (lambda p: replace(p, present=p.present.ravel()), r"present is bool \(18,\)", "panel"),
    "presence as numbers": (lambda p: replace(p, present=p.present.astype(float)), r"present is float64 \(6, 3\), expected bool", "panel"),
    "membership of another shape": (
        lambda p: replace(p, member=p.member[:, :2]),
        r"member is bool \(6, 2\), expected",
        "panel",
    ),
    "membership as numbers": (lambda p: replace(p, member=p.member.astype(np.int8)), r"member is int8 \(6, 3\), expected bool", "panel"),
    "a field in single precision": (with_field(np.ones(SHAPE, np.float32)), r"field close is float32 \(6, 3\), expected float64", "panel"),
    "a field of another shape": (with_field(np.ones((3, 6))), r"field close is float64 \(3, 6\), expected float64 \(6, 3\)", "panel"),
    "a field that is no array": (with_field([[1.0]]), "field close is list", "panel"),
    "a field column by column": (
        with_field(np.asfortranarray(np.ones(SHAPE))),
        "field close is not C-contiguous",
        "ascontiguous",
    ),
    "a view of every other column": (
        with_field(np.ones((6, 6))[:, ::2]),
        "field close is not C-contiguous",
        "ascontiguous",
    ),
    "a mask column by column": (
        lambda p: replace(p, member=np.asfortranarray(p.member)),
        "member is not C-contiguous",
        "ascontiguous",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_refused_with_what_where_and_fix(name: str) -> None:
    change, what, fix = BROKEN[name]
    with pytest.raises(InputError, match=what) as caught:
        change(minutes()).check("the test")
    assert caught.value.where == "the test" and fix in caught.value.fix


def test_a_sound_panel_its_rows_and_a_panel_without_rows_pass() -> None:
    panel = minutes()
    assert panel.check() is panel
    for start, stop in ((0, 3), (2, 3), (4, 4)):
        panel.rows(start, stop).check()


def test_infinite_values_and_columns_without_a_number_pass() -> None:
    panel = minutes()
    panel.fields["close"][2, 0] = np.inf
    panel.fields["volume"][:, 1] = np.nan
    replace(panel, present=panel.present & (np.arange(3) != 2)).check()


def test_days_may_be_23_or_25_hours_apart() -> None:
    """Clocks change on two weekends a year; a daily bar begins at local midnight."""
    timestamp = START + np.array([0, 1, 2, 3, 4, 5]) * DAY + np.array([0, 0, -1, -1, 0, 0]) * 3600 * 10**9
    replace(minutes(), timeframe="1Day", timestamp=timestamp, known_at=timestamp + DAY, session=15_342 + np.arange(ROWS)).check()
