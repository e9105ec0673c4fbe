"""The operator at the simulator's control socket: sees every event in lock-step and acts between two of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from trading_platform.contracts.errors import TransientError

NAME = "operator"  # clients get their turn in the order of their names: the operator acts before the runner hears of the event


class Operator:
    """Attaches as a client and calls `act` with each event; time waits until it returns. Runs in a thread of its own."""

    def __init__(self, port: int, key: str, act: Callable[[Mapping[str, Any]], None]) -> None:
        self._url = f"ws://127.0.0.1:{port}/control"
        self._key = key
        self._act = act
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)

    def start(self) -> None:
        """Attach and begin to listen."""
        self._thread.start()

    def finish(self, seconds: float) -> None:
        """Wait for the last event. Raises what `act` raised, or TransientError when the socket failed."""
        self._thread.join(timeout=seconds)
        if self._failure is not None:
            raise self._failure
        if self._thread.is_alive():
            raise TransientError("the simulator has not ended", self._url, "read its log")

    def _run(self) -> None:
        try:
            with connect(self._url) as socket:
                socket.send(json.dumps({"action": "attach", "name": NAME, "key": self._key}))
                socket.send(json.dumps({"done": 0, "timers": []}))  # ready: time begins when every client has said so
                for frame in socket:
                    message = json.loads(frame)
                    if "event" not in message:
                        continue
                    if not message["detail"].get("again"):
                        self._act(message)
                    socket.send(json.dumps({"done": message["event"], "timers": []}))
                    if message["kind"] == "end":
                        return
        except (WebSocketException, OSError) as error:
            self._failure = TransientError(f"the control socket failed: {error}", self._url, "read the simulator's log")
        except Exception as error:  # re-raised in `finish`, in the thread that waits
            self._failure = error
