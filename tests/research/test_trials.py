from __future__ import annotations

import math
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.research.overfitting import expected_maximum
from trading_platform.research.trials import GENESIS, TrialCount, TrialRegistry

OLD_LINE = (
    b'{"at":1,"count":5,"data_version":"d","hash":"309926a8e106c0ab5261a7eb0fafe0679ca2046677994fb62eca0ffb14c39a00"'
    b',"kurtosis":1.955621301775148,"note":"","prev":"00000000000000000000000000000000000000000000000000000000000000'
    b'00","recipe":"r1","scope":"us/all/5d","seq":1,"sharpe":0.5262348115842176,"skew":-0.2715454178836395,"span":[12784,16000],"state":"completed"}\n'
)
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
    if damage == "cut_line":
        with pytest.raises(CorruptionError, match="torn"):
            record(registry, "r4")
    else:
        record(registry, "r4")  # an append looks at the newest record alone: what lies deeper is found by whoever counts
    with pytest.raises(CorruptionError):
        registry.count("us/all/5d")


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


def scope_of(registry: TrialRegistry, returns: np.ndarray, sessions: np.ndarray | None = None) -> None:
    for number, column in enumerate(returns.T):
        there = np.isfinite(column)
        days = np.arange(column.size) + 12784 if sessions is None else sessions
        record(registry, f"r{number}", column[there], sessions=days[there])


def family(rho: float, groups: int, members: int, count: int = 500) -> np.ndarray:
    rng = np.random.default_rng(groups)
    common = rng.standard_normal((count, groups)).repeat(members, axis=1)
    return (math.sqrt(rho) * common + math.sqrt(1 - rho) * rng.standard_normal((count, groups * members))) * 0.01


def test_raw_and_effective_numbers_are_counted_and_the_stricter_binds(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    returns = family(0.97, 3, 7)
    returns[:, :7] += 0.0012  # one group has luck: near-equal trials make the raw variance too small or the number too large
    scope_of(registry, returns)
    record(registry, "crashed", None)
    count = registry.count("us/all/5d")
    assert (count.trials, count.failed, count.effective) == (22, 1, 4)
    grouped = [(returns[:, g : g + 7] / returns[:, g : g + 7].std(axis=0, ddof=1)).mean(axis=1) for g in (0, 7, 14)]
    ratios = [one.mean() / one.std(ddof=1) for one in grouped]
    assert count.effective_variance == pytest.approx(np.var(ratios, ddof=1))
    raw, effective = expected_maximum(22, count.variance), expected_maximum(4, count.effective_variance)
    assert count.hurdle(500) == max(raw, effective) == raw
    assert TrialCount(22, 1, 1e-3, 4, 1e-2).hurdle(5000) == expected_maximum(4, 1e-2) > expected_maximum(22, 1e-3)
    assert math.isnan(TrialCount(0, 0, math.nan).hurdle(500)) and math.isnan(count.hurdle(1))


def test_a_short_result_among_long_trials_is_judged_by_its_own_luck() -> None:
    count = TrialCount(10, 0, 1 / 2499, 3, 1 / 2499)
    assert count.hurdle(250) == expected_maximum(10, 1 / 249) > 3 * count.hurdle(2500) == pytest.approx(3 * expected_maximum(10, 1 / 2499))


def test_returns_come_back_to_the_bit_side_by_side(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    returns = family(0.9, 2, 2, 200)
    returns[:5, 1] = returns[195:, 2] = np.nan
    scope_of(registry, returns)
    record(registry, "undated", RETURNS)
    record(registry, "crashed", None)
    found = registry.returns("us/all/5d")
    assert np.array_equal(found.values, returns, equal_nan=True) and found.sessions.tolist() == list(range(12784, 12984))
    assert [trial.recipe for trial in found.trials] == ["r0", "r1", "r2", "r3"] and np.array_equal(found.common(), returns[5:195])
    sessions, kept = registry.kept_returns(registry.trials()[4])
    assert sessions.size == 0 and np.array_equal(kept, RETURNS)
    assert registry.count("us/all/5d").effective == 2 + 2  # undated and crashed ones count for themselves
    with pytest.raises(InputError, match="kept no returns"):
        registry.kept_returns(registry.trials()[5])


def test_equal_returns_are_kept_once(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    assert len({record(registry, recipe).returns for recipe in ("r1", "r2", "r3")}) == 1
    assert len(list((tmp_path / "trials.returns").iterdir())) == 1


@pytest.mark.parametrize("damage", ["edited", "deleted"])
def test_returns_that_were_touched_are_refused(tmp_path: Path, damage: str) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    scope_of(registry, family(0.5, 1, 2))
    path, other = sorted((tmp_path / "trials.returns").iterdir())
    path.unlink()
    if damage == "edited":
        path.write_bytes(other.read_bytes())
    with pytest.raises(CorruptionError, match=r"edited|cannot be read"):
        registry.count("us/all/5d")


@pytest.mark.parametrize("sessions", [np.arange(499), np.zeros(500, int)])
def test_days_that_do_not_fit_the_returns_are_refused(tmp_path: Path, sessions: np.ndarray) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    with pytest.raises(InputError, match="one day per return"):
        record(registry, sessions=sessions)
    assert registry.trials() == ()


RUN: dict[str, Any] = {"scope": "us/all/5d", "recipe": "r1", "span": (12784, 16000), "data_version": "d", "at": 1}


def test_an_attempt_is_on_record_before_it_runs_and_its_end_replaces_it(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    with registry.attempt(**RUN) as attempt:
        assert [trial.state for trial in registry.trials()] == ["started"]
        assert (registry.count("us/all/5d").trials, registry.count("us/all/5d").failed) == (1, 1)
        attempt.finish(RETURNS, np.arange(500), "first")
    assert attempt.trial == registry.trials()[-1] and attempt.trial.state == "completed" and attempt.trial.note == "first"
    assert (registry.count("us/all/5d").trials, registry.count("us/all/5d").failed) == (1, 0)


@pytest.mark.parametrize("error", [ValueError("no such column"), KeyboardInterrupt("stopped")])
def test_an_attempt_that_raises_is_a_failed_trial_and_raises_on(tmp_path: Path, error: BaseException) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    with pytest.raises(type(error)), registry.attempt(**RUN) as attempt:
        attempt.finish(RETURNS)
        raise error
    last = registry.trials()[-1]
    assert (last.state, last.note, last.returns) == ("failed", f"{type(error).__name__}: {error.args[0]}", None)


def test_an_attempt_without_returns_is_a_failed_trial(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    with registry.attempt(**RUN):
        pass
    assert [trial.state for trial in registry.trials()] == ["started", "failed"]


def test_a_later_failure_does_not_take_back_a_completed_trial(tmp_path: Path) -> None:
    registry = TrialRegistry(tmp_path / "trials.jsonl")
    record(registry, "r1", RETURNS)
    record(registry, "r2", -RETURNS)
    before = registry.count("us/all/5d")
    record(registry, "r1", None, at=2)
    assert registry.count("us/all/5d") == before and before.failed == 0
    rerun = record(registry, "r1", RETURNS + 0.01, at=3)
    assert registry.count("us/all/5d").variance == pytest.approx(np.var([rerun.sharpe, registry.trials()[1].sharpe], ddof=1))


def test_a_process_killed_in_a_run_leaves_a_trial(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from trading_platform.research.trials import TrialRegistry\n"
        "with TrialRegistry(Path(sys.argv[1])).attempt(scope='s', recipe='r', span=(1, 2), data_version='d', at=1):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "trials.jsonl")], check=False)
    count = TrialRegistry(tmp_path / "trials.jsonl").count("s")
    assert done.returncode == -signal.SIGKILL and (count.trials, count.failed) == (1, 1) and math.isnan(count.variance)


def test_a_registry_written_before_returns_were_kept_still_verifies(tmp_path: Path) -> None:
    """One line as the first version of the registry wrote it."""
    path = tmp_path / "trials.jsonl"
    path.write_bytes(OLD_LINE)
    registry = TrialRegistry(path)
    assert registry.trials()[0].recipe == "r1" and registry.count("us/all/5d").trials == 1
    assert record(registry, "r2", sessions=np.arange(500)).seq == 2 and registry.count("us/all/5d").effective == 2
