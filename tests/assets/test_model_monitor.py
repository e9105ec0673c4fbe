"""The watch over a promoted model: nothing before one is promoted, what traded against what was promised, its age, and its checks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from journals import JournalBook
from world import World

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.monitoring import cost_difference, in_authority
from trading_platform.assets.workplace import Workplace
from trading_platform.calendar import MarketCalendar, date_of, day_of
from trading_platform.config import load_settings
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.registry.ledger import append

ASSET = "model_monitor_daily"
COSTS = {"half_spread_bps": 2.0, "impact_bps": 10.0}


def fills(lots: int, price: float = 100.0) -> pl.DataFrame:
    at = pl.Series("at", [10**18 + 5], dtype=pl.Int64).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")
    return pl.DataFrame({"instrument_id": ["us:AAA"], "lots": [lots], "price": [price]}).with_columns(at)


def volumes(volume: float) -> pl.DataFrame:
    stamps = pl.Series("timestamp", [10**18 - 10**12, 10**18, 10**18 + 10], dtype=pl.Int64)
    named = pl.DataFrame({"instrument_id": ["us:AAA"] * 3, "volume": [1.0, volume, 1.0]})
    return named.with_columns(stamps.cast(pl.Datetime("ns")).dt.replace_time_zone("UTC"))


def test_a_fill_that_cost_what_the_matcher_charges_differs_by_nothing() -> None:
    # 100 of 10,000 shares: a hundredth, root 0.1: 2 + 10 x 0.1 = 3 bps of 10,000
    assert cost_difference(fills(100), volumes(10_000.0), 3.0, COSTS) == pytest.approx(0.0, abs=1e-9)
    assert cost_difference(fills(-100), volumes(10_000.0), 8.0, COSTS) == pytest.approx(5.0)
    assert np.isnan(cost_difference(fills(100).clear(), volumes(1.0), 0.0, COSTS))


def test_the_model_watched_is_the_one_that_the_ledger_lets_trade(tmp_path: Path) -> None:
    place = Workplace(load_settings(home=str(tmp_path), profile="demo"))
    path, one, two = place.settings.ledger_path, "1" * 64, "2" * 64

    def entry(action: str, bundle_id: str, stage: str = "paper", slot: str = "daily") -> None:
        named = {"name": "alpha", "version": "1", "account": "default", "mode": "paper", "at": 1, "approvals": ("automatic",)}
        fields = {**named, "action": action, "bundle_id": bundle_id, "stage": stage, "slot": slot, "reason": "test"}
        append(path, LedgerReader(path).head(), **fields)

    def watched() -> str:
        return in_authority(place, "daily", "default", "paper")

    assert watched() == ""
    entry("promote", one, "shadow")
    assert watched() == ""
    entry("promote", one)
    entry("promote", two)
    entry("promote", "3" * 64, slot="intraday")
    assert watched() == two
    entry("revoke", two)
    assert watched() == one


def monitor(world: World) -> dict:
    bring_current(world.definitions, world.graph, world.place, world.instance, assets=[ASSET])
    return dict(world.manifest(ASSET).facts)


def said(world: World) -> Mapping[str, Any]:
    """Metadata of the newest materialization."""
    event = world.instance.get_latest_materialization_event(dg.AssetKey(ASSET))
    assert event is not None and event.asset_materialization is not None
    return event.asset_materialization.metadata


def passed(world: World, check: str) -> bool:
    key = dg.AssetCheckKey(dg.AssetKey(ASSET), check)
    record = world.instance.event_log_storage.get_asset_check_execution_history(key, limit=1)[0]
    assert record.event is not None and record.event.dagster_event is not None
    return bool(record.event.dagster_event.asset_check_evaluation_data.passed)


def sessions_after(day: int, calendar_days: int = 365) -> np.ndarray:
    """Sessions from a day on."""
    return MarketCalendar().sessions(date_of(day), date_of(day) + timedelta(days=calendar_days))


def trade(path: Path, returns: np.ndarray, first: int) -> list[str]:
    """A journal of sessions that end with these returns, booked as cash, without fills."""
    book, cash, sessions = JournalBook(path), 100_000.0, []
    for number, (day, change) in enumerate(zip(sessions_after(first), returns, strict=False)):
        session_id = f"default/paper/{np.datetime64(int(day), 'D')}/1"
        book.opened(session_id, int(day))
        if number == 0:
            book.adopted(session_id, cash)
        amount = round(cash * float(change), 2)
        book.activity(session_id, f"a{number}", "FEE", amount)
        cash = round(cash + amount, 2)
        book.row(session_id, int(day), [100.0, 10.0], f"d{number}", cash)
        book.closed(session_id, int(day), cash, cash)
        sessions.append(session_id)
    return sessions


def test_the_watch_from_no_model_over_a_healthy_one_to_one_that_loses(world: World) -> None:
    assert world.manifest(ASSET).facts["empty"] == "no model may trade"  # the world made it before it promoted
    facts = monitor(world)
    assert facts["sessions"] == 0 and facts["alarms"] == [] and facts["model"].startswith("alpha_lightgbm_v")
    trained = world.manifest("model_bundle", sorted(world.manifest("features_daily").facts["cutoffs"])[0]).facts["trained_through"]
    newest = np.datetime64(facts["newest_session"]).astype(int)
    assert facts["age"] == int(np.searchsorted(sessions_after(trained), newest)) and facts["stale"] is (facts["age"] > 21)
    assert passed(world, "on_course") and passed(world, "fresh") is not facts["stale"]

    assert said(world)["not_watched"].value == "pnl, prediction"  # 46 sessions of walk-forward: too few to say what is normal
    rng = np.random.default_rng(3)
    promised, spread = 0.0005 + 0.004 * rng.standard_normal(400), 0.004
    days = pl.Series("session", sessions_after(day_of(date(2010, 1, 4)), 800)[:400].astype(np.int32)).cast(pl.Date)
    world.replant("walk_forward_report", "net_returns", lambda frame: pl.DataFrame({"session": days, "model": promised}))
    healthy = promised.mean() + spread * rng.standard_normal(30)
    broken = np.concatenate([healthy, promised.mean() - 3.0 * spread + spread * rng.standard_normal(10)])
    named = trade(world.place.settings.journals_dir / "default-paper.sqlite", broken, day_of(date(2014, 1, 2)))
    world.instance.add_dynamic_partitions("sessions", named)
    for count, rings in ((30, False), (40, True)):
        for asset in ("live_journal", "session_report"):
            bring_current(world.definitions, world.graph, world.place, world.instance, {asset: named[:count]}, [asset])
        facts = monitor(world)
        assert facts["sessions"] == count and bool(facts["alarms"]) is rings, facts
        assert passed(world, "on_course") is not rings
    assert all(alarm.startswith("pnl:2014-") for alarm in facts["alarms"])
    (table,) = [output for output in world.manifest(ASSET).outputs if output.partition == "sessions"]
    frame = pl.read_parquet(world.place.lake.root / table.uri)
    assert frame["net_return"].to_numpy() == pytest.approx(broken, abs=1e-6)  # booked to the cent
    found = said(world)
    assert "| pnl |" in str(found["detectors"].value) and "| 0.33 |" in str(found["detectors"].value)
    assert found["not_watched"].value == "prediction"
    assert str(found["cusum"].value).startswith("![cusum](data:image/png;base64,")
    assert str(found["triggers"].value).count("| notify |") == 4 and "% of sessions" in str(found["triggers"].value)
