from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from trading_platform.contracts.errors import InputError, TransientError
from trading_platform.research.metrics import hac_t
from trading_platform.research.study_storage import study_storage
from trading_platform.research.tuning import LIGHTGBM, FoldOutcome, Options, Range, Study, StudyPlan, TrialResult, gain, importance, search

SPACE = {"x": Range(-1.0, 1.0), "depth": Range(1, 64, log=True, whole=True), "kind": Options(("a", "b"))}
PLAN = StudyPlan("fake", SPACE, {"x": -0.9, "depth": 4, "kind": "a"}, trials=24, folds=3, seed=3, startup=6, prune_after=1)


def outcome(values: Mapping[str, object], fold: int, noise: float = 0.001) -> FoldOutcome:
    """A smooth hill with its top at x = 0.3; 20 rows per fold."""
    rows = np.arange(20 * fold, 20 * fold + 20)
    level = 0.1 - (float(values["x"]) - 0.3) ** 2  # type: ignore[arg-type]
    ic = level + noise * np.random.default_rng(fold).standard_normal(20)
    return FoldOutcome(rows, ic, np.zeros((20, 2)))


def run(folder: Path, plan: StudyPlan = PLAN, workers: int = 1, evaluate=outcome, url: str = "", **more) -> Study:  # type: ignore[no-untyped-def]
    name = plan.identity({})[:16]
    with study_storage(folder, name, url) as storage:
        return search(plan, name, storage, evaluate, workers=workers, **more)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return run(tmp_path_factory.mktemp("studies"))


def test_the_sampler_climbs_the_hill_and_the_first_trial_is_what_would_be_used_without_it(study: Study) -> None:
    assert dict(study.trials[0].values) == dict(PLAN.start) and len(study.trials) == PLAN.trials
    assert len({str(trial.values) for trial in study.trials}) == PLAN.trials
    assert abs(study.best.values["x"] - 0.3) < 0.15 and study.best.value > study.trials[0].value + 0.5  # type: ignore[operator]
    assert study.count("pruned") >= 3 and study.count("failed") == 0
    assert all(len(trial.running) < 3 for trial in study.trials if trial.state == "pruned")


def test_the_same_seed_gives_the_same_study_for_any_number_of_threads(study: Study, tmp_path: Path) -> None:
    assert run(tmp_path, workers=4).trials == study.trials
    another = StudyPlan("fake", SPACE, PLAN.start, trials=24, folds=3, seed=4, startup=6, prune_after=1)
    assert run(tmp_path, another).trials[1:] != study.trials[1:]


def test_an_ended_study_is_read_and_not_run_again(study: Study, tmp_path: Path) -> None:
    run(tmp_path)

    def never(values: Mapping[str, object], fold: int) -> FoldOutcome:
        raise AssertionError("evaluated again")

    assert run(tmp_path, evaluate=never).trials == study.trials


CHILD = """
import os, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_tuning as t
calls = 0
def evaluate(values, fold):
    global calls
    calls += 1
    if {where!r} == "evaluate" and calls == {at}:
        os._exit(9)
    return t.outcome(values, fold)
def record(result):
    if {where!r} == "record" and result.number == {at}:
        os._exit(9)
told = 0
import optuna
tell = optuna.study.Study.tell
def telling(self, *given, **named):
    global told
    told += 1
    if {where!r} == "tell" and told == {at}:
        os._exit(9)
    return tell(self, *given, **named)
optuna.study.Study.tell = telling
t.run(Path({folder!r}), workers=1, evaluate=evaluate, record=record)
"""


@pytest.mark.parametrize(("where", "at"), [("evaluate", 1), ("evaluate", 31), ("record", 10), ("tell", 15)])
def test_a_killed_study_goes_on_and_ends_as_if_nothing_had_happened(study: Study, tmp_path: Path, where: str, at: int) -> None:
    script = CHILD.format(tests=str(Path(__file__).parent), where=where, at=at, folder=str(tmp_path))
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    again: list[TrialResult] = []
    assert run(tmp_path, record=again.append).trials == study.trials
    assert 0 < len(again) <= PLAN.trials and [result.number for result in again] == sorted(result.number for result in again)


def test_every_trial_is_recorded_once_pruned_and_failed_ones_too(tmp_path: Path) -> None:
    seen: list[TrialResult] = []

    def evaluate(values: Mapping[str, object], fold: int) -> FoldOutcome:
        if values["kind"] == "b" and fold == 1:
            raise InputError("no tree fits", "here", "nothing")
        return outcome(values, fold)

    found = run(tmp_path, evaluate=evaluate, record=seen.append)
    assert [result.number for result in seen] == list(range(PLAN.trials)) and tuple(seen) == found.trials
    assert found.count("failed") > 0 < found.count("pruned") and found.best.values["kind"] == "a"
    failed = next(result for result in seen if result.state == "failed")
    assert "no tree fits" in failed.error and math.isnan(failed.value) and len(failed.outcomes) == 1


def test_an_unexpected_error_is_on_record_and_goes_on_to_the_caller(study: Study, tmp_path: Path) -> None:
    seen: list[TrialResult] = []

    def evaluate(values: Mapping[str, object], fold: int) -> FoldOutcome:
        if len(seen) >= 8:
            raise MemoryError("full")
        return outcome(values, fold)

    with pytest.raises(MemoryError):
        run(tmp_path, evaluate=evaluate, record=seen.append)
    assert [result.state for result in seen[8:]] == ["failed"] * 4 and "MemoryError" in seen[8].error
    assert run(tmp_path).trials == study.trials  # once there is memory


def test_a_study_without_a_completed_trial_has_no_best_one(tmp_path: Path) -> None:
    def evaluate(values: Mapping[str, object], fold: int) -> FoldOutcome:
        raise InputError("one class", "fold 0", "nothing")

    with pytest.raises(InputError, match=r"no trial of 24 completed.*one class"):
        _ = run(tmp_path, evaluate=evaluate).best


def test_a_study_is_not_run_twice_at_once_nor_with_another_plan(tmp_path: Path) -> None:
    with study_storage(tmp_path, "one") as storage:
        with pytest.raises(TransientError, match="another process"), study_storage(tmp_path, "one"):
            pass
        search(PLAN, "one", storage, outcome)
        longer = StudyPlan("fake", SPACE, PLAN.start, trials=25, folds=3, seed=3, startup=6, prune_after=1)
        with pytest.raises(InputError, match="another plan"):
            search(longer, "one", storage, outcome)


@pytest.mark.parametrize(
    "change",
    [{"trials": 0}, {"folds": 1}, {"prune_after": 4}, {"embargo": 1.0}, {"start": {"x": 0.0}}, {"start": {**PLAN.start, "x": 2.0}}],
    ids=str,
)
def test_a_plan_that_cannot_work_is_refused(change: dict[str, object]) -> None:
    given = {"learner": "fake", "space": SPACE, "start": PLAN.start, "trials": 24, "folds": 3, "prune_after": 1}
    with pytest.raises(InputError):
        StudyPlan(**{**given, **change})  # type: ignore[arg-type]


def test_the_defaults_of_lightgbm_lie_in_its_space() -> None:
    from trading_platform.research.models.lightgbm import Parameters

    StudyPlan("lightgbm", LIGHTGBM, {name: getattr(Parameters(), name) for name in LIGHTGBM})


def test_the_identity_changes_with_plan_and_data() -> None:
    other = StudyPlan("fake", {**SPACE, "x": Range(-1.0, 0.5)}, PLAN.start, trials=24, folds=3, seed=3, startup=6, prune_after=1)
    assert len({PLAN.identity({}), PLAN.identity({"data": "v2"}), other.identity({})}) == 3


def test_the_parameter_that_matters_has_the_largest_share(study: Study) -> None:
    shares = importance(study)
    assert next(iter(shares)) == "x" and sum(shares.values()) == pytest.approx(1.0) and shares["x"] > 0.5


def test_the_gain_is_paired_and_stands_beside_what_searching_alone_gives(study: Study, tmp_path: Path) -> None:
    found = gain(PLAN, study, outcome, overlap=5)
    assert found.difference == pytest.approx(study.best.value - study.trials[0].value) and found.rows == 60

    def noise(values: Mapping[str, object], fold: int) -> FoldOutcome:
        own = int(abs(float(values["x"])) * 1e9) + fold  # type: ignore[arg-type]
        return FoldOutcome(np.arange(20 * fold, 20 * fold + 20), 0.1 * np.random.default_rng(own).standard_normal(20), np.zeros((20, 2)))

    nothing = run(tmp_path, evaluate=noise)
    said = gain(PLAN, nothing, noise, overlap=0)
    paired = np.concatenate([noise(nothing.best.values, f).ic - noise(PLAN.start, f).ic for f in range(3)])
    assert said.t == pytest.approx(hac_t(paired, 0)) and said.difference > 0.0 and said.t_of_noise == pytest.approx(1.95, abs=0.05)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Path]:
    """A folder for a real server, which refuses to be root and cannot enter pytest's own folders, with its programs, from a wheel."""
    with tempfile.TemporaryDirectory(prefix="postgres") as home:
        Path(home).chmod(0o777)
        wheel = find_spec("pgserver")
        assert wheel is not None and wheel.origin is not None
        for folder in ("pgserver/pginstall", "pgserver.libs"):
            shutil.copytree(Path(wheel.origin).parents[1] / folder, Path(home) / folder)
        yield Path(home)


def test_postgres_gives_the_same_study(study: Study, postgres: Path, tmp_path: Path) -> None:
    data, options = str(postgres / "data"), f"-c listen_addresses= -k {postgres} -c fsync=off"

    def command(*words: str) -> None:
        user = "nobody" if os.geteuid() == 0 else None
        program = str(postgres / "pgserver" / "pginstall" / "bin" / words[0])
        subprocess.run([program, *words[1:]], check=True, capture_output=True, cwd=postgres, user=user)

    command("initdb", "-D", data, "-U", "trading", "-A", "trust")
    command("pg_ctl", "-D", data, "-w", "-l", str(postgres / "log"), "-o", options, "start")
    try:
        url = f"postgresql+psycopg2://trading@/postgres?host={postgres}"
        assert run(tmp_path, url=url).trials == study.trials and not list(tmp_path.glob("*.journal"))
        assert run(tmp_path, url=url, workers=4).trials == study.trials
    finally:
        command("pg_ctl", "-D", data, "-m", "immediate", "stop")
    with pytest.raises(TransientError, match="does not answer"):
        run(tmp_path, url=url)


def test_an_address_that_is_none_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        run(tmp_path, url="secret password")
    assert "secret" not in str(caught.value)
