"""A row's form in the journal: everything the engine reads of its bars, to the bit. Written by the runner, read by whoever checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trading_platform.contracts.canonical import decode_array
from trading_platform.contracts.panel import Panel

# A bar in the venue's words, as `late_bar` records keep it: field -> key. `t` is the bar's start (UTC ns), the record's key the instrument.
BAR_KEYS = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "vwap": "vw", "trade_count": "n"}


def panel_body(panel: Panel) -> dict[str, Any]:
    """The journal's form of a panel of one row (T = 1)."""
    return {
        "timeframe": panel.timeframe,
        "instrument_ids": list(panel.instrument_ids),
        "timestamp": int(panel.timestamp[0]),
        "known_at": int(panel.known_at[0]),
        "session": int(panel.session[0]),
        "fields": {name: values[0] for name, values in panel.fields.items()},
        "present": panel.present[0],
        "member": panel.member[0],
    }


def panel_of(body: Mapping[str, Any]) -> Panel:
    """The panel (T = 1) of a journaled row."""
    at, known, day = (np.array([body[name]], dtype=np.int64) for name in ("timestamp", "known_at", "session"))
    fields = {name: decode_array(values)[None, :] for name, values in body["fields"].items()}
    present, member = decode_array(body["present"])[None, :], decode_array(body["member"])[None, :]
    return Panel(body["timeframe"], tuple(body["instrument_ids"]), at, known, day, fields, present, member)
