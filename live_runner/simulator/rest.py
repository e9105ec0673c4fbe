"""The trading API's endpoints: path by path, what each is asked and answers. Rules are the venue's, not here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from starlette.routing import Route

from live_runner.simulator.gate import Answer, Call, Gate
from live_runner.simulator.market_data import DataDesk
from live_runner.simulator.order_entry import json_body, order_uuid
from live_runner.simulator.orders import VenueOrder
from live_runner.simulator.venue import Venue
from live_runner.simulator.wire import (
    EPOCH,
    NEW_YORK,
    NS,
    Json,
    RefusedError,
    asset_id,
    day_text,
    local_instant,
    not_found,
    parse_day,
    parse_instant,
)
from live_runner.simulator.wire import unprocessable as refuse
from trading_platform.calendar import MarketCalendar

DEFAULT_ORDERS = 50
MAX_ORDERS = 500


class TradingDesk:
    """Answers of the trading API."""

    def __init__(self, venue: Venue, calendar: MarketCalendar) -> None:
        self._venue = venue
        self._calendar = calendar

    # --------------------------------------------------------------- account

    def account(self, _: Call) -> Json:
        """GET /v2/account."""
        return self._venue.account.to_wire(self._venue.reserved_cents)

    def positions(self, _: Call) -> list[Json]:
        """GET /v2/positions."""
        return self._venue.account.positions_to_wire(self._venue.held_for_orders())

    def position(self, call: Call) -> Json:
        """GET /v2/positions/{symbol or asset id}."""
        symbol = self._held(call)
        return self._venue.account.position_to_wire(symbol, self._venue.held_for_orders()[symbol])

    def close_position(self, call: Call) -> Json:
        """DELETE /v2/positions/{symbol or asset id}?qty= or ?percentage=."""
        symbol = self._held(call)
        held = abs(self._venue.account.lots(symbol))
        quantity, share = call.query.get("qty"), call.query.get("percentage")
        if quantity is not None and share is not None:
            raise refuse("qty and percentage are mutually exclusive", 40010001)
        try:
            exact = float(quantity) if quantity is not None else held * float(share or "100") / 100
        except ValueError as error:
            raise refuse(f"invalid qty: {quantity or share}", 40010001) from error
        return self._venue.close_position(symbol, int(exact))

    def close_positions(self, call: Call) -> Answer:
        """DELETE /v2/positions?cancel_orders=True: 207, one entry per position."""
        if call.query.get("cancel_orders", "").lower() == "true":
            self._venue.cancel_all()
        entries: list[Json] = []
        for symbol in sorted(self._venue.account.positions):
            try:
                entries.append({"symbol": symbol, "status": 200, "body": self._venue.close_position(symbol)})
            except RefusedError as refusal:
                entries.append({"symbol": symbol, "status": refusal.status, "body": refusal.body})
        return Answer(207, entries)

    def _held(self, call: Call) -> str:
        asked = str(call.path["symbol"])
        symbol = next((s for s in self._venue.account.positions if asked in (s, asset_id(s))), None)
        if symbol is None:
            raise not_found("position does not exist")
        return symbol

    def activities(self, call: Call) -> list[Json]:
        """GET /v2/account/activities[/TYPE]."""
        query = call.query
        kinds = [call.path["kind"]] if "kind" in call.path else [k for k in query.get("activity_types", "").split(",") if k]
        size = query.get("page_size", "100")
        if not size.isdigit():
            raise refuse(f"invalid page_size: {size}")
        if query.get("direction", "desc") not in ("asc", "desc"):
            raise refuse(f"invalid direction: {query['direction']}")
        return self._venue.activities.page(
            kinds,
            after=parse_instant(query["after"], "after") if "after" in query else None,
            until=parse_instant(query["until"], "until") if "until" in query else None,
            session=parse_day(query["date"], "date") if "date" in query else None,
            descending=query.get("direction", "desc") == "desc",
            page_size=int(size),
            page_token=query.get("page_token"),
        )

    # ---------------------------------------------------------------- market

    def clock(self, _: Call) -> Json:
        """GET /v2/clock, in New York time."""
        venue, calendar = self._venue, self._calendar
        started = venue.now >= calendar.open_ns(venue.session)
        closing = venue.session if not started or venue.is_open else calendar.next_session(venue.session)
        opening = calendar.next_session(venue.session) if started else venue.session
        return {
            "timestamp": local_instant(venue.now),
            "is_open": venue.is_open,
            "next_open": local_instant(calendar.open_ns(opening)),
            "next_close": local_instant(calendar.close_ns(closing)),
        }

    def calendar(self, call: Call) -> list[Json]:
        """GET /v2/calendar?start=&end=."""
        first, last = ((day - EPOCH).days for day in (self._calendar.first, self._calendar.last))
        start = max(parse_day(call.query["start"], "start"), first) if "start" in call.query else first
        end = min(parse_day(call.query["end"], "end"), last) if "end" in call.query else last
        if end < start:
            return []
        sessions = self._calendar.sessions(*(datetime.fromisoformat(day_text(day)).date() for day in (start, end)))
        return [self._day(int(session)) for session in sessions]

    def _day(self, session: int) -> Json:
        def local(ns: int) -> str:
            return datetime.fromtimestamp(ns // NS, NEW_YORK).strftime("%H:%M")

        opens, closes = local(self._calendar.open_ns(session)), local(self._calendar.close_ns(session))
        return {"date": day_text(session), "open": opens, "close": closes, "session_open": "0400", "session_close": "2000"}

    def assets(self, call: Call) -> list[Json]:
        """GET /v2/assets."""
        query = call.query
        if query.get("status", "active") != "active" or query.get("asset_class", "us_equity") != "us_equity":
            return []
        return [self._asset(symbol) for symbol in self._venue.tape.published]

    def asset(self, call: Call) -> Json:
        """GET /v2/assets/{symbol or asset id}."""
        asked = str(call.path["symbol"])
        symbol = next((s for s in self._venue.tape.published if asked in (s, asset_id(s))), None)
        if symbol is None:
            raise not_found(f"asset not found for {asked}")
        return self._asset(symbol)

    def _asset(self, symbol: str) -> Json:
        tradable = symbol in self._venue.tape.bars  # an index is published, not traded
        shorts = self._venue.settings.shorts and tradable
        return {
            "id": asset_id(symbol),
            "class": "us_equity",
            "exchange": "NASDAQ" if tradable else "",
            "symbol": symbol,
            "name": symbol,
            "status": "active",
            "tradable": tradable,
            "marginable": tradable,
            "shortable": shorts,
            "easy_to_borrow": shorts,
            "fractionable": False,
            "maintenance_margin_requirement": 30,
            "attributes": [],
        }

    # ---------------------------------------------------------------- orders

    def submit(self, call: Call) -> Json:
        """POST /v2/orders."""
        return self._venue.submit(json_body(call.raw, call.body))

    def replace(self, call: Call) -> Json:
        """PATCH /v2/orders/{id}."""
        return self._venue.replace(call.path["order_id"], json_body(call.raw, call.body if call.raw else {}))

    def cancel(self, call: Call) -> Answer:
        """DELETE /v2/orders/{id}: 204."""
        self._venue.cancel(call.path["order_id"])
        return Answer(204)

    def cancel_all(self, _: Call) -> Answer:
        """DELETE /v2/orders: 207."""
        return Answer(207, self._venue.cancel_all())

    def order(self, call: Call) -> Json:
        """GET /v2/orders/{id}."""
        return self._venue.orders.get(order_uuid(call.path["order_id"])).to_wire()

    def order_by_client_id(self, call: Call) -> Json:
        """GET /v2/orders:by_client_order_id."""
        return self._venue.orders.get_client(call.query.get("client_order_id", "")).to_wire()

    def orders(self, call: Call) -> list[Json]:
        """GET /v2/orders: `after` and `until` exclusive on submitted_at, newest first unless direction=asc, no page token."""
        query = call.query
        status, limit = query.get("status", "open"), query.get("limit", str(DEFAULT_ORDERS))
        if status not in ("open", "closed", "all"):
            raise refuse(f"invalid status: {status}")
        if not limit.isdigit() or not 1 <= int(limit) <= MAX_ORDERS:
            raise refuse(f"limit must be between 1 and {MAX_ORDERS}")
        chosen = [o for o in self._venue.orders.every() if status == "all" or o.is_open == (status == "open")]
        chosen = [o for o in chosen if _matches(o, query)]
        if query.get("direction", "desc") == "desc":
            chosen.reverse()
        return [o.to_wire() for o in chosen[: int(limit)]]


def _matches(order: VenueOrder, query: Mapping[str, str]) -> bool:
    after = parse_instant(query["after"], "after") if "after" in query else None
    until = parse_instant(query["until"], "until") if "until" in query else None
    symbols = {s for s in query.get("symbols", "").split(",") if s}
    return (
        (after is None or order.created_at > after)
        and (until is None or order.created_at < until)
        and (not symbols or order.symbol in symbols)
        and query.get("side", "buy" if order.sign > 0 else "sell") == ("buy" if order.sign > 0 else "sell")
    )


def routes(gate: Gate, trading: TradingDesk, data: DataDesk) -> list[Route]:
    """All REST routes: the trading API under /v2, the data API beside it."""
    table = (
        ("GET", "/v2/account", "get", trading.account),
        ("GET", "/v2/account/activities", "get", trading.activities),
        ("GET", "/v2/account/activities/{kind}", "get", trading.activities),
        ("GET", "/v2/positions", "get", trading.positions),
        ("DELETE", "/v2/positions", "post_order", trading.close_positions),
        ("GET", "/v2/positions/{symbol}", "get", trading.position),
        ("DELETE", "/v2/positions/{symbol}", "post_order", trading.close_position),
        ("GET", "/v2/clock", "get", trading.clock),
        ("GET", "/v2/calendar", "get", trading.calendar),
        ("GET", "/v2/assets", "get", trading.assets),
        ("GET", "/v2/assets/{symbol}", "get", trading.asset),
        ("POST", "/v2/orders", "post_order", trading.submit),
        ("GET", "/v2/orders", "get", trading.orders),
        ("DELETE", "/v2/orders", "delete_order", trading.cancel_all),
        ("GET", "/v2/orders:by_client_order_id", "get", trading.order_by_client_id),
        ("GET", "/v2/orders/{order_id}", "get", trading.order),
        ("PATCH", "/v2/orders/{order_id}", "patch_order", trading.replace),
        ("DELETE", "/v2/orders/{order_id}", "delete_order", trading.cancel),
        ("GET", "/v2/stocks/bars", "data_get", lambda call: data.bars(call.query)),
        ("GET", "/v2/stocks/bars/latest", "data_get", lambda call: data.latest_bars(call.query)),
        ("GET", "/v2/stocks/quotes/latest", "data_get", lambda call: data.latest_quotes(call.query)),
        ("GET", "/v2/stocks/trades/latest", "data_get", lambda call: data.latest_trades(call.query)),
        ("GET", "/v1/corporate-actions", "data_get", lambda call: data.corporate_actions(call.query)),
    )
    return [Route(path, gate.endpoint(point, work), methods=[method]) for method, path, point, work in table]
