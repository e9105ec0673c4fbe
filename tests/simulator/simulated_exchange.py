"""A running exchange, small recorded markets, and a client of the control socket, for the tests of this folder."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np
import orjson
from websockets.sync.client import ClientConnection, connect

from live_runner.simulator.server import Run, Simulator, serve
from live_runner.simulator.tape import Bars
from trading_platform.calendar import MarketCalendar, day_of
from trading_platform.contracts.errors import TradingError

MONDAY, TUESDAY, WEDNESDAY = date(2019, 2, 11), date(2019, 2, 12), date(2019, 2, 13)
PATIENCE_S = 20.0


def bars_of(calendar: MarketCalendar, timeframe: str, rows: list[tuple[date, int, tuple[float, ...]]]) -> Bars:
    """Bars from (day, minute of the session, (open, high, low, close, volume)); the minute is ignored for 1Day."""
    sessions = np.array([day_of(day) for day, _, _ in rows])
    if timeframe == "1Day":
        start, end = calendar.midnights_ns(sessions), calendar.closes_ns(sessions)
    else:
        start = calendar.opens_ns(sessions) + np.array([minute for _, minute, _ in rows]) * 60_000_000_000
        end = start + 60_000_000_000
    values = np.array([prices for _, _, prices in rows], dtype=np.float64).T
    absent = np.full(len(rows), np.nan)
    return Bars(start, end, sessions, *values, absent, absent)


@dataclass
class Exchange:
    """A running exchange and where to find it."""

    port: int
    simulator: Simulator
    said: list[dict[str, Any]] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop | None = None
    task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Cancel it, as a signal would."""
        self.loop.call_soon_threadsafe(self.task.cancel)

    def wait_for(self, word: str) -> dict[str, Any]:
        """What it says under this word, once it has said it."""
        deadline = time.monotonic() + PATIENCE_S
        while not any(word in said for said in self.said) and time.monotonic() < deadline:
            time.sleep(0.002)
        return next(said for said in self.said if word in said)

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


class Attached:
    """A client of the control socket, driven by hand."""

    def __init__(self, exchange: Exchange, name: str = "runner", key: str = "") -> None:
        self._open = contextlib.ExitStack()
        self._socket: ClientConnection = self._open.enter_context(connect(f"{exchange.ws}/control"))
        self._send({"action": "attach", "name": name, **({"key": key} if key else {})})
        self.attached = self._receive()
        self.seq = 0

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.send(orjson.dumps(message).decode())

    def _receive(self, timeout: float = PATIENCE_S) -> dict[str, Any]:
        return orjson.loads(self._socket.recv(timeout=timeout))

    def done(self, *timers: int, frames: int | None = None) -> None:
        """Say done with the last event."""
        self._send({"done": self.seq, "timers": list(timers)} | ({"frames": {"trade_updates": frames}} if frames is not None else {}))

    def event(self, timeout: float = PATIENCE_S) -> dict[str, Any]:
        """The next event."""
        event = self._receive(timeout)
        self.seq = event["event"]
        return event

    def next(self, *timers: int, frames: int | None = None) -> dict[str, Any]:
        """Done, then the next event."""
        self.done(*timers, frames=frames)
        return self.event()

    def until(self, kind: str) -> dict[str, Any]:
        """Done with everything up to the next event of this kind."""
        while (event := self.next())["kind"] != kind:
            pass
        return event

    def detach(self) -> None:
        """Say goodbye."""
        self._send({"action": "detach"})
        assert self._receive() == {"detached": True}

    def leave(self) -> None:
        """Close the connection without a word, as a killed process would."""
        self._open.close()


def run_exchange(run: Run, exchange: Exchange, listener: Any) -> None:
    """Body of the exchange's thread."""

    async def main() -> None:
        exchange.loop, exchange.task = asyncio.get_running_loop(), asyncio.current_task()
        await serve(run, exchange.simulator, listener, exchange.said.append)

    try:
        with listener, contextlib.suppress(asyncio.CancelledError):
            asyncio.run(main())
    except TradingError as error:
        exchange.said.append({"failed": str(error)})
