"""Both of alpaca-py's sockets as tasks of one loop: they only put raw messages into the inbox. The one file that touches their insides.

alpaca-py reconnects by itself; `connections` counts how often each stream is listening, so the runner sees a gap and runs its gate again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, ClassVar

from alpaca.data.enums import DataFeed
from alpaca.data.live import StockDataStream
from alpaca.trading.stream import TradingStream

from live_runner.clock import Inbox
from trading_platform.contracts.errors import TransientError

TRADE_UPDATES = "trade_updates"
DATA = "data"
LISTEN_TIMEOUT_S = 10.0
RECONNECT_TIMEOUT_S = 40.0  # longer than alpaca-py's longest pause between two tries
RECONNECT_POLL_S = 0.02
MAX_FRAME = 8 * 1024 * 1024

logging.getLogger("alpaca").setLevel(logging.CRITICAL)  # its log repeats what the runner's own state says, with tracebacks


class _Watched:
    """In front of one of alpaca-py's stream classes: its life as the runner needs it.

    listening: set once the venue confirmed the subscription, cleared while it is not. connections: how often that has happened.
    """

    NAME: ClassVar[str]
    _ws: Any

    def _watch(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._task: asyncio.Task[None] | None = None
        self.listening = asyncio.Event()
        self.connections = 0

    def _confirmed(self) -> None:
        self.connections += 1
        self.listening.set()

    async def _connect(self) -> None:
        self._inbox.restart_count(self.NAME)
        await super()._connect()  # type: ignore[misc]

    async def close(self) -> None:
        self.listening.clear()
        await super().close()  # type: ignore[misc]

    async def start(self) -> None:
        """Run the stream and wait until it listens. TransientError when it does not within 10 s."""
        self._task = asyncio.create_task(self._run_forever())  # type: ignore[attr-defined]
        try:
            await asyncio.wait_for(self.listening.wait(), LISTEN_TIMEOUT_S)
        except TimeoutError:
            fix = "check the address, the keys and other open connections"
            raise TransientError(f"the {self.NAME} socket does not come up", "live_runner.feed", fix) from None

    @property
    def alive(self) -> bool:
        """The socket is open and subscribed."""
        return self.listening.is_set() and self._ws is not None and bool(self._ws.open)

    async def back(self) -> bool:
        """Wait for alpaca-py's own reconnect, for a bounded time; whether it came."""
        deadline = asyncio.get_running_loop().time() + RECONNECT_TIMEOUT_S
        while not self.alive and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(RECONNECT_POLL_S)
        return self.alive

    async def finish(self) -> None:
        """Close the socket and end the task."""
        if self._task is None:
            return
        await self.stop_ws()  # type: ignore[attr-defined]
        await self.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class TradeUpdates(_Watched, TradingStream):
    """trade_updates, raw."""

    NAME = TRADE_UPDATES

    def __init__(self, key: str, secret: str, mode: str, url: str, inbox: Inbox) -> None:
        super().__init__(key, secret, paper=mode == "paper", raw_data=True, url_override=url)
        self._watch(inbox)
        self.subscribe_trade_updates(self._deliver)

    async def _deliver(self, message: dict[str, Any]) -> None:
        if message.get("data") is not None:  # a null update has been seen on the wire
            self._inbox.put(self.NAME, message["data"])
        self._inbox.count(self.NAME)

    async def _dispatch(self, msg: dict[str, Any]) -> None:
        if msg.get("stream") == "listening":
            self._confirmed()
        await super()._dispatch(msg)


class BarStream(_Watched, StockDataStream):
    """Minute bars and their corrections, raw."""

    NAME = DATA

    def __init__(self, key: str, secret: str, feed: str, url: str, symbols: Sequence[str], inbox: Inbox) -> None:
        limits = {"ping_interval": 10, "ping_timeout": 180, "max_queue": 1024, "max_size": MAX_FRAME}
        super().__init__(key, secret, raw_data=True, feed=DataFeed(feed), url_override=url or None, websocket_params=limits)
        self._watch(inbox)
        self.subscribe_bars(self._deliver, *symbols)
        self.subscribe_updated_bars(self._deliver, *symbols)

    async def _deliver(self, message: Any) -> None:
        self._inbox.put(self.NAME, message)
        self._inbox.count(self.NAME)

    async def _dispatch(self, msg: dict[str, Any]) -> None:
        if msg.get("T") == "subscription":
            self._confirmed()
        await super()._dispatch(msg)
