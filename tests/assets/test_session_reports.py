"""What a session was worth: hand-computed accounts, and that every cent has a place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from journals import JournalBook

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.failures import MaterializationError
from trading_platform.assets.graph import build_graph
from trading_platform.assets.inputs import latest
from trading_platform.assets.instance import prepare_instance
from trading_platform.assets.live import AccountsOfRun, judge_chain, judge_reports, session_ids
from trading_platform.assets.session_accounts import ACCOUNT, session_accounts
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.journal import JournalReader

FIRST, SECOND = 16436, 16437  # 2015-01-01 and -02: dates are only numbers here
ONE, TWO = "desk/paper/2015-01-01/1", "desk/paper/2015-01-02/1"
# Session one: 100 AAA bought at 101 (decided at 100; the bar's attainable price is its close, 102), which then closes at 102.
# Session two: AAA splits 2:1 and pays 0.50 a new share, opens with 200 lots at 51, closes at 52; 200 BBB are bought for 10 and sold for 11.
AFTER_ONE = 100_000.0 - 100 * 101.0
AFTER_TWO = AFTER_ONE + 200 * 0.5 - 200 * 10.0 + 200 * 11.0 - 1.25 + 500.0


def write(path: Path, cash_at_close: float = AFTER_TWO, forget_fee: bool = False) -> None:
    book = JournalBook(path)
    book.opened(ONE, FIRST)
    book.adopted(ONE, 100_000.0)
    book.row(ONE, FIRST - 1, [100.0, 10.0], "d0", 100_000.0)
    book.order(ONE, "o1", "d0", "us:AAA", "buy", 100)
    book.fill(ONE, "e1", "o1", "us:AAA", "buy", 100, 101.0, FIRST)
    book.row(ONE, FIRST, [102.0, 10.0], "d1", 100_100.0, denied={"MAX_POSITIONS": 2})
    book.closed(ONE, FIRST, 100_100.0, AFTER_ONE)
    book.opened(TWO, SECOND)
    book.action(TWO, "us:AAA", 2.0, 0.5)
    book.activity(TWO, "a1", "DIV", 100.0)
    if not forget_fee:
        book.activity(TWO, "a2", "FEE", -1.25)
    book.activity(TWO, "a3", "CSD", 500.0)
    book.order(TWO, "o2", "d1", "us:BBB", "buy", 200)
    book.fill(TWO, "e2", "o2", "us:BBB", "buy", 200, 10.0, SECOND)
    book.order(TWO, "o3", "d1", "us:BBB", "sell", 300, "reduce")
    book.fill(TWO, "e3", "o3", "us:BBB", "sell", 200, 11.0, SECOND)
    book.row(TWO, SECOND, [52.0, 10.5], "d2", AFTER_TWO + 200 * 52.0)
    book.closed(TWO, SECOND, AFTER_TWO + 200 * 52.0, cash_at_close)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(load_settings(home=str(tmp_path / "home"), profile="demo"))


@pytest.fixture
def instance(place: Workplace) -> Iterator[dg.DagsterInstance]:
    with prepare_instance(place.settings) as found:
        yield found


def journal(place: Workplace) -> Path:
    return place.settings.journals_dir / "desk-paper.sqlite"


def report(place: Workplace, instance: dg.DagsterInstance, *sessions: str) -> None:
    """Lift and report sessions."""
    from trading_platform.definitions import build_definitions

    instance.add_dynamic_partitions("sessions", list(sessions))
    definitions, graph = build_definitions(tracking=False, home=str(place.settings.home), profile="demo"), build_graph()
    for asset in ("live_journal", "session_report"):
        bring_current(definitions, graph, place, instance, {asset: sessions}, [asset])


def test_every_part_of_a_names_profit_is_what_a_person_computes(place: Workplace) -> None:
    write(journal(place))
    with JournalReader(journal(place)) as reader:
        accounts = session_accounts(reader.records())
    first = accounts[ONE].pnl["us:AAA"]
    assert first["alpha"] == pytest.approx(100 * (102 - 100))
    assert first["delay"] == pytest.approx(100 * (100 - 102))
    assert first["cost"] == pytest.approx(100 * (102 - 101))
    second = accounts[TWO].pnl
    assert second["us:AAA"]["alpha"] == pytest.approx(200 * (52 - 51))
    assert second["us:AAA"]["dividends"] == pytest.approx(100.0)
    assert sum(second["us:BBB"].values()) == pytest.approx(200 * (11 - 10))
    assert second[ACCOUNT]["fees"] == pytest.approx(-1.25)
    assert second[ACCOUNT]["residual"] == pytest.approx(0.0)
    assert accounts[TWO].positions == {"us:AAA": 200}
    assert accounts[TWO].working == 1 and accounts[ONE].denials == {"MAX_POSITIONS": 2}


def test_the_parts_add_up_to_the_equity_change_without_what_was_paid_in(place: Workplace) -> None:
    write(journal(place))
    with JournalReader(journal(place)) as reader:
        accounts = session_accounts(reader.records())
    for account in accounts.values():
        assert account.total == pytest.approx(account.equity_after - account.equity_before - account.flows, abs=1e-9)
    assert accounts[TWO].flows == 500.0
    assert accounts[TWO].equity_after == pytest.approx(AFTER_TWO + 200 * 52.0)


def test_sessions_of_a_range_are_one_run_with_a_manifest_each(place: Workplace, instance: dg.DagsterInstance) -> None:
    write(journal(place))
    assert session_ids(place, "desk", "paper") == [ONE, TWO]
    report(place, instance, ONE, TWO)
    assert len(instance.get_runs()) == 2
    found = [latest(instance, place, "session_report", session) for session in (ONE, TWO)]
    assert [item.manifest.partition for item in found if item is not None] == [ONE, TWO]
    assert judge_reports(instance, place).passed
    report(place, instance, ONE, TWO)
    assert len(instance.get_runs()) == 2


def test_a_cent_that_the_venue_has_not_fails_the_report(place: Workplace, instance: dg.DagsterInstance) -> None:
    write(journal(place), cash_at_close=AFTER_TWO - 0.01)
    with pytest.raises(MaterializationError, match="balanced"):
        report(place, instance, ONE, TWO)
    judged = judge_reports(instance, place)
    assert not judged.passed and judged.metadata["not_the_runners_account"].value == TWO


def test_a_fee_the_journal_never_heard_of_fails_the_report(place: Workplace, instance: dg.DagsterInstance) -> None:
    write(journal(place), forget_fee=True)
    with pytest.raises(MaterializationError, match="balanced"):
        report(place, instance, ONE, TWO)


def test_a_report_by_older_code_is_counted_and_not_judged(
    place: Workplace, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(journal(place), cash_at_close=AFTER_TWO - 0.01)
    with monkeypatch.context() as older:
        older.setattr("trading_platform.assets.inputs.code_version", lambda *parts: "0" * 16)
        with pytest.raises(MaterializationError, match="balanced"):  # for the code that made it, it is the newest
            report(place, instance, ONE, TWO)
    judged = judge_reports(instance, place)
    assert judged.passed and judged.metadata["of_older_code"].value == 2 and judged.metadata["sessions"].value == 0
    with pytest.raises(MaterializationError, match="balanced"):  # it is stale for this code, made again, and then judged
        report(place, instance, ONE, TWO)


def test_a_second_adopted_account_does_not_inherit_what_the_first_was_owed(place: Workplace) -> None:
    book = JournalBook(journal(place))
    book.opened(ONE, FIRST)
    book.adopted(ONE, 100_000.0)
    book.row(ONE, FIRST - 1, [100.0, 10.0], "d0", 100_000.0)
    book.order(ONE, "o1", "d0", "us:AAA", "buy", 100)
    book.fill(ONE, "e1", "o1", "us:AAA", "buy", 100, 101.0, FIRST)
    book.action(ONE, "us:AAA", 1.0, 0.3333)  # 33.33 that the venue has not paid when the account is given up
    book.row(ONE, FIRST, [102.0, 10.0], "d1", 100_133.33)
    book.closed(ONE, FIRST, 100_133.33, AFTER_ONE)
    book.opened(TWO, SECOND)
    book.adopted(TWO, 50_000.0)
    book.row(TWO, SECOND, [103.0, 10.0], "d2", 50_000.0)
    book.closed(TWO, SECOND, 50_000.0, 50_000.0)
    with JournalReader(journal(place)) as reader:
        accounts = session_accounts(reader.records())
    assert accounts[ONE].engine_equity == pytest.approx(accounts[ONE].equity_after) == pytest.approx(100_100.0)
    assert accounts[TWO].engine_equity == accounts[TWO].equity_after == accounts[TWO].equity_before == 50_000.0
    assert accounts[TWO].total == 0.0


def test_a_session_knows_nothing_of_the_account_before_its_own(place: Workplace) -> None:
    book = JournalBook(journal(place))
    book.opened(ONE, FIRST)
    book.adopted(ONE, 100_000.0)
    book.row(ONE, FIRST, [100.0, 10.0], "d0", 100_000.0)
    book.order(ONE, "o1", "d0", "us:AAA", "buy", 100)  # still working when the account is given up
    book.adopted(ONE, 50_000.0)
    book.opened(TWO, SECOND)
    book.row(TWO, SECOND, [103.0, 10.0], "d1", 50_000.0)
    book.closed(TWO, SECOND, 50_000.0, 50_000.0)
    accounts = AccountsOfRun(place)
    assert accounts.of(TWO).working == 0 and accounts.of(TWO).equity_before == accounts.of(TWO).equity_after == 50_000.0
    assert accounts.of(ONE).working == 1


def test_an_edited_journal_fails_the_chain(place: Workplace, instance: dg.DagsterInstance) -> None:
    import sqlite3

    write(journal(place))
    report(place, instance, ONE, TWO)
    assert judge_chain(instance, place).passed
    with sqlite3.connect(journal(place)) as database:
        database.execute("DROP TRIGGER record_no_update")
        database.execute("UPDATE record SET body = CAST(replace(body, '101.00', '100.00') AS BLOB) WHERE kind = 'fill'")
    judged = judge_chain(instance, place)
    assert not judged.passed and "breaks the chain" in judged.metadata["broken"].value
