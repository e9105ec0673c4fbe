"""What the venue sends without being asked: the open sockets of both streams, what each has been sent, and the faults on the way.

A socket's `pushed` counts the messages since it was opened: the control socket tells it to its client, which then knows when its inbox is
complete. A message that a fault dropped was never pushed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgpack
import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from live_runner.simulator.faults import Faults
from live_runner.simulator.wire import NS, Json

Stream = Literal["data", "trade_updates"]
CHANNELS = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds", "corrections", "cancelErrors")
BAR_CHANNELS = {"b": "bars", "d": "dailyBars", "q": "quotes"}


def packed(message: Any) -> bytes:
    """One market-data frame: an array of one message, `t` (UTC ns) as a msgpack timestamp."""
    if "t" in message:
        seconds, nanoseconds = divmod(message["t"], NS)
        message = message | {"t": msgpack.Timestamp(seconds, nanoseconds)}
    return bytes(msgpack.packb([message]))


class PushSocket:
    """One client's connection to one stream. Messages queue here, so a slow reader never holds up the venue."""

    def __init__(self, stream: Stream, key: str, websocket: WebSocket) -> None:
        self.stream = stream
        self.key = key
        self.pushed = 0
        self.muted = False
        self.channels: dict[str, list[str]] = {name: [] for name in CHANNELS}
        self._websocket = websocket
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def wants(self, channel: str, symbol: str) -> bool:
        """Subscribed to this symbol, or to all."""
        names = self.channels[channel]
        return symbol in names or "*" in names

    def say(self, frame: bytes) -> None:
        """Queue a control frame (not counted)."""
        if not self.muted:
            self._queue.put_nowait(frame)

    def push(self, frame: bytes) -> None:
        """Queue and count one message."""
        if not self.muted:
            self.pushed += 1
            self._queue.put_nowait(frame)

    def hang_up(self) -> None:
        """Close the connection behind what is queued."""
        self._queue.put_nowait(None)

    async def write(self) -> None:
        """Send what is queued until the connection ends."""
        try:
            while (frame := await self._queue.get()) is not None:
                await self._websocket.send_bytes(frame)
            if self._websocket.application_state is WebSocketState.CONNECTED:
                await self._websocket.close(1001)
        except (WebSocketDisconnect, RuntimeError):
            return  # the reader went away; its own loop notices and leaves


class Hub:
    """All open sockets. `on_fault(point, kind)` is told of each fault."""

    def __init__(self, faults: Faults, on_fault: Callable[[str, str], None]) -> None:
        self._faults = faults
        self._on_fault = on_fault
        self._sockets: list[PushSocket] = []

    def open(self, socket: PushSocket) -> None:
        """A client is listening."""
        self._sockets.append(socket)

    def close(self, socket: PushSocket) -> None:
        """It is not any more."""
        if socket in self._sockets:
            self._sockets.remove(socket)

    def taken(self, stream: Stream, key: str) -> bool:
        """Whether this key already has a connection to this stream."""
        return any(s.stream == stream and s.key == key for s in self._sockets)

    def counters(self, key: str = "") -> dict[str, int]:
        """Messages pushed on the newest open socket of each stream (of `key`, or of anyone if empty); 0 where none is open."""
        counts = {"data": 0, "trade_updates": 0}
        for socket in self._sockets:
            if key in ("", socket.key):
                counts[socket.stream] = socket.pushed
        return counts

    def trade_update(self, data: Json) -> None:
        """Send one order update to everyone who listens, as JSON in a binary frame."""
        frame = orjson.dumps({"stream": "trade_updates", "data": data})
        self._send("trade_update", [s for s in self._sockets if s.stream == "trade_updates"], frame)

    def market_data(self, messages: Iterable[Json]) -> int:
        """Send bars or quotes (wire form, `t` as UTC ns) to their subscribers, in order; returns how many went out."""
        sent = 0
        for message in messages:
            channel = BAR_CHANNELS[message["T"]]
            listeners = [s for s in self._sockets if s.stream == "data" and s.wants(channel, message["S"])]
            if listeners:
                self._send("bar", listeners, packed(message))
                sent += 1
        return sent

    def _send(self, point: str, listeners: list[PushSocket], frame: bytes) -> None:
        kind = self._faults.at(point)
        if kind is not None:
            self._on_fault(point, kind)
        for socket in listeners:
            if kind == "mute":
                socket.muted = True
            elif kind == "disconnect":
                socket.hang_up()
                self.close(socket)
            elif kind != "drop_update":
                socket.push(frame)
            if kind == "duplicate_update":
                socket.push(frame)
