"""Every body the venue refuses with, and the faults it can be told to have."""

from __future__ import annotations

from typing import Any

import msgpack
import orjson
import pytest
import requests
from simulated_exchange import MONDAY, Attached, Exchange, bars_of
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from live_runner.simulator.faults import Rule
from live_runner.simulator.settings import VenueSettings
from live_runner.simulator.tape import Tape

HEADERS = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}
GOOD = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "limit", "limit_price": "10.00", "time_in_force": "day"}
DAYS = [(10.0, 11.0, 9.0, 10.0, 1e6)] * 3
NOWHERE = "00000000-0000-4000-8000-000000000000"


def call(exchange: Exchange, method: str, path: str, **more: Any) -> requests.Response:
    more.setdefault("headers", HEADERS)
    return requests.request(method, exchange.http + path, timeout=10, **more)


@pytest.fixture
def opened(start: Any, daily_tape: Any) -> tuple[Exchange, Attached]:
    exchange = start(daily_tape(AAPL=DAYS, MSFT=DAYS))
    runner = Attached(exchange)
    runner.next()
    return exchange, runner


REFUSED = [
    ({"symbol": "NOPE"}, 422, 42210000, 'asset "NOPE" not found'),
    ({"symbol": ""}, 422, 40010001, "symbol is required"),
    ({"side": "long"}, 422, 40010001, "invalid side: long"),
    ({"qty": None}, 422, 40010001, "qty or notional is required"),
    ({"qty": "-1"}, 422, 42210000, "qty must be > 0"),
    ({"qty": "ten"}, 422, 40010001, "invalid qty: ten"),
    ({"qty": True}, 422, 40010001, "invalid qty: True"),
    ({"qty": "1.5"}, 403, 40310000, 'asset "AAPL" is not fractionable'),
    ({"notional": "100", "qty": None}, 403, 40310000, 'asset "AAPL" is not fractionable'),
    ({"limit_price": None}, 422, 40010001, "limit orders require a limit price"),
    ({"limit_price": "10.123"}, 422, 42210000, "invalid limit_price 10.123. sub-penny increment does not fulfill minimum pricing criteria"),
    ({"limit_price": "0"}, 422, 42210000, "limit_price must be > 0"),
    ({"type": "stop", "limit_price": None}, 422, 40010001, "stop orders require a stop price"),
    ({"type": "market"}, 422, 42210000, "market orders take no limit price"),
    ({"type": "trailing_stop"}, 422, 40010001, "order type trailing_stop is not offered by this venue: use market, limit, stop"),
    ({"time_in_force": "opg"}, 422, 40010001, "time_in_force opg is not offered by this venue: use day, gtc"),
    ({"order_class": "bracket"}, 422, 40010001, "order_class bracket is not offered by this venue: use simple"),
    ({"extended_hours": True}, 422, 42210000, "extended hours orders are not offered by this venue"),
    ({"client_order_id": "x" * 129}, 422, 40010001, "client_order_id must be no more than 128 characters"),
    ({"qty": "300000"}, 403, 40310000, "insufficient buying power"),
    ({"side": "sell"}, 403, 40310000, "account is not allowed to short"),
]


@pytest.mark.parametrize(("change", "status", "code", "message"), REFUSED, ids=[r[3][:40] for r in REFUSED])
def test_a_wrong_order_is_refused_in_alpacas_words(
    opened: tuple[Exchange, Attached], change: dict[str, Any], status: int, code: int, message: str
) -> None:
    exchange, _ = opened
    body = {name: value for name, value in (GOOD | change).items() if value is not None}
    answer = call(exchange, "POST", "/v2/orders", json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["message"]) == (status, code, message)
    assert exchange.simulator.venue.orders.every() == []


def test_extra_keys_of_the_403_bodies(opened: tuple[Exchange, Attached]) -> None:
    exchange, runner = opened
    short = call(exchange, "POST", "/v2/orders", json=GOOD | {"qty": "300000"}).json()
    assert (short["buying_power"], short["cost_basis"]) == ("2000000.00", "3000000.00")
    call(exchange, "POST", "/v2/orders", json=GOOD | {"limit_price": "11.00"})
    runner.until("open")
    sell = GOOD | {"side": "sell", "limit_price": "20.00", "qty": "7"}
    assert call(exchange, "POST", "/v2/orders", json=sell).ok
    body = call(exchange, "POST", "/v2/orders", json=sell | {"qty": "5"}).json()
    assert body == {
        "code": 40310000,
        "message": "insufficient qty available for order (requested: 5, available: 3)",
        "available": "3",
        "existing_qty": "10",
        "held_for_orders": "7",
        "symbol": "AAPL",
    }
    wash = call(exchange, "POST", "/v2/orders", json=GOOD | {"limit_price": "20.00"})
    assert (wash.status_code, wash.json()["message"]) == (403, "potential wash trade detected. use complex orders")


def test_a_client_id_is_taken_for_ever(opened: tuple[Exchange, Attached]) -> None:
    exchange, _ = opened
    first = call(exchange, "POST", "/v2/orders", json=GOOD | {"client_order_id": "mine"}).json()
    call(exchange, "DELETE", f"/v2/orders/{first['id']}")
    again = call(exchange, "POST", "/v2/orders", json=GOOD | {"client_order_id": "mine"})
    assert (again.status_code, again.json()) == (422, {"code": 40010001, "message": "client_order_id must be unique"})


def test_what_is_over_can_neither_be_cancelled_nor_replaced(opened: tuple[Exchange, Attached]) -> None:
    exchange, runner = opened
    first = call(exchange, "POST", "/v2/orders", json=GOOD).json()
    assert call(exchange, "DELETE", f"/v2/orders/{first['id']}").status_code == 204
    twice = call(exchange, "DELETE", f"/v2/orders/{first['id']}")
    assert (twice.status_code, twice.json()["code"]) == (422, 42210000)
    assert call(exchange, "PATCH", f"/v2/orders/{first['id']}", json={"qty": 1}).status_code == 422
    for method, path in (("GET", f"/v2/orders/{NOWHERE}"), ("DELETE", f"/v2/orders/{NOWHERE}"), ("GET", "/v2/positions/AAPL")):
        answer = call(exchange, method, path)
        assert (answer.status_code, answer.json()["code"]) == (404, 40410000)
    runner.until("close")
    queued = call(exchange, "POST", "/v2/orders", json=GOOD).json()
    assert (
        call(exchange, "PATCH", f"/v2/orders/{queued['id']}", json={"qty": 1}).json()["message"]
        == "cannot replace order in accepted status"
    )


def test_a_refused_replacement_leaves_the_old_order_working(opened: tuple[Exchange, Attached]) -> None:
    exchange, _ = opened
    first = call(exchange, "POST", "/v2/orders", json=GOOD).json()
    assert call(exchange, "PATCH", f"/v2/orders/{first['id']}", json={"qty": 900_000}).status_code == 403
    assert call(exchange, "GET", f"/v2/orders/{first['id']}").json()["status"] == "new"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/stocks/bars?symbols=AAPL&timeframe=7Min", 400),
        ("/v2/stocks/bars?symbols=NOPE&timeframe=1Day", 400),
        ("/v2/stocks/bars?timeframe=1Day", 400),
        ("/v2/stocks/bars?symbols=AAPL&timeframe=1Day&adjustment=all", 422),
        ("/v2/stocks/bars?symbols=AAPL&timeframe=1Day&start=yesterday", 400),
        ("/v2/stocks/bars?symbols=AAPL&timeframe=1Day&limit=0", 400),
        ("/v2/stocks/bars?symbols=AAPL&timeframe=1Day&page_token=zzz", 400),
        ("/v2/orders?status=half", 422),
        ("/v2/orders?limit=501", 422),
        ("/v2/account/activities/NOPE", 422),
        ("/v2/account/activities?page_size=101", 422),
        ("/v2/account/activities?page_token=zzz", 422),
        ("/v2/assets/NOPE", 404),
        ("/v2/orders/notauuid", 422),
        ("/v2/options/contracts", 404),
    ],
)
def test_a_wrong_question_gets_a_json_refusal(opened: tuple[Exchange, Attached], path: str, status: int) -> None:
    answer = call(opened[0], "GET", path)
    assert (answer.status_code, bool(answer.json()["message"])) == (status, True)


def test_a_body_that_is_no_object_is_400(opened: tuple[Exchange, Attached]) -> None:
    for body in (b"{", b"[1]", b""):
        assert call(opened[0], "POST", "/v2/orders", data=body).status_code == 400


def test_keys_are_checked_on_every_door(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS), VenueSettings(key="key", secret="secret"))
    wrong = HEADERS | {"APCA-API-SECRET-KEY": "guess"}
    for headers in ({}, wrong, {"Authorization": "Basic !!!"}):
        answer = call(exchange, "GET", "/v2/account", headers=headers)
        assert (answer.status_code, answer.json()) == (401, {"message": "unauthorized."})
    assert call(exchange, "GET", "/v2/account", headers={}, auth=("key", "secret")).ok
    with connect(f"{exchange.ws}/v2/iex") as socket:
        assert msgpack.unpackb(socket.recv())[0]["msg"] == "connected"
        socket.send(msgpack.packb({"action": "auth", "key": "key", "secret": "guess"}))
        assert msgpack.unpackb(socket.recv())[0]["code"] == 402
    with connect(f"{exchange.ws}/stream") as socket:
        socket.send(orjson.dumps({"action": "authenticate", "data": {"key_id": "key", "secret_key": "guess"}}))
        assert orjson.loads(socket.recv())["data"]["status"] == "unauthorized"


def test_one_data_connection_per_key(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS))

    def talk(socket: Any, message: dict[str, Any]) -> dict[str, Any]:
        socket.send(msgpack.packb(message))
        return msgpack.unpackb(socket.recv())[0]

    login = {"action": "auth", "key": "key", "secret": "secret"}
    with connect(f"{exchange.ws}/v2/sip") as first, connect(f"{exchange.ws}/v2/sip") as second:
        first.recv(), second.recv()
        assert talk(first, login)["msg"] == "authenticated"
        assert talk(first, login)["code"] == 403
        assert talk(first, {"action": "subscribe", "bars": "AAPL"})["code"] == 410
        assert talk(first, {"action": "subscribe", "bars": ["AAPL"]})["bars"] == ["AAPL"]
        assert talk(first, {"action": "subscribe", "quotes": ["MSFT"]})["bars"] == ["AAPL"]
        assert talk(first, {"action": "unsubscribe", "bars": ["AAPL"]})["bars"] == []
        assert talk(first, {"action": "dance"})["code"] == 400
        assert talk(second, login)["code"] == 406


def test_the_rate_limit_counts_a_virtual_minute(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS), VenueSettings(requests_per_minute=3))
    runner = Attached(exchange)
    opened = runner.next()
    answers = [call(exchange, "GET", "/v2/clock") for _ in range(4)]
    assert [(a.status_code, a.headers["X-Ratelimit-Remaining"]) for a in answers] == [(200, "2"), (200, "1"), (200, "0"), (429, "0")]
    assert answers[3].json()["code"] == 42910000
    assert int(answers[3].headers["X-Ratelimit-Reset"]) == opened["now"] // 10**9 + 60
    runner.next(opened["now"] + 60 * 10**9)
    assert call(exchange, "GET", "/v2/clock").ok


def test_faults_happen_at_their_turn(start: Any, daily_tape: Any) -> None:
    rules = (
        Rule("post_order", "500", 1),
        Rule("post_order", "429", 2),
        Rule("post_order", "504_after_accept", 3),
        Rule("get", "html_401", 1),
    )
    exchange = start(daily_tape(AAPL=DAYS), rules=rules)
    Attached(exchange).next()
    bodies = [GOOD | {"client_order_id": str(n)} for n in range(4)]
    answers = [call(exchange, "POST", "/v2/orders", json=body) for body in bodies]
    assert [a.status_code for a in answers] == [500, 429, 504, 200]
    assert answers[2].json() == {"code": 50410000, "message": "request timed out"}
    assert [o.client_order_id for o in exchange.simulator.venue.orders.every()] == ["2", "3"]  # the 504 was accepted
    page = call(exchange, "GET", "/v2/account")
    assert (page.status_code, page.headers["content-type"][:9]) == (401, "text/html")


def test_faults_of_the_stream_drop_double_and_hang_up(start: Any, daily_tape: Any) -> None:
    rules = (Rule("trade_update", "drop_update", 1), Rule("trade_update", "duplicate_update", 2), Rule("trade_update", "disconnect", 3))
    exchange = start(daily_tape(AAPL=DAYS), rules=rules)
    runner = Attached(exchange)
    with connect(f"{exchange.ws}/stream") as socket:
        socket.send(orjson.dumps({"action": "auth", "key": "key", "secret": "secret"}))
        socket.send(orjson.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
        socket.recv(), socket.recv()
        runner.next()
        for n in range(3):
            call(exchange, "POST", "/v2/orders", json=GOOD | {"client_order_id": str(n)})
        got = [orjson.loads(socket.recv())["data"] for _ in range(2)]
        assert [update["order"]["client_order_id"] for update in got] == ["1", "1"]
        assert got[0] == got[1]
        with pytest.raises(ConnectionClosed):
            socket.recv(timeout=10)
    assert runner.next()["detail"]["frames"]["trade_updates"] == 0  # the count is of the open connection


def test_bars_the_fault_dropped_are_not_announced(start: Any, calendar: Any) -> None:
    rows = [(MONDAY, m, (10.0, 10.5, 9.5, 10.0, 1e5)) for m in range(2)]
    tape = Tape("1Min", {name: bars_of(calendar, "1Min", rows) for name in ("AAPL", "MSFT")})
    exchange = start(tape, last=MONDAY, rules=(Rule("bar", "drop_update", 2),))
    runner = Attached(exchange)
    with connect(f"{exchange.ws}/v2/iex") as socket:
        socket.recv()
        for message in ({"action": "auth", "key": "key", "secret": "secret"}, {"action": "subscribe", "bars": ["*"]}):
            socket.send(msgpack.packb(message))
            socket.recv()
        assert runner.until("bars")["detail"]["frames"]["data"] == 1
        assert runner.next()["detail"]["frames"]["data"] == 3
        names = [msgpack.unpackb(socket.recv())[0]["S"] for _ in range(3)]
    assert names == ["AAPL", "AAPL", "MSFT"]
