"""Evidence read from a journal: which sessions count, and what each of them showed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from journals import JournalBook

from trading_platform.assets.instance import prepare_instance
from trading_platform.assets.operational_evidence import counted_sessions, losses_over_budget, sessions_of
from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.ledger import GENESIS, LedgerReader
from trading_platform.registry import ledger

BUNDLE, OTHER = "ab" * 32, "cd" * 32
DAY = 16436
GATES = {name: {"passed": True} for name in ledger.TECHNICAL_GATES}


def session(number: int, mode: str = "paper") -> str:
    return f"desk/{mode}/day-{number}/1"


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    made = Workplace(load_settings(home=str(tmp_path / "home"), profile="demo", account="desk"))
    path = made.settings.ledger_path
    for stage in ("candidate", "shadow", "paper"):
        said: dict[str, Any] = {
            "name": "alpha",
            "version": "1",
            "account": "desk",
            "mode": "paper",
            "stage": stage,
            "slot": "daily",
            "at": 1,
        }
        head = LedgerReader(path).head()
        ledger.promote(path, expected_head=head, bundle_id=BUNDLE, approvals=("Ann",), reason="test", gates=GATES, **said)
    return made


@pytest.fixture
def instance(place: Workplace) -> Iterator[dg.DagsterInstance]:
    with prepare_instance(place.settings) as found:
        yield found


def write(
    place: Workplace, head: str, event: dict[str, str] | None = None, close_last: bool = True, fee: float = 0.0, mode: str = "paper"
) -> Path:
    """Session 0 trades another bundle, then the bundle is swapped in; sessions 1 and 2 trade it. 100 AAA bought at 102.05 in session 1."""
    path = place.settings.journals_dir / f"desk-{mode}.sqlite"
    book, names = JournalBook(path), [session(number, mode) for number in range(3)]
    book.opened(names[0], DAY)
    book.adopted(names[0], 100_000.0)
    book.row(names[0], DAY, [100.0, 10.0], "d0", 100_000.0, bundles=[OTHER])
    book.closed(names[0], DAY, 100_000.0, 100_000.0)
    book.opened(names[1], DAY + 1)
    book.add(names[1], Kind.SWAP, "alpha_v1", {"label": "alpha_v1", "bundle_id": BUNDLE, "ledger_head": head})
    book.order(names[1], "o1", "d0", "us:AAA", "buy", 100)
    book.fill(names[1], "e1", "o1", "us:AAA", "buy", 100, 102.05, DAY + 1)
    book.row(names[1], DAY + 1, [102.0, 10.0], "d1", 99_995.0, bundles=[BUNDLE])
    cash = 100_000.0 - 10_205.0 + fee
    book.closed(names[1], DAY + 1, 100_000.0 - 5.0, cash)
    book.opened(names[2], DAY + 2)
    book.order(names[2], "o2", "d1", "us:BBB", "buy", 100)
    if event is not None:
        book.add(names[2], Kind.ORDER_EVENT, "o2", {"client_order_id": "o2", **event})
    book.row(names[2], DAY + 2, [103.0, 10.0], "d2", 100_095.0, bundles=[BUNDLE])
    if close_last:
        book.closed(names[2], DAY + 2, 100_000.0 + 95.0, 100_000.0 - 10_205.0)
    return path


def counted(path: Path, heads: set[str], bundles: set[str] | None = None) -> dict[str, int]:
    with JournalReader(path) as reader:
        return counted_sessions(reader.records(), bundles or {BUNDLE}, heads)


def test_sessions_count_from_the_swap_that_saw_the_entry_and_only_where_the_bundle_decided(place: Workplace) -> None:
    head = LedgerReader(place.settings.ledger_path).head()
    path = write(place, head, {"status": "working"})
    assert counted(path, {head}) == {session(1): 0, session(2): 0}
    assert counted(path, {"0" * 64}) == {} and counted(path, {head}, {OTHER}) == {} and counted(path, {GENESIS}) == {}


@pytest.mark.parametrize("event, unknown", [(None, 1), ({"status": "unknown"}, 1), ({"status": "working"}, 0), ({"status": "canceled"}, 0)])
def test_an_order_nobody_answered_for_is_unknown_at_the_sessions_end(place: Workplace, event: dict[str, str] | None, unknown: int) -> None:
    head = LedgerReader(place.settings.ledger_path).head()
    assert counted(write(place, head, event), {head}) == {session(1): 0, session(2): unknown}


def test_a_session_that_is_still_open_does_not_count(place: Workplace) -> None:
    head = LedgerReader(place.settings.ledger_path).head()
    assert counted(write(place, head, {"status": "working"}, close_last=False), {head}) == {session(1): 0}


def test_costs_profit_and_what_was_never_compared(place: Workplace, instance: dg.DagsterInstance) -> None:
    """Bought at 102.05, attainable 102: paid 5.00. Modelled: half spread and impact of 100 in a million shares, on 10,200."""
    entries = LedgerReader(place.settings.ledger_path).entries()
    write(place, entries[-1].hash, {"status": "working"})
    found, storage_id, head = sessions_of(instance, place, DAILY, entries, entries[-1])
    costs = place.profile(DAILY).costs
    first, second = found
    assert (first.session_id, first.fills, first.breaks, first.unexplained) == (session(1), 1, 0, None)
    assert first.paid == pytest.approx(5.0) and first.traded == pytest.approx(10_200.0)
    assert first.modelled == pytest.approx(10_200.0 * (costs.half_spread_bps + costs.impact_bps * 0.01) * 1e-4)
    assert first.pnl == pytest.approx(-5.0) and second.pnl == pytest.approx(100.0) and second.fills == 0
    assert storage_id is None and len(head) == 64


def test_an_account_that_is_not_the_venues_to_the_cent_is_a_break(place: Workplace, instance: dg.DagsterInstance) -> None:
    entries = LedgerReader(place.settings.ledger_path).entries()
    write(place, entries[-1].hash, {"status": "working"}, fee=0.01)
    assert sessions_of(instance, place, DAILY, entries, entries[-1])[0][0].breaks == 1


@pytest.mark.parametrize("budget, why", [(4.99, "lost 5.00 of 4.99 at 5% of the capital"), (5.0, "lost 5.00 of 5.00"), (5.01, "")])
def test_losses_at_the_present_share_reach_the_budget_or_not(
    place: Workplace, instance: dg.DagsterInstance, budget: float, why: str
) -> None:
    """Session 1 loses 5.00; session 2, which won 100.00, is not closed."""
    path = place.settings.ledger_path
    assert losses_over_budget(instance, place, DAILY) == ""
    said: dict[str, Any] = {"name": "alpha", "version": "1", "account": "desk", "mode": "live", "stage": "live", "slot": "daily", "at": 2}
    said |= {"bundle_id": BUNDLE, "approvals": ("Ann", "Bob"), "reason": "test", "capital_share": 0.05, "loss_budget": budget}
    entry = ledger.append(path, LedgerReader(path).head(), action="promote", **said)
    assert losses_over_budget(instance, place, DAILY) == ""
    write(place, entry.hash, {"status": "working"}, close_last=False, mode="live")
    found = losses_over_budget(instance, place, DAILY)
    assert found.startswith(why) and bool(found) == bool(why)


def test_without_a_journal_there_is_no_evidence(place: Workplace, instance: dg.DagsterInstance) -> None:
    entries = LedgerReader(place.settings.ledger_path).entries()
    assert sessions_of(instance, place, DAILY, entries, entries[-1]) == ([], None, "")
