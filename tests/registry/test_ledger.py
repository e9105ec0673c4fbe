from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.contracts.ledger import GENESIS, LedgerEntry, LedgerReader
from trading_platform.registry import ledger

BUNDLE = "ab" * 32
PASSED: dict[str, dict[str, Any]] = {name: {"passed": True, "value": 1.0, "storage_id": 1} for name in ledger.required_gates("live")}
TECHNICAL = {name: PASSED[name] for name in ledger.TECHNICAL_GATES}


def promote(path: Path, stage: str, **changes: Any) -> LedgerEntry:
    values: dict[str, Any] = {
        "expected_head": LedgerReader(path).head(),
        "name": "alpha",
        "version": "1",
        "bundle_id": BUNDLE,
        "account": "demo",
        "mode": "paper",
        "stage": stage,
        "slot": "daily",
        "at": 1,
        "approvals": (),
        "reason": "gates passed",
        "gates": TECHNICAL,
    }
    return ledger.promote(path, **{**values, **changes})


def to_paper(path: Path) -> None:
    for stage in ("candidate", "shadow", "paper"):
        promote(path, stage)


def test_a_bundle_climbs_one_stage_at_a_time_and_then_has_authority(tmp_path: Path) -> None:
    path = tmp_path / "ledger" / "promotion.jsonl"
    assert LedgerReader(path).head() == GENESIS
    with pytest.raises(InputError, match="no stage and cannot become paper"):
        promote(path, "paper")
    promote(path, "candidate")
    promote(path, "shadow")
    assert LedgerReader(path).authority(BUNDLE, "demo", "paper") is None
    promote(path, "paper")
    authority = LedgerReader(path).authority(BUNDLE, "demo", "paper")
    assert authority is not None and authority.stage == "paper" and authority.seq == 3
    assert LedgerReader(path).authority(BUNDLE, "other", "paper") is None and LedgerReader(path).authority(BUNDLE, "demo", "live") is None


@pytest.mark.parametrize("gate", ledger.TECHNICAL_GATES)
@pytest.mark.parametrize(
    "state", [None, {"passed": False}, {"passed": None}, {"value": 1.0}], ids=["absent", "failed", "no-power", "unjudged"]
)
def test_a_technical_gate_that_is_not_passed_refuses_paper(tmp_path: Path, gate: str, state: dict[str, Any] | None) -> None:
    path = tmp_path / "promotion.jsonl"
    promote(path, "candidate", gates={})
    gates = {k: v for k, v in TECHNICAL.items() if k != gate} | ({} if state is None else {gate: state})
    with pytest.raises(InputError, match=gate):
        promote(path, "shadow", gates=gates)
    assert len(LedgerReader(path).entries()) == 1


def test_failed_statistics_do_not_stop_paper_but_stop_live(tmp_path: Path) -> None:
    path = tmp_path / "promotion.jsonl"
    weak = PASSED | {"dsr": {"passed": False, "value": 0.2}}
    for stage in ("candidate", "shadow", "paper"):
        promote(path, stage, gates=weak)
    with pytest.raises(InputError, match="failed: dsr"):
        promote(path, "live", mode="live", gates=weak, approvals=("Ann", "Bob"))
    with pytest.raises(InputError, match="not judged: dsr"):
        promote(path, "live", mode="live", gates=TECHNICAL, approvals=("Ann", "Bob"))


def test_live_needs_paper_first(tmp_path: Path) -> None:
    path = tmp_path / "promotion.jsonl"
    with pytest.raises(InputError, match="not on paper"):
        promote(path, "live", mode="live", gates=PASSED, approvals=("Ann", "Bob"))
    to_paper(path)
    with pytest.raises(InputError, match="does not exist in mode"):
        promote(path, "live", mode="paper", gates=PASSED, approvals=("Ann", "Bob"))


def test_a_revoked_bundle_has_no_authority_and_may_not_go_live(tmp_path: Path) -> None:
    path = tmp_path / "promotion.jsonl"
    to_paper(path)
    arguments: dict[str, Any] = {"bundle_id": BUNDLE, "account": "demo", "mode": "paper", "at": 2, "approvals": ("Ann",), "reason": "drift"}
    ledger.revoke(path, expected_head=LedgerReader(path).head(), **arguments)
    assert LedgerReader(path).authority(BUNDLE, "demo", "paper") is None
    with pytest.raises(InputError, match="not on paper"):
        promote(path, "live", mode="live", gates=PASSED, approvals=("Ann", "Bob"))
    with pytest.raises(InputError, match="holds no promotion"):
        ledger.revoke(path, expected_head=LedgerReader(path).head(), **arguments)


@pytest.mark.parametrize("taken", ["revoke", "archived"])
def test_what_a_person_took_back_does_not_return_by_itself(tmp_path: Path, taken: str) -> None:
    path = tmp_path / "promotion.jsonl"
    to_paper(path)
    if taken == "archived":
        promote(path, "archived", approvals=("Ann",), reason="superseded")
    else:
        ledger.revoke(
            path,
            expected_head=LedgerReader(path).head(),
            bundle_id=BUNDLE,
            account="demo",
            mode="paper",
            at=2,
            approvals=("Ann",),
            reason="drift",
        )
    for people in ((), ("automatic",), ("Automatic",)):
        with pytest.raises(InputError, match="taken back by Ann"):
            promote(path, "candidate", approvals=people)
    assert promote(path, "candidate", approvals=("Bob",)).approvals == ("Bob",)


def test_a_revocation_names_a_person_and_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "promotion.jsonl"
    to_paper(path)
    for people, reason in (((), "drift"), ((" ",), "drift"), (("Ann",), " ")):
        with pytest.raises(InputError, match="names a person and a reason"):
            ledger.revoke(
                path,
                expected_head=LedgerReader(path).head(),
                bundle_id=BUNDLE,
                account="demo",
                mode="paper",
                at=2,
                approvals=people,
                reason=reason,
            )


def test_of_many_writers_with_one_head_exactly_one_wins(tmp_path: Path) -> None:
    path = tmp_path / "promotion.jsonl"

    def attempt(number: int) -> bool:
        try:
            promote(path, "candidate", expected_head=GENESIS, bundle_id=f"{number:064x}")
        except TransientError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(16))) == 1
    assert len(LedgerReader(path).entries()) == 1


def test_an_edited_entry_stops_reading_and_writing(tmp_path: Path) -> None:
    path = tmp_path / "promotion.jsonl"
    to_paper(path)
    path.write_bytes(path.read_bytes().replace(b'"demo"', b'"mine"', 1))
    with pytest.raises(CorruptionError, match="entry 1 breaks the chain"):
        promote(path, "paper", expected_head=GENESIS)


def test_a_power_cut_while_writing_leaves_the_old_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "promotion.jsonl"
    promote(path, "candidate")
    before = path.read_bytes()

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", cut)
    with pytest.raises(KeyboardInterrupt):
        promote(path, "shadow")
    assert path.read_bytes() == before and len(LedgerReader(path).entries()) == 1
