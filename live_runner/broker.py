"""The venue's REST side behind one small protocol: alpaca-py's clients, raw, in one thread each, with timeouts and without their retries.

The verdict on a POST is drawn here and only here (I6): `ACCEPTED` and `REJECTED` need the venue's own words, everything else is UNKNOWN.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Protocol

import orjson
import requests
from alpaca.common.exceptions import APIError
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.trading.client import TradingClient
from requests.adapters import HTTPAdapter

from live_runner.wire_time import instant_ns
from trading_platform.contracts.errors import InputError, TransientError
from trading_platform.contracts.orders import Intent, OrderType

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 10.0
PAGE = 100
BAR_PAGE = 10_000
NOT_UNIQUE = 40010001
NOT_FOUND = 404
THROTTLED = 429
DEFINITIVE = frozenset({400, 403, 404, 405, 422})


class Verdict(StrEnum):
    """What the venue's answer proves about the request."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    NOT_UNIQUE = "not_unique"
    THROTTLED = "throttled"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to an order request: the verdict, the venue's order where it gave one, and its words otherwise."""

    verdict: Verdict
    order: Mapping[str, Any] = field(default_factory=dict)
    status: int = 0
    reason: str = ""


class Broker(Protocol):
    """What the runner asks of a venue. Prices and quantities are decimal strings; orders are the venue's own JSON objects."""

    async def submit(self, intent: Intent) -> Answer: ...

    async def replace(self, venue_order_id: str, intent: Intent) -> Answer: ...

    async def cancel(self, venue_order_id: str) -> Answer: ...

    async def look_up(self, client_order_id: str) -> Answer:
        """ACCEPTED with the order, REJECTED when the venue says it has no such order, UNKNOWN otherwise."""
        ...

    async def clock_ns(self) -> int:
        """What time the venue has, UTC ns."""
        ...

    async def account(self) -> Mapping[str, Any]: ...

    async def positions(self) -> Sequence[Mapping[str, Any]]: ...

    async def open_orders(self) -> Sequence[Mapping[str, Any]]: ...

    async def activities(self, after_id: str) -> Sequence[Mapping[str, Any]]:
        """All activities after this one (all of them for an empty id), oldest first."""
        ...

    async def asset(self, symbol: str) -> Mapping[str, Any] | None:
        """What the venue says of a symbol, None where it knows none."""
        ...

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Mapping[str, Any]]: ...

    async def bars(self, symbols: Sequence[str], timeframe: str, start: str, end: str) -> Mapping[str, Sequence[Mapping[str, Any]]]: ...

    def close(self) -> None: ...


class _TimeoutAdapter(HTTPAdapter):
    """alpaca-py sets no timeout of its own; without one a mute server would hold the thread for ever."""

    def send(self, request: requests.PreparedRequest, *arguments: Any, **named: Any) -> requests.Response:
        named["timeout"] = (CONNECT_TIMEOUT_S, READ_TIMEOUT_S)
        return super().send(request, *arguments, **named)


def _prepared(client: Any) -> Any:
    client._retry, client._retry_codes = 0, []  # its retry re-POSTs an order after a 504; ours asks by client id first
    for scheme in ("http://", "https://"):
        client._session.mount(scheme, _TimeoutAdapter())
    return client


def verdict_of(status: int, text: str) -> Answer:
    """The verdict of a non-2xx answer. Only a 4xx with the venue's own JSON (an integer code, a message) is definitive."""
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError:
        body = None
    words = str(body.get("message", "")) if isinstance(body, dict) else ""
    code = body.get("code") if isinstance(body, dict) else None
    if status == THROTTLED:
        return Answer(Verdict.THROTTLED, status=status, reason=words or "too many requests")
    if status in DEFINITIVE and isinstance(code, int) and words:
        unique = code == NOT_UNIQUE and "client_order_id" in words
        return Answer(Verdict.NOT_UNIQUE if unique else Verdict.REJECTED, status=status, reason=f"{code}: {words}")
    return Answer(Verdict.UNKNOWN, status=status, reason=f"HTTP {status} without the venue's own words")


def order_body(intent: Intent) -> dict[str, str]:
    """The JSON of POST /v2/orders: decimal strings, nothing that is not set."""
    body = {
        "symbol": intent.symbol,
        "qty": intent.quantity,
        "side": str(intent.side),
        "type": str(intent.order_type),
        "time_in_force": str(intent.time_in_force),
        "client_order_id": intent.client_order_id,
    }
    if intent.order_type is OrderType.LIMIT and intent.limit_price is not None:
        body["limit_price"] = intent.limit_price
    if intent.order_type is OrderType.STOP and intent.stop_price is not None:
        body["stop_price"] = intent.stop_price
    return body


class AlpacaBroker:
    """Alpaca through alpaca-py's TradingClient and StockHistoricalDataClient with raw answers.

    base_url: without a trailing slash, as `url_override`; empty means Alpaca's own for the mode. feed: iex or sip.
    """

    def __init__(self, key: str, secret: str, mode: str, base_url: str = "", data_url: str = "", feed: str = "iex") -> None:
        if not key or not secret:
            raise InputError("no broker keys", "APCA_API_KEY_ID, APCA_API_SECRET_KEY", "set both in the environment")
        where = base_url.rstrip("/") or None
        data_where = (data_url or base_url).rstrip("/") or None
        self.where = where or f"Alpaca ({mode})"
        self._feed = feed
        self._trading = _prepared(TradingClient(key, secret, paper=mode == "paper", raw_data=True, url_override=where))
        self._data = _prepared(StockHistoricalDataClient(key, secret, raw_data=True, url_override=data_where))
        self._trading_thread = ThreadPoolExecutor(1, "broker")
        self._data_thread = ThreadPoolExecutor(1, "broker-data")

    def close(self) -> None:
        self._trading_thread.shutdown(wait=False, cancel_futures=True)
        self._data_thread.shutdown(wait=False, cancel_futures=True)

    async def _in(self, thread: ThreadPoolExecutor, call: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(thread, call)

    async def _order(self, call: Callable[[], Any]) -> Answer:
        try:
            body = await self._in(self._trading_thread, call)
        except APIError as error:
            return verdict_of(int(error.status_code or 0), str(error))
        except (requests.RequestException, ValueError) as error:
            return Answer(Verdict.UNKNOWN, reason=type(error).__name__)
        if body is None:
            return Answer(Verdict.ACCEPTED, status=204)
        if isinstance(body, dict) and body.get("id") and body.get("client_order_id"):
            return Answer(Verdict.ACCEPTED, body, 200)
        return Answer(Verdict.UNKNOWN, reason="an answer that is no order")

    async def submit(self, intent: Intent) -> Answer:
        return await self._order(lambda: self._trading.post("/orders", order_body(intent)))

    async def replace(self, venue_order_id: str, intent: Intent) -> Answer:
        body = {"qty": intent.quantity, "client_order_id": intent.client_order_id}
        if intent.stop_price is not None:
            body["stop_price"] = intent.stop_price
        return await self._order(lambda: self._trading.patch(f"/orders/{venue_order_id}", body))

    async def cancel(self, venue_order_id: str) -> Answer:
        return await self._order(lambda: self._trading.delete(f"/orders/{venue_order_id}"))

    async def look_up(self, client_order_id: str) -> Answer:
        question = {"client_order_id": client_order_id}
        answer = await self._order(lambda: self._trading.get("/orders:by_client_order_id", question))
        if answer.verdict is Verdict.REJECTED and answer.status != NOT_FOUND:
            return Answer(Verdict.UNKNOWN, status=answer.status, reason=answer.reason)
        return answer

    async def _ask(self, thread: ThreadPoolExecutor, call: Callable[[], Any]) -> Any:
        try:
            return await self._in(thread, call)
        except APIError as error:
            status = int(error.status_code or 0)
            if status == 401:
                fix = "check APCA_API_KEY_ID and APCA_API_SECRET_KEY"
                raise InputError("the venue refuses these keys (HTTP 401)", self.where, fix) from None
            if status == 403:
                raise InputError(
                    f"the venue forbids it: {verdict_of(status, str(error)).reason}", self.where, "check the account's plan"
                ) from None
            raise TransientError(f"the venue answered HTTP {status}", self.where, "try again") from None
        except (requests.RequestException, ValueError) as error:
            raise TransientError(
                f"the venue does not answer: {type(error).__name__}", self.where, "check the address and the network"
            ) from None

    async def clock_ns(self) -> int:
        answer = await self._ask(self._trading_thread, lambda: self._trading.get("/clock"))
        return instant_ns(answer["timestamp"])

    async def account(self) -> Mapping[str, Any]:
        return dict(await self._ask(self._trading_thread, lambda: self._trading.get("/account")))

    async def positions(self) -> Sequence[Mapping[str, Any]]:
        return list(await self._ask(self._trading_thread, lambda: self._trading.get("/positions")))

    async def open_orders(self) -> Sequence[Mapping[str, Any]]:
        question: dict[str, Any] = {"status": "open", "limit": 500, "direction": "desc"}
        found: dict[str, Mapping[str, Any]] = {}
        while True:
            asked = dict(question)
            page = list(await self._ask(self._trading_thread, partial(self._trading.get, "/orders", asked)))
            fresh = [order for order in page if order["id"] not in found]
            found.update({order["id"]: order for order in fresh})
            if len(page) < 500 or not fresh:
                return list(found.values())
            question["until"] = page[-1]["submitted_at"]  # no page token on this endpoint

    async def activities(self, after_id: str) -> Sequence[Mapping[str, Any]]:
        question: dict[str, Any] = {"direction": "asc", "page_size": PAGE}
        if after_id:
            question["page_token"] = after_id
        found: list[Mapping[str, Any]] = []
        while True:
            asked = dict(question)
            page = list(await self._ask(self._trading_thread, partial(self._trading.get, "/account/activities", asked)))
            found.extend(page)
            if len(page) < PAGE:
                return found
            question["page_token"] = page[-1]["id"]

    async def asset(self, symbol: str) -> Mapping[str, Any] | None:
        def ask() -> Any:
            try:
                return self._trading.get(f"/assets/{symbol}")
            except APIError as error:
                if int(error.status_code or 0) == NOT_FOUND:
                    return None
                raise

        found = await self._ask(self._trading_thread, ask)
        return None if found is None else dict(found)

    async def quotes(self, symbols: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        question = {"symbols": ",".join(symbols), "feed": self._feed}
        body = await self._ask(self._data_thread, lambda: self._data.get("/stocks/quotes/latest", question))
        return dict(body.get("quotes") or {})

    async def bars(self, symbols: Sequence[str], timeframe: str, start: str, end: str) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        question: dict[str, Any] = {
            "symbols": ",".join(symbols),
            "timeframe": timeframe,
            "start": start,
            "end": end,
            "limit": BAR_PAGE,
            "adjustment": "raw",
            "feed": self._feed,
        }
        found: dict[str, list[Mapping[str, Any]]] = {}
        while True:
            asked = dict(question)
            body = await self._ask(self._data_thread, partial(self._data.get, "/stocks/bars", asked))
            for symbol, bars in (body.get("bars") or {}).items():
                found.setdefault(symbol, []).extend(bars)
            if not body.get("next_page_token"):
                return found
            question["page_token"] = body["next_page_token"]
