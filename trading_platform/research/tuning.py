"""Hyper-parameter search on inner purged folds of one training span (TUNE-01). Nothing here sees a row of the test that comes after it.

A study is a function of its plan and its data: each trial's sampler is seeded by (seed, trial number), trials run in batches of a size that
the plan names, and a batch learns only from the batches before it. So threads, kills and resumptions change nothing. What a study finds is
a suggestion with a noise floor (`Gain`): somebody decides for a trial by its number, and nothing reads "the newest study".

Optuna samples, prunes and stores; it is imported on first use.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError, TradingError
from trading_platform.research.metrics import hac_t
from trading_platform.research.overfitting import expected_maximum

if TYPE_CHECKING:
    from optuna import Study as OptunaStudy
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial, Trial

    from trading_platform.research.splits import Fold

Array = NDArray[np.float64]
Value = float | int | str | bool
STATES = ("complete", "pruned", "failed")
OUTCOME = "outcome"
WHERE = "research.tuning"


@dataclass(frozen=True, slots=True)
class Range:
    """Numbers from low to high, both included; log: sampled by order of magnitude; whole: integers."""

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def holds(self, value: Value) -> bool:
        """Whether a value lies in the range and is of its kind."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and self.low <= float(value) <= self.high and (not self.whole or isinstance(value, int))


@dataclass(frozen=True, slots=True)
class Options:
    """One of these values."""

    values: tuple[Value, ...]

    def holds(self, value: Value) -> bool:
        """Whether the value is among them."""
        return value in self.values


Space = Mapping[str, Range | Options]

# Around what is usual for cross-sections of daily returns, where little is there to be learned: small trees, strong averaging.
LIGHTGBM: Space = MappingProxyType(
    {
        "rounds": Range(40, 400, log=True, whole=True),
        "num_leaves": Range(4, 127, log=True, whole=True),
        "learning_rate": Range(0.01, 0.2, log=True),
        "min_data_in_leaf": Range(50, 2000, log=True, whole=True),
        "feature_fraction": Range(0.3, 1.0),
        "bagging_fraction": Range(0.3, 1.0),
        "lambda_l2": Range(0.001, 100.0, log=True),
    }
)


@dataclass(frozen=True, slots=True)
class StudyPlan:
    """What a study does; with the data's identity it fixes every result.

    start: the values of trial 0, what would be used without a study. folds: inner purged folds. embargo: fraction of the training span.
    batch: trials that run without knowing of each other. startup: trials drawn at random before the sampler models anything. prune_after:
    folds that every trial runs before it may be pruned, against the median of completed trials. InputError for numbers that cannot work.
    """

    learner: str
    space: Space
    start: Mapping[str, Value]
    trials: int = 40
    folds: int = 5
    seed: int = 7
    embargo: float = 0.01
    batch: int = 4
    startup: int = 10
    prune_after: int = 2

    def __post_init__(self) -> None:
        if self.trials < 1 or self.folds < 2 or self.batch < 1 or self.startup < 1 or not 1 <= self.prune_after <= self.folds:
            counts = f"{self.trials} trials, {self.folds} folds, batches of {self.batch}, {self.startup} at random"
            fix = "trials, batch and random trials >= 1, folds >= 2, 1 <= prune_after <= folds"
            raise InputError(f"{counts}, pruned after {self.prune_after}", WHERE, fix)
        if not 0.0 <= self.embargo < 1.0:
            raise InputError(f"embargo {self.embargo}", WHERE, "give a fraction below 1")
        if set(self.start) != set(self.space):
            raise InputError(f"start names {sorted(self.start)}, the space {sorted(self.space)}", WHERE, "name the same parameters")
        outside = sorted(name for name, allowed in self.space.items() if not allowed.holds(self.start[name]))
        if outside:
            raise InputError(f"start lies outside the space: {', '.join(outside)}", WHERE, "widen the space, or start elsewhere")

    def identity(self, data: Mapping[str, Any]) -> str:
        """Hash of plan, sampler's version and data, 64 hex digits: the study's id. data: what the evaluation depends on, plain values."""
        plan = {name: getattr(self, name) for name in ("learner", "trials", "folds", "seed", "embargo", "batch", "startup", "prune_after")}
        return content_hash([plan, dict(self.space), dict(self.start), version("optuna"), data])


@dataclass(frozen=True, slots=True)
class FoldOutcome:
    """One inner fold of one trial. rows: int64 (n,) positions in the span; ic: float64 (n,) rank IC; predictions: float64 (n, S)."""

    rows: NDArray[np.int64]
    ic: Array
    predictions: Array


class Evaluate(Protocol):
    """Trains on one inner fold's training rows with a trial's values and predicts its test rows. Called from several threads."""

    def __call__(self, values: Mapping[str, Value], fold: int) -> FoldOutcome:
        """The outcome; a TradingError says that these values cannot be trained, and the trial counts as failed."""


@dataclass(frozen=True, slots=True)
class TrialResult:
    """A trial that ended. value: mean rank IC over the folds it ran, NaN when failed; running: the same after each fold.

    outcomes: of the same folds, only while the study runs. seconds: how long it took by the storage's clock, no part of the result.
    """

    number: int
    state: str
    values: Mapping[str, Value]
    value: float
    running: tuple[float, ...]
    error: str = ""
    outcomes: tuple[FoldOutcome, ...] = field(default=(), repr=False, compare=False)
    seconds: float = field(default=math.nan, compare=False)


@dataclass(frozen=True, slots=True)
class Study:
    """All trials in order, and the best completed one (the earlier one of equals)."""

    name: str
    plan: StudyPlan
    trials: tuple[TrialResult, ...]

    @property
    def best(self) -> TrialResult:
        """Highest mean rank IC among the completed trials. InputError where none completed."""
        done = [trial for trial in self.trials if trial.state == "complete"]
        if not done:
            errors = next((trial.error for trial in self.trials if trial.error), "all were pruned")
            raise InputError(f"no trial of {len(self.trials)} completed: {errors}", f"study {self.name}", "correct the space or the data")
        return max(done, key=lambda trial: (trial.value, -trial.number))

    def count(self, state: str) -> int:
        """Trials in one of STATES."""
        return sum(trial.state == state for trial in self.trials)


@dataclass(frozen=True, slots=True)
class Gain:
    """The best trial beside trial 0 on the same rows.

    difference: of mean rank ICs; t: of the paired differences, HAC with the label's overlap. rows: with both. t_of_noise: the expected
    largest t of as many trials if none were better than trial 0 and all were independent: a t below it is what searching alone gives.
    """

    difference: float
    t: float
    t_of_noise: float
    rows: int


def search(
    plan: StudyPlan,
    name: str,
    storage: BaseStorage,
    evaluate: Evaluate,
    record: Callable[[TrialResult], None] = lambda result: None,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Study:
    """Run the study to its last trial, or go on where a killed one stopped, and return it.

    name: of the study in `storage`, best `plan.identity(...)`. record: called once per ended trial, in order, before the study knows of it
    (a kill between the two makes it be called again). workers: threads; the result does not depend on it. Errors other than TradingError
    are recorded as a failed trial and go on to the caller. InputError for a stored study of another plan.
    """
    study = _opened(plan, name, storage)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for first in range(0, plan.trials, plan.batch):
            numbers = range(first, min(first + plan.batch, plan.trials))
            _run_batch(study, plan, numbers, evaluate, record, pool)
            progress(numbers[-1] + 1, plan.trials)
    return Study(name, plan, tuple(_result(plan, trial) for trial in study.get_trials(deepcopy=False)[: plan.trials]))


def gain(plan: StudyPlan, study: Study, evaluate: Evaluate, overlap: int) -> Gain:
    """How far the best trial is above trial 0, beside what searching alone gives. Evaluates both again. overlap: rows a label spans."""
    start, best = ([evaluate(values, fold) for fold in range(plan.folds)] for values in (plan.start, study.best.values))
    both = np.concatenate([b.ic - a.ic for a, b in zip(start, best, strict=True)])
    rows = np.concatenate([outcome.rows for outcome in best])
    paired = both[np.argsort(rows, kind="stable")]
    paired = paired[np.isfinite(paired)]
    floor = expected_maximum(max(len(study.trials), 1))
    return Gain(float(paired.mean()) if paired.size else math.nan, hac_t(paired, overlap), floor, int(paired.size))


def out_of_sample(folds: Sequence[Fold], t0: NDArray[np.int64], known_until: int) -> list[Fold]:
    """The folds whose test begins when every label that chose the parameters was known; earlier ones would test what was tuned on them.

    t0: int64 (T,) UTC ns, when each row is decided. InputError where no fold is left.
    """
    kept = [fold for fold in folds if t0[fold.test[0]] > known_until]
    if not kept:
        raise InputError(f"all {len(folds)} folds test rows that the parameters were tuned on", WHERE, "tune on an earlier span")
    return kept


def importance(study: Study) -> dict[str, float]:
    """Share of each parameter in what separates good from middling trials (PED-ANOVA, Watanabe 2023), descending; empty below 8 completed.

    Computed from the completed trials alone; a parameter that never varied has no share.
    """
    import optuna

    done = [trial for trial in study.trials if trial.state == "complete"]
    if len(done) < 8 or len({trial.value for trial in done}) < 2:
        return {}
    held = optuna.create_study(direction="maximize", storage=optuna.storages.InMemoryStorage())
    kinds = _distributions(study.plan.space)
    held.add_trials([optuna.trial.create_trial(params=dict(t.values), distributions=kinds, value=t.value) for t in done])
    found = optuna.importance.get_param_importances(held, evaluator=optuna.importance.PedAnovaImportanceEvaluator())
    return {name: float(share) for name, share in found.items()}


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    def one(allowed: Range | Options) -> BaseDistribution:
        if isinstance(allowed, Options):
            return CategoricalDistribution(allowed.values)
        if allowed.whole:
            return IntDistribution(int(allowed.low), int(allowed.high), log=allowed.log)
        return FloatDistribution(allowed.low, allowed.high, log=allowed.log)

    return {name: one(space[name]) for name in sorted(space)}


def _opened(plan: StudyPlan, name: str, storage: BaseStorage) -> OptunaStudy:
    import optuna

    logging.getLogger("optuna").setLevel(logging.WARNING)  # a line per trial otherwise; the caller has `progress`
    pruner = optuna.pruners.MedianPruner(n_startup_trials=plan.startup // 2, n_warmup_steps=plan.prune_after - 1)
    study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True, pruner=pruner)
    mine = plan.identity({})
    if study.user_attrs.get("plan", mine) != mine:
        raise InputError(f"the study {name} was begun with another plan", WHERE, "name a study by its plan's identity")
    study.set_user_attr("plan", mine)
    study.enqueue_trial(dict(plan.start), skip_if_exists=True)
    return study


def _run_batch(
    study: OptunaStudy,
    plan: StudyPlan,
    numbers: range,
    evaluate: Evaluate,
    record: Callable[[TrialResult], None],
    pool: ThreadPoolExecutor,
) -> None:
    """Ask for the whole batch, evaluate it, then tell of it: every trial of a batch knows the same past, whoever is faster or killed."""
    trials = {number: _asked(study, plan, number) for number in numbers}
    open_ = [trial for trial in trials.values() if trial is not None and OUTCOME not in trial.user_attrs]
    surprises: list[Exception] = []
    for trial, (result, surprise) in zip(open_, pool.map(lambda trial: _evaluated(trial, plan, evaluate), open_), strict=True):
        record(result)
        if surprise is not None:
            surprises.append(surprise)  # its trial stays open: another run of the study tries it again
            continue
        value = None if math.isnan(result.value) else result.value
        trial.set_user_attr(OUTCOME, {"state": result.state, "value": value, "error": result.error})
    if surprises:
        raise surprises[0]
    for trial in trials.values():
        if trial is not None:
            _told(study, trial)


def _asked(study: OptunaStudy, plan: StudyPlan, number: int) -> Trial | None:
    """The trial with this number: new, or left open by a run that was killed; None when it ended before."""
    import optuna

    seed = int(content_hash([plan.seed, number])[:8], 16)
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=plan.startup, multivariate=True, constant_liar=True)
    known = study.get_trials(deepcopy=False)
    kinds = _distributions(plan.space)
    if number >= len(known) or known[number].state == optuna.trial.TrialState.WAITING:
        trial = study.ask(fixed_distributions=kinds)
    elif known[number].state.is_finished():
        return None
    else:
        trial = optuna.trial.Trial(study, known[number]._trial_id)
        for name, kind in kinds.items():
            trial._suggest(name, kind)  # what it was given already comes back
    if trial.number != number:
        said = f"expected trial {number}, the storage gave {trial.number}"
        raise InputError(said, f"study {study.study_name}", "one process at a time runs a study")
    return trial


def _evaluated(trial: Trial, plan: StudyPlan, evaluate: Evaluate) -> tuple[TrialResult, Exception | None]:
    """Fold after fold until the last or until pruned."""
    outcomes: list[FoldOutcome] = []
    values = dict(trial.params)

    def ended(state: str, error: str = "") -> TrialResult:
        running = tuple(mean_ic(outcomes[: fold + 1]) for fold in range(len(outcomes)))
        value = math.nan if state == "failed" else running[-1]
        return TrialResult(trial.number, state, values, value, running, error, tuple(outcomes))

    try:
        for fold in range(plan.folds):
            outcome = evaluate(values, fold)
            if not bool(np.isfinite(outcome.ic).any()):
                raise InputError(f"fold {fold} has no row with a rank IC", WHERE, "give wider cross-sections or longer folds")
            outcomes.append(outcome)
            if fold not in trial.storage.get_trial(trial._trial_id).intermediate_values:
                trial.report(mean_ic(outcomes), fold)
            if fold + 1 < plan.folds and trial.should_prune():
                return ended("pruned"), None
    except TradingError as error:
        return ended("failed", str(error)), None
    except Exception as error:  # the caller raises it once the trial is on record
        return ended("failed", f"{type(error).__name__}: {error}"), error
    return ended("complete"), None


def mean_ic(outcomes: Sequence[FoldOutcome]) -> float:
    """Mean rank IC over all rows of some folds."""
    return float(np.nanmean(np.concatenate([outcome.ic for outcome in outcomes])))


def _told(study: OptunaStudy, trial: Trial) -> None:
    from optuna.trial import TrialState

    outcome = trial.user_attrs[OUTCOME]
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    value = outcome["value"] if outcome["state"] == "complete" else None
    study.tell(trial.number, value, state=states[outcome["state"]])


def _result(plan: StudyPlan, trial: FrozenTrial) -> TrialResult:
    outcome = trial.user_attrs[OUTCOME]
    value = math.nan if outcome["value"] is None else float(outcome["value"])
    running = tuple(trial.intermediate_values[fold] for fold in sorted(trial.intermediate_values))
    took = math.nan if trial.duration is None else trial.duration.total_seconds()
    values = {name: trial.params[name] for name in sorted(plan.space)}
    return TrialResult(trial.number, outcome["state"], values, value, running, outcome["error"], seconds=took)
