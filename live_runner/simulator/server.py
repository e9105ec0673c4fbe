"""One simulated exchange as a server: builds the rooms, listens on loopback, plays the sessions, writes the closing state."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from live_runner.simulator.event_log import EventLog
from live_runner.simulator.faults import Faults, Rule
from live_runner.simulator.gate import Gate
from live_runner.simulator.lockstep import BEFORE_OPEN, Conductor
from live_runner.simulator.market_data import DataDesk
from live_runner.simulator.push import Hub
from live_runner.simulator.rest import TradingDesk, routes
from live_runner.simulator.settings import VenueSettings
from live_runner.simulator.streams import Streams
from live_runner.simulator.tape import Tape
from live_runner.simulator.venue import Venue
from live_runner.simulator.wire import Json, money
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Run:
    """What is played, for whom. first, last: dates, both included. speed None is lock-step. stay: keep serving after the end."""

    settings: VenueSettings
    first: date
    last: date
    speed: float | None = None
    clients: int = 1
    port: int = 0
    stay: bool = False
    rules: tuple[Rule, ...] = ()
    state: Path | None = None
    event_log: Path | None = None


class Simulator:
    """The assembled exchange. `app` is its ASGI application, `conductor` moves time, `venue` holds the truth."""

    def __init__(self, run: Run, tape: Tape, calendar: MarketCalendar) -> None:
        sessions = [int(session) for session in calendar.sessions(run.first, run.last)]
        if not any(tape.starts(session, calendar.open_ns(session), calendar.close_ns(session)) for session in sessions):
            raise InputError(f"no {tape.timeframe} bars from {run.first} to {run.last}", "simulator", "choose dates that the bars cover")
        self.log = EventLog(run.event_log)
        faults = Faults(run.rules, run.settings.seed)
        hub = Hub(faults, lambda point, kind: self.log.add("fault", at=point, kind=kind))
        start = calendar.open_ns(sessions[0]) - BEFORE_OPEN
        self.venue = Venue(run.settings, tape, start, sessions[0], self.log, hub.trade_update)
        self.conductor = Conductor(self.venue, hub, calendar, sessions, run.speed, run.clients)
        gate = Gate(self.venue, faults, self.conductor.refresh)
        streams = Streams(hub, gate.accepts)
        self.app = Starlette(
            routes=[
                *routes(gate, TradingDesk(self.venue, calendar), DataDesk(self.venue)),
                WebSocketRoute("/v2/iex", streams.market_data),
                WebSocketRoute("/v2/sip", streams.market_data),
                WebSocketRoute("/stream", streams.trade_updates),
                WebSocketRoute("/control", self.conductor.control),
                Route("/{path:path}", _no_endpoint, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]),
            ]
        )


async def _no_endpoint(_: Request) -> Response:
    return Response(b'{"code":40410000,"message":"endpoint not found"}', 404, media_type="application/json")


def bind(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 picks a free one. InputError where the port is taken."""
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for the client's delayed acknowledgement
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        raise InputError(
            f"cannot listen on port {port}: {error}", LOOPBACK, "stop what uses it, or choose another --port (0 picks a free one)"
        ) from error
    return listener


def starting_account(path: Path | None, cash_cents: int) -> tuple[int, int]:
    """(number of the account, cents it starts with): the one behind the last account in the state file, or 1 with `cash_cents`."""
    if path is None or not path.exists():
        return 1, cash_cents
    try:
        closed = orjson.loads(path.read_bytes())
        dollars, _, cents = str(closed["closing_cash"]).partition(".")
        found, number = int(dollars) * 100 + int(cents), int(closed["account"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"not a simulator state: {error}", str(path), "delete it to start with --cash") from error
    if found <= 0:
        raise InputError(f"the last account closed with {found / 100}", str(path), "delete it to start with --cash")
    return number + 1, found


def open_account(path: Path, settings: VenueSettings) -> None:
    """Note in the state file that this account's number is used, so a run that is interrupted never shares its ids with the next."""
    cash = money(settings.cash_cents)
    write_state(path, {"account": settings.account, "cash": cash, "closing_cash": cash, "positions": {}, "finished": False})


def write_state(path: Path, state: Json) -> None:
    """Write atomically: a reader sees the old file or the new one."""
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(orjson.dumps(state, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


async def serve(run: Run, simulator: Simulator, listener: socket.socket, say: Callable[[Json], None]) -> None:
    """Open the account in the state file, then serve: until a signal, or until the end was played and every client has left (`stay`: not).

    `say` is told {"listening": port} and at the end the closing state, which also goes to the state file.
    """
    config = uvicorn.Config(
        simulator.app,
        ws="websockets-sansio",
        log_level="warning",
        lifespan="off",
        timeout_keep_alive=3600,  # a client's pooled connection must not die between two requests
        timeout_graceful_shutdown=2,
        ws_ping_interval=None,
        ws_max_size=2**24,
    )
    server = uvicorn.Server(config)
    if run.state is not None:
        open_account(run.state, run.settings)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    say({"listening": listener.getsockname()[1]})
    playing = asyncio.create_task(_play(run, simulator, say))
    try:
        await asyncio.wait((serving, playing), return_when=asyncio.FIRST_COMPLETED)
        if playing.done():
            playing.result()
    finally:
        playing.cancel()
        server.should_exit = True
        with suppress(asyncio.CancelledError):
            await serving
        simulator.log.close()


async def _play(run: Run, simulator: Simulator, say: Callable[[Json], None]) -> None:
    await simulator.conductor.run()
    state = simulator.venue.account.state() | {"last_session": run.last.isoformat(), "finished": True}
    if run.state is not None:
        write_state(run.state, state)
    simulator.log.flush()
    say({"ended": state})
    if run.stay:
        await asyncio.Event().wait()
    await simulator.conductor.until_left()
