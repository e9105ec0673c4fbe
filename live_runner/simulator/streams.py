"""Both websockets as Alpaca speaks them: market data (/v2/iex, /v2/sip; msgpack) and order updates (/stream; JSON in binary frames)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import msgpack
import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from live_runner.simulator.push import CHANNELS, Hub, PushSocket, packed
from live_runner.simulator.wire import Json

AUTH_SECONDS = 10.0
ERRORS = {
    400: "invalid syntax",
    401: "not authenticated",
    402: "auth failed",
    403: "already authenticated",
    404: "auth timeout",
    406: "connection limit exceeded",
    410: "invalid subscribe action",
}
KeyCheck = Callable[[str, str], bool]


class Streams:
    """The endpoints. `accepts(key, secret)` says whether a pair of keys is known."""

    def __init__(self, hub: Hub, accepts: KeyCheck) -> None:
        self._hub = hub
        self._accepts = accepts

    async def market_data(self, websocket: WebSocket) -> None:
        """/v2/iex and /v2/sip: greeting, auth within 10 s, then subscribe and unsubscribe; one connection per key."""
        await websocket.accept()
        socket = PushSocket("data", "", websocket)
        socket.say(packed({"T": "success", "msg": "connected"}))
        await self._serve(socket, websocket, self._data_talk)

    async def trade_updates(self, websocket: WebSocket) -> None:
        """/stream: authenticate, then listen; no greeting, no replay."""
        await websocket.accept()
        await self._serve(PushSocket("trade_updates", "", websocket), websocket, self._updates_talk)

    async def _serve(self, socket: PushSocket, websocket: WebSocket, talk: Callable[[PushSocket, WebSocket], Awaitable[None]]) -> None:
        writer = asyncio.create_task(socket.write())
        try:
            await talk(socket, websocket)
        except WebSocketDisconnect:
            pass  # the client left, which is its right
        finally:
            self._hub.close(socket)
            socket.hang_up()
            with suppress(asyncio.CancelledError):
                await writer

    async def _data_talk(self, socket: PushSocket, websocket: WebSocket) -> None:
        try:
            first = await asyncio.wait_for(_unpacked(websocket), AUTH_SECONDS)
        except TimeoutError:
            socket.say(_error(404))
            return
        if first.get("action") != "auth":
            socket.say(_error(401))
            return
        key = str(first.get("key", ""))
        if not self._accepts(key, str(first.get("secret", ""))):
            socket.say(_error(402))
            return
        if self._hub.taken("data", key):
            socket.say(_error(406))
            return
        socket.key = key
        self._hub.open(socket)
        socket.say(packed({"T": "success", "msg": "authenticated"}))
        while True:
            self._subscribe(socket, await _unpacked(websocket))

    def _subscribe(self, socket: PushSocket, message: Json) -> None:
        action = message.get("action")
        if action == "auth":
            socket.say(_error(403))
            return
        wanted = {name: message[name] for name in CHANNELS if name in message}
        if action not in ("subscribe", "unsubscribe") or not all(isinstance(names, list) for names in wanted.values()):
            socket.say(_error(410 if action in ("subscribe", "unsubscribe") else 400))
            return
        for channel, names in wanted.items():
            kept = [name for name in socket.channels[channel] if name not in names]
            socket.channels[channel] = sorted({*kept, *names}) if action == "subscribe" else kept
        socket.say(packed({"T": "subscription", **socket.channels}))

    async def _updates_talk(self, socket: PushSocket, websocket: WebSocket) -> None:
        while True:
            message = await _loaded(websocket)
            action, data = message.get("action"), message.get("data") or message
            if action in ("authenticate", "auth"):
                key, secret = (str(data.get(new) or data.get(old) or "") for new, old in (("key_id", "key"), ("secret_key", "secret")))
                allowed = self._accepts(key, secret)
                socket.key = key if allowed else ""
                status = "authorized" if allowed else "unauthorized"
                socket.say(orjson.dumps({"stream": "authorization", "data": {"status": status, "action": "authenticate"}}))
            elif action == "listen":
                streams = [name for name in data.get("streams", []) if name == "trade_updates"] if socket.key else []
                self._hub.close(socket)
                if streams:
                    self._hub.open(socket)
                socket.say(orjson.dumps({"stream": "listening", "data": {"streams": streams}}))
            else:
                socket.say(orjson.dumps({"stream": "listening", "data": {"error": f"unknown action {action}"}}))


def _error(code: int) -> bytes:
    return packed({"T": "error", "code": code, "msg": ERRORS[code]})


async def _frame(websocket: WebSocket) -> bytes:
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    raw = message.get("bytes")
    return bytes(raw) if raw is not None else str(message.get("text") or "").encode()


async def _unpacked(websocket: WebSocket) -> Json:
    """The next message, msgpack or JSON; {} where it is neither."""
    raw = await _frame(websocket)
    return _object(msgpack.unpackb, raw) or _object(orjson.loads, raw)


async def _loaded(websocket: WebSocket) -> Json:
    return _object(orjson.loads, await _frame(websocket))


def _object(decode: Callable[[bytes], Any], raw: bytes) -> Json:
    try:
        value = decode(raw)
    except (ValueError, msgpack.UnpackException):
        return {}
    return value if isinstance(value, dict) else {}
