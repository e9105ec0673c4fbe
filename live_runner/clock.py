"""The only reader of time. Everything else is given a clock.

A `Clock` says what time it is and sleeps; a `Pace` also says when to wake: at the next timer, at something new in the inbox, or, in
lock-step with the simulator, at its next event (DESIGN 9). No timer or event carries work by itself: whoever wakes looks at the inbox and
at its timers, so an event that is told twice does nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from trading_platform.contracts.errors import InputError, TransientError

SECOND = 1_000_000_000
LONGEST_WAIT_S = 1.0  # a wall-clock runner looks for commands and requests at least this often
INBOX_PATIENCE_S = 10.0  # real seconds to wait for frames the simulator says it has pushed


class Clock(Protocol):
    """Time as given by the outside, UTC ns."""

    def now_ns(self) -> int: ...

    async def sleep_until(self, ns: int) -> None: ...


@dataclass(slots=True)
class Inbox:
    """What the sockets delivered and nobody has handled yet, in order of arrival: (stream, message).

    `received` counts messages per stream since its connection was made, `arrived` is set at each delivery.
    """

    messages: deque[tuple[str, Any]] = field(default_factory=deque)
    received: dict[str, int] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, stream: str, message: Any) -> None:
        self.messages.append((stream, message))
        self.arrived.set()

    def count(self, stream: str) -> None:
        self.received[stream] = self.received.get(stream, 0) + 1
        self.arrived.set()

    def restart_count(self, stream: str) -> None:
        """A new connection counts from zero, at both ends."""
        self.received[stream] = 0

    def take(self) -> tuple[str, Any] | None:
        """The oldest message, or None; clears `arrived` when the box is empty."""
        if self.messages:
            return self.messages.popleft()
        self.arrived.clear()
        return None


@dataclass(frozen=True, slots=True)
class Wake:
    """Why the loop woke: an event's kind (`open`, `bars`, ...), `timer` or `inbox`; `end` asks it to stop."""

    kind: str
    now: int
    detail: Mapping[str, Any] = field(default_factory=dict)


class Pace(Clock, Protocol):
    """A clock that drives a loop."""

    async def start(self) -> None: ...

    async def next(self, timers: Sequence[int], inbox: Inbox) -> Wake:
        """Wait for the next thing to do. `timers`: instants (UTC ns) at which the caller wants to be woken."""
        ...

    async def close(self) -> None: ...


def stopwatch_ns() -> int:
    """A monotonic reading for durations, never for instants."""
    return time.perf_counter_ns()


class WallClock:
    """The computer's clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def _wait_s(self, ns: int) -> float:
        """Real seconds until an instant."""
        return (ns - self.now_ns()) / SECOND

    async def sleep_until(self, ns: int) -> None:
        while (left := self._wait_s(ns)) > 0:
            await asyncio.sleep(left)

    async def start(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do."""

    async def next(self, timers: Sequence[int], inbox: Inbox) -> Wake:
        if inbox.messages:
            return Wake("inbox", self.now_ns())
        wait = min([LONGEST_WAIT_S, *(self._wait_s(at) for at in timers)])
        if wait > 0:
            try:
                await asyncio.wait_for(inbox.arrived.wait(), wait)
                return Wake("inbox", self.now_ns())
            except TimeoutError:
                pass
        return Wake("timer", self.now_ns())


class PacedClock(WallClock):
    """A clock that runs `speed` times as fast as the computer's, set once to what `ask` says: for a simulator that runs at that speed."""

    def __init__(self, speed: float, ask: Callable[[], Awaitable[int]]) -> None:
        self._speed, self._ask = speed, ask
        self._real, self._virtual = 0, 0

    def now_ns(self) -> int:
        return self._virtual + int((time.time_ns() - self._real) * self._speed)

    def _wait_s(self, ns: int) -> float:
        return super()._wait_s(ns) / self._speed

    async def start(self) -> None:
        """Set the clock. TransientError where nobody answers."""
        # As if the answer were as old as the question: ahead of the venue by the journey, never behind, so no bar comes before its end.
        self._real = time.time_ns()
        self._virtual = await self._ask()


class LockstepClock:
    """The simulator's clock, over its control socket: time moves only when this client says it is done.

    `url`: ws://host:port/control. Time is that of the last event. A `sleep_until` becomes a timer of the next `done`.
    """

    def __init__(self, url: str, key: str, name: str = "runner") -> None:
        self._url = url
        self._key = key
        self._name = name
        self._socket: Any = None
        self._now = 0
        self._event = 0
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self._now

    async def sleep_until(self, ns: int) -> None:
        if ns > self._now:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append((ns, future))
            await future

    async def start(self) -> None:
        """Attach. TransientError where no simulator answers, InputError where it refuses."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        try:
            self._socket = await connect(self._url, max_size=None, ping_interval=None)
            await self._socket.send(orjson.dumps({"action": "attach", "name": self._name, "key": self._key}).decode())
            answer = orjson.loads(await self._socket.recv())
        except (OSError, WebSocketException) as error:
            raise TransientError(
                f"the simulator's control socket does not answer: {error}", self._url, "start the simulator first"
            ) from error
        if not answer.get("attached"):
            raise InputError(f"the simulator refused to attach: {answer}", self._url, "use another client name, or restart the simulator")
        self._now = int(answer["now"])

    async def next(self, timers: Sequence[int], inbox: Inbox) -> Wake:
        wanted = sorted({at for at in timers} | {at for at, _ in self._sleepers})
        done = {"done": self._event, "timers": wanted, "frames": dict(inbox.received)}
        event = await self._exchange(done)
        self._event, self._now = int(event["event"]), int(event["now"])
        for at, future in self._sleepers:
            if at <= self._now and not future.done():
                future.set_result(None)
        self._sleepers = [(at, future) for at, future in self._sleepers if at > self._now]
        await _wait_for_frames(inbox, event.get("detail", {}).get("frames", {}))
        return Wake(str(event["kind"]), self._now, event.get("detail", {}))

    async def _exchange(self, done: Mapping[str, Any]) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed

        try:
            await self._socket.send(orjson.dumps(done).decode())
            return dict(orjson.loads(await self._socket.recv()))
        except (OSError, ConnectionClosed) as error:
            raise TransientError(f"the simulator went away: {error}", self._url, "restart it, then the runner") from error

    async def close(self) -> None:
        """Say done with the last event and leave, so that time need not wait for this client."""
        from websockets.exceptions import ConnectionClosed

        if self._socket is not None:
            with contextlib.suppress(OSError, ConnectionClosed):  # it may have gone first
                await self._socket.send(orjson.dumps({"done": self._event, "timers": []}).decode())
                await self._socket.send(b'{"action":"detach"}'.decode())
            await self._socket.close()
            self._socket = None


async def _wait_for_frames(inbox: Inbox, pushed: Mapping[str, int]) -> None:
    """Wait until every frame the simulator counted has been read from its own socket."""
    deadline = time.monotonic() + INBOX_PATIENCE_S
    while any(inbox.received.get(stream, 0) < count for stream, count in pushed.items()):
        left = deadline - time.monotonic()
        if left <= 0:
            return  # the stream was lost: its reconnect gate fetches what is missing
        inbox.arrived.clear()  # frames already in the box keep their place; only news wakes us
        try:
            await asyncio.wait_for(inbox.arrived.wait(), left)
        except TimeoutError:
            return
