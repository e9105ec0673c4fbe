"""The feature policy file: a chain nobody can edit, one writer at a time, a person and a reason in every entry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.contracts.ledger import GENESIS
from trading_platform.registry.feature_policy import FeaturePolicy, PolicyEntry


def append(policy: FeaturePolicy, head: str | None = None, **changed: Any) -> PolicyEntry:
    said = {"at": 1, "who": "Ann", "why": "a reason", "commit": "abc", "pipeline": "daily", "action": "disable", "reference": "core"}
    state = {"feature_hash": "f" * 64, "disabled": ("macd",), "safe": (), "shadow": {}}
    return policy.append(policy.head() if head is None else head, **{**said, **state, **changed})


def test_what_is_written_is_read_and_pipelines_are_apart(tmp_path: Path) -> None:
    policy = FeaturePolicy(tmp_path / "ledger" / "features.jsonl")
    assert policy.entries() == () and policy.head() == GENESIS and policy.now("daily") is None
    first = append(policy)
    shadow = {"reference": "core@v2.0", "feature_hash": "e" * 64, "after_session": 16_000, "sessions": 30}
    second = append(policy, pipeline="intraday", action="shadow", shadow=shadow)
    third = append(policy, disabled=("macd", "rsi_14"))
    again = FeaturePolicy(policy.path)
    assert again.entries() == (first, second, third) and [entry.seq for entry in again.entries()] == [1, 2, 3]
    assert again.of("daily") == (first, third) and again.now("daily") == third and again.now("intraday") == second
    assert third.prev == second.hash and again.head() == third.hash


def test_a_change_without_a_person_or_a_reason_is_refused(tmp_path: Path) -> None:
    policy = FeaturePolicy(tmp_path / "features.jsonl")
    for changed in ({"who": " "}, {"why": ""}):
        with pytest.raises(InputError, match="a person and a reason"):
            append(policy, **changed)
    assert not policy.path.exists()


def test_who_decided_on_an_older_state_is_told(tmp_path: Path) -> None:
    policy = FeaturePolicy(tmp_path / "features.jsonl")
    append(policy)
    with pytest.raises(TransientError, match="somebody else"):
        append(policy, head=GENESIS)
    assert len(policy.entries()) == 1


def test_an_edited_a_missing_and_a_torn_line_break_the_chain(tmp_path: Path) -> None:
    policy = FeaturePolicy(tmp_path / "features.jsonl")
    for name in ("macd", "rsi_14", "price"):
        append(policy, disabled=(name,))
    whole = policy.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for damaged in (whole.replace(b"rsi_14", b"rsi_15"), b"".join([lines[0], lines[2]]), b"".join(lines[1:]), whole[:-20], b"[]\n"):
        policy.path.write_bytes(damaged)
        with pytest.raises(CorruptionError):
            policy.entries()
