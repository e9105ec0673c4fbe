"""A traded stretch in numbers, read from the journal alone: per bundle, and the whole; and what it lacks of what was planned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trading_platform.contracts.errors import CorruptionError
from trading_platform.contracts.journal import JournalReader, Kind, Record

NO_BUNDLE = "(none)"  # decided without a model
UNDECIDED = "(undecided)"  # closed, and no decision of it is in the journal


@dataclass(slots=True)
class Part:
    """What one bundle decided. rows: closed rows of its decisions; pnl: equity change from each of them to the next; latencies_ns: row to
    decision."""

    label: str
    rows: int = 0
    decisions: int = 0
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
    """One run of a stretch. planned: label -> rows that its bundle should decide. refused: label and reason.

    repeated: rows and decisions of a timestamp beyond its first. kill_level: latched at the end. order_id: a filled order worth explaining
    (the newest filled entry), empty if none was filled.
    """

    planned: Mapping[str, int]

    sessions: tuple[str, ...]
    parts: tuple[Part, ...]
    opening: float
    closing: float
    swaps: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    breaks: tuple[str, ...]
    repeated: int
    kill_level: str
    order_id: str

    @property
    def whole(self) -> Part:
        """All parts as one."""
        parts = self.parts
        return Part(
            "all",
            rows=sum(part.rows for part in parts),
            decisions=sum(part.decisions for part in parts),
            orders=sum(part.orders for part in parts),
            fills=sum(part.fills for part in parts),
            denials=sum((part.denials for part in parts), start=Counter()),
            pnl=sum(part.pnl for part in parts),
            latencies_ns=[ns for part in parts for ns in part.latencies_ns],
        )

    @property
    def shortcomings(self) -> tuple[str, ...]:
        """What was planned and did not happen, a sentence each; empty where everything did.

        A refusal of another bundle is none: at a start the runner gives up what an older version of the features left active.
        """
        decided = {part.label: part.decisions for part in self.parts if part.label != UNDECIDED}
        counts = [(label, decided.get(label, 0), rows) for label, rows in self.planned.items()]
        said = [f"{label} decided {count} rows, its part is {rows}" for label, count, rows in counts if count != rows]
        said += [f"{label} decided {count} rows it was not asked for" for label, count in decided.items() if label not in self.planned]
        said += [f"{part.rows} rows have no decision" for part in self.parts if part.label == UNDECIDED]
        said += [f"{self.repeated} rows or decisions are there twice"] if self.repeated else []
        said += [f"{label} was refused: {reason}" for label, reason in self.refused if label in self.planned]
        said += [f"break: {what}" for what in self.breaks]
        return (*said, *(() if self.order_id else ("no entry was filled, so there is no order to explain",)))


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


def summarise(path: Path, after: int, planned: Mapping[str, int]) -> Summary:
    """Everything the journal says after record `after`, beside what was planned. CorruptionError where the chain is broken."""
    with JournalReader(path) as reader:
        reader.verify()
        records = list(reader.records(after=after))
        swaps, latch = list(reader.records(Kind.SWAP)), reader.last(Kind.LATCH)
    labels = {r.body["bundle_id"]: r.body["label"] for r in swaps if r.body.get("bundle_id")}
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
    closed = [r.body["equity"] for r in records if r.kind is Kind.SESSION_CLOSED]
    marks = [r.body["decision"]["equity"] for r in records if r.kind is Kind.DECISION]
    opening = float(marks[0]) if marks else 0.0
    closing = float(closed[-1]) if closed else opening
    owners = [by_decision[r.key] for r in records if r.kind is Kind.DECISION]
    for owner, before, later in zip(owners, marks, [*marks[1:], closing], strict=True):
        owner.pnl += later - before
    return Summary(
        planned=planned,
        sessions=tuple(dict.fromkeys(r.session_id for r in records if r.kind is Kind.SESSION_OPENED)),
        parts=tuple(parts.values()),
        opening=opening,
        closing=closing,
        swaps=tuple(r.body["label"] for r in records if r.kind is Kind.SWAP),
        refused=tuple((r.key, str(r.body["reason"])) for r in records if r.kind is Kind.SWAP_REFUSED),
        breaks=tuple(str(r.body.get("what", r.body)) for r in records if r.kind is Kind.BREAK),
        repeated=_repeated(records),
        kill_level=latch.body["level"] if latch is not None else "NONE",
        order_id=order_id,
    )


def _decisions(records: Sequence[Record], labels: dict[str, str], parts: dict[str, Part]) -> dict[str, Part]:
    """Decision id -> the part it belongs to; fills in `parts` what rows and decisions say."""
    found: dict[str, Part] = {}
    owner_of_row: dict[str, Part] = {}
    for record in records:
        if record.kind is not Kind.DECISION:
            continue
        decision, trace = record.body["decision"], record.body["trace"]
        bundles = decision["bundle_ids"]
        label = labels.get(bundles[0], bundles[0][:12]) if bundles else NO_BUNDLE
        part = parts.setdefault(label, Part(label))
        part.decisions += 1
        part.denials.update(decision["check_counts"])
        part.latencies_ns.append(trace["latency_ns"])
        found[record.key] = owner_of_row[_row_of(decision)] = part
    if any(not latency >= 0 for part in parts.values() for latency in part.latencies_ns):
        raise CorruptionError("a decision took negative time", "journal", "check the runner's stopwatch")
    for record in records:
        if record.kind is Kind.ROW:
            owner = owner_of_row.get(record.key) or parts.setdefault(UNDECIDED, Part(UNDECIDED))
            owner.rows += 1
    return found


def _row_of(decision: Mapping[str, Any]) -> str:
    """The key of the row that a decision is about."""
    return f"{decision['timeframe']}:{decision['timestamp']}"


def _repeated(records: Sequence[Record]) -> int:
    """Rows and decisions of a timestamp beyond its first."""
    rows = [r.key for r in records if r.kind is Kind.ROW]
    decided = [_row_of(r.body["decision"]) for r in records if r.kind is Kind.DECISION]
    return len(rows) - len(set(rows)) + len(decided) - len(set(decided))
