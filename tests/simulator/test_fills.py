"""Who comes a little after a bar's start trades in it, and is given nothing that may have happened before (I4, T7)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import requests
from simulated_exchange import MONDAY, Attached, Exchange, bars_of

from live_runner.simulator.fills import executions
from live_runner.simulator.orders import VenueOrder
from live_runner.simulator.settings import VenueSettings, arrival_allowance
from live_runner.simulator.tape import Tape
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError

HEADERS = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}
FREE = np.array([0.0, 0.0, 0.1])
SECOND = 10**9
RISING = (100.0, 103.0, 98.0, 103.0, 1_000.0)  # typical price 101.33
FALLING = (103.0, 103.0, 98.0, 99.0, 1_000.0)  # typical price 100.00


def traded(
    calendar: MarketCalendar, prices: tuple[float, ...], *asked: tuple[int, str, int, int, int], costs: Any = FREE
) -> list[tuple[int, int, int]]:
    """(number, lots, ticks) of orders (seconds after the start, kind, sign, lots, limit or stop in ticks) in one bar."""
    bars = bars_of(calendar, "1Min", [(MONDAY, 0, prices)])
    start = int(bars.start[0])
    queue = []
    for number, (late, kind, sign, lots, ticks) in enumerate(asked):
        limit, stop = (ticks, 0) if kind == "limit" else (0, ticks)
        at = start + late * SECOND
        queue.append(VenueOrder(str(number), str(number), "AAPL", sign, kind, "day", lots, limit, stop, at, 0, number, "new"))
    return [(int(one.order.order_id), one.lots, one.ticks) for one in executions(queue, bars, 0, start, costs)]


@pytest.mark.parametrize("kind", ["limit", "market"])
def test_a_late_taker_pays_the_attainable_price_and_never_the_better_open(calendar: MarketCalendar, kind: str) -> None:
    beyond = {"limit": (10_500, 9_000), "market": (0, 0)}[kind]
    assert traded(calendar, RISING, (2, kind, 1, 10, beyond[0])) == [(0, 10, 10_134)]
    assert traded(calendar, FALLING, (2, kind, -1, 10, beyond[1])) == [(0, 10, 10_000)]


def test_a_late_limit_gets_no_price_that_may_have_gone_before_it_came(calendar: MarketCalendar) -> None:
    dipped = (0, "limit", 1, 10, 9_900)  # the bar fell to 98 and ended at 103
    assert traded(calendar, RISING, dipped) == [(0, 10, 9_900)]
    assert traded(calendar, RISING, (2, *dipped[1:])) == []
    ended_below = (2, "limit", 1, 10, 9_901)  # this one ended at 99.00
    assert traded(calendar, FALLING, ended_below) == [(0, 10, 9_901)]
    assert traded(calendar, FALLING, (2, "limit", 1, 10, 9_900)) == []


def test_a_late_stop_still_sees_the_whole_bar(calendar: MarketCalendar) -> None:
    assert traded(calendar, FALLING, (2, "stop", -1, 10, 9_850)) == [(0, 10, 9_850)]
    assert traded(calendar, FALLING, (2, "stop", -1, 10, 10_200)) == [(0, 10, 10_200)]
    assert traded(calendar, FALLING, (2, "stop", -1, 10, 10_400)) == [(0, 10, 10_000)], "a gap costs the attainable price, not the open"


def test_those_who_were_there_are_served_first_and_all_share_the_participation(calendar: MarketCalendar) -> None:
    late, early = (2, "market", 1, 80, 0), (0, "market", 1, 70, 0)
    assert traded(calendar, RISING, late, early) == [(1, 70, 10_134), (0, 30, 10_134)]
    assert traded(calendar, RISING, early, (0, "stop", 1, 50, 10_200), late) == [(0, 50, 10_134), (1, 50, 10_200)]


@pytest.mark.parametrize(("after", "minute"), [(2, 2), (3, 2), (4, 3)])
def test_an_order_within_the_allowance_fills_in_the_bar_that_has_begun_and_a_later_one_waits(
    start: Any, calendar: MarketCalendar, after: int, minute: int
) -> None:
    rows = [(MONDAY, m, (10.0 + m, 10.5 + m, 9.5 + m, 10.0 + m, 1e5)) for m in range(4)]
    exchange: Exchange = start(Tape("1Min", {"AAPL": bars_of(calendar, "1Min", rows)}), last=MONDAY)
    runner = Attached(exchange)
    opened = runner.until("open")["now"]
    runner.until("bars")
    runner.next(opened + (60 + after) * SECOND)
    order = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day"}
    assert requests.post(f"{exchange.http}/v2/orders", json=order, headers=HEADERS, timeout=10).status_code == 200
    told = runner.until("fills")
    assert (told["now"] - opened) // (60 * SECOND) == minute
    assert exchange.simulator.venue.account.positions["AAPL"].average_micro >= (10 + minute - 1) * 1_000_000


def test_the_allowance_grows_with_the_speed_and_never_past_half_a_bar() -> None:
    assert [arrival_allowance(speed) // SECOND for speed in (None, 0.5, 1.0, 20.0, 600.0)] == [3, 3, 3, 22, 30]
    with pytest.raises(InputError):
        VenueSettings(arrival_allowance_ns=-1)
