from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.contracts.ledger import GENESIS
from trading_platform.registry.parameter_choices import ParameterChoices


def decided(choices: ParameterChoices, head: str | None = None, **changes: Any) -> Any:
    values: dict[str, Any] = {"at": 1, "who": "ann", "why": "fewer leaves", "pipeline": "daily", "action": "choose", "learner": "lightgbm"}
    values |= {
        "study": "lightgbm-40x5-s7",
        "data_version": "d",
        "trial": 3,
        "known_until": 99,
        "parameters": {"rounds": 60, "lambda_l2": 0.1},
    }
    return choices.append(choices.head() if head is None else head, **{**values, **changes})


def test_what_holds_is_the_newest_decision_about_the_pipeline(tmp_path: Path) -> None:
    choices = ParameterChoices(tmp_path / "ledger" / "parameters.jsonl")
    assert choices.now("daily") is None and choices.head() == GENESIS
    first = decided(choices)
    decided(choices, pipeline="intraday", trial=8)
    assert choices.now("daily") == first and first.parameters == {"rounds": 60, "lambda_l2": 0.1}
    decided(choices, action="default", parameters={})
    assert choices.now("daily") is None and choices.now("intraday").trial == 8  # type: ignore[union-attr]
    assert [entry.action for entry in choices.of("daily")] == ["choose", "default"]


def test_of_two_that_decide_at_once_one_is_refused(tmp_path: Path) -> None:
    choices = ParameterChoices(tmp_path / "parameters.jsonl")

    def attempt(number: int) -> bool:
        try:
            decided(choices, head=GENESIS, trial=number)
        except TransientError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1 and len(choices.entries()) == 1


@pytest.mark.parametrize("missing", ["who", "why"])
def test_a_decision_names_a_person_and_a_reason(tmp_path: Path, missing: str) -> None:
    with pytest.raises(InputError, match="a person and a reason"):
        decided(ParameterChoices(tmp_path / "parameters.jsonl"), **{missing: " "})


@pytest.mark.parametrize("damage", [(b'"rounds":60', b'"rounds":61'), (b'"seq":2', b'"seq":3'), (b"}\n", b"\n")])
def test_an_edited_file_is_refused(tmp_path: Path, damage: tuple[bytes, bytes]) -> None:
    choices = ParameterChoices(tmp_path / "parameters.jsonl")
    decided(choices)
    decided(choices)
    choices.path.write_bytes(choices.path.read_bytes().replace(*damage))
    with pytest.raises(CorruptionError):
        choices.now("daily")
