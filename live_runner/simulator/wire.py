"""Alpaca's wire forms: times, money and error bodies as the venue prints them. No rules, no state.

Money inside the simulator is integer: cents for cash, ticks of one cent for prices, micro-dollars (1e-6) where a mark has more decimals.
"""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import price_string

Json = dict[str, Any]
NEW_YORK = ZoneInfo("America/New_York")
EPOCH = date(1970, 1, 1)
NS = 1_000_000_000
MICRO_PER_CENT = 10_000
ASSET_NAMESPACE = uuid.UUID("0f9c1f5e-3f5b-5b8e-9a51-2f6f0f2f6c11")
EVENT_NAMESPACE = uuid.UUID("a2f1c1de-7d0c-5d0a-8e53-51d7a9e7b6d4")


class RefusedError(Exception):
    """The venue's definitive no: an HTTP status and the body that goes out with it."""

    def __init__(self, status: int, code: int, message: str, **extra: str) -> None:
        self.status = status
        self.body: Json = {"code": code, "message": message, **extra}
        super().__init__(status, code, message)


def unprocessable(message: str, code: int = 42210000) -> RefusedError:
    """422: the request is understood and wrong."""
    return RefusedError(422, code, message)


def missing(message: str) -> RefusedError:
    """422 40010001: a field is absent, malformed or taken."""
    return RefusedError(422, 40010001, message)


def forbidden(message: str, **extra: str) -> RefusedError:
    """403 40310000: the account may not do that."""
    return RefusedError(403, 40310000, message, **extra)


def not_found(message: str) -> RefusedError:
    """404 40410000."""
    return RefusedError(404, 40410000, message)


def instant(ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds: 2019-02-15T14:30:00Z, fractions only where there are some."""
    whole, rest = divmod(ns, NS)
    text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else text + "Z"


def local_instant(ns: int) -> str:
    """The same instant in New York time with its offset, as the clock endpoint prints it, with nanoseconds where there are some."""
    whole, rest = divmod(ns, NS)
    text = datetime.fromtimestamp(whole, NEW_YORK).isoformat()
    return f"{text[:19]}.{rest:09d}{text[19:]}" if rest else text


def activity_prefix(ns: int) -> str:
    """New York local time to the millisecond, the sortable part of an activity's id."""
    return datetime.fromtimestamp(ns // NS, NEW_YORK).strftime("%Y%m%d%H%M%S") + f"{ns % NS // 1_000_000:03d}"


def day_text(session: int) -> str:
    """YYYY-MM-DD of days since 1970-01-01."""
    return (EPOCH + timedelta(days=session)).isoformat()


def parse_instant(text: str, name: str) -> int:
    """UTC ns of an RFC 3339 time, or of a date (its midnight in New York). RefusedError (400) otherwise."""
    try:
        if len(text) == 10:
            parsed = datetime.fromisoformat(text).replace(tzinfo=NEW_YORK)
        else:
            parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError(400, 40010000, f"invalid {name}: {text}") from error
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    since = parsed - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * NS + since.microseconds * 1_000


def parse_day(text: str, name: str) -> int:
    """Days since 1970-01-01 of a date, or of an instant's date. RefusedError (422) otherwise."""
    try:
        return (date.fromisoformat(text[:10]) - EPOCH).days
    except ValueError as error:
        raise unprocessable(f"invalid {name}: {text}") from error


def money(cents: int) -> str:
    """Dollars and cents: 12345 -> '123.45', signs kept."""
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def micro_money(micro: int) -> str:
    """Micro-dollars rounded half to even to the cent."""
    return money(cents_of(micro))


def cents_of(micro: int) -> int:
    """Cents of micro-dollars, half to even, in integers."""
    whole, rest = divmod(micro, MICRO_PER_CENT)
    half = MICRO_PER_CENT // 2
    return whole + (1 if rest > half or (rest == half and whole % 2 == 1) else 0)


def micro_price(micro: int) -> str:
    """A price of micro-dollars with two to six decimals: 170770100 -> '170.7701'."""
    text = f"{micro // 1_000_000}.{micro % 1_000_000:06d}"
    return text[: len(text) - min(4, len(text) - len(text.rstrip("0")))]


def price(ticks: int) -> str | None:
    """A limit or stop price, None where the order has none."""
    return price_string(ticks) if ticks else None


def asset_id(symbol: str) -> str:
    """The venue's permanent id of a symbol."""
    return str(uuid.uuid5(ASSET_NAMESPACE, symbol))


class Ids:
    """Identifiers that are functions of (seed and account, event_seq) and a count within the event: the same run makes the same ids."""

    def __init__(self, account_key: str) -> None:
        self._account_key = account_key
        self._event = 0
        self._count = 0

    def begin(self, event_seq: int) -> None:
        """A new event: counts start again."""
        if event_seq <= self._event:
            raise InputError(f"event {event_seq} after event {self._event}", "simulator.wire.Ids", "events count upward")
        self._event, self._count = event_seq, 0

    def next(self, kind: str) -> str:
        """The next identifier of this event."""
        self._count += 1
        return str(uuid.uuid5(EVENT_NAMESPACE, f"{self._account_key}|{self._event}|{self._count}|{kind}"))
