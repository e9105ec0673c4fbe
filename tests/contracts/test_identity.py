"""Instruments' grids, ids, journal reader and ledger reader."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trading_platform.contracts import journal, ledger
from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.checks import CHECK_TEXT, CheckCode
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.ids import client_order_id, decision_id, session_id
from trading_platform.contracts.instruments import (
    instrument_id_of,
    lots_of,
    price_string,
    price_ticks,
    quantity_string,
    symbol_of,
)
from trading_platform.contracts.model import parse_label


@given(st.floats(0.01, 1e6), st.sampled_from([1, -1]))
def test_a_limit_never_gives_more_than_was_asked(price: float, side: int) -> None:
    ticks = price_ticks(price, side)
    noise = 1e-8 * price + 1e-8
    assert ticks >= 1
    assert (ticks / 100 <= price + noise if side > 0 else ticks / 100 >= price - noise) or ticks == 1
    assert abs(ticks / 100 - price) < 0.01 + noise


@given(st.integers(1, 10**9), st.sampled_from([1, 10, 100, 10_000]))
def test_prices_survive_the_edge(ticks: int, per_unit: int) -> None:
    text = price_string(ticks, per_unit)
    assert float(text) == ticks / per_unit
    assert Decimal(text) * per_unit == ticks


def test_off_grid_and_senseless_numbers_are_refused() -> None:
    for call in (
        lambda: lots_of("1.005", 100),
        lambda: lots_of("abc"),
        lambda: lots_of("NaN"),
        lambda: price_string(0),
        lambda: quantity_string(-1),
        lambda: price_ticks(float("nan"), 1),
        lambda: instrument_id_of(" A"),
        lambda: symbol_of("AAPL"),
        lambda: parse_label("no version"),
        lambda: session_id("a", "backtest", "2014-01-02", 1),
        lambda: client_order_id("a", "s", "d", "us:A", "enter", 0),
    ):
        with pytest.raises(InputError):
            call()
    assert symbol_of("us:CB~2") == "CB"
    assert parse_label("bull_specialist_v127") == ("bull_specialist", "127")
    assert parse_label("tlob_tiny_v1.2") == ("tlob_tiny", "1.2")


def test_ids_are_pure_functions_of_their_parts() -> None:
    first = client_order_id("demo", "demo/paper/2014-07-11/1", "d", "us:AAPL", "enter", 1)
    assert first == client_order_id("demo", "demo/paper/2014-07-11/1", "d", "us:AAPL", "enter", 1)
    assert first == "tp5zsi23iaqukns2fd3shujtujtbaj3ddf" and len(first) <= 48
    assert first != client_order_id("demo", "demo/paper/2014-07-11/1", "d", "us:AAPL", "enter", 2)
    assert decision_id("e", ("b",), "p", "a", "r", 1) == decision_id("e", ("b",), "p", "a", "r", 1)
    assert decision_id("e", ("b",), "p", "a", "r", 1) != decision_id("e", ("b",), "p", "a", "r", 2)


def test_every_check_code_has_its_text() -> None:
    assert set(CHECK_TEXT) == set(CheckCode)
    assert [int(code) for code in CheckCode] == list(range(len(CheckCode)))


def test_the_manual_lists_every_check_of_an_order() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "gates.md").read_text(encoding="utf-8")
    assert [code for code, text in CHECK_TEXT.items() if f"| `{code.name}` | {text} |" not in manual] == []


def write_journal(path: Path, bodies: list[dict[str, int]]) -> None:
    db = sqlite3.connect(path)
    db.executescript(journal.DDL)
    previous = journal.GENESIS
    for seq, body in enumerate(bodies, start=1):
        digest = journal.record_hash(previous, seq, "s", seq, "row", "k", body)
        db.execute("INSERT INTO record VALUES (?,?,?,?,?,?,?,?)", (seq, "s", seq, "row", "k", canonical_bytes(body), previous, digest))
        previous = digest
    db.commit()
    db.close()


def test_the_journal_is_append_only_and_its_chain_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    write_journal(path, [{"n": 1}, {"n": 2}, {"n": 3}])
    with journal.JournalReader(path) as reader:
        assert reader.verify() == 3
        assert [r.body["n"] for r in reader.records(journal.Kind.ROW, after=1)] == [2, 3]
        assert reader.last(journal.Kind.ROW).seq == 3
    db = sqlite3.connect(path)
    for sql in ("UPDATE record SET at = 9 WHERE seq = 2", "DELETE FROM record WHERE seq = 2"):
        with pytest.raises(sqlite3.IntegrityError):
            db.execute(sql)
    db.executescript("DROP TRIGGER record_no_update; UPDATE record SET at = 9 WHERE seq = 2;")
    db.close()
    with journal.JournalReader(path) as reader, pytest.raises(CorruptionError, match="record 2"):
        reader.verify()


def test_a_missing_journal_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no journal"):
        journal.JournalReader(tmp_path / "absent.sqlite")


def entry(seq: int, prev: str, action: str, stage: str, mode: str = "paper") -> ledger.LedgerEntry:
    return ledger.LedgerEntry(seq, prev, action, "alpha", "1", "b1", "demo", mode, stage, "daily", seq, ("demo",), "why")


def test_only_an_unrevoked_entry_for_this_account_and_mode_is_authority(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    reader = ledger.LedgerReader(path)
    assert reader.head() == ledger.GENESIS and reader.authority("b1", "demo", "paper") is None
    chain = [entry(1, ledger.GENESIS, "promote", "shadow")]
    lines = []

    def write() -> None:
        lines[:] = [canonical_bytes({**{f: getattr(e, f) for f in e.__dataclass_fields__}, "hash": e.hash}) for e in chain]
        path.write_bytes(b"\n".join(lines) + b"\n")

    write()
    assert reader.authority("b1", "demo", "paper") is None
    chain.append(entry(2, chain[-1].hash, "promote", "paper"))
    write()
    assert reader.authority("b1", "demo", "paper") == chain[-1]
    assert reader.authority("b1", "demo", "live") is None
    assert reader.authority("b1", "other", "paper") is None
    assert reader.authority("b2", "demo", "paper") is None
    chain.append(entry(3, chain[-1].hash, "revoke", "paper"))
    write()
    assert reader.authority("b1", "demo", "paper") is None
    chain.append(entry(4, chain[-1].hash, "promote", "paper", mode="live"))
    write()
    assert reader.authority("b1", "demo", "live") is None  # a live account trades nothing that only reached paper
    chain.append(entry(5, chain[-1].hash, "promote", "live", mode="live"))
    write()
    assert reader.authority("b1", "demo", "live") == chain[-1]
    path.write_bytes(path.read_bytes().replace(b'"reason":"why"', b'"reason":"hmm"', 1))
    with pytest.raises(CorruptionError, match="entry 1"):
        reader.entries()
