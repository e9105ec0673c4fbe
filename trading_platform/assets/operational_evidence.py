"""Operational evidence of a recipe, read from the journal it trades in: which sessions count, and what each of them showed (T26)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from trading_platform.assets.inputs import latest_of_every
from trading_platform.assets.live import CENT, AccountsOfRun
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.session_accounts import SessionAccount
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.feed_skew import refusals
from trading_platform.contracts.journal import JournalReader, Kind, Record
from trading_platform.contracts.ledger import LedgerEntry, LedgerReader, in_force
from trading_platform.contracts.model import Model
from trading_platform.contracts.orders import OrderStatus
from trading_platform.contracts.profile import Costs
from trading_platform.registry.operational_evidence import SessionEvidence, evidence_gate
from trading_platform.registry.promotion_rules import Wanted, evidence_since

UNANSWERED = (OrderStatus.INTENT, OrderStatus.UNKNOWN)


def counted_sessions(records: Iterable[Record], bundles: Collection[str], heads: Collection[str]) -> dict[str, int]:
    """Closed sessions in which one of these bundles decided, with the orders that nobody knew about at the end of each.

    They count from the first record that had seen the ledger at one of `heads`: the entry the evidence counts from, or a later one. No
    clock is asked, because a simulated session has a time of its own.
    """
    seen, deciding, found = False, set[str](), dict[str, int]()
    status: dict[str, str] = {}
    for record in records:
        body = record.body
        if record.kind in (Kind.SWAP, Kind.STATE) and isinstance(body, Mapping) and body.get("ledger_head") in heads:
            seen = True
        elif record.kind is Kind.DECISION and seen and set(body["decision"]["bundle_ids"]) & set(bundles):
            deciding.add(record.session_id)
        elif record.kind is Kind.INTENT:
            status[str(body["client_order_id"])] = OrderStatus.INTENT
        elif record.kind is Kind.ORDER_EVENT:
            status[str(body["client_order_id"])] = str(body["status"])
        elif record.kind is Kind.FILL:
            status[str(body["client_order_id"])] = OrderStatus.FILLED
        elif record.kind is Kind.SESSION_CLOSED and record.session_id in deciding:
            found[record.session_id] = sum(said in UNANSWERED for said in status.values())
    return found


def shown(account: SessionAccount, unknown: int, unexplained: int | None, costs: Costs) -> SessionEvidence:
    """One session's evidence. An account that is not the venue's to the cent is a break, as the runner's own are (T12)."""
    from trading_platform.matching.bar import taken_price  # compiled: not at load

    apart = (account.equity_after - account.engine_equity, account.cash - account.venue_cash)
    ours = [trade for trade in account.trades if trade.leg != "foreign"]

    def charged(lots: int, price: float, volume: float) -> float:
        """What the backtest's own price would have cost beyond the attainable one."""
        return abs(lots) * (taken_price(price, 1, abs(lots), volume, costs.half_spread_bps, costs.impact_bps) - price)

    return SessionEvidence(
        session_id=account.session_id,
        fills=len(ours),
        unknown=unknown,
        breaks=len(account.breaks) + sum(not abs(value) < CENT for value in apart),
        unexplained=unexplained,
        paid=sum(trade.lots * (trade.price - trade.attainable) for trade in ours),
        modelled=sum(charged(trade.lots, trade.attainable, trade.volume) for trade in ours),
        traded=sum(abs(trade.lots) * trade.attainable for trade in ours),
        pnl=account.equity_after - account.equity_before - account.flows,
    )


def sessions_of(
    instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline, entries: Sequence[LedgerEntry], since: LedgerEntry
) -> tuple[list[SessionEvidence], int | None, str]:
    """(evidence per session, newest parity materialization used, the journal's head) since a ledger entry; empty without a journal."""
    path: Path = place.settings.journals_dir / f"{since.account}-{since.mode}.sqlite"
    if not path.is_file():
        return [], None, ""
    bundles = {
        e.bundle_id for e in entries if e.bundle_id and (e.bundle_id == since.bundle_id or (since.recipe and e.recipe == since.recipe))
    }
    with JournalReader(path) as reader:
        wanted = (Kind.SWAP, Kind.STATE, Kind.DECISION, Kind.INTENT, Kind.ORDER_EVENT, Kind.FILL, Kind.SESSION_CLOSED)
        counted = counted_sessions(reader.records(*wanted), bundles, {entry.hash for entry in entries[since.seq - 1 :]})
        head = reader.head()[1]
    parity = latest_of_every(instance, place, "live_parity")
    accounts, costs = AccountsOfRun(place), place.profile(pipeline).costs
    found, used = [], [parity[session].storage_id for session in counted if session in parity]
    for session, unknown in counted.items():
        compared = parity[session].manifest.facts.get("unexplained") if session in parity else None
        found.append(shown(accounts.of(session), unknown, None if compared is None else int(compared), costs))
    return found, max(used, default=None), head


def operational_gate(
    instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline, wanted: Wanted, model: Model
) -> dict[str, Any] | None:
    """Gate `operational_evidence` of a bundle that wants money; None where it was never on paper."""
    entries = LedgerReader(place.settings.ledger_path).entries()
    since = evidence_since(entries, wanted)
    if since is None:
        return None
    sessions, storage_id, head = sessions_of(instance, place, pipeline, entries, since)
    journal = place.settings.journals_dir / f"{since.account}-{since.mode}.sqlite"
    return evidence_gate(sessions, _feeds_apart(place, journal, model), since.seq, storage_id, head)


def _feeds_apart(place: Workplace, journal: Path, model: Model) -> Sequence[str]:
    """Why the bundle's feed and the one that was traded on do not go together; empty where they do (T5)."""
    if not journal.is_file():
        return ("nothing was traded",)
    with JournalReader(journal) as reader:
        started = reader.last(Kind.RUN_STARTED)
    live = dict(started.body.get("feed", {})) if started is not None else {}
    config = model.config
    return refusals(place.settings.lake_dir, config.feed, live, config.feature_hash, config.name)


def losses_over_budget(instance: dg.DagsterInstance, place: Workplace, pipeline: Pipeline) -> str:
    """Why the live capital of a pipeline has to step down now, empty where it need not: losses at its present share reached the budget."""
    entries, account = LedgerReader(place.settings.ledger_path).entries(), pipeline.account(place.settings.account)
    live = in_force(entries, account, "live", pipeline.slot)
    if not live:
        return ""
    now = live[-1]
    wanted = Wanted(now.name, now.version, now.bundle_id, account, "live", "live", pipeline.slot, now.capital_share, now.recipe)
    since = evidence_since(entries, wanted) or now
    lost = -sum(session.pnl for session in sessions_of(instance, place, pipeline, entries, since)[0])
    budget = now.loss_budget or 0.0
    return f"lost {lost:,.2f} of {budget:,.2f} at {now.capital_share:.0%} of the capital" if lost >= budget else ""
