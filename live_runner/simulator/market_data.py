"""Market data on the wire: bars as the stream and as REST print them, and the latest bar, trade and quote.

Quotes and trades are made from the last complete bar: the quote is its close, half a spread to each side, and carries condition `M` (made).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from live_runner.simulator.tape import Action, Bars, Tape
from live_runner.simulator.venue import Venue
from live_runner.simulator.wire import (
    ASSET_NAMESPACE,
    Json,
    RefusedError,
    asset_id,
    day_text,
    instant,
    parse_day,
    parse_instant,
    unprocessable,
)

MAX_BARS = 10_000
DEFAULT_BARS = 1_000
MAX_ACTIONS = 1_000
ANNOUNCED_DAYS = 14  # an action is public this many days before its ex-date
MADE = ["M"]
ACTION_LISTS = ("forward_splits", "reverse_splits", "cash_dividends")


def bar_json(bars: Bars, index: int) -> Json:
    """One bar without its time; n and vw are null where the recording has none."""
    count, vwap = bars.trade_count[index], bars.vwap[index]
    return {
        "o": float(bars.open[index]),
        "h": float(bars.high[index]),
        "l": float(bars.low[index]),
        "c": float(bars.close[index]),
        "v": int(bars.volume[index]),
        "n": int(count) if np.isfinite(count) else None,
        "vw": float(vwap) if np.isfinite(vwap) else None,
    }


def bar_messages(tape: Tape, start: int, kind: str) -> list[Json]:
    """Stream messages (`b` minute bar, `d` daily bar) of every published bar that began at `start`, by symbol; `t` is UTC ns."""
    return [{"T": kind, "S": symbol, **bar_json(tape.published[symbol], index), "t": start} for symbol, index in tape.published_at(start)]


@dataclass(frozen=True, slots=True)
class DataDesk:
    """Answers of the data API, as of the venue's now. Nothing after now is ever shown."""

    venue: Venue

    def _visible(self, bars: Bars) -> int:
        """Number of bars that are complete and published."""
        return int(np.searchsorted(bars.end, self.venue.now - self.venue.settings.bar_delay_ns, side="right"))

    def bars(self, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/bars: symbol by symbol, `limit` bars over all of them, then a page token."""
        recorded = self.venue.tape.timeframe
        if query.get("timeframe") != recorded:
            raise RefusedError(400, 40010000, f"invalid timeframe: {query.get('timeframe')}; this venue recorded {recorded}")
        if query.get("adjustment", "raw") != "raw":
            raise unprocessable(f"adjustment {query['adjustment']} is not offered by this venue: use raw")
        limit = _limit(query, DEFAULT_BARS, MAX_BARS)
        midnight = parse_instant(day_text(self.venue.session), "start")
        start = parse_instant(query["start"], "start") if "start" in query else midnight
        end = parse_instant(query["end"], "end") if "end" in query else self.venue.now
        symbols = self._symbols(query, self.venue.tape.published)
        first, resume = _token(query.get("page_token"), symbols)
        pages: dict[str, list[Json]] = {}
        for symbol in symbols[first:]:
            series = self.venue.tape.published[symbol]
            low, high = np.searchsorted(series.start, start), np.searchsorted(series.start, end, side="right")
            rows = range(int(low), min(int(high), self._visible(series)))
            ordered = list(rows if query.get("sort", "asc") == "asc" else reversed(rows))
            if resume is not None and symbol == symbols[first]:
                ordered = ordered[next((i for i, row in enumerate(ordered) if series.start[row] == resume), len(ordered)) :]
            for row in ordered:
                if limit == 0:
                    return {"bars": pages, "next_page_token": _make_token(symbol, self.venue.tape.timeframe, int(series.start[row]))}
                pages.setdefault(symbol, []).append(bar_json(series, row) | {"t": instant(int(series.start[row]))})
                limit -= 1
        return {"bars": pages, "next_page_token": None}

    def _latest(self, query: Mapping[str, str], table: Mapping[str, Bars]) -> list[tuple[str, Bars, int]]:
        known = [(symbol, table[symbol]) for symbol in self._symbols(query, table)]
        return [(symbol, bars, self._visible(bars) - 1) for symbol, bars in known if self._visible(bars)]

    def latest_bars(self, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/bars/latest."""
        newest = self._latest(query, self.venue.tape.published)
        return {"bars": {s: bar_json(bars, i) | {"t": instant(int(bars.start[i]))} for s, bars, i in newest}}

    def latest_trades(self, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/trades/latest: the last complete bar's close at its end, made."""
        made = {"x": "V", "s": 100, "c": MADE, "i": 0, "z": "C"}
        newest = self._latest(query, self.venue.tape.bars)
        return {"trades": {s: made | {"t": instant(int(b.end[i])), "p": float(b.close[i])} for s, b, i in newest}}

    def latest_quotes(self, query: Mapping[str, str]) -> Json:
        """GET /v2/stocks/quotes/latest: the venue's mark, half a spread to each side, made at the moment of asking."""
        marks = self.venue.account.marks
        return {"quotes": {symbol: self._quote(marks[symbol]) for symbol in self._symbols(query, self.venue.tape.bars) if symbol in marks}}

    def _quote(self, mark_micro: int) -> Json:
        mid, half = mark_micro / 1e6, self.venue.settings.half_spread_bps * 1e-4
        return {
            "t": instant(self.venue.now),
            "bx": "V",
            "bp": mid * (1.0 - half),
            "bs": 1,
            "ax": "V",
            "ap": mid * (1.0 + half),
            "as": 1,
            "c": MADE,
            "z": "C",
        }

    def _symbols(self, query: Mapping[str, str], table: Mapping[str, Bars]) -> list[str]:
        names = sorted({name for name in query.get("symbols", "").split(",") if name})
        if not names:
            raise RefusedError(400, 40010000, "symbols is required")
        unknown = [name for name in names if name not in table]
        if unknown:
            raise RefusedError(400, 40010000, f"invalid symbol: {unknown[0]}")
        return names

    def corporate_actions(self, query: Mapping[str, str]) -> Json:
        """GET /v1/corporate-actions: splits and cash dividends by ex-date, `start` and `end` inclusive, public two weeks ahead."""
        start = parse_day(query["start"], "start") if "start" in query else self.venue.session
        end = parse_day(query["end"], "end") if "end" in query else self.venue.session
        symbols = {name for name in query.get("symbols", "").split(",") if name}
        kinds = {_plural(name) for name in query.get("types", "").split(",") if name} or set(ACTION_LISTS)
        public = self.venue.session + ANNOUNCED_DAYS
        chosen = [a for a in self.venue.tape.actions if start <= a.ex_date <= min(end, public) and (not symbols or a.symbol in symbols)]
        rows = [(kind, body) for action in chosen for kind, body in _action_json(action) if kind in kinds]
        if query.get("sort") == "desc":
            rows.reverse()
        limit = _limit(query, 100, MAX_ACTIONS)
        offset = int(query["page_token"]) if query.get("page_token", "").isdigit() else 0
        answer: dict[str, list[Json]] = {}
        for kind, body in rows[offset : offset + limit]:
            answer.setdefault(kind, []).append(body)
        more = offset + limit < len(rows)
        return {"corporate_actions": answer, "next_page_token": str(offset + limit) if more else None}


def _limit(query: Mapping[str, str], default: int, most: int) -> int:
    text = query.get("limit", str(default))
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise RefusedError(400, 40010000, f"invalid limit: {text}, it is between 1 and {most}")
    return int(text)


def _make_token(symbol: str, timeframe: str, start: int) -> str:
    return base64.b64encode(f"{symbol}|{timeframe[1]}|{instant(start)}".encode()).decode()


def _token(token: str | None, symbols: list[str]) -> tuple[int, int | None]:
    """(place of the symbol, start of the bar) where a page begins."""
    if not token:
        return 0, None
    try:
        symbol, _, start = base64.b64decode(token, validate=True).decode().split("|")
        return symbols.index(symbol), parse_instant(start, "page_token")
    except (ValueError, binascii.Error) as error:
        raise RefusedError(400, 40010000, f"invalid page_token: {token}") from error


def _plural(kind: str) -> str:
    return kind if kind.endswith("s") else f"{kind}s"


def _action_json(action: Action) -> list[tuple[str, Json]]:
    """(list name, entry) for the split and for the dividend of an action."""
    day = day_text(action.ex_date)
    shared = {"symbol": action.symbol, "process_date": day, "ex_date": day, "record_date": day, "payable_date": day}
    entries: list[tuple[str, Json]] = []
    if action.split_ratio != 1.0:
        new, old = _rates(action.split_ratio)
        kind = "forward_splits" if action.split_ratio > 1.0 else "reverse_splits"
        cusips = {"cusip": ""} if kind == "forward_splits" else {"old_cusip": "", "new_cusip": ""}
        entries.append((kind, {"id": _action_id(action, kind), **shared, **cusips, "new_rate": new, "old_rate": old}))
    if action.cash_dividend:
        flags = {"cusip": "", "rate": action.cash_dividend, "special": False, "foreign": False}
        entries.append(("cash_dividends", {"id": _action_id(action, "cash_dividends"), **shared, **flags}))
    return entries


def _rates(ratio: float) -> tuple[float, float]:
    """(new, old) whose quotient is exactly `ratio`: whole numbers where a small pair divides to the same double."""
    for old in range(1, 101):
        new = round(ratio * old)
        if new and new / old == ratio:
            return float(new), float(old)
    return ratio, 1.0


def _action_id(action: Action, kind: str) -> str:
    return asset_id(f"{ASSET_NAMESPACE}:{kind}:{action.symbol}:{action.ex_date}:{action.split_ratio}:{action.cash_dividend}")
