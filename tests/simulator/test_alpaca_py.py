"""The unmodified alpaca-py, pointed at the simulator with nothing but url_override."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import pytest
from alpaca.common.exceptions import APIError
from alpaca.data.enums import DataFeed
from alpaca.data.historical import StockHistoricalDataClient
from alpaca.data.historical.corporate_actions import CorporateActionsClient
from alpaca.data.live import StockDataStream
from alpaca.data.requests import (
    CorporateActionsRequest,
    StockBarsRequest,
    StockLatestBarRequest,
    StockLatestQuoteRequest,
    StockLatestTradeRequest,
)
from alpaca.data.timeframe import TimeFrame
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderStatus, QueryOrderStatus, TimeInForce
from alpaca.trading.requests import (
    GetCalendarRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopOrderRequest,
)
from alpaca.trading.stream import TradingStream
from simulated_exchange import MONDAY, PATIENCE_S, Attached, Exchange, bars_of

from live_runner.simulator.tape import Action, Tape
from live_runner.simulator.wire import local_instant
from live_runner.wire_time import instant_ns
from trading_platform.calendar import day_of

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def limit(symbol: str, qty: int, price: float, **more: Any) -> LimitOrderRequest:
    side = more.pop("side", OrderSide.BUY)
    tif = more.pop("time_in_force", TimeInForce.DAY)
    return LimitOrderRequest(symbol=symbol, qty=qty, side=side, time_in_force=tif, limit_price=price, **more)


class Streaming:
    """One of alpaca-py's streams in its own thread, as its documentation runs it."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.got: list[Any] = []
        self._thread = threading.Thread(target=stream.run, daemon=True)

    async def take(self, message: Any) -> None:
        self.got.append(message)

    def run(self, listening: Callable[[], bool]) -> None:
        self._thread.start()
        wait_for(listening)

    def stop(self) -> None:
        """It leaves its 5 s read when the exchange hangs up."""
        self.stream.stop()


def wait_for(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not met() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert met()


@pytest.fixture
def minute_tape(calendar: Any) -> Tape:
    rows = [(MONDAY, m, (100.0 + m, 101.0 + m, 99.0 + m, 100.5 + m, 10_000.0)) for m in range(3)]
    other = [(MONDAY, m, (50.0, 51.0, 49.0, 50.0, 10_000.0)) for m in (0, 2)]
    return Tape("1Min", {"AAPL": bars_of(calendar, "1Min", rows), "MSFT": bars_of(calendar, "1Min", other)})


def trading(exchange: Exchange) -> TradingClient:
    return TradingClient("key", "secret", paper=True, url_override=exchange.http)


def test_bars_and_trade_updates_arrive_through_both_streams(start: Any, minute_tape: Tape) -> None:
    exchange = start(minute_tape, last=MONDAY)
    data = Streaming(StockDataStream("key", "secret", feed=DataFeed.IEX, url_override=f"{exchange.ws}/v2/iex"))
    data.stream.subscribe_bars(data.take, "AAPL", "MSFT", *[f"FILLER{n}" for n in range(6000)])  # > 32 KiB: alpaca-py fragments it
    updates = Streaming(TradingStream("key", "secret", url_override=f"{exchange.ws}/stream"))
    updates.stream.subscribe_trade_updates(updates.take)
    hub = exchange.simulator.conductor._hub
    data.run(lambda: any(s.wants("bars", "AAPL") for s in hub._sockets))
    updates.run(lambda: hub.taken("trade_updates", "key"))
    client, runner = trading(exchange), Attached(exchange)

    assert runner.next()["kind"] == "open"
    order = client.submit_order(limit("AAPL", 10, 200.0, client_order_id="first"))
    assert order.status is OrderStatus.PENDING_NEW
    # the order is placed at the open, so it trades in the first minute: at (101+99+100.5)/3 and 2.3 bps, rounded up
    event = runner.until("bars")
    wait_for(lambda: len(data.got) == 2 and len(updates.got) == 2)
    assert event["detail"]["frames"] == {"data": 2, "trade_updates": 2}
    assert [(b.symbol, b.close, b.volume, b.vwap) for b in data.got] == [("AAPL", 100.5, 10_000.0, None), ("MSFT", 50.0, 10_000.0, None)]
    assert data.got[0].timestamp == datetime(2019, 2, 11, 14, 30, tzinfo=UTC)
    assert [str(u.event) for u in updates.got] == ["new", "fill"]
    assert (updates.got[1].qty, updates.got[1].price, updates.got[1].position_qty) == (10.0, 100.19, 10.0)
    assert updates.got[1].order.status is OrderStatus.FILLED
    assert updates.got[1].timestamp == datetime(2019, 2, 11, 14, 31, tzinfo=UTC)
    data.stop()
    updates.stop()


def test_orders_are_placed_replaced_cancelled_and_listed(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=[(10, 11, 9, 10, 1e6)] * 3))
    client, runner = trading(exchange), Attached(exchange)
    runner.next()
    resting = client.submit_order(limit("AAPL", 5, 8.0, client_order_id="a"))
    replaced = client.replace_order_by_id(resting.id, ReplaceOrderRequest(qty=7, limit_price=8.5, client_order_id="b"))
    assert (replaced.replaces, replaced.qty, replaced.limit_price) == (resting.id, "7", "8.50")
    old = client.get_order_by_id(resting.id)
    assert (old.status, old.replaced_by) == (OrderStatus.REPLACED, replaced.id)
    assert client.get_order_by_client_id("b").id == replaced.id
    client.submit_order(limit("AAPL", 1, 8.0, client_order_id="c", time_in_force=TimeInForce.GTC))
    assert [o.client_order_id for o in client.get_orders()] == ["c", "b"]
    assert [o.client_order_id for o in client.get_orders(GetOrdersRequest(status=QueryOrderStatus.CLOSED))] == ["a"]
    client.cancel_order_by_id(replaced.id)
    assert client.get_order_by_id(replaced.id).status is OrderStatus.CANCELED
    answers = client.cancel_orders()
    assert [a.status for a in answers] == [200]
    assert client.get_orders() == []


def test_a_daily_session_fills_expires_and_keeps_gtc_stops(start: Any, daily_tape: Any) -> None:
    bars = [(10, 11, 9, 10, 1e6), (10, 11, 9, 10, 1e6), (9, 9.5, 6, 7, 1e6)]
    exchange = start(daily_tape(AAPL=bars))
    client, runner = trading(exchange), Attached(exchange)
    nine_thirty_five = runner.next()["now"] + 300 * 10**9
    assert runner.next(nine_thirty_five)["kind"] == "timer"
    assert client.get_clock().is_open
    client.submit_order(limit("AAPL", 100, 10.5))
    client.submit_order(limit("AAPL", 100, 8.0))
    assert runner.next()["kind"] == "fills"
    stop = client.submit_order(StopOrderRequest(symbol="AAPL", qty=100, side=OrderSide.SELL, time_in_force=TimeInForce.GTC, stop_price=8.0))
    assert client.get_order_by_id(stop.id).status is OrderStatus.NEW
    assert runner.next()["detail"]["expired"] == 1
    assert not client.get_clock().is_open
    position = client.get_open_position("AAPL")
    assert (position.qty, position.qty_available, position.avg_entry_price) == ("100", "0", "10.01")
    account = client.get_account()
    assert (account.cash, account.equity) == ("998999.00", "999999.00")
    runner.until("fills")  # Tuesday: opens at 9, falls to 6, so the stop trades at 8, less half a spread and impact
    assert client.get_all_positions() == []
    assert client.get_order_by_id(stop.id).filled_avg_price == "7.99"
    assert client.get_account().cash == "999798.00"


def test_history_latest_values_calendar_and_assets(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=[(10, 11, 9, 10.5, 1e6)] * 3, MSFT=[(20, 21, 19, 20, 1e6)] * 3))
    client, runner = trading(exchange), Attached(exchange)
    history = StockHistoricalDataClient("key", "secret", url_override=exchange.http)
    runner.until("close")
    request = StockBarsRequest(symbol_or_symbols=["AAPL", "MSFT"], timeframe=TimeFrame.Day, start=datetime(2019, 2, 1), limit=3)
    bars = history.get_stock_bars(request).data
    assert {symbol: len(rows) for symbol, rows in bars.items()} == {"AAPL": 2, "MSFT": 1}  # Tuesday's bar does not exist yet
    assert bars["AAPL"][1].timestamp == datetime(2019, 2, 11, 5, tzinfo=UTC)
    quote = history.get_stock_latest_quote(StockLatestQuoteRequest(symbol_or_symbols="AAPL"))["AAPL"]
    assert (quote.bid_price + quote.ask_price) / 2 == pytest.approx(10.5)
    assert quote.conditions == ["M"]
    assert history.get_stock_latest_trade(StockLatestTradeRequest(symbol_or_symbols="AAPL"))["AAPL"].price == 10.5
    assert history.get_stock_latest_bar(StockLatestBarRequest(symbol_or_symbols="MSFT"))["MSFT"].close == 20.0
    days = client.get_calendar(GetCalendarRequest(start=date(2019, 7, 3), end=date(2019, 7, 5)))
    assert [(d.date, d.close.hour) for d in days] == [(date(2019, 7, 3), 13), (date(2019, 7, 5), 16)]
    assert [asset.symbol for asset in client.get_all_assets()] == ["AAPL", "MSFT"]
    assert client.get_asset("AAPL").tradable


def test_pages_of_bars_join_without_loss(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=[(10, 11, 9, 10, 1e6)] * 3, MSFT=[(20, 21, 19, 20, 1e6)] * 3))
    runner = Attached(exchange)
    runner.until("end")
    history = StockHistoricalDataClient("key", "secret", url_override=exchange.http, raw_data=True)
    query = {"symbols": "AAPL,MSFT", "timeframe": "1Day", "start": "2019-02-01", "limit": 2}
    pages, token = [], None
    while True:
        answer = history.get("/stocks/bars", query | ({"page_token": token} if token else {}))
        pages.append({symbol: len(rows) for symbol, rows in answer["bars"].items()})
        token = answer["next_page_token"]
        if token is None:
            break
    assert pages == [{"AAPL": 2}, {"AAPL": 1, "MSFT": 1}, {"MSFT": 2}]


def test_splits_and_dividends_reach_the_account_the_activities_and_the_data_client(start: Any, daily_tape: Any) -> None:
    tuesday = day_of(MONDAY) + 1
    actions = (Action(tuesday, "AAPL", 2.0, 0.25),)
    exchange = start(daily_tape(actions, AAPL=[(10, 11, 9, 10, 1e6), (10, 11, 9, 10, 1e6), (5, 5.5, 4.5, 5, 1e6)]))
    client, runner = trading(exchange), Attached(exchange)
    runner.next()
    client.submit_order(MarketOrderRequest(symbol="AAPL", qty=100, side=OrderSide.BUY, time_in_force=TimeInForce.DAY))
    runner.until("fills")
    stop = client.submit_order(StopOrderRequest(symbol="AAPL", qty=100, side=OrderSide.SELL, time_in_force=TimeInForce.GTC, stop_price=8.0))
    before = float(client.get_account().equity)
    runner.until("open")
    assert client.get_order_by_id(stop.id).status is OrderStatus.CANCELED
    assert client.get_open_position("AAPL").qty == "200"
    assert float(client.get_account().equity) == pytest.approx(before + 50.0)  # 200 new shares x 0.25
    rows = client.get("/account/activities", {"direction": "asc", "page_size": 2})
    rows += client.get("/account/activities", {"direction": "asc", "page_size": 2, "page_token": rows[-1]["id"]})
    assert [row["activity_type"] for row in rows] == ["CSD", "FILL", "SPLIT", "DIV"]
    assert (rows[2]["qty"], rows[3]["net_amount"], rows[3]["qty"]) == ("100", "50.00", "200")
    assert client.get("/account/activities/FILL")[0]["order_status"] == "filled"
    found = CorporateActionsClient("key", "secret", url_override=exchange.http).get_corporate_actions(
        CorporateActionsRequest(symbols=["AAPL"], start=date(2019, 2, 1), end=date(2019, 2, 28))
    )
    assert (found.data["forward_splits"][0].new_rate, found.data["forward_splits"][0].old_rate) == (2.0, 1.0)
    assert found.data["cash_dividends"][0].rate == 0.25


def test_closing_positions_answers_207_and_wrong_keys_401(start: Any, daily_tape: Any) -> None:
    exchange = start(daily_tape(AAPL=[(10, 11, 9, 10, 1e6)] * 3))
    client, runner = trading(exchange), Attached(exchange)
    runner.next()
    client.submit_order(MarketOrderRequest(symbol="AAPL", qty=3, side=OrderSide.BUY, time_in_force=TimeInForce.DAY))
    runner.until("open")
    answers = client.close_all_positions(cancel_orders=True)
    assert [(a.symbol, a.status, a.body.side.value) for a in answers] == [("AAPL", 200, "sell")]
    with pytest.raises(APIError) as refused:
        client.close_position("AAPL")  # its shares are held by the order above
    assert (refused.value.status_code, refused.value.code) == (403, 40310000)


@pytest.mark.parametrize("rest", [0, 7, 123_456_789])
def test_the_clock_is_told_to_the_nanosecond(rest: int) -> None:
    """A paced runner sets its clock by it: a second cut off would let it decide a row before the row is known."""
    ns = 1_550_241_000 * 10**9 + rest
    told = local_instant(ns)
    assert instant_ns(told) == ns and told.startswith("2019-02-15T09:30:00") and told.endswith("-05:00")
