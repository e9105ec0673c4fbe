"""The command line: input checked before anything runs, one message per mistake, the state handed from run to run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pyarrow as pa
import pytest
import requests
from simulated_exchange import Attached, Exchange

from live_runner.simulator.cli import main
from live_runner.simulator.faults import Faults, Rule, load_faults
from live_runner.simulator.server import bind, starting_account
from live_runner.simulator.tape import load_tape
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError

HEADERS = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}
COLUMNS = {
    "symbol": ["AAPL", "AAPL", "MSFT"],
    "timestamp": [datetime(2019, 2, 8, 5, tzinfo=UTC), datetime(2019, 2, 11, 5, tzinfo=UTC), datetime(2019, 2, 11, 5, tzinfo=UTC)],
    "open": [10.0, 10.0, 20.0],
    "high": [11.0, 11.0, 21.0],
    "low": [9.0, 9.0, 19.0],
    "close": [10.0, 10.5, 20.0],
    "volume": [1_000_000, 1_000_000, 1_000_000],
}
ARGUMENTS = ["--start", "2019-02-11", "--end", "2019-02-11"]


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., tuple[Any, subprocess.Popen[bytes]]]]:
    started: list[subprocess.Popen[bytes]] = []

    def begin(bars: Path, *more: str) -> tuple[Any, subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "live_runner.simulator", "--bars", str(bars), *ARGUMENTS, *more]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ)
        started.append(process)
        port = orjson.loads(process.stdout.readline())["listening"]
        return Exchange(port, SimpleNamespace()), process  # type: ignore[arg-type]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def trade_a_day(exchange: Exchange) -> None:
    runner = Attached(exchange)
    runner.next()
    body = {"symbol": "AAPL", "qty": "100", "side": "buy", "type": "market", "time_in_force": "day"}
    assert requests.post(f"{exchange.http}/v2/orders", json=body, headers=HEADERS, timeout=10).ok
    runner.until("end")
    runner.done()
    runner.leave()


def test_two_runs_pass_the_closing_cash_on_and_write_the_same_log(launch: Any, write_bars: Any, tmp_path: Path) -> None:
    state, bars = tmp_path / "account.json", write_bars(COLUMNS)
    endings, logs = [], []
    for run in range(2):
        log = tmp_path / f"log-{run}"
        exchange, process = launch(bars, "--cash", "5000.00", "--event-log", str(log), *(["--state", str(state)] if run == 0 else []))
        trade_a_day(exchange)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, b"")
        endings.append(orjson.loads(out)["ended"])
        logs.append(log.read_bytes())
    assert logs[0] == logs[1] != b""
    assert endings[0] == endings[1]
    assert endings[0] == orjson.loads(state.read_bytes())
    assert (endings[0]["cash"], endings[0]["closing_cash"]) == ("3983.00", "5033.00")  # 100 shares bought at 10.17, marked at 10.50
    exchange, _ = launch(bars, "--state", str(state))
    account = requests.get(f"{exchange.http}/v2/account", headers=HEADERS, timeout=10).json()
    assert (account["cash"], account["account_number"]) == ("5033.00", "PA0000000002")
    opening = orjson.loads(logs[0].splitlines()[0])["body"]
    assert account["id"] != opening["account_id"]


def test_a_signal_ends_it_and_the_next_run_has_other_ids_and_the_same_cash(launch: Any, write_bars: Any, tmp_path: Path) -> None:
    state = tmp_path / "account.json"
    state.write_bytes(b'{"account": 7, "closing_cash": "5000.00"}')
    exchange, process = launch(write_bars(COLUMNS), "--state", str(state))
    runner = Attached(exchange)
    runner.next()
    body = {"symbol": "AAPL", "qty": "100", "side": "buy", "type": "market", "time_in_force": "day"}
    assert requests.post(f"{exchange.http}/v2/orders", json=body, headers=HEADERS, timeout=10).ok
    runner.until("close")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert b"Traceback" not in err
    left = orjson.loads(state.read_bytes())
    assert (left["account"], left["closing_cash"], left["finished"]) == (8, "5000.00", False)
    assert starting_account(state, 1) == (9, 500_000)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and "fix:" in err
    return err


def changed(**columns: Any) -> dict[str, Any]:
    return {name: value for name, value in (COLUMNS | columns).items() if value is not None}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (changed(close=None), "missing column close"),
        (changed(symbol=None), "missing column symbol"),
        (changed(low=[9.0, -9.0, 19.0]), "prices or volume out of order: AAPL at 2019-02-11"),
        (changed(close=[10.0, float("nan"), 20.0]), "prices or volume out of order: AAPL at 2019-02-11"),
        (changed(high=[11.0, 11.0, 18.0]), "prices or volume out of order: MSFT at 2019-02-11"),
        (changed(timestamp=[COLUMNS["timestamp"][0]] * 3), "the same bar twice: AAPL at 2019-02-08"),
        (
            changed(timestamp=[datetime(2019, 2, 10, 12, tzinfo=UTC), *COLUMNS["timestamp"][1:]]),
            "2019-02-10T12:00:00.000000000Z, no session",
        ),
        (changed(timestamp=[COLUMNS["timestamp"][i] for i in (1, 0, 2)]), "timestamps run backwards: AAPL at 2019-02-08"),
        (changed(timestamp=pa.array([1, -(2**62), 3], pa.timestamp("us", "UTC"))), "a timestamp is beyond every calendar"),
        (changed(open=["ten", "ten", "ten"]), "column open is string"),
        (changed(symbol=["AAPL", "", "MSFT"]), "a row without a symbol"),
        (changed(timestamp=[1.5, 2.5, 3.5]), "timestamp is double"),
    ],
)
def test_wrong_bars_are_named_with_their_row(write_bars: Any, capsys: Any, columns: dict[str, Any], words: str) -> None:
    assert words in refused(capsys, "--bars", str(write_bars(columns)), *ARGUMENTS)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--speed", "fast"], "--speed fast"),
        (["--cash", "0"], "--cash 0"),
        (["--cash", "1.005"], "--cash 1.005"),
        (["--participation", "2"], "participation is at most 1"),
        (["--bar-delay", "nan"], "--bar-delay nan"),
        (["--arrival-allowance", "-1"], "--arrival-allowance -1"),
        (["--indexes", "{tmp}/absent"], "no file absent"),
        (["--end", "2019-02-01"], "before --start"),
        (["--start", "2019-03-04", "--end", "2019-03-05"], "no 1Day bars"),
        (["--timeframe", "1Min"], "no 1Min bars"),
        (["--state", "{tmp}/broken"], "not a simulator state"),
        (["--faults", "{tmp}/broken"], "not a JSON file"),
        (["--actions", "{tmp}/broken"], "not a readable Parquet file"),
        (["--bars", "{tmp}/absent"], "no file absent"),
        (["--event-log", "{tmp}/no/such/folder"], "cannot write the event log"),
    ],
)
def test_wrong_options_end_in_one_message(write_bars: Any, capsys: Any, tmp_path: Path, more: list[str], words: str) -> None:
    (tmp_path / "broken").write_bytes(b"PAR1 not really")
    named = [word.replace("{tmp}", str(tmp_path)) for word in more]
    assert words in refused(capsys, "--bars", str(write_bars(COLUMNS)), *ARGUMENTS, *named)


def test_a_taken_port_is_named(write_bars: Any, capsys: Any) -> None:
    with bind(0) as taken:
        port = taken.getsockname()[1]
        err = refused(capsys, "--bars", str(write_bars(COLUMNS)), *ARGUMENTS, "--port", str(port))
    assert f"cannot listen on port {port}" in err


def test_daily_bars_may_be_stamped_with_utc_midnight(write_bars: Any, calendar: MarketCalendar) -> None:
    plain = [datetime(2019, 2, 8, tzinfo=UTC), datetime(2019, 2, 11, tzinfo=UTC), datetime(2019, 2, 11, tzinfo=UTC)]
    one = load_tape(write_bars(COLUMNS, "a.parquet"), "1Day", calendar)
    two = load_tape(write_bars(changed(timestamp=plain), "b.parquet"), "1Day", calendar)
    assert one.bars["AAPL"].start.tolist() == two.bars["AAPL"].start.tolist()


def test_actions_are_read_by_day_and_checked(write_bars: Any, calendar: MarketCalendar) -> None:
    columns = {"symbol": ["AAPL", "MSFT"], "ex_date": [date(2019, 2, 11)] * 2, "split_ratio": [2.0, 1.0], "cash_dividend": [0.0, 0.0]}
    tape = load_tape(write_bars(COLUMNS), "1Day", calendar, write_bars(columns, "actions.parquet"))
    assert [(a.symbol, a.split_ratio) for a in tape.actions] == [("AAPL", 2.0)]
    wrong = write_bars(columns | {"split_ratio": [2.0, -1.0]}, "wrong.parquet")
    with pytest.raises(InputError, match=r"row 1: split_ratio -1\.0"):
        load_tape(write_bars(COLUMNS), "1Day", calendar, wrong)


def test_fault_files_are_checked_and_draws_repeat(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_bytes(orjson.dumps([{"at": "post_order", "kind": "500", "share": 0.3}]))
    rules = load_faults(path)
    first, second = (Faults(rules, seed=7) for _ in range(2))
    drawn = [first.at("post_order") for _ in range(200)]
    assert drawn == [second.at("post_order") for _ in range(200)]
    assert 40 <= drawn.count("500") <= 80
    for wrong in ({"at": "post_order"}, {"at": "post_order", "kind": "drop_update", "nth": 1}, {"at": "x", "kind": "500", "nth": 1}, 3):
        path.write_bytes(orjson.dumps([wrong]))
        with pytest.raises(InputError):
            load_faults(path)
    with pytest.raises(InputError):
        Rule("bar", "mute", share=1.5)
