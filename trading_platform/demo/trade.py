"""One pipeline's stretch, traded: simulator and runner as processes, the operator between them, Redis beside them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings
from trading_platform.contracts import names
from trading_platform.contracts.errors import TransientError
from trading_platform.demo.operator import Operator
from trading_platform.demo.processes import Child
from trading_platform.demo.stretch import Stretch

READY_S = 60.0
SESSION_S = 900.0
ENV_STORE = f"{names.ENV_PREFIX}OBJECT_STORE_URL"
# Keys of the simulated venue only: a real account's keys never reach a demonstration.
SIMULATED_KEYS = {names.ENV_BROKER_KEY: "DEMO-KEY", names.ENV_BROKER_SECRET: "DEMO-SECRET"}


@dataclass(frozen=True, slots=True)
class Request:
    """A bundle that should decide row `row` of the stretch (from 0) first."""

    row: int
    label: str
    bundle_id: str


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment of the demo's children: this process' own with no broker's keys but the simulator's. What a child needs of our
    settings is on its command line, except the address of the bundles, which may hold a password."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith((names.ENV_PREFIX, "APCA_"))}
    if names.ENV_CACHE in os.environ:
        kept[names.ENV_CACHE] = os.environ[names.ENV_CACHE]
    if settings.object_store_url:
        kept[ENV_STORE] = settings.object_store_url
    return {**kept, **SIMULATED_KEYS, "PYTHONUNBUFFERED": "1"}


def planned_rows(requests: Sequence[Request], rows: int) -> dict[str, int]:
    """Label -> rows of a stretch of `rows` rows that its bundle should decide: from its own first row to the next bundle's."""
    ordered = sorted(requests, key=lambda request: request.row)
    ends = [*(max(request.row, 0) for request in ordered[1:]), rows]
    return {request.label: end - max(request.row, 0) for request, end in zip(ordered, ends, strict=True)}


def account_file(settings: Settings, account: str) -> Path:
    """Closing cash of the account's last demonstration, where the next begins."""
    return settings.home / "demo" / f"{account}.json"


def trade(
    place: Workplace,
    stretch: Stretch,
    account: str,
    redis_url: str,
    requests: list[Request],
    ask: Callable[[Request], None],
    progress: Callable[[int], None],
) -> None:
    """Play the stretch to its end. `ask` writes a request to Redis; `progress` hears how many rows are over. Raises TransientError."""
    settings, pipeline = place.settings, stretch.pipeline
    logs = settings.home / "demo" / "logs"
    environment = child_environment(settings)
    with Child(
        f"simulator-{pipeline.name}", simulator_command(place, stretch, account), logs / f"simulator-{pipeline.name}.log", environment
    ) as venue:
        port = int(venue.wait_for("listening", READY_S))
        for request in (request for request in requests if request.row <= 0):
            ask(request)  # the runner finds it when it starts, before its first row
        watch = _Watch(pipeline.timeframe, [request for request in requests if request.row > 0], ask, progress)
        operator = Operator(port, SIMULATED_KEYS[names.ENV_BROKER_KEY], watch.event)
        operator.start()
        runner = [*runner_command(settings, pipeline.name, account), "--broker-url", f"http://127.0.0.1:{port}", "--redis-url", redis_url]
        with Child(f"runner-{pipeline.name}", runner, logs / f"runner-{pipeline.name}.log", environment) as child:
            child.finish(SESSION_S)
        operator.finish(READY_S)
        venue.finish(READY_S)
    if watch.rows != stretch.rows:
        raise TransientError(f"{watch.rows} of {stretch.rows} rows were played", pipeline.name, f"read the logs in {logs}")


def simulator_command(place: Workplace, stretch: Stretch, account: str) -> list[str]:
    """Arguments of `python -m` for the simulator of a stretch."""
    profile = place.profile(stretch.pipeline)
    state = account_file(place.settings, account)
    state.parent.mkdir(parents=True, exist_ok=True)
    costs, timeframe = profile.costs, stretch.pipeline.timeframe
    indexes = [] if stretch.indexes is None else ["--indexes", str(stretch.indexes)]
    bar_delay = profile.vendor_delay_s if timeframe == "1Day" else 0.0
    return [
        "live_runner", "simulator", "--bars", str(stretch.bars), "--actions", str(stretch.actions), *indexes, "--timeframe", timeframe,
        "--start", stretch.first, "--end", stretch.last, "--port", "0", "--speed", "max", "--clients", "2", "--seed", "1",
        "--cash", str(profile.starting_cash), "--state", str(state), "--bar-delay", str(bar_delay),
        "--half-spread-bps", str(costs.half_spread_bps), "--impact-bps", str(costs.impact_bps), "--participation", str(costs.participation),
        "--requests-per-minute", str(profile.execution.requests_per_minute),
    ]  # fmt: skip


def runner_command(settings: Settings, pipeline: str, account: str) -> list[str]:
    """Arguments of `python -m` for a lock-step runner; the broker's and Redis' addresses are still to be added."""
    return [
        "live_runner", "run", "--pipeline", pipeline, "--home", str(settings.home), "--account", account, "--mode", settings.mode,
        "--profile", settings.profile, "--lockstep", "--metrics-port", "0",
        "--confirm-transitions-as", "demo", "--adopt-account-as", "demo",
    ]  # fmt: skip


class _Watch:
    """Counts rows from the simulator's events and asks for a bundle before the row it is meant for."""

    def __init__(self, timeframe: str, requests: list[Request], ask: Callable[[Request], None], progress: Callable[[int], None]) -> None:
        self._row_event = "close" if timeframe == "1Day" else "bars"
        self._requests = sorted(requests, key=lambda request: request.row)
        self._ask = ask
        self._progress = progress
        self.rows = 0

    def event(self, message: Mapping[str, Any]) -> None:
        """Hear one event of the simulator; time waits until this returns."""
        if message["kind"] != self._row_event:
            return
        self.rows += 1
        self._progress(self.rows)
        while self._requests and self.rows >= self._requests[0].row:  # the runner decides this row, then looks at the request
            self._ask(self._requests.pop(0))
