"""What a client may ask for: bodies of POST and PATCH /orders checked field by field, refusals worded as Alpaca words them.

Not offered by this venue, and refused by name: notional and fractional quantities, stop_limit and trailing_stop, opg/cls/ioc/fok,
bracket/oco/oto, extended hours.
"""

from __future__ import annotations

import uuid
from collections.abc import Container
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from live_runner.simulator.wire import Json, RefusedError, forbidden, missing, unprocessable

MAX_CLIENT_ID = 128
KINDS = ("market", "limit", "stop")
TIMES = ("day", "gtc")


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A sound request. Prices in ticks (cents), 0 where the kind has none."""

    symbol: str
    sign: int
    kind: str
    time_in_force: str
    lots: int
    limit_ticks: int
    stop_ticks: int
    client_order_id: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """A sound replacement: None keeps what the order has."""

    lots: int | None
    limit_ticks: int | None
    stop_ticks: int | None
    time_in_force: str | None
    client_order_id: str | None


def json_body(raw: bytes, decoded: Any) -> Json:
    """The body as an object; RefusedError 400 for anything else."""
    if not isinstance(decoded, dict):
        raise RefusedError(400, 40010000, f"request body format is invalid: {raw[:60]!r}")
    return decoded


def _decimal(value: Any, name: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation as error:
        raise missing(f"invalid {name}: {value}") from error
    if isinstance(value, bool) or not number.is_finite():
        raise missing(f"invalid {name}: {value}")
    return number


def _lots(value: Any, symbol: str) -> int:
    quantity = _decimal(value, "qty")
    if quantity <= 0:
        raise unprocessable("qty must be > 0")
    if quantity != quantity.to_integral_value():
        raise forbidden(f'asset "{symbol}" is not fractionable')
    return int(quantity)


def _ticks(value: Any, name: str) -> int:
    price = _decimal(value, name)
    if price <= 0:
        raise unprocessable(f"{name} must be > 0")
    if price * 100 != (price * 100).to_integral_value():
        raise unprocessable(f"invalid {name} {value}. sub-penny increment does not fulfill minimum pricing criteria")
    return int(price * 100)


def _client_id(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > MAX_CLIENT_ID:
        raise missing(f"client_order_id must be no more than {MAX_CLIENT_ID} characters")
    return value


def parse_new(body: Json, symbols: Container[str], indexes: Container[str] = ()) -> NewOrder:
    """Check POST /v2/orders. symbols: what is traded; indexes: what is only published. RefusedError as the venue answers."""
    symbol = body.get("symbol")
    if not symbol:
        raise missing("symbol is required")
    if symbol in indexes:
        raise unprocessable(f'asset "{symbol}" is not tradable')
    if symbol not in symbols:
        raise unprocessable(f'asset "{symbol}" not found')
    side, kind = body.get("side"), body.get("type") or body.get("order_type")
    if side not in ("buy", "sell"):
        raise missing(f"invalid side: {side}")
    if kind not in KINDS:
        raise missing(f"order type {kind} is not offered by this venue: use {', '.join(KINDS)}")
    if body.get("time_in_force") not in TIMES:
        raise missing(f"time_in_force {body.get('time_in_force')} is not offered by this venue: use {', '.join(TIMES)}")
    if body.get("order_class") not in (None, "", "simple"):
        raise missing(f"order_class {body['order_class']} is not offered by this venue: use simple")
    if body.get("extended_hours"):
        raise unprocessable("extended hours orders are not offered by this venue")
    if body.get("notional") is not None:
        raise forbidden(f'asset "{symbol}" is not fractionable')
    if body.get("qty") is None:
        raise missing("qty or notional is required")
    limit, stop = body.get("limit_price"), body.get("stop_price")
    if kind == "limit" and limit is None:
        raise missing("limit orders require a limit price")
    if kind == "stop" and stop is None:
        raise missing("stop orders require a stop price")
    if (kind != "limit" and limit is not None) or (kind != "stop" and stop is not None):
        raise unprocessable(f"{kind} orders take no {'limit' if kind != 'limit' and limit is not None else 'stop'} price")
    return NewOrder(
        symbol,
        1 if side == "buy" else -1,
        kind,
        body["time_in_force"],
        _lots(body["qty"], symbol),
        _ticks(limit, "limit_price") if limit is not None else 0,
        _ticks(stop, "stop_price") if stop is not None else 0,
        _client_id(body.get("client_order_id")),
    )


def parse_change(body: Json, symbol: str, kind: str) -> Change:
    """Check PATCH /v2/orders/{id} against the order it changes. RefusedError as the venue answers."""
    limit, stop, tif = body.get("limit_price"), body.get("stop_price"), body.get("time_in_force")
    if limit is not None and kind != "limit":
        raise unprocessable(f"{kind} orders take no limit price")
    if stop is not None and kind != "stop":
        raise unprocessable(f"{kind} orders take no stop price")
    if tif is not None and tif not in TIMES:
        raise missing(f"time_in_force {tif} is not offered by this venue: use {', '.join(TIMES)}")
    if body.get("trail") is not None:
        raise unprocessable("trailing orders are not offered by this venue")
    return Change(
        _lots(body["qty"], symbol) if body.get("qty") is not None else None,
        _ticks(limit, "limit_price") if limit is not None else None,
        _ticks(stop, "stop_price") if stop is not None else None,
        tif,
        _client_id(body.get("client_order_id")),
    )


def order_uuid(text: str) -> str:
    """The id in a path, in canonical form. RefusedError 422 where it is no uuid."""
    try:
        return str(uuid.UUID(text))
    except ValueError as error:
        raise missing(f"order_id is not a uuid: {text}") from error
