"""An index is published like a bar and traded by nobody."""

from __future__ import annotations

from typing import Any

import msgpack
import orjson
import pytest
import requests
from alpaca.trading.client import TradingClient
from simulated_exchange import MONDAY, Attached, Exchange, bars_of
from websockets.sync.client import connect

from live_runner.simulator.tape import Tape, load_tape
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import InputError

HEADERS = {"APCA-API-KEY-ID": "key", "APCA-API-SECRET-KEY": "secret"}
VIX = (16.25, 16.5, 16.0, 16.375, 0.0)


@pytest.fixture
def market(start: Any, calendar: MarketCalendar) -> Exchange:
    """AAPL prints in the minutes 0 and 2, VIX in 0, 1 and 2."""
    shares = bars_of(calendar, "1Min", [(MONDAY, m, (100.0, 101.0, 99.0, 100.5, 10_000.0)) for m in (0, 2)])
    index = bars_of(calendar, "1Min", [(MONDAY, m, VIX) for m in range(3)])
    return start(Tape("1Min", {"AAPL": shares}, indexes={"VIX": index}), last=MONDAY)


def get(exchange: Exchange, path: str, **query: str) -> tuple[int, Any]:
    answer = requests.get(exchange.http + path, params=query, headers=HEADERS, timeout=10)
    return answer.status_code, answer.json()


def test_its_bars_come_on_the_same_socket_and_a_minute_of_its_own_is_no_event(market: Exchange) -> None:
    runner = Attached(market)
    with connect(f"{market.ws}/v2/iex") as socket:
        socket.recv()
        for message in ({"action": "auth", "key": "key", "secret": "secret"}, {"action": "subscribe", "bars": ["*"]}):
            socket.send(msgpack.packb(message))
            socket.recv()
        opened = runner.until("open")["now"]
        told = [runner.next(), runner.next()]
        names = [msgpack.unpackb(socket.recv())[0]["S"] for _ in range(5)]
    assert names == ["AAPL", "VIX", "VIX", "AAPL", "VIX"]
    assert [(e["kind"], (e["now"] - opened) // (60 * 10**9), e["detail"]["frames"]["data"]) for e in told] == [
        ("bars", 1, 2),
        ("bars", 3, 5),
    ]


def test_rest_shows_its_bars_and_neither_quotes_nor_positions(market: Exchange) -> None:
    runner = Attached(market)
    runner.until("bars")
    assert runner.next()["kind"] == "bars"
    status, body = get(market, "/v2/stocks/bars", symbols="VIX,AAPL", timeframe="1Min", start="2019-02-11")
    assert status == 200 and [bar["c"] for bar in body["bars"]["VIX"]] == [16.375] * 3 and len(body["bars"]["AAPL"]) == 2
    assert get(market, "/v2/stocks/bars/latest", symbols="VIX")[1]["bars"]["VIX"]["c"] == 16.375
    assert get(market, "/v2/stocks/quotes/latest", symbols="VIX") == (400, {"code": 40010000, "message": "invalid symbol: VIX"})
    assert get(market, "/v2/positions") == (200, [])


def test_alpaca_py_sees_an_asset_that_nobody_may_trade(market: Exchange) -> None:
    client = TradingClient("key", "secret", paper=True, url_override=market.http)
    assert {asset.symbol: asset.tradable for asset in client.get_all_assets()} == {"AAPL": True, "VIX": False}  # type: ignore[union-attr]
    order = {"symbol": "VIX", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
    answer = requests.post(f"{market.http}/v2/orders", data=orjson.dumps(order), headers=HEADERS, timeout=10)
    assert (answer.status_code, answer.json()) == (422, {"code": 42210000, "message": 'asset "VIX" is not tradable'})


def test_a_symbol_is_a_share_or_an_index(write_bars: Any, calendar: MarketCalendar) -> None:
    stamps = [MarketCalendar().open_ns(int(calendar.sessions(MONDAY, MONDAY)[0]))]
    columns = {"symbol": ["VIX"], "timestamp": stamps, **{name: [16.0] for name in ("open", "high", "low", "close")}, "volume": [0]}
    path = write_bars(columns)
    assert list(load_tape(write_bars(columns | {"symbol": ["SPY"]}, "spy.parquet"), "1Min", calendar, indexes=path).published) == [
        "SPY",
        "VIX",
    ]
    with pytest.raises(InputError, match="VIX is both a share and an index"):
        load_tape(path, "1Min", calendar, indexes=path)
