from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.research.trials import GENESIS, TrialRegistry

RETURNS = np.random.default_rng(0).standard_normal(500) * 0.01


def record(registry: TrialRegistry, recipe: str = "r1", returns: np.ndarray | None = RETURNS, **changes: Any) -> Any:
    values: dict[str, Any] = {
        "scope": "us/all/5d",
        "recipe": recipe,
        "span": (12784, 16000),
        "data_version": "d",
        "at": 1,
        "returns": returns,
    }
    return registry.record(**{**values, **changes})


def test_refits_and_reruns_are_not_new_trials_but_failures_are(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    assert registry.head() == GENESIS and registry.count("us/all/5d").trials == 0
    record(registry)
    record(registry, at=2)
    record(registry, "r2", -RETURNS)
    record(registry, "r3", None)
    record(registry, "r1", span=(12784, 15000))
    record(registry, "r9", scope="crypto/all/1h")
    count = registry.count("us/all/5d")
    assert (count.trials, count.failed) == (4, 1)
    ratio = RETURNS.mean() / RETURNS.std(ddof=1)
    assert count.variance == pytest.approx(max(np.var([ratio, -ratio, ratio], ddof=1), 1 / 499))


def test_near_equal_trials_do_not_make_the_variance_vanish(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    for number in range(3):
        record(registry, f"r{number}", RETURNS + 1e-9 * number)
    assert registry.count("us/all/5d").variance == pytest.approx(1 / 499)


def test_moments_are_per_period_and_raw(tmp_path: Path) -> None:
    trial = record(TrialRegistry(tmp_path / "t.jsonl"))
    assert abs(trial.sharpe) < 0.2 and 2.0 < trial.kurtosis < 4.5 and trial.count == 500 and trial.state == "completed"


@pytest.mark.parametrize("damage", ["edit", "delete_middle", "swap", "cut_line"])
def test_an_edited_registry_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "trials.jsonl"
    registry = TrialRegistry(path)
    for recipe in ("r1", "r2", "r3"):
        record(registry, recipe)
    lines = path.read_bytes().splitlines(keepends=True)
    changed = {
        "edit": [lines[0].replace(b'"r1"', b'"r7"'), *lines[1:]],
        "delete_middle": [lines[0], lines[2]],
        "swap": [lines[1], lines[0], lines[2]],
        "cut_line": [lines[0], lines[1], lines[2][:-20]],
    }[damage]
    path.write_bytes(b"".join(changed))
    with pytest.raises(CorruptionError):
        registry.count("us/all/5d")
    with pytest.raises(CorruptionError):
        record(registry, "r4")


def test_a_cut_off_tail_is_found_by_the_pinned_head(tmp_path: Path) -> None:
    path = tmp_path / "trials.jsonl"
    registry = TrialRegistry(path)
    for recipe in ("r1", "r2"):
        record(registry, recipe)
    pinned = registry.head()
    path.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
    assert registry.head() != pinned and pinned not in {trial.hash for trial in registry.trials()}


def test_writers_at_the_same_time_lose_no_trial(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: record(registry, f"r{n}"), range(18)))
    assert registry.count("us/all/5d").trials == 18


def test_a_trial_without_scope_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        record(TrialRegistry(tmp_path / "t.jsonl"), scope="")
