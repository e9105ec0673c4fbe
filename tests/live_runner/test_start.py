"""Starting: one clear message and the right exit code for what is wrong; nothing heavy is imported."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from market import ACCOUNT, Exchange, World, settings_of

from live_runner.cli import main
from live_runner.journal import AccountLock
from live_runner.runner import Runner

# pandas comes with alpaca-py and exchange_calendars, and brings pyarrow along.
FORBIDDEN = ("dagster", "torch", "lightgbm", "mlflow", "dbt", "polars", "onnx", "matplotlib", "uvicorn", "starlette", "boto3")
MOMENTUM = {"returns_21d": 1.0, "returns_5d": 0.5}


def run(world: World, url: str, *words: str, home: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m live_runner run` in lock-step in a fresh process."""
    profile = world.root / "test.yaml"
    profile.write_text("name: test\nextends: equity_conservative\n")
    command = [sys.executable, "-m", "live_runner", "run", "--home", str(world.root), "--account", ACCOUNT, "--profile", str(profile)]
    keys = {"APCA_API_KEY_ID": "key", "APCA_API_SECRET_KEY": "secret", "TRADING_METRICS_PORT": "0"}
    return subprocess.run(
        [*command, "--broker-url", url, "--lockstep", *words],
        env={**os.environ, **keys, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_a_fresh_process_imports_no_research(tmp_path: Path) -> None:
    code = "import sys, live_runner.runner, live_runner.replay, live_runner.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & set(FORBIDDEN)
    assert not [name for name in done.stdout.split() if name.startswith("live_runner.simulator")]


def test_a_live_runner_confirms_no_transition_by_itself(daily: World) -> None:
    done = run(daily, "http://127.0.0.1:9", "--mode", "live", "--confirm-transitions-as", "demo", "--redis-url", "")
    assert done.returncode == 2
    assert "a live runner confirms no transition by itself" in said(done) and "swap confirm LABEL --by NAME" in said(done)
    assert not (daily.root / "journals").exists()


def test_a_whole_session_from_the_command_line(daily: World, exchange: Callable[..., Exchange], redis_url: str, capsys: Any) -> None:
    daily.stage(redis_url, *daily.bundle("momentum", "1", MOMENTUM))
    venue = exchange(daily)
    done = run(daily, venue.url, "--redis-url", redis_url)
    assert done.returncode == 0, done.stderr
    assert '{"state":"READY"}' in done.stdout
    words = ["--home", str(daily.root), "--account", ACCOUNT]
    assert main(["journal", "verify", *words]) == 0
    capsys.readouterr()
    assert main(["status", "--json", *words]) == 0
    status = json.loads(capsys.readouterr().out)
    assert (status["model"], status["state"], status["running"]) == ("momentum_v1", "STOPPED", False)
    assert status["equity"] == round(status["equity"], 2) > 0.0
    assert main(["replay", *words, "--profile", str(daily.root / "test.yaml")]) == 0
    assert "12 decisions replayed, 0 differ" in capsys.readouterr().out


def test_wrong_keys(daily: World, exchange: Callable[..., Exchange], redis_url: str) -> None:
    venue = exchange(daily, settings={"key": "right", "secret": "right"})
    done = run(daily, venue.url, "--redis-url", redis_url)
    assert done.returncode == 2 and "refuses these keys" in said(done) and "secret" not in done.stderr.replace("APCA_API_SECRET_KEY", "")


def test_missing_keys(daily: World, redis_url: str) -> None:
    done = run(daily, "http://127.0.0.1:9", APCA_API_KEY_ID="", APCA_API_SECRET_KEY="")
    assert done.returncode == 2 and "APCA_API_KEY_ID" in said(done)


def test_an_unreachable_redis(daily: World, exchange: Callable[..., Exchange]) -> None:
    done = run(daily, exchange(daily).url, "--redis-url", "redis://127.0.0.1:9/0")
    assert done.returncode == 1 and "Redis does not answer" in said(done)


def test_an_unreachable_broker(daily: World, redis_url: str) -> None:
    done = run(daily, "http://127.0.0.1:9", "--redis-url", redis_url)
    assert done.returncode == 1 and "control socket does not answer" in said(done)


def test_a_taken_metrics_port(daily: World, exchange: Callable[..., Exchange], redis_url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run(daily, exchange(daily).url, "--redis-url", redis_url, "--metrics-port", str(taken.getsockname()[1]))
    assert done.returncode == 2 and "is taken" in said(done)


def test_a_second_runner_of_the_account(daily: World, exchange: Callable[..., Exchange], redis_url: str) -> None:
    lock = AccountLock(daily.root / "journals" / f"{ACCOUNT}-paper.sqlite")
    done = run(daily, exchange(daily).url, "--redis-url", redis_url)
    lock.release()
    assert done.returncode == 2 and "another runner holds this account" in said(done)


def test_inputs_that_were_never_published(daily: World, exchange: Callable[..., Exchange], redis_url: str) -> None:
    done = run(daily, exchange(daily).url, "--redis-url", redis_url, "--pipeline", "intraday")
    assert done.returncode == 2 and "no inputs for pipeline 'intraday'" in said(done)


def test_a_damaged_input_file(daily: World, exchange: Callable[..., Exchange], redis_url: str) -> None:
    (daily.root / "lake" / "universe" / "universe.json").write_bytes(b"{}")
    done = run(daily, exchange(daily).url, "--redis-url", redis_url)
    assert done.returncode == 1 and "hashes to" in said(done)


def test_a_start_reaches_ready_and_says_so(daily: World, exchange: Callable[..., Exchange], redis_url: str) -> None:
    states: list[str] = []
    runner = Runner(settings_of(daily, exchange(daily).url, redis_url=redis_url), say=states.append)
    asyncio.run(runner.run())
    assert states == ["RECONCILING", "READY", "STOPPED"]
    assert runner.state == "STOPPED"
