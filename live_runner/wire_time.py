"""Instants as the venue writes them (RFC 3339, to the nanosecond, which datetime alone would drop) and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from trading_platform.contracts.errors import InputError

NS = 1_000_000_000
FORM = re.compile(r"^(\d{4}-\d{2}-\d{2})[T ](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})$")


def instant_ns(value: Any) -> int:
    """UTC ns of an RFC 3339 text or of a msgpack Timestamp. InputError for anything else."""
    if hasattr(value, "to_unix_nano"):
        return int(value.to_unix_nano())
    match = FORM.match(value) if isinstance(value, str) else None
    if match is None:
        raise InputError(f"{value!r} is no instant", "the venue's answer", "expected RFC 3339")
    day, clock, fraction, offset = match.groups()
    zone = "+00:00" if offset == "Z" else offset
    since = datetime.fromisoformat(f"{day}T{clock}{zone}") - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * NS + int((fraction or "0").ljust(9, "0"))


def instant_text(ns: int) -> str:
    """RFC 3339 in UTC, fractions only where there are some."""
    whole, rest = divmod(ns, NS)
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=whole)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{rest:09d}".rstrip("0") + "Z" if rest else text + "Z"
