"""Who may be traded when: point-in-time membership (SPEC UNIV-01..07, T3).

The row of session t is a function of sessions before t alone.
"""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from numpy.typing import NDArray

from trading_platform.calendar import MarketCalendar, date_of, day_of
from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import UniverseRules

WINDOW = 20  # sessions of the averages
MAX_SILENT_SESSIONS = 5  # without a bar for longer, a name has left (delisted, halted, renamed)
UNIVERSE_SCHEMA: dict[str, pl.DataType] = {
    "instrument_id": pl.String(),
    "session": pl.Date(),
    "member": pl.Boolean(),
    "adv_20": pl.Float64(),
    "price": pl.Float64(),
    "volatility_20": pl.Float64(),
    "volatility_bucket": pl.String(),
    "tier": pl.String(),
    "reason": pl.String(),
}


def build_universe(bars: pl.DataFrame, rules: UniverseRules, calendar: MarketCalendar) -> pl.DataFrame:
    """Membership of every instrument of a bar frame (any timeframe), from its first session to the one after the frame's last.

    Returns UNIVERSE_SCHEMA sorted by (session, instrument_id). adv_20: mean dollar volume per session over the 20 sessions traded before
    this one; price: the last close before it; volatility_20: Parkinson's, from daily ranges, so a split does not move it, fraction per
    session; all three null before the first. volatility_bucket: low, medium, high, thirds of the members of that session. tier: core,
    extended, or empty for a non-member. reason: empty for a member, else the first rule it fails: young, silent, price_low, price_high,
    dollar_volume_low, rank (beyond `extended_size` by dollar volume).
    A name without any history passes only where `min_sessions` is 0: then there is nothing to judge it by.
    The last session is the one that trades next: the universe of tomorrow exists tonight.
    """
    if bars.height == 0:
        return pl.DataFrame(schema=UNIVERSE_SCHEMA)
    daily = _by_session(bars)
    grid = _grid(daily, calendar)
    table = grid.join_asof(
        _statistics(daily), on="session", by="instrument_id", strategy="backward", allow_exact_matches=False, check_sortedness=False
    )
    silent = pl.col("position") - _position(pl.col("last_session"), grid) > MAX_SILENT_SESSIONS
    history = pl.col("seen").is_not_null()
    reason = (
        pl.when(pl.col("seen").fill_null(0) < rules.min_sessions)
        .then(pl.lit("young"))
        .when(silent.fill_null(False))
        .then(pl.lit("silent"))
        .when(history & (pl.col("price") < rules.min_price))
        .then(pl.lit("price_low"))
        .when(history & (pl.col("price") > rules.max_price))
        .then(pl.lit("price_high"))
        .when(history & (pl.col("adv_20") < rules.min_dollar_volume))
        .then(pl.lit("dollar_volume_low"))
        .otherwise(pl.lit(""))
    )
    return _ranked(table.with_columns(reason.alias("reason")), rules).select(list(UNIVERSE_SCHEMA)).sort("session", "instrument_id")


def _by_session(bars: pl.DataFrame) -> pl.DataFrame:
    """One row per instrument and session: high, low, close, dollar volume; of daily bars, themselves."""
    return (
        bars.sort("instrument_id", "timestamp")
        .group_by("instrument_id", "session", maintain_order=True)
        .agg(
            pl.col("high").max(),
            pl.col("low").min(),
            pl.col("close").last(),
            (pl.col("close") * pl.col("volume")).sum().alias("dollar_volume"),
        )
    )


def _statistics(daily: pl.DataFrame) -> pl.DataFrame:
    """What is known once a session is over: the caller joins strictly earlier ones."""
    parkinson = (pl.col("high") / pl.col("low")).log().pow(2).rolling_mean(WINDOW, min_samples=1) / (4.0 * math.log(2.0))
    return daily.select(
        "instrument_id",
        "session",
        pl.col("session").alias("last_session"),
        pl.col("close").alias("price"),
        pl.col("dollar_volume").rolling_mean(WINDOW, min_samples=1).over("instrument_id").alias("adv_20"),
        parkinson.sqrt().over("instrument_id").alias("volatility_20"),
        pl.int_range(1, pl.len() + 1).over("instrument_id").cast(pl.Int64).alias("seen"),
    ).sort("session")


def _grid(daily: pl.DataFrame, calendar: MarketCalendar) -> pl.DataFrame:
    """Every instrument on every session from its own first to the one after the frame's last; position counts sessions."""
    days = daily["session"].to_physical().to_numpy().astype(np.int64)
    first, last = int(days.min()), calendar.next_session(int(days.max()))
    sessions = calendar.sessions(date_of(first), date_of(last))
    if not bool(np.isin(days, sessions).all()):
        bad = int(days[np.argmin(np.isin(days, sessions))])
        raise InputError(
            f"bars on {date_of(bad)}, which is no session of {calendar.name}", "build_universe", "drop weekend and holiday rows"
        )
    axis = pl.DataFrame({"session": sessions.astype(np.int32), "position": np.arange(len(sessions))}).with_columns(
        pl.col("session").cast(pl.Date)
    )
    starts = daily.group_by("instrument_id").agg(pl.col("session").min().alias("first"))
    return axis.join(starts, how="cross").filter(pl.col("session") >= pl.col("first")).sort("session", "instrument_id")


def _position(session: pl.Expr, grid: pl.DataFrame) -> pl.Expr:
    axis = grid.select("session", "position").unique("session")
    return session.replace_strict(axis["session"], axis["position"], default=None)


def _ranked(table: pl.DataFrame, rules: UniverseRules) -> pl.DataFrame:
    eligible = pl.col("reason") == ""
    place = pl.when(eligible).then(pl.col("adv_20").fill_null(0.0)).rank("ordinal", descending=True).over("session")
    ranked = table.sort("session", "instrument_id").with_columns(place.alias("place"))
    beyond = eligible & (pl.col("place") > rules.extended_size)
    ranked = ranked.with_columns(pl.when(beyond).then(pl.lit("rank")).otherwise("reason").alias("reason"))
    member = pl.col("reason") == ""
    volatility = pl.when(member).then("volatility_20")
    share = volatility.rank("ordinal").over("session") / volatility.count().over("session")
    bucket = (
        pl.when(share <= 1 / 3)
        .then(pl.lit("low"))
        .when(share <= 2 / 3)
        .then(pl.lit("medium"))
        .when(share > 2 / 3)
        .then(pl.lit("high"))
        .otherwise(pl.lit(""))
    )
    tier = (
        pl.when(member & (pl.col("place") <= rules.core_size))
        .then(pl.lit("core"))
        .when(member)
        .then(pl.lit("extended"))
        .otherwise(pl.lit(""))
    )
    return ranked.with_columns(member.alias("member"), bucket.alias("volatility_bucket"), tier.alias("tier"))


def members_by_session(universe: pl.DataFrame) -> dict[str, list[str]]:
    """The universe as it is published: session day (days since 1970-01-01, as text) -> ascending instrument ids."""
    rows = universe.filter("member").sort("session", "instrument_id").group_by("session", maintain_order=True).agg("instrument_id").rows()
    return {str(day_of(day)): ids for day, ids in rows}


def universe_hash(universe: pl.DataFrame) -> str:
    """Content hash of who is a member when (T37); statistics and reasons do not enter."""
    ids = sorted(universe["instrument_id"].unique().to_list())
    days: NDArray[np.int64] = np.unique(universe["session"].to_physical().to_numpy()).astype(np.int64)
    return content_hash({"instrument_ids": ids, "sessions": days, "members": members_by_session(universe)})
