"""Time in lock-step: who is told what, when it moves, and that two runs are the same bytes."""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from typing import Any

import orjson
import pytest
import requests
from simulated_exchange import MONDAY, TUESDAY, Attached, Exchange, bars_of
from websockets.sync.client import connect

from live_runner.simulator.tape import Action, Tape
from live_runner.simulator.wire import Ids
from trading_platform.calendar import day_of

HEADERS = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}
FIVE_MINUTES = 300 * 10**9
DAYS = [(10.0, 11.0, 9.0, 10.0, 1e6), (10.0, 11.0, 9.0, 10.0, 1e6), (10.2, 11.0, 9.5, 10.5, 1e6)]


def order(exchange: Exchange, key: str = "key", **body: Any) -> requests.Response:
    body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"} | body
    return requests.post(f"{exchange.http}/v2/orders", json=body, headers=HEADERS | {"APCA-API-KEY-ID": key}, timeout=10)


class Listener:
    """trade_updates read by hand, so a test decides what its client has seen."""

    def __init__(self, exchange: Exchange, key: str = "key") -> None:
        self._socket = contextlib.ExitStack().enter_context(connect(f"{exchange.ws}/stream"))
        self._socket.send(orjson.dumps({"action": "auth", "key": key, "secret": "secret"}))
        self._socket.send(orjson.dumps({"action": "listen", "data": {"streams": ["trade_updates"]}}))
        assert orjson.loads(self._socket.recv())["data"]["status"] == "authorized"
        assert orjson.loads(self._socket.recv())["data"]["streams"] == ["trade_updates"]

    def read(self, count: int) -> list[str]:
        return [orjson.loads(self._socket.recv(timeout=10))["data"]["event"] for _ in range(count)]


def test_a_daily_session_is_told_in_order(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS), last=TUESDAY)
    runner = Attached(exchange)
    assert runner.attached["session"]["date"] == "2019-02-11"
    kinds = [runner.next(runner.attached["now"] + FIVE_MINUTES)["kind"]]
    order_sent = False
    while kinds[-1] != "end":
        kinds.append(runner.next()["kind"])
        if kinds[-1] == "open" and not order_sent:
            order_sent = order(exchange).ok
    assert kinds == ["timer", "open", "fills", "close", "open", "close", "end"]
    runner.done()
    runner.leave()
    assert exchange.wait_for("ended")["ended"]["positions"]["AAPL"]["qty"] == "10"


def test_time_stands_still_until_the_client_is_done(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS))
    runner = Attached(exchange)
    opened = runner.next()
    with pytest.raises(TimeoutError):
        runner.event(timeout=0.2)
    assert exchange.simulator.venue.now == opened["now"]
    assert runner.next(opened["now"] + 1)["now"] == opened["now"] + 1


def test_a_done_that_has_not_seen_every_update_is_told_again(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS))
    listener, runner = Listener(exchange), Attached(exchange)
    opened = runner.next(frames=0)
    order(exchange)
    again = runner.next(frames=0)
    assert (again["event"], again["detail"]["again"]) == (opened["event"], True)
    assert again["detail"]["frames"]["trade_updates"] == 1
    assert listener.read(1) == ["new"]
    assert runner.next(frames=1)["kind"] == "fills"


def test_a_killed_client_comes_back_to_the_same_event(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS))
    first = Attached(exchange)
    opened = first.next()
    first.leave()
    time.sleep(0.05)
    assert exchange.simulator.venue.now == opened["now"]
    second = Attached(exchange)
    second.done()  # about nothing: its start is event 0
    assert second.event() == opened
    assert second.next()["kind"] == "close"


def test_a_client_that_detached_is_succeeded_at_the_same_event(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS))
    first = Attached(exchange)
    opened = first.next()
    first.detach()
    second = Attached(exchange, "another")
    assert second.event() == opened


def test_a_client_may_leave_at_the_end_without_a_word(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS))
    runner = Attached(exchange)
    runner.until("end")
    runner.leave()
    assert exchange.wait_for("ended")


def test_a_name_can_be_attached_once_only(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS))
    Attached(exchange)
    assert "attached already" in Attached(exchange).attached["error"]


def two_clients(start: Any, tape: Tape, slow: str) -> tuple[list[bytes], list[str]]:
    """Two clients with their own keys trade the same names at the same instants; one of them is slow in real time."""
    exchange = start(tape, clients=2, last=MONDAY)
    heard: list[str] = []

    def trade(name: str) -> None:
        listener, client = Listener(exchange, name), Attached(exchange, name, name)
        seen, sent = 0, 0
        while True:
            event = client.next(frames=seen)
            if name == slow:
                time.sleep(0.003)
            seen += len(listener.read(event["detail"]["frames"]["trade_updates"] - seen))
            if name == "alpha":
                heard.append(f"{event['event']}:{event['kind']}")
            if event["kind"] == "bars" and "again" not in event["detail"] and sent < 12:
                sent += 1
                order(exchange, name, qty="90", client_order_id=f"{name}-{sent}")
                seen += len(listener.read(1))
            if event["kind"] == "end":
                client.done(frames=seen)
                client.leave()
                return

    threads = [threading.Thread(target=trade, args=(name,)) for name in ("alpha", "beta")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    exchange.wait_for("ended")
    return exchange.simulator.log.lines, heard


def test_two_runs_with_two_clients_are_the_same_bytes(start: Any, calendar: Any) -> None:
    rows = [(MONDAY, m, (10.0 + m / 100, 10.5 + m / 100, 9.5 + m / 100, 10.1 + m / 100, 2_000.0)) for m in range(15)]
    tape = Tape("1Min", {"AAPL": bars_of(calendar, "1Min", rows)})
    one, heard_one = two_clients(start, tape, slow="alpha")
    two, heard_two = two_clients(start, tape, slow="beta")
    assert sum(b'"what":"submit"' in line for line in one) == 24
    assert sum(b'"event":"partial_fill"' in line for line in one) > 0  # they compete for the same volume
    assert one == two
    assert heard_one == heard_two


def test_an_id_that_is_drawn_elsewhere_shows(start: Any, calendar: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(MONDAY, m, (10.0, 10.5, 9.5, 10.1, 2_000.0)) for m in range(3)]
    tape = Tape("1Min", {"AAPL": bars_of(calendar, "1Min", rows)})
    monkeypatch.setattr(Ids, "next", lambda self, kind: str(uuid.uuid4()))
    assert two_clients(start, tape, slow="")[0] != two_clients(start, tape, slow="")[0]


def test_minute_events_come_fills_first_then_bars_then_timers(start: Any, calendar: Any) -> None:
    rows = [(MONDAY, m, (10.0, 10.5, 9.5, 10.0, 1e5)) for m in range(2)]
    exchange = start(Tape("1Min", {"AAPL": bars_of(calendar, "1Min", rows)}), last=MONDAY)
    runner = Attached(exchange)
    opened = runner.next()
    order(exchange)
    minute = opened["now"] + 60 * 10**9
    told = [runner.next(minute), runner.next(minute), runner.next(minute), runner.next()]
    assert [(e["kind"], e["now"] - opened["now"]) for e in told] == [
        ("fills", 60 * 10**9),
        ("bars", 60 * 10**9),
        ("timer", 60 * 10**9),
        ("bars", 120 * 10**9),
    ]


def test_an_order_sent_within_a_minute_waits_for_the_next_bar(start: Any, calendar: Any) -> None:
    rows = [(MONDAY, m, (10.0 + m, 10.5 + m, 9.5 + m, 10.0 + m, 1e5)) for m in range(3)]
    exchange = start(Tape("1Min", {"AAPL": bars_of(calendar, "1Min", rows)}), last=MONDAY)
    runner = Attached(exchange)
    inside = runner.next()["now"] + 30 * 10**9
    runner.next(inside)
    order(exchange)
    assert runner.next()["kind"] == "bars"
    assert runner.next()["kind"] == "fills"
    assert exchange.simulator.venue.account.positions["AAPL"].average_micro == 11_010_000


def test_a_queued_order_goes_live_at_the_open_and_a_split_cancels_it_first(start: Any, daily_tape: Any) -> None:
    split = Action(day_of(TUESDAY), "AAPL", 4.0, 0.0)
    exchange = start(daily_tape((split,), AAPL=DAYS, MSFT=DAYS))
    listener, runner = Listener(exchange), Attached(exchange)
    assert order(exchange).json()["status"] == "accepted"
    runner.next()
    assert listener.read(2) == ["accepted", "new"]
    runner.until("close")
    order(exchange)
    order(exchange, symbol="MSFT")
    runner.until("open")
    assert listener.read(5) == ["fill", "accepted", "accepted", "canceled", "new"]


def test_paced_time_flows_without_anyone_attached(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=DAYS), last=MONDAY, speed=40_000.0, clients=0)
    assert order(exchange).json()["status"] in ("accepted", "pending_new")
    exchange.wait_for("ended")
    assert exchange.simulator.venue.account.lots("AAPL") == 10


def test_a_timer_that_never_ends_stops_the_run(start: Any, daily_tape: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("live_runner.simulator.lockstep.MOST_TIMERS_AT_ONE_INSTANT", 5)
    exchange = start(daily_tape(AAPL=DAYS))
    runner = Attached(exchange)
    for _ in range(5):
        runner.next(1)
    runner.done(1)
    assert "ask for the same timer 6 times" in exchange.wait_for("failed")["failed"]
