"""What an append-only file must survive: a power cut at every byte, several writers, and people who edit it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.research.hash_chain import GENESIS, HashChain


def filled(path: Path, count: int) -> HashChain:
    chain = HashChain(path)
    for number in range(count):
        chain.append({"what": f"record {number}", "absent": None})
    return chain


def test_records_are_chained_and_absent_values_left_out(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.jsonl", 3)
    records = chain.records()
    assert [(record["seq"], record["what"]) for record in records] == [(1, "record 0"), (2, "record 1"), (3, "record 2")]
    assert [record["prev"] for record in records] == [GENESIS, records[0]["hash"], records[1]["hash"]]
    assert chain.head() == records[2]["hash"] and "absent" not in records[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain.jsonl", "chain.jsonl.lock"]


def test_an_absent_file_is_an_empty_chain_and_reading_makes_none(tmp_path: Path) -> None:
    chain = HashChain(tmp_path / "none" / "chain.jsonl")
    assert chain.records() == () and chain.head() == GENESIS and not (tmp_path / "none").exists()


def test_a_power_cut_at_any_byte_loses_nothing_that_was_promised_and_repeats_nothing(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.jsonl", 2)
    before = chain.path.read_bytes()
    expected = chain.append({"what": "cut"})
    line = chain.path.read_bytes()[len(before) :]
    for written in (*range(0, len(line) - 2, 11), len(line) - 2, len(line) - 1, len(line)):
        chain.path.write_bytes(before + line[:written])
        chain.path.with_name("chain.jsonl.pending").write_bytes(line)
        again = HashChain(chain.path)
        if written % 2:
            assert again.append({"what": "next"})["prev"] == expected["hash"]
            assert [record["what"] for record in again.records()] == ["record 0", "record 1", "cut", "next"]
        else:
            assert again.head() == expected["hash"] and again.records()[2] == expected and len(again.records()) == 3


def test_the_record_is_safe_before_the_file_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = filled(tmp_path / "chain.jsonl", 2)
    with monkeypatch.context() as patch:
        patch.setattr(HashChain, "_write", lambda self, data: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            chain.append({"what": "cut"})
    assert [record["what"] for record in HashChain(chain.path).records()] == ["record 0", "record 1", "cut"]


def test_a_power_cut_at_the_first_record(tmp_path: Path) -> None:
    path = tmp_path / "chain.jsonl"
    expected = filled(path, 1).records()
    line = path.read_bytes()
    for written in (None, 0, 7, len(line)):
        path.unlink()
        if written is not None:
            path.write_bytes(line[:written])
        path.with_name("chain.jsonl.pending").write_bytes(line)
        assert HashChain(path).records() == expected


def test_a_torn_record_without_its_copy_is_damage(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.jsonl", 2)
    chain.path.write_bytes(chain.path.read_bytes()[:-5])
    for use in (chain.records, chain.head, lambda: chain.append({"what": "next"})):
        with pytest.raises(CorruptionError, match="torn"):
            use()


def test_a_copy_of_another_file_is_not_taken_in(tmp_path: Path) -> None:
    chain, other = filled(tmp_path / "chain.jsonl", 3), filled(tmp_path / "other.jsonl", 2)
    before = chain.path.read_bytes()
    for foreign in (other.path.read_bytes().splitlines(keepends=True)[1], before.splitlines(keepends=True)[0]):
        chain.path.with_name("chain.jsonl.pending").write_bytes(foreign)
        with pytest.raises(CorruptionError, match="does not continue"):
            chain.append({"what": "next"})
        assert chain.path.read_bytes() == before


@pytest.mark.parametrize("damage", ["value", "hash", "middle", "order", "garbage", "array", "blank"])
def test_every_edit_is_found(tmp_path: Path, damage: str) -> None:
    chain = filled(tmp_path / "chain.jsonl", 3)
    lines = chain.path.read_bytes().splitlines(keepends=True)
    chain.path.write_bytes(
        b"".join(
            {
                "value": [lines[0], lines[1].replace(b"record 1", b"record 9"), lines[2]],
                "hash": [lines[0], lines[1][:20] + b"0" + lines[1][21:], lines[2]],
                "middle": [lines[0], lines[2]],
                "order": [lines[1], lines[0], lines[2]],
                "garbage": [*lines, b"{nothing\n"],
                "array": [*lines, b"[1]\n"],
                "blank": [lines[0], b"\n", *lines[1:]],
            }[damage]
        )
    )
    with pytest.raises(CorruptionError):
        chain.records()


def test_an_append_reads_the_newest_record_alone_however_long_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chain = filled(tmp_path / "chain.jsonl", 3)
    chain.append({"what": "x" * 300_000})
    head = chain.head()
    monkeypatch.setattr(HashChain, "_verified", lambda self: pytest.fail("the whole file was read"))
    assert chain.append({"what": "next"})["prev"] == head


def test_writers_at_the_same_time_make_one_chain(tmp_path: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: HashChain(tmp_path / "chain.jsonl").append({"what": str(n)}), range(24)))
    assert sorted(int(record["what"]) for record in HashChain(tmp_path / "chain.jsonl").records()) == list(range(24))


def test_a_refusal_sees_all_records_and_writes_nothing(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.jsonl", 3)

    def refuse(records: object) -> None:
        assert records == tuple(chain_records)
        raise InputError("no", "test", "none")

    chain_records = chain.records()
    before = chain.path.read_bytes()
    with pytest.raises(InputError, match="no"):
        chain.append({"what": "next"}, allowed=refuse)
    assert chain.path.read_bytes() == before and chain.records() == chain_records


def test_a_disk_that_does_not_take_the_record_says_so(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.jsonl", 1)
    chain.path.unlink()
    chain.path.mkdir()
    with pytest.raises((TransientError, CorruptionError, OSError)):
        chain.append({"what": "next"})


def test_lines_are_canonical(tmp_path: Path) -> None:
    chain = filled(tmp_path / "chain.jsonl", 1)
    assert chain.path.read_bytes() == canonical_bytes(chain.records()[0]) + b"\n"
