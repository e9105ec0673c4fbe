"""Who moves time: the conductor walks through the market's events and the clients' timers, and waits for every attached client in between.

Wire of the control socket: `docs/simulator.md`. Clients get their turn one after another in order of their names, so what two clients do
at one instant happens in the same order in every run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from live_runner.clock import WallClock
from live_runner.simulator.market_data import bar_messages
from live_runner.simulator.push import Hub
from live_runner.simulator.venue import Venue
from live_runner.simulator.wire import Json, day_text
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError

MINUTE = 60_000_000_000
BEFORE_OPEN = 30 * MINUTE
AFTER_CLOSE = 60 * MINUTE
MOST_TIMERS_AT_ONE_INSTANT = 10_000


@dataclass(frozen=True, slots=True)
class MarketEvent:
    """Something the market does at an instant. `act` does it and returns the event's detail, None when nobody needs to hear of it."""

    at: int
    kind: str
    act: Callable[[], Json | None]


@dataclass(slots=True)
class Client:
    """An attached client: `told` the current event, `done` with it, having `seen` so many trade updates, and waiting for `timers`."""

    name: str
    key: str
    socket: WebSocket | None
    told: bool = True
    done: bool = False
    seen: int = 0
    timers: list[int] = field(default_factory=list)


class Conductor:
    """speed: virtual seconds per real second, None for lock-step. clients: how many must have attached before time starts."""

    def __init__(self, venue: Venue, hub: Hub, calendar: MarketCalendar, sessions: list[int], speed: float | None, clients: int) -> None:
        self._venue = venue
        self._hub = hub
        self._calendar = calendar
        self._sessions = sessions
        self._speed = speed
        self._expected = clients
        self._clients: dict[str, Client] = {}
        self._seq = 0
        self._event: Json = {"event": 0, "now": venue.now, "kind": "start", "detail": {}}
        self._changed = asyncio.Event()
        self._wall = WallClock()
        self._anchor = (self._wall.now_ns(), venue.now)
        self._next_at = venue.now

    # ------------------------------------------------------------------ time

    def refresh(self) -> None:
        """Between two events of a paced run time flows: bring the venue's up to date."""
        if self._speed is not None:
            wall, virtual = self._anchor
            self._venue.now = max(self._venue.now, min(self._next_at, virtual + int((self._wall.now_ns() - wall) * self._speed)))

    async def run(self) -> None:
        """Play every session, then the end. Returns when every client is done with the end."""
        await self._until(lambda: len(self._clients) >= self._expected)
        await self._settle()
        self._anchor = (self._wall.now_ns(), self._venue.now)
        stalled = 0
        for event in self._market():
            while (timer := self._next_timer()) is not None and timer < event.at:
                stalled = stalled + 1 if timer <= self._venue.now else 0
                if stalled > MOST_TIMERS_AT_ONE_INSTANT:
                    raise InputError(f"clients ask for the same timer {stalled} times", f"{timer} ns", "ask for a later one, or for none")
                await self._step(MarketEvent(max(timer, self._venue.now), "timer", dict))
            await self._step(event)

    def _next_timer(self) -> int | None:
        return min((at for client in self._clients.values() for at in client.timers), default=None)

    async def _step(self, event: MarketEvent) -> None:
        self._next_at = event.at
        if self._speed is not None:
            wall, virtual = self._anchor
            await self._wall.sleep_until(wall + int((event.at - virtual) / self._speed))
        self._seq += 1
        self._venue.begin(self._seq, event.at)
        detail = event.act()
        if detail is None:
            return
        self._venue.log.add("event", kind=event.kind, detail=detail)
        self._event = {"event": self._seq, "now": event.at, "kind": event.kind, "detail": detail}
        for client in self._clients.values():
            client.told = client.done = False
        await self._settle()
        self._venue.log.flush()

    def _market(self) -> Iterator[MarketEvent]:
        calendar, venue = self._calendar, self._venue
        for session in self._sessions:
            opens, closes = calendar.open_ns(session), calendar.close_ns(session)
            yield MarketEvent(opens, "open", partial(self._open, session))
            for start in venue.tape.starts(session, opens, closes):
                daily = venue.tape.timeframe == "1Day"
                end = closes if daily else start + MINUTE
                yield MarketEvent(end, "fills", partial(self._fills, start))
                if not daily:
                    yield MarketEvent(end, "bars", partial(self._bars, start))
            yield MarketEvent(closes, "close", partial(self._close, session))
        yield MarketEvent(calendar.close_ns(self._sessions[-1]) + AFTER_CLOSE, "end", lambda: {"sessions": len(self._sessions)})

    def _open(self, session: int) -> Json:
        previous, following = self._calendar.previous_session(session), self._calendar.next_session(session)
        actions = self._venue.open_session(session, previous, following)
        return {"session": self.session_json(session), "actions": actions}

    def _fills(self, start: int) -> Json | None:
        fills = self._venue.match(start)
        return {"fills": fills} if fills else None

    def _bars(self, start: int) -> Json | None:
        """Publish a minute. One in which nothing but an index printed is no row: its message waits for the next event."""
        messages = bar_messages(self._venue.tape, start, "b")
        self._hub.market_data(messages)
        return {"start": start, "bars": len(messages)} if self._venue.tape.at(start) else None

    def _close(self, session: int) -> Json:
        if self._venue.tape.timeframe == "1Day":
            for start in self._venue.tape.starts(session, 0, 0):
                self._hub.market_data(bar_messages(self._venue.tape, start, "d"))
        return {"session": day_text(session), "expired": self._venue.close_session()}

    def session_json(self, session: int) -> Json:
        """What a client is told about a session."""
        opens, closes = self._calendar.open_ns(session), self._calendar.close_ns(session)
        return {"date": day_text(session), "open": opens, "close": closes, "timeframe": self._venue.tape.timeframe}

    # --------------------------------------------------------------- clients

    async def control(self, websocket: WebSocket) -> None:
        """/control: attach, done, detach; JSON in text frames."""
        await websocket.accept()
        client: Client | None = None
        try:
            while True:
                message = _object(await _text(websocket))
                if message.get("action") == "attach" and client is None:
                    client = await self._attach(message, websocket)
                elif message.get("action") == "detach" and client is not None:
                    self._clients.pop(client.name, None)
                    client = None
                    await websocket.send_text('{"detached":true}')
                elif "done" in message and client is not None:
                    self._done(client, message)
                else:
                    await websocket.send_text('{"error":"attach first, then say done; see docs/simulator.md"}')
                self._changed.set()
        except WebSocketDisconnect:
            pass  # the client is gone: time waits for it to come back
        finally:
            if client is not None:
                client.socket = None
            self._changed.set()

    async def _attach(self, message: Json, websocket: WebSocket) -> Client | None:
        name, known = str(message.get("name", "")), self._clients.get(str(message.get("name", "")))
        if not name or (known is not None and known.socket is not None):
            await websocket.send_text(
                orjson.dumps({"attached": False, "error": f"the name {name!r} is empty or attached already"}).decode()
            )
            return None
        client = Client(name, str(message.get("key", "")), websocket, told=self._seq == 0)
        self._clients[name] = client
        answer = {"attached": True, "now": self._venue.now, "session": self.session_json(self._venue.session)}
        await websocket.send_text(orjson.dumps(answer).decode())
        return client

    def _done(self, client: Client, message: Json) -> None:
        """Believe a `done` only if it is about this event and its sender has seen every update pushed to it; otherwise tell it again."""
        if message["done"] != self._seq:
            return
        pushed = self._hub.counters(client.key)["trade_updates"]
        client.seen = int((message.get("frames") or {}).get("trade_updates", pushed))
        client.timers = [int(at) for at in message.get("timers", [])]
        client.done = True
        client.told = False

    def _whose_turn(self) -> Client | None:
        over = self._event["kind"] == "end"
        for _, client in sorted(self._clients.items()):
            if over and client.socket is None:
                continue  # it has gone home
            if not client.done or client.seen < self._hub.counters(client.key)["trade_updates"]:
                return client
        return None

    async def _settle(self) -> None:
        """Give each client its turn until all are done and none has been sent anything since.

        When the last one detached before the end, time waits for the next one, which is told the same event.
        """
        while True:
            while (client := self._whose_turn()) is not None:
                if client.socket is not None and not client.told:
                    await self._tell(client)
                self._changed.clear()
                await self._changed.wait()
            if self._clients or not self._expected or self._event["kind"] == "end":
                return
            await self._until(lambda: bool(self._clients))

    async def _tell(self, client: Client) -> None:
        again = {"again": True} if client.done else {}
        event = self._event | {"detail": {**self._event["detail"], "frames": self._hub.counters(client.key), **again}}
        client.told, client.done = True, False
        try:
            assert client.socket is not None
            await client.socket.send_text(orjson.dumps(event).decode())
        except (WebSocketDisconnect, RuntimeError):
            client.socket = None  # it comes back with `attach`

    async def until_left(self) -> None:
        """Return when no client is connected any more."""
        await self._until(lambda: all(client.socket is None for client in self._clients.values()))

    async def _until(self, met: Callable[[], bool]) -> None:
        while not met():
            self._changed.clear()
            await self._changed.wait()


async def _text(websocket: WebSocket) -> str:
    """The next text frame. A binary one is no client of ours: it counts as gone."""
    try:
        return await websocket.receive_text()
    except KeyError as error:
        raise WebSocketDisconnect from error


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
