"""Two feeds compared: on bars made by hand, where a person can count, and on one exchange's real ticks beside the consolidated tape."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.feed_skew import FeedSkew, refusals, stored_reports
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Profile, Strategy
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.expression import adj, cs_rank, ema, lag, mean
from trading_platform.features.program import FeatureSet
from trading_platform.market_data.bars import to_bar_frame
from trading_platform.market_data.corporate_actions import ActionTable
from trading_platform.market_data.panel import build_panel
from trading_platform.research.feed_skew import feed_skew, same_axis, side_ranked_by, store

MINUTE = 60 * 10**9
NAMES = ("us:AA", "us:BB", "us:CC", "us:DD")
ROWS, ROW = 30, 12
SIP, IEX = ({"vendor": "alpaca", "tape": tape} for tape in ("sip", "iex"))
CLOSE = adj("close")
HAND = FeatureSet("hand", "v1", {"mean_5": mean(CLOSE, 5), "return_3": CLOSE / lag(CLOSE, 3) - 1.0, "last": CLOSE})
PROFILE = Profile("skew", strategy=Strategy(entry_rank=1.0, exit_rank=1.0))  # hold the best name, and no other
CALENDAR = MarketCalendar()


def panel(seed: int = 1) -> Panel:
    """Closes that keep their order: AA lowest, DD best."""
    close = 100.0 + 10.0 * np.arange(4) + np.random.default_rng(seed).uniform(0.0, 5.0, (ROWS, 4)).round(2)
    one = np.ones((ROWS, 4))
    fields = {name: close.copy() for name in ("open", "high", "low", "close")} | {"volume": one * 500.0}
    fields |= {"split_factor": one, "return_factor": one}
    stamps = np.arange(ROWS, dtype=np.int64) * MINUTE
    there = np.ones((ROWS, 4), np.bool_)
    return Panel("1Min", NAMES, stamps, stamps + MINUTE, stamps * 0, fields, there, there)


def corrected(given: Panel, row: int, column: int, close: float) -> Panel:
    fields = {name: values.copy() for name, values in given.fields.items()}
    fields["close"][row, column] = close
    return replace(given, fields=fields)


def without(given: Panel, row: int, column: int) -> Panel:
    present = given.present.copy()
    present[row, column] = False
    return replace(given, present=present, fields={name: np.where(present, values, np.nan) for name, values in given.fields.items()})


def compared(left: Panel, right: Panel, features: FeatureSet = HAND, by: str = "last", profile: Profile = PROFILE) -> FeedSkew:
    sides = [side_ranked_by(side, profile, features, by) for side in same_axis(left, right)]
    return feed_skew(sides[0], sides[1], features, (SIP, IEX), f"feature {by}", tolerance=1e-6)


def counts(found: FeedSkew) -> dict[str, tuple[int, int, int]]:
    return {feature.name: (feature.cells, feature.differing, feature.one_sided) for feature in found.features}


def test_identical_tables_differ_in_nothing() -> None:
    found = compared(panel(), panel())
    assert (found.rows, found.bars, found.bars_differ, found.only_left, found.only_right) == (ROWS, ROWS * 4, 0, 0, 0)
    assert counts(found) == {"last": (ROWS * 4, 0, 0), "mean_5": ((ROWS - 4) * 4, 0, 0), "return_3": ((ROWS - 3) * 4, 0, 0)}
    assert (found.decisions, found.flipped, found.rows_flipped, found.rows_sign, found.rows_rank) == (ROWS * 4, 0, 0, 0, 0)
    assert found.rank_correlation == pytest.approx(1.0) and found.worst() == () and found.flips == ()


def test_one_corrected_bar_moves_exactly_the_cells_whose_windows_hold_it() -> None:
    right = panel()
    left = corrected(right, ROW, 1, right.fields["close"][ROW, 1] + 0.5)
    found = compared(left, right)
    assert (found.bars_differ, found.only_left, found.only_right) == (1, 0, 0)
    assert {name: differing for name, (_, differing, _) in counts(found).items()} == {"last": 1, "mean_5": 5, "return_3": 2}
    by_name = {feature.name: feature for feature in found.features}
    was, now = left.fields["close"][ROW, 1], right.fields["close"][ROW, 1]
    assert (by_name["last"].instrument_id, by_name["last"].timestamp) == ("us:BB", ROW * MINUTE)
    assert by_name["last"].largest == pytest.approx(0.5 / was, rel=1e-6) and by_name["last"].left == pytest.approx(was)
    assert by_name["last"].right == pytest.approx(now) and found.one_sided == 0 and found.beyond == found.differing
    assert found.worst(1)[0].name == "mean_5" and found.flipped == 0, "BB stays between its neighbours"


def test_a_difference_within_the_tolerance_is_counted_apart() -> None:
    right = panel()
    left = corrected(right, ROW, 1, right.fields["close"][ROW, 1] * (1.0 + 3e-7))
    found = compared(left, right)
    last = {feature.name: feature for feature in found.features}["last"]
    assert (last.differing, last.beyond) == (1, 0)


def test_a_flip_is_seen_named_and_counted_by_row() -> None:
    right = panel()
    left = corrected(right, ROW, 0, 500.0)  # the last becomes the first, for one row
    found = compared(left, right)
    assert (found.flipped, found.rows_flipped, found.rows_rank, found.rows_sign) == (2, 1, 1, 0)
    assert [(f.timestamp, f.instrument_id, f.left, f.right) for f in found.flips] == [
        (ROW * MINUTE, "us:AA", True, False), (ROW * MINUTE, "us:DD", False, True)
    ]  # fmt: skip
    assert found.rank_correlation == pytest.approx((ROWS - 1 + -0.2) / ROWS)  # ranks 4 1 2 3 beside 1 2 3 4
    signed = compared(left, right, by="return_3")
    assert signed.rows_sign >= 1 and signed.decisions == (ROWS - 3) * 4


def test_a_bar_that_one_feed_lacks_is_told_from_one_that_differs() -> None:
    right = without(panel(), ROW, 3)
    found = compared(panel(), right)
    assert (found.only_left, found.only_right, found.bars_differ, found.bars) == (1, 0, 0, ROWS * 4)
    # DD's windows count its present bars: without ROW they hold other bars until ROW is out of all of them
    assert counts(found) == {"last": (ROWS * 4, 1, 1), "mean_5": ((ROWS - 4) * 4, 5, 1), "return_3": ((ROWS - 3) * 4, 4, 1)}
    assert [(f.timestamp, f.instrument_id, f.left, f.right) for f in found.flips] == [(ROW * MINUTE, "us:CC", False, True)]
    assert (found.flipped, found.rows_rank) == (1, 1), "without DD the next one is best; DD itself keeps its position"


def test_sides_with_other_rows_and_names_are_put_on_one_axis() -> None:
    whole = panel()
    part = replace(
        whole.rows(0, ROWS - 2), instrument_ids=NAMES[1:], present=whole.present[:-2, 1:], member=whole.member[:-2, 1:],
        fields={name: values[:-2, 1:].copy() for name, values in whole.fields.items()},
    )  # fmt: skip
    found = compared(whole, part)
    assert (found.rows, found.bars, found.only_left, found.only_right) == (ROWS, ROWS * 4, ROWS * 4 - (ROWS - 2) * 3, 0)
    assert counts(found)["last"] == (ROWS * 4, ROWS * 4 - (ROWS - 2) * 3, ROWS * 4 - (ROWS - 2) * 3)
    assert "of the feature cells are defined by one feed only" in found.failures()[-1]
    with pytest.raises(InputError, match="disagree about known_at"):
        same_axis(whole, replace(part, known_at=part.known_at + 1))
    with pytest.raises(InputError, match="bars of 1Min and of 1Day"):
        same_axis(whole, replace(part, timeframe="1Day"))


def test_names_are_compared_across_the_market() -> None:
    """A correction of one name moves the ranks of the others."""
    ranked = FeatureSet("ranked", "v1", {"rank": cs_rank(CLOSE), "smooth": ema(CLOSE, 3)})
    found = compared(corrected(panel(), ROW, 0, 500.0), panel(), ranked, by="rank")
    by_name = {feature.name: feature for feature in found.features}
    assert by_name["rank"].differing == 4 and by_name["smooth"].differing > 5


def test_spans_add_up(tmp_path: Path) -> None:
    left, right = corrected(panel(), ROW, 0, 500.0), panel()
    one, two = compared(left, right), compared(panel(2), without(panel(2), 3, 1))
    two = replace(two, sessions=("1970-01-02",))
    both = one.joined(two)
    assert (both.rows, both.flipped, both.only_left, both.differing) == (2 * ROWS, 2, 1, one.differing + two.differing)
    assert both.sessions == ("1970-01-01", "1970-01-02")
    assert both.rank_correlation == pytest.approx((one.correlation + two.correlation) / (2 * ROWS))
    with pytest.raises(InputError, match="another right"):
        one.joined(replace(two, right=SIP))
    assert FeedSkew.from_bytes(both.to_bytes()) == both


def test_the_gate_needs_sessions_decisions_and_few_flips() -> None:
    same = replace(compared(panel(), panel()), sessions=tuple(f"2020-01-0{n}" for n in range(1, 6)))
    assert same.failures() == ()
    assert replace(same, sessions=same.sessions[:4]).failures() == ("4 sessions, 5 are needed",)
    assert replace(same, decisions=0, rows_ranked=0).failures() == ("no decision was compared",)
    assert replace(same, flipped=2).failures() == () and "2.50% of the decisions flip" in replace(same, flipped=3).failures()[0]
    assert "rank correlation is 0.900" in replace(same, correlation=0.9 * ROWS).failures()[0]


def test_a_stored_report_lets_its_recipe_trade_its_feeds_and_nothing_else(tmp_path: Path) -> None:
    report = replace(compared(panel(), panel()), sessions=tuple(f"2020-01-0{n}" for n in range(1, 6)), alpha="momentum")
    poor = replace(report, sessions=report.sessions[3:])
    assert refusals(tmp_path, SIP, SIP, HAND.hash, "momentum") == ()
    assert refusals(tmp_path, SIP, IEX, HAND.hash, "momentum") == ("none of 0 stored reports compares these two for momentum",)
    store(tmp_path, poor)
    assert refusals(tmp_path, SIP, IEX, HAND.hash, "momentum") == ("2 sessions, 5 are needed",)
    path = store(tmp_path, report)
    assert sorted(len(each.sessions) for each in stored_reports(tmp_path)) == [2, 5]
    assert refusals(tmp_path, SIP, IEX, HAND.hash, "momentum") == ()
    for other in ((IEX, SIP, HAND.hash, "momentum"), (SIP, IEX, "0" * 64, "momentum"), (SIP, IEX, HAND.hash, "reversal")):
        assert "none of 2 stored reports" in refusals(tmp_path, *other)[0]
    store(tmp_path, replace(report, sessions=("2020-01-06",)))
    assert refusals(tmp_path, SIP, IEX, HAND.hash, "momentum") == ("1 sessions, 5 are needed",), "newer evidence speaks"
    path.write_bytes(path.read_bytes().replace(b'"flipped":0', b'"flipped":1'))
    with pytest.raises(CorruptionError, match="was changed"):
        stored_reports(tmp_path)


# -------------------------------------------------------------- one exchange and the tape

TICKS = Path(os.environ.get("TRADING_TEST_DATA", "../shared/data/open")) / "lean_us_equity" / "tick" / "trades.parquet"


def minute_bars(trades: pl.DataFrame) -> pl.DataFrame:
    """Minute bars of the regular session, from trades."""
    local = pl.col("timestamp").dt.convert_time_zone("America/New_York")
    price = pl.col("price")
    bars = (
        trades.filter(local.dt.time().is_between(pl.time(9, 30), pl.time(16, 0), closed="left"))
        .sort("symbol", "timestamp", "seq")
        .group_by("symbol", pl.col("timestamp").dt.truncate("1m"), maintain_order=True)
        .agg(price.first().alias("open"), price.max().alias("high"), price.min().alias("low"), price.last().alias("close"),
             pl.col("size").sum().alias("volume"))
    )  # fmt: skip
    return to_bar_frame(bars, "America/New_York")


def test_a_real_exchange_is_no_consolidated_tape() -> None:
    """IBM and BAC, 2013-10-07 to 11: minute bars of the trades on one exchange (Q) beside those of all of them."""
    if not TICKS.is_file():
        pytest.skip(f"{TICKS} is not here: set TRADING_TEST_DATA")
    trades = pl.read_parquet(TICKS)
    everywhere = build_panel(minute_bars(trades), ActionTable(()), "1Min", CALENDAR)
    alone = build_panel(minute_bars(trades.filter(pl.col("exchange") == "Q")), ActionTable(()), "1Min", CALENDAR)
    chosen = feature_set("intraday")
    itself = compared(everywhere, everywhere, chosen, by="returns_15")
    assert (itself.differing, itself.flipped) == (0, 0) and itself.failures() == () and len(itself.sessions) == 5
    found = compared(everywhere, alone, chosen, by="returns_15")
    assert found.only_right == 0 and found.only_left > 0 and found.bars_differ > 0.9 * found.bars
    shares = {feature.name: feature.beyond / feature.cells for feature in found.features}
    assert shares["volume_ratio"] > 0.99 > shares["returns_15"] > 0.1
    assert found.rows_flipped > 0 and found.flips and found.failures() != ()
