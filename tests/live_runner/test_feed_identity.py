"""A bundle trades the feed it was trained on, or one that a stored comparison of five sessions has shown to be as good (T5)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from market import FEED, Exchange, World, settings_of

from live_runner.runner import Runner
from trading_platform.contracts.feed_skew import FeatureSkew, FeedSkew
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.research.feed_skew import store

MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}
SIP = {**FEED, "tape": "sip"}


def report(world: World, **changes: object) -> FeedSkew:
    """Five sessions of SIP beside the live feed in which nothing differed."""
    inputs = world.inputs
    return FeedSkew(**{
        "left": SIP, "right": FEED, "timeframe": inputs.timeframe, "feature_set": inputs.feature_set, "feature_hash": inputs.feature_hash,
        "alpha": "momentum", "tolerance": 0.01, "rank_move": 0.1, "sessions": tuple(f"2013-07-0{n}" for n in range(1, 6)), "rows": 5,
        "bars": 40, "only_left": 0, "only_right": 0, "bars_differ": 4, "features": (FeatureSkew("rsi_14", 40, 4, 1, 0),), "decisions": 40,
        "flipped": 0, "rows_decided": 5, "rows_flipped": 0, "rows_sign": 0, "rows_rank": 0, "rows_ranked": 5, "correlation": 4.99,
        "flips": (),
    } | changes)  # type: ignore[arg-type]  # fmt: skip


POOR = {
    "sessions": {"sessions": ("2013-07-01",)},
    "flips": {"flipped": 4},
    "recipe": {"alpha": "reversal"},
    "feeds": {"left": FEED, "right": SIP},
}


@pytest.mark.parametrize("stored", ["none", *POOR, "good"])
def test_a_bundle_of_another_feed_trades_only_with_a_stored_comparison_that_passes(
    stored: str, daily: World, exchange: Callable[..., Exchange], play: Callable[..., Runner], redis_url: str
) -> None:
    if stored != "none":
        store(daily.root / "lake", report(daily, **POOR.get(stored, {})))
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM, feed=SIP))
    runner = play(daily, exchange(daily).url, redis_url=redis_url)
    with JournalReader(runner.settings.journal) as reader:
        refused = [record.body for record in reader.records(Kind.SWAP_REFUSED)]
        orders = len(list(reader.records(Kind.INTENT)))
        assert reader.last(Kind.RUN_STARTED).body["feed"] == FEED  # type: ignore[union-attr]
    if stored == "good":
        assert refused == [] and runner.fold.active.label == "momentum_v1" and orders > 10
        return
    assert orders == 0 and "tape sip / iex" in refused[0]["reason"] and "features skew --store" in refused[0]["fix"]


@pytest.mark.parametrize(
    ("address", "tape"),
    [("", "iex"), ("https://paper-api.alpaca.markets", "iex"), ("http://127.0.0.1:8811", None), ("http://alpaca.markets.example", None)],
)
def test_alpacas_bars_have_their_own_identity_and_a_simulators_are_the_published_ones(daily: World, address: str, tape: str | None) -> None:
    settings = settings_of(daily, address, lockstep=False)
    found = settings.live_feed({"vendor": "files"})
    alpaca = {"vendor": "alpaca", "tape": tape, "bar_version": "first", "session_hours": "regular", "adjustment": "raw"}
    assert found == (alpaca if tape else {"vendor": "files"})
    if tape:
        assert dataclasses.replace(settings, feed="sip").live_feed({})["tape"] == "sip"
