"""Panels: shape, time meaning, factors, membership and fields of real and planted bars."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trading_platform.calendar import MarketCalendar, day_of
from trading_platform.config import load_profile
from trading_platform.contracts.errors import InputError
from trading_platform.market_data.corporate_actions import ActionTable, FactorState
from trading_platform.market_data.panel import action_table, build_panel, join_fields
from trading_platform.market_data.sources.boxed import BoxedSource
from trading_platform.market_data.sources.files import FileSource
from trading_platform.market_data.universe import build_universe

DELAY = 900 * 10**9


def test_the_panel_holds_every_bar_once_and_nan_elsewhere(boxed: BoxedSource, boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    panel = build_panel(boxed_bars, action_table(boxed.corporate_actions()), "1Day", calendar, vendor_delay_ns=DELAY)
    assert panel.shape == (3270, 5) and int(panel.present.sum()) == boxed_bars.height
    for name, values in panel.fields.items():
        assert np.array_equal(np.isnan(values), ~panel.present), name
        assert values.flags.c_contiguous and values.dtype == np.float64
    row = int(np.flatnonzero(panel.session == day_of(date(2012, 5, 18)))[0])
    assert panel.fields["close"][row].tolist() == boxed_bars.filter(pl.col("session") == date(2012, 5, 18))["close"].to_list()
    assert not panel.present[row - 1, panel.instrument_ids.index("us:FB")]
    assert panel.member.all()


def test_a_session_bar_is_known_after_its_official_close(boxed: BoxedSource, boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    panel = build_panel(boxed_bars, ActionTable(), "1Day", calendar, vendor_delay_ns=DELAY)
    half_day = int(np.flatnonzero(panel.session == day_of(date(2012, 11, 23)))[0])
    assert str(np.datetime64(int(panel.known_at[half_day]), "ns"))[:16] == "2012-11-23T18:15"
    assert str(np.datetime64(int(panel.timestamp[half_day]), "ns"))[:16] == "2012-11-23T05:00"


def test_forward_adjusted_closes_have_the_vendors_total_returns(
    boxed: BoxedSource, boxed_bars: pl.DataFrame, calendar: MarketCalendar
) -> None:
    panel = build_panel(boxed_bars, action_table(boxed.corporate_actions()), "1Day", calendar, fields=("adjusted_close",))
    adjusted = panel.fields["close"] * panel.fields["return_factor"]
    ours, theirs = np.diff(np.log(adjusted), axis=0), np.diff(np.log(panel.fields["adjusted_close"]), axis=0)
    # T1 divides by the previous close, the vendor by the ex-day close: the difference is dividend yield x the ex-day's move.
    assert float(np.nanmax(np.abs(ours - theirs))) < 0.012  # MSFT pays 10 % on a day of -8.6 %
    ordinary = np.abs(ours - theirs)[panel.session[1:] != day_of(date(2004, 11, 15))]
    assert float(np.nanmax(ordinary)) < 5e-4


def test_a_live_scan_of_the_rows_has_the_bits_of_the_panel(
    shared_source: FileSource, shared_daily: pl.DataFrame, calendar: MarketCalendar
) -> None:
    actions = action_table(shared_source.corporate_actions())
    panel = build_panel(shared_daily, actions, "1Day", calendar)
    assert panel.shape == (2517, 283)
    state = FactorState(actions, panel.instrument_ids)
    for row in range(panel.shape[0]):
        present = panel.present[row]
        split, total = state.open_row(int(panel.session[row]))
        assert np.array_equal(split[present], panel.fields["split_factor"][row, present])
        assert np.array_equal(total[present], panel.fields["return_factor"][row, present])
        state.close_row(panel.fields["close"][row], present)


def test_minute_rows_are_known_at_their_end_and_carry_vix(shared_source: FileSource, calendar: MarketCalendar) -> None:
    bars, fields = shared_source.bars("1Min"), shared_source.field_series("1Min")
    panel = build_panel(bars, ActionTable(), "1Min", calendar, field_series=fields)
    assert panel.shape == (1950, 14) and len(np.unique(panel.session)) == 5
    assert np.array_equal(panel.known_at - panel.timestamp, np.full(1950, 60 * 10**9))
    series = dict(zip(fields["known_at"].to_physical().to_list(), fields["value"].to_list(), strict=True))
    spy = panel.instrument_ids.index("us:SPY")
    latest = float("nan")
    for row in range(panel.shape[0]):  # the oracle: remember what was last said
        latest = series.get(int(panel.known_at[row]), latest)
        assert panel.fields["vix"][row, spy] == latest or np.isnan(latest)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 25), min_size=1, max_size=8, unique=True), st.integers(0, 2**32 - 1))
def test_a_field_is_never_taken_early_and_never_older_than_three_sessions(said: list[int], seed: int) -> None:
    calendar = MarketCalendar("XNYS", date(2012, 1, 1), date(2012, 12, 31))
    days = calendar.sessions(date(2012, 3, 1), date(2012, 4, 10))[:26]
    said = sorted(said)
    closes = calendar.closes_ns(days)
    series = pl.DataFrame(
        {
            "field": ["vix"] * len(said),
            "timestamp": pl.Series(calendar.midnights_ns(days[said])).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"),
            "known_at": pl.Series(closes[said]).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"),
            "value": [float(day) for day in said],
        }
    )
    known_at = closes - np.random.default_rng(seed).integers(0, 2, len(days))  # some rows one ns before the close
    values = join_fields(series, known_at, days, calendar)["vix"]
    for row in range(len(days)):
        usable = [day for day in said if closes[day] <= known_at[row] and row - day <= 3]
        assert (np.isnan(values[row]) and not usable) or values[row] == float(usable[-1])


def test_membership_is_read_by_session_and_silence_means_no(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    days = [date(2012, 1, 3), date(2012, 1, 4)]
    universe = pl.DataFrame(
        {
            "instrument_id": ["us:IBM", "us:IBM", "us:AAPL", "us:GONE"],
            "session": [*days, days[0], days[0]],
            "member": [True, False, True, True],
        }
    )
    panel = build_panel(
        boxed_bars.filter(pl.col("session").is_in([*days, days[1] + timedelta(1)])), ActionTable(), "1Day", calendar, universe=universe
    )
    assert panel.instrument_ids == ("us:AAPL", "us:GOOG", "us:IBM", "us:MSFT")
    assert panel.member.tolist() == [[True, False, True, False], [False] * 4, [False] * 4]


def test_the_axis_can_be_wider_than_the_bars_but_not_narrower(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    ibm = boxed_bars.filter(pl.col("symbol") == "IBM")
    panel = build_panel(ibm, ActionTable(), "1Day", calendar, instrument_ids=("us:ZZZ", "us:IBM"))
    assert panel.instrument_ids == ("us:IBM", "us:ZZZ") and not panel.present[:, 1].any()
    with pytest.raises(InputError, match="unknown instrument 'us:IBM'"):
        build_panel(ibm, ActionTable(), "1Day", calendar, instrument_ids=("us:ZZZ",))


def test_what_cannot_be_a_panel_is_refused_by_name(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    weekend = boxed_bars.with_columns((pl.col("timestamp") + pl.duration(days=1)).cast(boxed_bars.schema["timestamp"]))
    with pytest.raises(InputError, match="a bar at 2000-03-04T05:00:00"):
        build_panel(weekend, ActionTable(), "1Day", calendar)
    with pytest.raises(InputError, match="twice"):
        build_panel(pl.concat([boxed_bars, boxed_bars[:1]]), ActionTable(), "1Day", calendar)
    with pytest.raises(InputError, match="the bars have no column vwap"):
        build_panel(boxed_bars, ActionTable(), "1Day", calendar, fields=("vwap",))
    with pytest.raises(InputError, match="unknown timeframe"):
        build_panel(boxed_bars, ActionTable(), "2Day", calendar)


@pytest.mark.parametrize("cut", [date(2000, 3, 2), date(2003, 2, 18), date(2012, 5, 18), date(2013, 2, 19)])
def test_bars_and_events_after_a_row_change_no_bit_of_it(
    boxed: BoxedSource, boxed_bars: pl.DataFrame, calendar: MarketCalendar, cut: date
) -> None:
    actions, ids = boxed.corporate_actions(), sorted(boxed_bars["instrument_id"].unique())
    universe = build_universe(boxed_bars, load_profile("demo").universe, calendar)
    whole = build_panel(boxed_bars, action_table(actions), "1Day", calendar, universe=universe, instrument_ids=ids)
    past = boxed_bars.filter(pl.col("session") <= cut)
    known = build_universe(past, load_profile("demo").universe, calendar)
    early = build_panel(past, action_table(actions.filter(pl.col("ex_date") <= cut)), "1Day", calendar, universe=known, instrument_ids=ids)
    upto = whole.rows(0, early.shape[0])
    assert early.session[-1] == day_of(cut)
    for name, values in early.fields.items():
        assert values.tobytes() == upto.fields[name].tobytes(), name
    for ours, theirs in ((early.present, upto.present), (early.member, upto.member), (early.known_at, upto.known_at)):
        assert np.array_equal(ours, theirs)
