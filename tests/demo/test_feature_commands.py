"""`trading-platform features`: exit codes, what a person reads, what a machine reads, and that a failed proof says where."""

from __future__ import annotations

import json
import os
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import date
from io import StringIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from trading_platform.calendar import MarketCalendar
from trading_platform.cli import main
from trading_platform.config import load_settings
from trading_platform.contracts import names
from trading_platform.demo import feature_commands
from trading_platform.demo.screen import Screen
from trading_platform.features.catalog.registry import feature_set
from trading_platform.features.catalog.registry import names as catalogue
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.proof import Finding, Verdict

CALENDAR, CORE = MarketCalendar(), feature_set("core")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in [name for name in os.environ if name.startswith(names.ENV_PREFIX) and name != names.ENV_CACHE]:
        monkeypatch.delenv(variable)
    monkeypatch.chdir(tmp_path)


def bars(path: Path, days: int = 700, symbols: int = 7) -> Path:
    """Daily bars of a seeded random walk."""
    rng = np.random.default_rng(2)
    stamps = CALENDAR.midnights_ns(CALENDAR.sessions(date(2010, 1, 4), date(2014, 12, 31))[:days])
    parts = []
    for number in range(symbols):
        close = 30.0 * np.exp(np.cumsum(rng.normal(0.0, 0.015, days)))
        open_ = close * np.exp(rng.normal(0.0, 0.005, days))
        prices = {"open": open_, "high": np.maximum(open_, close) * 1.01, "low": np.minimum(open_, close) * 0.99, "close": close}
        parts.append(
            pl.DataFrame({"symbol": [f"S{number}"] * days, "timestamp": stamps, **prices, "volume": rng.uniform(1e5, 1e6, days).round()})
        )
    pl.concat(parts).with_columns(pl.col("timestamp").cast(pl.Datetime("ns")).dt.replace_time_zone("UTC")).write_parquet(path)
    return path


def test_sound_features_pass_with_exit_0_and_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "check", "--bars", str(bars(tmp_path / "bars.parquet"))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith(f"core {CORE.label} ") and line.endswith("on 700 1Day rows of 7 instruments") for line in lines)
    for check in ("causal", "warm_up", "chunks", "restart", "finite", "scale"):
        assert [line.split()[:2] for line in lines if line.startswith(check)] == [[check, "passed"]]
    assert any(line.startswith("restart") and line.endswith("once more in a fresh process") for line in lines)


def test_a_failed_proof_is_exit_1_and_names_feature_bar_instrument_and_both_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OPERATORS, "mean", replace(OPERATORS["mean"], warm_up=lambda params: 0))  # the planted fault
    assert main(["features", "check", "--json", "--bars", str(bars(tmp_path / "bars.parquet"))]) == 1
    said = json.loads(capsys.readouterr().out)
    failed = {check["check"]: check for check in said["checks"] if check["passed"] is not True}
    assert set(failed) == {"warm_up"}
    found = {finding["feature"]: finding for finding in failed["warm_up"]["findings"]}
    assert "sma_50_gap" in found and "rsi_14" not in found
    one = found["sma_50_gap"]
    assert one["instrument_id"] == "us:S0" and one["timestamp"].endswith("Z") and one["got"] == "nan" and float(one["expected"])
    assert all(
        part in one["text"] for part in ("sma_50_gap of us:S0 at 20", one["expected"], "became nan", "(rounded, ready after 1 bars)")
    )


def test_a_terminal_shows_a_table_and_every_finding_below_it(tmp_path: Path) -> None:
    few = feature_set("core:price,returns_5d,rsi_14")
    panel = feature_commands.panel_of_file(load_settings(home=tmp_path), few, bars(tmp_path / "bars.parquet", 300), 300, 5)
    finding = Finding("causal", "rsi_14", "us:S0", int(panel.timestamp[7]), 50.0, 51.0, 3, "when bars changed")
    written = StringIO()
    screen = Screen(Console(file=written, force_terminal=True, width=120))
    with redirect_stdout(written):
        feature_commands._show(few, panel, [Verdict("causal", False, 9, (finding,), "cuts"), Verdict("scale", None, 0, (), "")], screen)
    shown = written.getvalue()
    assert "┃" in shown and "FAILED" in shown and "not judged" in shown and "300 1Day rows of 5" in shown
    assert f"causal: rsi_14 of us:S0 at {finding.when}: 50.0 became 51.0 when bars changed (3 cells)" in shown


def test_too_few_bars_prove_nothing_and_are_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "check", "--bars", str(bars(tmp_path / "bars.parquet", days=60))]) == 1
    assert "finite   not judged" in capsys.readouterr().out


def test_compute_writes_the_table_and_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out = bars(tmp_path / "bars.parquet"), tmp_path / "out" / "features.parquet"
    assert main(["features", "compute", "--bars", str(given), "--out", str(out), "--chunk", "64"]) == 0
    said = capsys.readouterr().out
    assert (
        f"4900 rows x {len(CORE.names)} features of core {CORE.label}" in said
        and "splits and dividends included" in said
        and "4900 of 4900" in said
    )
    table = pl.read_parquet(out)
    assert table.columns == ["instrument_id", "timestamp", *feature_set("core").names] and table.height == 4900
    assert main(["features", "compute", "--json", "--bars", str(given), "--out", str(tmp_path / "again.parquet"), "--chunk", "5000"]) == 0
    machine = json.loads(capsys.readouterr().out)
    assert machine["rows"] == 4900 and machine["hash"] == feature_set("core").hash
    assert table.equals(pl.read_parquet(tmp_path / "again.parquet"))


def test_bad_usage_and_bad_input_are_exit_2_with_what_where_and_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given, out = bars(tmp_path / "bars.parquet"), str(tmp_path / "out.parquet")
    assert main(["features", "check", "--set", "nothing"]) == 2
    assert main(["features", "check", "--set", "intraday_vix", "--bars", str(given)]) == 2
    assert main(["features", "check", "--bars", "nowhere.parquet"]) == 2
    assert main(["features", "compute", "--bars", str(given), "--out", str(given)]) == 2
    assert main(["features", "compute", "--set", "intraday_vix", "--bars", str(given), "--out", out]) == 2
    error = capsys.readouterr().err
    assert "unknown feature set 'nothing'" in error and "the file has no column vix; needed by vix (field), vix_change_20 (" in error
    assert "--out is the file that is read" in error and error.count("fix:") == 5 and not Path(out).exists()
    with pytest.raises(SystemExit) as caught:
        main(["features", "prove"])
    assert caught.value.code == 2


def test_the_boxed_data_is_proved_where_no_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "check", "--rows", "600", "--symbols", "3"]) == 0
    assert "on 600 1Day rows of 3 instruments" in capsys.readouterr().out
    assert main(["features", "check", "--set", "intraday"]) == 2
    assert "no 1Min bars" in capsys.readouterr().err


def test_the_list_is_of_sets_and_of_the_features_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["features", "list", "--json"]) == 0
    sets = {row["set"]: row for row in json.loads(capsys.readouterr().out)}
    core = feature_set("core")
    assert set(sets) == set(catalogue()) and (sets["core"]["hash"], sets["core"]["features"]) == (core.hash, len(core.names))
    assert main(["features", "list", "--set", "core!macd", "--json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["set"] == "core!macd" and [row["name"] for row in one["features"]] == [name for name in core.names if name != "macd"]
    assert main(["features", "list"]) == main(["features", "list", "--set", "core"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{min(catalogue())} ") and "  price                            1 bars  level" in lines


def test_decisions_name_a_person_and_are_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ["--home", str(tmp_path / "home")]
    assert main(["features", "disable", "daily", "rsi_14", "--who", "Ann", "--why", "wrong volumes", *home]) == 0
    assert "daily: core!rsi_14 v" in capsys.readouterr().out
    assert main(["features", "use", "daily", "core@nothing", "--who", "Ann", "--why", "x", "--without-shadow", *home]) == 2
    assert main(["features", "use", "daily", "core", "--who", "Ann", "--why", "x", *home]) == 2  # no shadow run
    assert main(["features", "disable", "nightly", "rsi_14", "--who", "Ann", "--why", "x", *home]) == 2
    assert (
        main(["features", "shadow", "daily", "core", "--who", "Ann", "--why", "x", *home]) == 2
    )  # nothing published: after which session?
    error = capsys.readouterr().err
    assert "no finished shadow run" in error and "no pipeline 'nightly'" in error and "--after DATE" in error
    with pytest.raises(SystemExit):
        main(["features", "disable", "daily", "rsi_14", "--why", "nobody", *home])
    assert main(["features", "shadow", "daily", "core", "--after", "2014-06-02", "--who", "Bob", "--why", "to see", "--json", *home]) == 0
    assert json.loads(capsys.readouterr().out)["shadow"]["after_session"] == 16223
    assert main(["features", "history", "daily", "--json", *home]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [(e["seq"], e["who"], e["action"], e["disabled"]) for e in entries] == [
        (1, "Ann", "disable", ["rsi_14"]),
        (2, "Bob", "shadow", ["rsi_14"]),
    ]
    assert all(entry["at"] > 1_600_000_000_000_000_000 for entry in entries)
