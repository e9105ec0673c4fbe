"""A traded stretch in numbers, read from the journal alone: per bundle, and the whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from trading_platform.contracts.errors import CorruptionError
from trading_platform.contracts.journal import JournalReader, Kind, Record

NO_BUNDLE = "(none)"


@dataclass(slots=True)
class Part:
    """Rows that one bundle decided. pnl: equity change from each of its decisions to the next. latencies_ns: row to decision."""

    label: str
    rows: int = 0
    orders: int = 0
    fills: int = 0
    denials: Counter[str] = field(default_factory=Counter)
    pnl: float = 0.0
    latencies_ns: list[int] = field(default_factory=list)

    def latency_ms(self, share: float) -> float:
        """A quantile of the decision latency, ms."""
        ordered = sorted(self.latencies_ns)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] / 1e6 if ordered else 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """One run of a stretch. order_id: a filled order worth explaining (the newest filled entry), empty if none was filled."""

    sessions: tuple[str, ...]
    parts: tuple[Part, ...]
    opening: float
    closing: float
    swaps: tuple[str, ...]
    refused: tuple[str, ...]
    breaks: tuple[str, ...]
    repeated_rows: int
    order_id: str

    @property
    def whole(self) -> Part:
        """All parts as one."""
        parts = self.parts
        return Part(
            "all",
            rows=sum(part.rows for part in parts),
            orders=sum(part.orders for part in parts),
            fills=sum(part.fills for part in parts),
            denials=sum((part.denials for part in parts), start=Counter()),
            pnl=sum(part.pnl for part in parts),
            latencies_ns=[ns for part in parts for ns in part.latencies_ns],
        )


def journal_head(path: Path) -> int:
    """Number of the last record, 0 where there is no journal yet."""
    if not path.is_file():
        return 0
    with JournalReader(path) as reader:
        return reader.head()[0]


def closed_sessions(path: Path, after: int) -> list[str]:
    """Sessions opened after record `after` that are closed, in order."""
    with JournalReader(path) as reader:
        opened = [record.session_id for record in reader.records(Kind.SESSION_OPENED, after=after)]
        closed = {record.session_id for record in reader.records(Kind.SESSION_CLOSED, after=after)}
    return [session_id for session_id in dict.fromkeys(opened) if session_id in closed]


def summarise(path: Path, after: int) -> Summary:
    """Everything the journal says after record `after`. CorruptionError where the chain is broken."""
    with JournalReader(path) as reader:
        reader.verify()
        records = list(reader.records(after=after))
    labels = {r.body["bundle_id"]: r.body["label"] for r in records if r.kind is Kind.SWAP and r.body.get("bundle_id")}
    parts: dict[str, Part] = {}
    by_decision = _decisions(records, labels, parts)
    by_order: dict[str, Part] = {}
    entries: set[str] = set()
    order_id = ""
    for record in records:
        if record.kind is Kind.INTENT and record.body["origin_id"] in by_decision:
            by_order[record.key] = by_decision[record.body["origin_id"]]
            by_order[record.key].orders += 1
            if record.body["leg"] == "enter":
                entries.add(record.key)
        elif record.kind is Kind.FILL and record.body["client_order_id"] in by_order:
            by_order[record.body["client_order_id"]].fills += 1
            if record.body["client_order_id"] in entries:
                order_id = record.body["client_order_id"]
    rows = Counter(r.key for r in records if r.kind is Kind.ROW)
    closed = [r.body["equity"] for r in records if r.kind is Kind.SESSION_CLOSED]
    marks = [r.body["decision"]["equity"] for r in records if r.kind is Kind.DECISION]
    opening = float(marks[0]) if marks else 0.0
    closing = float(closed[-1]) if closed else opening
    owners = list(by_decision.values())
    for owner, before, later in zip(owners, marks, [*marks[1:], closing], strict=True):
        owner.pnl += later - before
    return Summary(
        sessions=tuple(dict.fromkeys(r.session_id for r in records if r.kind is Kind.SESSION_OPENED)),
        parts=tuple(parts.values()),
        opening=opening,
        closing=closing,
        swaps=tuple(r.body["label"] for r in records if r.kind is Kind.SWAP),
        refused=tuple(f"{r.key}: {r.body['reason']}" for r in records if r.kind is Kind.SWAP_REFUSED),
        breaks=tuple(str(r.body.get("what", r.body)) for r in records if r.kind is Kind.BREAK),
        repeated_rows=sum(count - 1 for count in rows.values()),
        order_id=order_id,
    )


def _decisions(records: Iterable[Record], labels: dict[str, str], parts: dict[str, Part]) -> dict[str, Part]:
    found: dict[str, Part] = {}
    for record in records:
        if record.kind is not Kind.DECISION:
            continue
        decision, trace = record.body["decision"], record.body["trace"]
        bundles = decision["bundle_ids"]
        label = labels.get(bundles[0], bundles[0][:12]) if bundles else NO_BUNDLE
        part = parts.setdefault(label, Part(label))
        part.rows += 1
        part.denials.update(decision["check_counts"])
        part.latencies_ns.append(trace["latency_ns"])
        found[record.key] = part
    if any(not latency >= 0 for part in parts.values() for latency in part.latencies_ns):
        raise CorruptionError("a decision took negative time", "journal", "check the runner's stopwatch")
    return found
