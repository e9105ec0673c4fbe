"""Membership: decided by the past alone, rule by rule, and for tomorrow."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import polars as pl
import pytest

from trading_platform.calendar import MarketCalendar
from trading_platform.config import load_profile
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import UniverseRules
from trading_platform.market_data.sources.files import FileSource
from trading_platform.market_data.universe import UNIVERSE_SCHEMA, build_universe, members_by_session, universe_hash

RULES = UniverseRules(min_price=5.0, max_price=500.0, min_dollar_volume=1_000_000.0, min_sessions=60, core_size=2, extended_size=3)


def test_the_future_moves_no_past_membership(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    cut = date(2007, 6, 1)
    whole = build_universe(boxed_bars, RULES, calendar)
    wild = boxed_bars.with_columns(
        [
            pl.when(pl.col("session") >= cut).then(pl.col(name) * 7).otherwise(pl.col(name)).alias(name)
            for name in ("open", "high", "low", "close", "volume")
        ]
    )
    for other in (build_universe(wild, RULES, calendar), build_universe(boxed_bars.filter(pl.col("session") < cut), RULES, calendar)):
        upto = pl.col("session") <= cut  # the cut session itself included: it is judged by sessions before it
        assert whole.filter(upto).equals(other.filter(upto))
    assert not whole.equals(build_universe(wild, RULES, calendar))


def test_a_planted_same_day_rule_would_be_caught(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    """The mutant: a universe that uses the session's own bar differs from ours, so the test above is able to fail."""
    ours = build_universe(boxed_bars, RULES, calendar)
    own_close = boxed_bars.select("instrument_id", "session", pl.col("close").alias("own"))
    joined = ours.join(own_close, on=["instrument_id", "session"]).drop_nulls("price")
    assert (joined["price"] != joined["own"]).mean() > 0.95  # type: ignore[operator]


def test_statistics_equal_a_plain_loop(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    universe = build_universe(boxed_bars, RULES, calendar).filter(pl.col("instrument_id") == "us:IBM")
    ibm = boxed_bars.filter(pl.col("symbol") == "IBM")
    dollar = (ibm["close"] * ibm["volume"]).to_numpy()
    ranges = np.log(ibm["high"].to_numpy() / ibm["low"].to_numpy()) ** 2
    for row in (1, 19, 20, 500, 3270):
        stated = universe.row(row, named=True)
        window = slice(max(0, row - 20), row)
        assert stated["price"] == ibm["close"][row - 1]
        assert stated["adv_20"] == pytest.approx(dollar[window].mean(), rel=1e-9)
        assert stated["volatility_20"] == pytest.approx(np.sqrt(ranges[window].mean() / (4 * np.log(2))), rel=1e-9)


def test_each_rule_refuses_with_its_reason(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    def reasons(rules: UniverseRules) -> set[str]:
        return set(build_universe(boxed_bars, rules, calendar)["reason"].unique())

    assert reasons(RULES) == {"", "young", "price_high", "rank"}
    assert "price_low" in reasons(replace(RULES, min_price=30.0))
    assert "dollar_volume_low" in reasons(replace(RULES, min_dollar_volume=1e9))
    first = build_universe(boxed_bars, replace(RULES, min_sessions=0), calendar).filter(pl.col("session") == date(2000, 3, 1))
    assert first["member"].all() and first["price"].null_count() == 3


def test_tomorrow_exists_tonight_and_a_silent_name_leaves(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    universe = build_universe(boxed_bars.filter((pl.col("symbol") != "MSFT") | (pl.col("session") < date(2012, 6, 1))), RULES, calendar)
    assert universe["session"].max() == date(2013, 3, 4) and universe.schema == pl.Schema(UNIVERSE_SCHEMA)
    microsoft = universe.filter(pl.col("instrument_id") == "us:MSFT")
    last_member = microsoft.filter(pl.col("reason") != "silent")["session"].max()
    assert last_member == date(2012, 6, 7)  # the fifth session after its last bar of May 31


def test_tiers_and_buckets_are_thirds_and_sizes_of_each_session(shared_daily: pl.DataFrame, calendar: MarketCalendar) -> None:
    rules = load_profile("equity_conservative").universe
    universe = build_universe(shared_daily, rules, calendar)
    session = universe.filter((pl.col("session") == date(2010, 6, 15)) & pl.col("member"))
    assert session.filter(pl.col("tier") == "core").height == rules.core_size
    assert session.filter(pl.col("tier") == "core")["adv_20"].min() >= session.filter(pl.col("tier") == "extended")["adv_20"].max()
    sizes = [session.filter(pl.col("volatility_bucket") == bucket).height for bucket in ("low", "medium", "high")]
    assert sum(sizes) == session.height and max(sizes) - min(sizes) <= 1


def test_minute_bars_are_judged_by_their_sessions(shared_source: FileSource, calendar: MarketCalendar) -> None:
    universe = build_universe(shared_source.bars("1Min"), load_profile("demo", "intraday").universe, calendar)
    assert universe["session"].n_unique() == 6 and universe["member"].all()
    assert build_universe(shared_source.bars("1Min"), RULES, calendar)["reason"].unique().to_list() == ["young"]


def test_the_hash_is_of_who_is_in_and_when(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    universe = build_universe(boxed_bars, RULES, calendar)
    assert universe_hash(universe) == universe_hash(universe.sample(fraction=1.0, shuffle=True, seed=1))
    assert universe_hash(universe) == universe_hash(universe.with_columns(adv_20=pl.lit(0.0)))
    flipped = universe.with_columns(
        pl.when(pl.int_range(pl.len()) == 9_000).then(~pl.col("member")).otherwise(pl.col("member")).alias("member")
    )
    assert universe_hash(universe) != universe_hash(flipped)
    published = members_by_session(universe)
    assert all(ids == sorted(ids) and len(ids) <= 3 for ids in published.values())


def test_a_weekend_bar_is_refused(boxed_bars: pl.DataFrame, calendar: MarketCalendar) -> None:
    with pytest.raises(InputError, match="2000-03-04, which is no session"):
        build_universe(boxed_bars.with_columns(pl.col("session") + pl.duration(days=1)), RULES, calendar)
    assert build_universe(boxed_bars.clear(), RULES, calendar).is_empty()
