"""The door of the REST API: keys, rate limit, faults, and the form of every answer and refusal."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from live_runner.simulator.faults import Faults
from live_runner.simulator.settings import VenueSettings
from live_runner.simulator.venue import Venue
from live_runner.simulator.wire import NS, Json, RefusedError

DATA_REQUESTS_PER_MINUTE = 10_000
WINDOW = 60 * NS
UNAUTHORIZED_PAGE = "<html><head><title>401 Authorization Required</title></head><body><h1>401 Authorization Required</h1></body></html>"
FAULT_ANSWERS: dict[str, tuple[int, Json]] = {
    "500": (500, {"code": 50010000, "message": "internal server error occurred"}),
    "429": (429, {"code": 42910000, "message": "rate limit exceeded"}),
    "504_after_accept": (504, {"code": 50410000, "message": "request timed out"}),
}


@dataclass(frozen=True, slots=True)
class Call:
    """What an endpoint is given: parameters of the path and the query, and the body where there is one."""

    path: Mapping[str, Any]
    query: Mapping[str, str]
    body: Any
    raw: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and the value sent as JSON; None sends no body."""

    status: int
    value: Any = None


Work = Callable[[Call], Any]
Endpoint = Callable[[Request], Awaitable[Response]]


class Gate:
    """Wraps the endpoints' work. `refresh` brings the venue's time up to date before each request."""

    def __init__(self, venue: Venue, faults: Faults, refresh: Callable[[], None]) -> None:
        self._venue = venue
        self._faults = faults
        self._refresh = refresh
        self._windows: dict[tuple[str, bool], tuple[int, int]] = {}

    def accepts(self, key: str, secret: str) -> bool:
        """Whether a pair of keys is known."""
        return known(self._venue.settings, key, secret)

    def endpoint(self, point: str, work: Work) -> Endpoint:
        """An endpoint: keys, then the limit, then a fault, then the work. `point` is where faults count it."""

        async def serve(request: Request) -> Response:
            self._refresh()
            key, secret = credentials(request.headers)
            if not self.accepts(key, secret):
                return _json(401, {"message": "unauthorized."})
            raw = await request.body()
            headers, over = self._count(key, point == "data_get")
            if over:
                return _json(*FAULT_ANSWERS["429"], headers)
            kind = self._faults.at(point)
            if kind is not None:
                self._venue.log.add("fault", at=point, kind=kind)
            if kind == "html_401":
                return Response(UNAUTHORIZED_PAGE, 401, headers, "text/html")
            if kind in ("500", "429"):
                return _json(*FAULT_ANSWERS[kind], headers)
            answer = _answer(work, Call(request.path_params, dict(request.query_params), _decoded(raw), raw))
            if kind == "504_after_accept":
                return _json(*FAULT_ANSWERS[kind], headers)
            return _json(answer.status, answer.value, headers)

        return serve

    def _count(self, key: str, data: bool) -> tuple[dict[str, str], bool]:
        """Headers of the key's window (one virtual minute), and whether this request is over the limit."""
        limit = DATA_REQUESTS_PER_MINUTE if data else self._venue.settings.requests_per_minute
        window = self._venue.now // WINDOW
        known_window, used = self._windows.get((key, data), (window, 0))
        used = used + 1 if known_window == window else 1
        self._windows[key, data] = (window, used)
        reset = str((window + 1) * WINDOW // NS)
        headers = {"X-Ratelimit-Limit": str(limit), "X-Ratelimit-Remaining": str(max(limit - used, 0)), "X-Ratelimit-Reset": reset}
        return headers, bool(limit) and used > limit


def known(settings: VenueSettings, key: str, secret: str) -> bool:
    """The configured pair, or any non-empty one where none is configured."""
    if settings.key or settings.secret:
        return (key, secret) == (settings.key, settings.secret)
    return bool(key and secret)


def credentials(headers: Mapping[str, str]) -> tuple[str, str]:
    """(key, secret) of the Alpaca headers, or of Basic; a Bearer token stands for both."""
    key, secret = headers.get("apca-api-key-id", ""), headers.get("apca-api-secret-key", "")
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme == "Bearer":
        return value, value
    if scheme == "Basic":
        try:
            key, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return "", ""
    return key, secret


def _answer(work: Work, call: Call) -> Answer:
    try:
        value = work(call)
    except RefusedError as refusal:
        return Answer(refusal.status, refusal.body)
    return value if isinstance(value, Answer) else Answer(200, value)


def _decoded(raw: bytes) -> Any:
    try:
        return orjson.loads(raw) if raw else None
    except orjson.JSONDecodeError:
        return None


def _json(status: int, value: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(b"" if value is None else orjson.dumps(value), status, headers, "application/json")
