"""Journals written by hand for the tests of what is made of them: the schema of contracts/journal.py, chained as the runner chains."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.journal import DDL, GENESIS, Kind, record_hash

IDS = ["us:AAA", "us:BBB"]
DAY_NS = 86_400_000_000_000


class JournalBook:
    """Appends records to a journal file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path)
        self._db.executescript(DDL)
        self._seq, self._prev = 0, GENESIS

    def add(self, session_id: str, kind: Kind, key: str, body: dict[str, Any]) -> None:
        """One record; its time is its number."""
        self._seq += 1
        stored = parse(canonical_bytes(body))
        digest = record_hash(self._prev, self._seq, session_id, self._seq, str(kind), key, stored)
        row = (self._seq, session_id, self._seq, str(kind), key, canonical_bytes(body), self._prev, digest)
        self._db.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        self._db.commit()
        self._prev = digest

    def opened(self, session_id: str, day: int) -> None:
        """A session begins."""
        self.add(session_id, Kind.SESSION_OPENED, str(day), {"session": day, "number": 1})

    def adopted(self, session_id: str, cash: float) -> None:
        """The venue's account as it was found."""
        self.add(
            session_id, Kind.ACCOUNT, "venue", {"adopted": True, "cash": cash, "positions": {}, "last_activity": "", "venue_account": "v"}
        )

    def row(self, session_id: str, day: int, closes: list[float], decision: str, equity: float, **extra: Any) -> None:
        """A daily row whose range is 1 % around the close, and its decision."""
        close = np.array(closes)
        fields = {"open": close, "high": close * 1.01, "low": close * 0.99, "close": close, "volume": np.full(2, 1e6)}
        factors = {"split_factor": np.ones(2), "return_factor": np.ones(2)}
        head = {"timeframe": "1Day", "instrument_ids": IDS, "timestamp": day * DAY_NS, "known_at": day * DAY_NS + 10, "session": day}
        present = {"present": np.isfinite(close), "member": np.ones(2, bool)}
        self.add(session_id, Kind.ROW, f"1Day:{day}", {**head, "fields": {**fields, **factors}, **present})
        said = {"decision_id": decision, "timestamp": day * DAY_NS, "known_at": day * DAY_NS + 10, "coverage": 1.0, "equity": equity}
        arrays = {"alpha": close * 0.0, "exposure": close * 0.0, "position": np.zeros(2, np.int64), "target": np.zeros(2, np.int64)}
        rest = {"instrument_ids": IDS, "bundle_ids": extra.get("bundles", []), "orders": [], "checks": []}
        rest["check_counts"] = extra.get("denied", {})
        self.add(session_id, Kind.DECISION, decision, {"decision": {**said, **arrays, **rest}, "trace": {"latency_ns": 5}})

    def order(self, session_id: str, identity: str, origin: str, name: str, side: str, lots: int, leg: str = "enter") -> None:
        """An intent."""
        body = {"client_order_id": identity, "origin_id": origin, "instrument_id": name, "symbol": name[3:], "side": side, "lots": lots}
        body |= {"quantity": str(lots), "order_type": "limit", "time_in_force": "day", "leg": leg, "attempt": 1, "created_at": self._seq}
        self.add(session_id, Kind.INTENT, identity, {**body, "limit_price": "200.00", "valid_from": 0, "good_until": 0})

    def fill(self, session_id: str, execution: str, identity: str, name: str, side: str, lots: int, price: float, day: int) -> None:
        """An execution at the session's end."""
        body = {"execution_id": execution, "client_order_id": identity, "venue_order_id": "v", "instrument_id": name, "side": side}
        numbers = {"lots": lots, "price": f"{price:.2f}", "ticks": price * 100, "at": day * DAY_NS + DAY_NS - 1}
        self.add(session_id, Kind.FILL, execution, {**body, **numbers})

    def action(self, session_id: str, name: str, ratio: float, dividend: float) -> None:
        """A corporate action on what is held."""
        body = {"instrument_id": name, "ex_date": 0, "split_ratio": ratio, "cash_dividend": dividend}
        self.add(session_id, Kind.CORPORATE_ACTION, name, body)

    def activity(self, session_id: str, identity: str, kind: str, amount: float) -> None:
        """Money the venue moved."""
        self.add(session_id, Kind.ACTIVITY, identity, {"id": identity, "activity_type": kind, "net_amount": f"{amount:.2f}"})

    def closed(self, session_id: str, day: int, equity: float, cash: float) -> None:
        """The runner's account when it closed the session."""
        self.add(session_id, Kind.SESSION_CLOSED, str(day), {"session": day, "equity": equity, "cash": cash, "rows": 1})
