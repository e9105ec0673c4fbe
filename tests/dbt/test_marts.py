"""The marts: computed by dbt over the lake's files, checked against the same sums made another way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from trading_platform.assets import dbt_manifest
from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.code_version import code_version
from trading_platform.assets.graph import build_graph
from trading_platform.assets.instance import prepare_instance
from trading_platform.assets.reading import reader
from trading_platform.assets.session_tables import frame
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.manifest import Manifest, OutputFile, inputs_hash
from trading_platform.definitions import build_definitions

MARTS = ("bars_daily_rollup", "session_orders", "session_pnl")
SESSION = "desk/paper/2019-02-15/1"
pytestmark = pytest.mark.xdist_group("dbt")  # one of them touches a model


@pytest.fixture(scope="session", autouse=True)
def manifest() -> None:
    dbt_manifest.ensure_manifest()


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(load_settings(home=str(tmp_path / "home"), profile="demo"))


@pytest.fixture
def instance(place: Workplace) -> Iterator[dg.DagsterInstance]:
    with prepare_instance(place.settings) as found:
        yield found


def publish(place: Workplace, instance: dg.DagsterInstance, asset: str, tables: dict[str, pl.DataFrame], partition: str = "all") -> None:
    """A materialization of an upstream asset with these tables."""
    outputs = []
    for name, table in tables.items():
        written = place.lake.write_partition(asset, name, table, sort_by=())
        parts = (written.uri, written.sha256, written.size, written.rows, written.data_version, written.schema, written.span)
        outputs.append(OutputFile(written.asset, written.partition, *parts))
    made = Manifest(asset, partition, code_version("calendar"), "v", inputs_hash((), {}), {}, (), tuple(outputs))
    stored = place.lake.write_file(f"manifests/{asset}", partition, made.to_bytes(), ".json")
    key = None if partition == "all" else partition
    if key is not None:
        instance.add_dynamic_partitions("sessions", [key])
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key, metadata={"manifest": stored.uri}))


def minutes() -> pl.DataFrame:
    """Two instruments over two sessions, five minutes each."""
    rows = []
    for day in (date(2019, 2, 14), date(2019, 2, 15)):
        for name, base in (("us:AAA", 100.0), ("us:BBB", 20.0)):
            for minute in range(5):
                price = base + minute - day.day
                stamp = datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC) + timedelta(minutes=minute)
                rows.append((name, name[3:], stamp, day, price, price + 0.5, price - 0.5, price + 0.25, 100.0 * (minute + 1)))
    columns = ["instrument_id", "symbol", "timestamp", "session", "open", "high", "low", "close", "volume"]
    return pl.DataFrame(rows, schema=columns, orient="row").with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC")))


def pnl(total: float) -> pl.DataFrame:
    """One session's P&L by name; the equity change is 30."""
    head = {"session_id": SESSION, "session": date(2019, 2, 15), "equity_before": 1000.0, "equity_after": 1030.0}
    parts = {"alpha": total, "delay": -5.0, "cost": -1.0, "fees": 0.0, "dividends": 0.0, "residual": 0.0, "total": total - 6.0}
    other = {"alpha": -4.0, "delay": 0.0, "cost": 0.0, "fees": 0.0, "dividends": 0.0, "residual": 0.0, "total": -4.0}
    return pl.DataFrame([{**head, "instrument_id": "us:AAA", **parts}, {**head, "instrument_id": "(account)", **other}])


def orders() -> dict[str, pl.DataFrame]:
    """Three orders: one filled better than its limit, one half filled, one cancelled."""

    def order(identity: str, side: str, status: str, lots: int) -> dict:
        head = {"session_id": SESSION, "session": 17942, "client_order_id": identity, "instrument_id": "us:AAA"}
        return {**head, "side": side, "leg": "enter", "status": status, "lots": lots, "limit_price": 100.0}

    def fill(identity: str, lots: int, price: float) -> dict:
        return {"session_id": SESSION, "session": 17942, "client_order_id": identity, "lots": lots, "price": price, "side": "buy"}

    made = [order("a", "buy", "filled", 10), order("b", "buy", "filled", 20), order("c", "sell", "canceled", 5)]
    return {"orders": frame("orders", made), "fills": frame("fills", [fill("a", 10, 99.0), fill("b", 5, 100.0), fill("b", 5, 99.0)])}


def build(place: Workplace, instance: dg.DagsterInstance, **given: pl.DataFrame) -> dg.ExecuteInProcessResult:
    """Publish everything upstream, with some tables (minutes, orders, fills, pnl) as given, and materialize the marts in one run."""
    tables = {"minutes": minutes(), **orders(), "pnl": pnl(40.0), **given}
    publish(place, instance, "bars_minute", {"month=2019-02": tables["minutes"]})
    publish(place, instance, "live_journal", {f"{name}/{SESSION}": tables[name] for name in ("orders", "fills")}, SESSION)
    publish(place, instance, "session_report", {f"pnl/{SESSION}": tables["pnl"]}, SESSION)
    job = build_definitions(tracking=False, home=str(place.settings.home), profile="demo").resolve_implicit_global_asset_job_def()
    return job.execute_in_process(asset_selection=[dg.AssetKey(name) for name in MARTS], instance=instance, raise_on_error=False)


def test_each_mart_is_what_polars_computes_from_the_same_rows(place: Workplace, instance: dg.DagsterInstance) -> None:
    result = build(place, instance)
    assert result.success and failed(result) == set()
    seen = reader(instance, place, *MARTS)
    oracle = (
        minutes()
        .sort("instrument_id", "timestamp")
        .group_by("session", "instrument_id", maintain_order=True)
        .agg(pl.col("open").first(), pl.col("high").max(), pl.col("low").min(), pl.col("close").last(), pl.col("volume").sum())
        .sort("session", "instrument_id")
    )
    rollup = seen.read("bars_daily_rollup").sort("session", "instrument_id")
    assert rollup.select(oracle.columns).equals(oracle)
    assert rollup["minutes"].to_list() == [5, 5, 5, 5]
    by_status = {(row["side"], row["status"]): row for row in seen.read("session_orders").iter_rows(named=True)}
    bought = by_status["buy", "filled"]
    assert (bought["orders"], bought["lots"], bought["filled_lots"]) == (2, 30, 20)
    assert bought["improvement_bps"] == pytest.approx((100.0 + 50.0) / 2)
    assert by_status["sell", "canceled"]["filled_lots"] == 0
    session = seen.read("session_pnl").row(0, named=True)
    assert session["total"] == pytest.approx(30.0) and session["equity_change"] == pytest.approx(30.0)
    assert (session["winners"], session["losers"]) == (1, 1)
    steps = bring_current(
        build_definitions(tracking=False, home=str(place.settings.home), profile="demo"), build_graph(), place, instance, assets=MARTS
    )
    assert not any(step.ran for step in steps)


def with_row(table: pl.DataFrame, row: int, **values: object) -> pl.DataFrame:
    """The table with some values of one row replaced."""
    here = pl.int_range(pl.len()) == row
    return table.with_columns(pl.when(here).then(pl.lit(value)).otherwise(pl.col(name)).alias(name) for name, value in values.items())


def failed(result: dg.ExecuteInProcessResult) -> set[str]:
    return {evaluation.check_name for evaluation in result.get_asset_check_evaluations() if not evaluation.passed}


def test_rows_that_deserve_it_fail_every_test_of_the_project_as_a_check(place: Workplace, instance: dg.DagsterInstance) -> None:
    """One build over tables each of which is wrong in its own way: a last close above every high, rows without a name, 41 lots filled of
    30 ordered, parts that miss the equity change by one."""
    bars = with_row(with_row(with_row(minutes(), 4, close=200.0), 7, instrument_id=None), 8, session=None)
    wrong = {"minutes": bars, "pnl": with_row(pnl(41.0), 1, session_id=None)}
    wrong |= {"orders": with_row(orders()["orders"], 2, session_id=None), "fills": with_row(orders()["fills"], 0, lots=31)}
    by_construction = {"not_null_bars_daily_rollup_minutes", "unique_session_pnl_session_id"}  # a count, and the key that is grouped by
    every = {test for mart in dbt_manifest.read_marts() for test in mart.tests}
    assert failed(build(place, instance, **wrong)) == every - by_construction


def test_marts_of_nothing_are_empty_tables_with_their_columns(place: Workplace, instance: dg.DagsterInstance) -> None:
    publish(place, instance, "bars_minute", {})
    definitions = build_definitions(tracking=False, home=str(place.settings.home), profile="demo")
    steps = bring_current(definitions, build_graph(), place, instance, assets=MARTS)
    assert len({step.run_id for step in steps}) == 1
    seen = reader(instance, place, *MARTS)
    assert [seen.read(name).height for name in MARTS] == [0, 0, 0]
    assert "vwap" in seen.read("bars_daily_rollup").columns


def test_the_manifest_is_made_again_when_a_model_is_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert dbt_manifest.manifest_is_current()
    model = dbt_manifest.PROJECT / "models" / "marts" / "session_pnl.sql"
    before = model.stat()
    try:
        os.utime(model)
        assert not dbt_manifest.manifest_is_current()
    finally:
        os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not dbt_manifest.ensure_manifest()


def test_a_project_that_was_never_parsed_leaves_the_marts_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(dbt_manifest, "MANIFEST", tmp_path / "manifest.json")
    assert dbt_manifest.read_marts() == ()
