"""A simulated exchange in a thread and the market it plays."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from simulated_exchange import MONDAY, PATIENCE_S, TUESDAY, Exchange, bars_of, run_exchange

from live_runner.simulator.server import Run, Simulator, bind
from live_runner.simulator.settings import VenueSettings
from live_runner.simulator.tape import Action, Tape
from trading_platform.calendar import MarketCalendar


@pytest.fixture(scope="session")
def calendar() -> MarketCalendar:
    return MarketCalendar(first=date(2018, 12, 31), last=date(2019, 12, 31))


@pytest.fixture(scope="session")
def daily_tape(calendar: MarketCalendar) -> Callable[..., Tape]:
    def make(actions: tuple[Action, ...] = (), **series: list[tuple[float, ...]]) -> Tape:
        """One daily bar (open, high, low, close, volume) per session from Friday 8 February 2019 on."""
        days = [date.fromordinal(date(1970, 1, 1).toordinal() + int(s)) for s in calendar.sessions(date(2019, 2, 8), date(2019, 3, 1))]
        bars = {s: bars_of(calendar, "1Day", [(d, 0, row) for d, row in zip(days, rows, strict=False)]) for s, rows in series.items()}
        return Tape("1Day", bars, actions)

    return make


@pytest.fixture
def start(calendar: MarketCalendar) -> Iterator[Callable[..., Exchange]]:
    """Start an exchange: `start(tape, settings..., **fields of Run)`; it is stopped behind the test."""
    stops: list[Callable[[], None]] = []

    def begin(tape: Tape, settings: VenueSettings | None = None, **plan: Any) -> Exchange:
        run = replace(Run(settings or VenueSettings(), MONDAY, TUESDAY), **plan)
        listener = bind(0)
        exchange = Exchange(listener.getsockname()[1], Simulator(run, tape, calendar))
        thread = threading.Thread(target=run_exchange, args=(run, exchange, listener), daemon=True)
        thread.start()
        exchange.wait_for("listening")

        def stop() -> None:
            if thread.is_alive():
                exchange.stop()
                thread.join(PATIENCE_S)

        stops.append(stop)
        return exchange

    yield begin
    for stop in stops:
        stop()


@pytest.fixture
def write_bars(tmp_path: Path) -> Callable[..., Path]:
    def write(columns: dict[str, Any], name: str = "bars.parquet") -> Path:
        path = tmp_path / name
        pq.write_table(pa.table(columns), path)
        return path

    return write
