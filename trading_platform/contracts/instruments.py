"""Instruments and the grid of their prices and quantities.

Inside, prices are float64 on the tick grid and positions are integer lots. At every edge (journal, broker, API) both are decimal
strings made here. Prices are kept as `ticks / ticks_per_unit`, which is the double nearest to the decimal, so a price that went out as a
string and came back is the same number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

from trading_platform.contracts.errors import InputError


@dataclass(frozen=True, slots=True)
class Instrument:
    """One tradable thing. `instrument_id` is permanent (us:AAPL); `symbol` is the venue's ticker today.

    ticks_per_unit: price grid, 100 means 0.01. lots_per_unit: quantity grid, 1 means whole shares. asset_class: us_equity or crypto.
    """

    instrument_id: str
    symbol: str
    asset_class: str = "us_equity"
    ticks_per_unit: int = 100
    lots_per_unit: int = 1
    shortable: bool = False


def instrument_id_of(symbol: str, market: str = "us") -> str:
    """The permanent id of a symbol that was never re-used: `us:AAPL`."""
    if not symbol or symbol != symbol.strip() or ":" in symbol:
        raise InputError(f"{symbol!r} is not a symbol", "contracts.instruments", "use the venue's ticker, such as AAPL")
    return f"{market}:{symbol}"


def symbol_of(instrument_id: str) -> str:
    """The ticker inside an instrument id (`us:AAPL` -> `AAPL`, `us:CB~2` -> `CB`)."""
    market, found, rest = instrument_id.partition(":")
    if not (market and found and rest):
        raise InputError(f"{instrument_id!r} is not an instrument id", "contracts.instruments", "use market:ticker, such as us:AAPL")
    return rest.partition("~")[0]


def _grid_string(steps: int, per_unit: int) -> str:
    digits = len(str(per_unit)) - 1
    if per_unit != 10**digits:
        raise InputError(f"{per_unit} steps per unit is not a power of ten", "contracts.instruments", "use 1, 10, 100, ...")
    text = f"{Decimal(steps).scaleb(-digits):f}"
    return text


def price_ticks(price: float, side: int, ticks_per_unit: int = 100) -> int:
    """Ticks of a limit price: buys (side +1) round down, sells (-1) round up, so the order never gives more than was asked.

    A price within 1e-6 of a tick is that tick (binary noise is not a price difference).
    """
    if not (math.isfinite(price) and price > 0.0):
        raise InputError(
            f"price {price!r} is not a positive number", "contracts.instruments.price_ticks", "check the quote or bar it came from"
        )
    exact = price * ticks_per_unit
    nearest = round(exact)
    if abs(exact - nearest) < 1e-6:
        return max(nearest, 1)
    return max(math.floor(exact) if side > 0 else math.ceil(exact), 1)


def price_string(ticks: int, ticks_per_unit: int = 100) -> str:
    """Decimal string of a price in ticks: (12345, 100) -> '123.45'."""
    if ticks <= 0:
        raise InputError(f"{ticks} ticks is not a price", "contracts.instruments.price_string", "prices are positive")
    return _grid_string(ticks, ticks_per_unit)


def quantity_string(lots: int, lots_per_unit: int = 1) -> str:
    """Decimal string of a positive number of lots: (5, 1) -> '5'."""
    if lots <= 0:
        raise InputError(
            f"{lots} lots is not a quantity", "contracts.instruments.quantity_string", "quantities are positive; the side says buy or sell"
        )
    return _grid_string(lots, lots_per_unit)


def lots_of(text: str, lots_per_unit: int = 1) -> int:
    """Lots of a decimal quantity string (sign kept); InputError if it is off the grid."""
    where = "contracts.instruments.lots_of"
    try:
        exact = Decimal(text) * lots_per_unit
    except InvalidOperation as error:
        raise InputError(f"quantity {text!r} is not a decimal number", where, "read the venue's answer again") from error
    if not exact.is_finite() or exact != exact.to_integral_value():
        raise InputError(f"quantity {text!r} is not on the grid of {lots_per_unit} lots per unit", where, "check the instrument's grid")
    return int(exact)
