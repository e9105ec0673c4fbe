"""Bad bars at the panel's edge: refused by name; strange but true ones become cells that no number comes out of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar, date_of, day_of
from trading_platform.contracts.errors import InputError
from trading_platform.features.expression import adj, cs_rank, mean
from trading_platform.features.program import FeatureSet, Program
from trading_platform.market_data.bars import to_bar_frame
from trading_platform.market_data.corporate_actions import ActionTable, CorporateAction, FactorState, factors
from trading_platform.market_data.panel import build_panel, scan_factors

SET = FeatureSet("edge", "test", {"close_3": mean(adj("close"), 3), "rank": cs_rank(adj("close"))})
NOTHING = ActionTable()


@pytest.fixture(scope="module")
def days(calendar: MarketCalendar) -> np.ndarray:
    return calendar.sessions(date(2014, 1, 2), date(2014, 1, 31))


@pytest.fixture
def bars(calendar: MarketCalendar, days: np.ndarray) -> pl.DataFrame:
    """Three names on the sessions of a month."""
    table = []
    for number, symbol in enumerate("ABC"):
        close = 10.0 + number + np.arange(len(days)) / 8
        stamps = pl.Series(calendar.midnights_ns(days)).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
        columns = {"symbol": [symbol] * len(days), "timestamp": stamps, "volume": np.full(len(days), 100.0)}
        table.append(pl.DataFrame({**columns, "open": close, "high": close, "low": close, "close": close}))
    return to_bar_frame(pl.concat(table), calendar.timezone)


def with_value(bars: pl.DataFrame, column: str, value: float, name: str = "us:B", day: date = date(2014, 1, 8)) -> pl.DataFrame:
    there = (pl.col("instrument_id") == name) & (pl.col("session") == day)
    return bars.with_columns(pl.when(there).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))


REFUSED: dict[str, tuple[Callable[[pl.DataFrame], pl.DataFrame], str]] = {
    "no close": (lambda b: b.drop("close"), "the bars have no column close"),
    "no instrument": (lambda b: b.drop("instrument_id"), "the bars have no column instrument_id"),
    "text for numbers": (lambda b: b.with_columns(pl.col("volume").cast(pl.String)), "volume is String, expected numbers"),
    "time without a zone": (lambda b: b.with_columns(pl.col("timestamp").dt.replace_time_zone(None)), "expected a Datetime in UTC"),
    "dates for moments": (lambda b: b.with_columns(pl.col("session").alias("timestamp")), "timestamp is Date, expected a Datetime in UTC"),
    "a bar of nobody": (
        lambda b: b.with_columns(pl.when(pl.int_range(pl.len()) == 4).then(None).otherwise(pl.col("instrument_id")).alias("instrument_id")),
        "row 4 of the bars has no instrument_id",
    ),
    "a bar twice": (lambda b: pl.concat([b, b[25:26]]), r"the bars hold the bar of us:B at 2014-01-08 05:00:00\+00:00 twice"),
    "a second bar in one session": (
        lambda b: b.vstack(b[:1].with_columns((pl.col("timestamp") + pl.duration(hours=1)).cast(b.schema["timestamp"]))),
        "rows 0 and 1 lie within one 1Day bar",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bars_that_cannot_be_a_panel_are_refused(name: str, bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    change, said = REFUSED[name]
    with pytest.raises(InputError, match=said):
        build_panel(change(bars), NOTHING, "1Day", calendar)


def test_a_session_bar_among_minutes_is_refused(bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    opened = pl.duration(hours=9, minutes=30)
    minutes = bars.with_columns((pl.col("timestamp") + opened).cast(bars.schema["timestamp"]))
    build_panel(minutes, NOTHING, "1Min", calendar)
    with pytest.raises(InputError, match=r"2014-01-08T05:00.*a 1Day bar among 1Min bars"):
        build_panel(pl.concat([minutes, bars.filter(pl.col("session") == date(2014, 1, 8))]), NOTHING, "1Min", calendar)


def test_a_universe_without_membership_is_refused(bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    with pytest.raises(InputError, match="the universe has no column member"):
        build_panel(bars, NOTHING, "1Day", calendar, universe=bars.select("instrument_id", "session"))


def test_bars_in_any_order_make_the_same_panel(bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    one, other = (build_panel(table, NOTHING, "1Day", calendar) for table in (bars, bars.sample(fraction=1.0, shuffle=True, seed=3)))
    assert all(values.tobytes() == other.fields[name].tobytes() for name, values in one.fields.items())


def test_an_infinite_price_is_undefined_and_counted(bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    panel = build_panel(with_value(bars, "close", float("inf")), NOTHING, "1Day", calendar)
    program = Program(SET, panel.instrument_ids)
    values = program.step(panel)
    row = int(np.flatnonzero(panel.session == day_of(date(2014, 1, 8)))[0])
    assert program.undefined_count == 1
    assert np.isnan(values[row : row + 3, 1, 0]).all() and np.isfinite(values[row + 3 :, 1, 0]).all()
    assert np.isfinite(values[2:, [0, 2]]).all() and np.isnan(values[row, 1, 1])


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_dividend_on_a_close_that_is_no_number_is_refused(
    value: float, bars: pl.DataFrame, days: np.ndarray, calendar: MarketCalendar
) -> None:
    actions = ActionTable([CorporateAction(day_of(date(2014, 1, 9)), "us:B", 1.0, 0.5)])
    with pytest.raises(InputError, match=f"a dividend of 0.5 on a previous close of {value}"):
        build_panel(with_value(bars, "close", value), actions, "1Day", calendar)


def test_a_column_without_a_number_stays_undefined_and_moves_no_other(bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    empty = bars.with_columns(pl.when(pl.col("instrument_id") == "us:B").then(float("nan")).otherwise(pl.col("close")).alias("close"))
    without = bars.filter(pl.col("instrument_id") != "us:B")
    panel, plain = (build_panel(table, NOTHING, "1Day", calendar) for table in (empty, without))
    values = Program(SET, panel.instrument_ids).step(panel)
    assert np.isnan(values[:, 1]).all()
    assert np.ascontiguousarray(values[:, [0, 2]]).tobytes() == Program(SET, plain.instrument_ids).step(plain).tobytes()


def test_a_name_that_comes_and_goes_is_absent_where_it_is_not(bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    here = (pl.col("instrument_id") != "us:B") | pl.col("session").is_between(date(2014, 1, 8), date(2014, 1, 15))
    panel = build_panel(bars.filter(here), NOTHING, "1Day", calendar)
    values = Program(SET, panel.instrument_ids).step(panel)
    alive = panel.present[:, 1]
    assert 0 < alive.sum() < len(alive) and np.isnan(values[~alive, 1]).all()
    assert np.isfinite(values[alive, 1][2:]).all() and np.isnan(values[alive, 1][:2, 0]).all()


def test_a_stream_whose_columns_change_is_refused_by_the_program(bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    half = date(2014, 1, 15)
    first = build_panel(bars.filter((pl.col("session") <= half) & (pl.col("instrument_id") != "us:B")), NOTHING, "1Day", calendar)
    second = build_panel(bars.filter(pl.col("session") > half), NOTHING, "1Day", calendar)
    program = Program(SET, first.instrument_ids)
    program.step(first)
    with pytest.raises(InputError, match="instruments"):
        program.step(second)


def test_factors_of_pieces_are_those_of_the_whole(bars: pl.DataFrame, days: np.ndarray, calendar: MarketCalendar) -> None:
    events = [(5, "us:A", 4.0, 0.0), (9, "us:B", 1.0, 0.5), (9, "us:A", 1.0, 0.25), (14, "us:C", 0.5, 0.1), (2, "us:C", 3.0, 0.0)]
    actions = ActionTable(CorporateAction(int(days[number]), name, ratio, paid) for number, name, ratio, paid in events)
    gone = (pl.col("instrument_id") != "us:C") | (pl.col("session") > date(2014, 1, 7))  # joins after its first event
    bars = bars.filter(
        gone & ((pl.col("instrument_id") != "us:B") | (pl.col("session") != date(2014, 1, 14)))
    )  # silent before its dividend
    whole = build_panel(bars, actions, "1Day", calendar)
    assert len(np.unique(whole.fields["return_factor"][whole.present])) > 4
    for cuts in ([], [6], [1, 5, 9, 10, 14]):
        state = FactorState(actions, whole.instrument_ids)
        for start, stop in zip([0, *cuts], [*cuts, len(days)], strict=True):
            part = bars.filter(pl.col("session").is_between(pl.lit(date_of(days[start])), pl.lit(date_of(days[stop - 1]))))
            panel = build_panel(part, actions, "1Day", calendar, instrument_ids=whole.instrument_ids, factor_state=state)
            for name in ("split_factor", "return_factor"):
                assert panel.fields[name].tobytes() == whole.fields[name][start:stop].tobytes()


def test_factors_of_minutes_change_at_the_open_alone(days: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    session = np.repeat(days[:4], 5)
    present = rng.random((20, 3)) < 0.5
    close = np.where(present, rng.uniform(9.0, 11.0, (20, 3)), np.nan)
    present[0], close[0] = True, 10.0
    actions = ActionTable([CorporateAction(int(days[2]), "us:B", 2.0, 0.3), CorporateAction(int(days[3]), "us:B", 1.0, 0.2)])
    ids = ("us:A", "us:B", "us:C")
    whole = factors(actions, ids, session, close, present)
    for cut in (3, 5, 11):  # within a session, and at its end
        state = FactorState(actions, ids)
        parts = [scan_factors(state, ids, session[a:b], close[a:b], present[a:b]) for a, b in ((0, cut), (cut, 20))]
        for number in (0, 1):
            assert np.concatenate([part[number] for part in parts]).tobytes() == whole[number].tobytes()
    with pytest.raises(InputError, match="the factors' instruments are not the panel's"):
        scan_factors(state, ("us:A", "us:B", "us:D"), session, close, present)
