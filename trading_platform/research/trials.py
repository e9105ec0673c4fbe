"""The trial registry: every training and backtest run counts, nothing can be taken back (T30, VALD-04, I11).

A trial is a recipe on a data span; refits and re-runs of it are not new trials, failed ones count, and so does one that was started and
never heard of again. N and V for the deflated Sharpe ratio, and the returns for PBO and the effective number of trials, are read from here
and from nowhere else. Records are lines of a hash chain; returns lie beside it, named by their content.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import content_hash, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.registry.object_store import write_atomic
from trading_platform.research.hash_chain import GENESIS as GENESIS  # an empty registry's head
from trading_platform.research.hash_chain import HashChain
from trading_platform.research.metrics import kurtosis, sharpe, skewness
from trading_platform.research.overfitting import cluster_sharpes, clusters, expected_maximum

Array = NDArray[np.float64]
STATES = ("started", "completed", "failed")
MAX_CLUSTERED = 2000  # correlations of more trials need more than 100 MB; the raw number binds then
LONGEST_NOTE = 500


@dataclass(frozen=True, slots=True)
class Trial:
    """One record of a run of a recipe.

    scope: asset class x universe rule x horizon family, in which trials compete. recipe: content hash of what people would approve (code,
    features, label, universe, parameters). span: session days (days since 1970-01-01) of the first and last row. state: started,
    completed or failed. sharpe: net, per period; with skew and raw kurtosis, None where undefined or not completed. count: periods.
    returns: sha256 of the kept returns. at: UTC ns.
    """

    seq: int
    prev: str
    scope: str
    recipe: str
    span: tuple[int, int]
    data_version: str
    state: str
    count: int
    at: int
    sharpe: float | None = None
    skew: float | None = None
    kurtosis: float | None = None
    note: str = ""
    returns: str | None = None

    @property
    def hash(self) -> str:
        """Chained hash of the record."""
        return content_hash(self)


@dataclass(frozen=True, slots=True)
class TrialCount:
    """What the deflated Sharpe ratio needs: trials in scope, of which not completed, and the variance of their per-period Sharpe ratios.

    effective: number of different bets among them (`overfitting.clusters`), effective_variance: variance of the Sharpe ratios of these;
    None where no returns were kept or they are too many.
    """

    trials: int
    failed: int
    variance: float
    effective: int | None = None
    effective_variance: float | None = None

    def hurdle(self, count: int) -> float:
        """Sharpe ratio per period that the best worthless trial is expected to show: by raw or effective N and V, the stricter binds (T30).

        count: periods of the result that is judged; V is never below 1 / (count - 1), however much longer the other trials were. NaN
        without a completed trial.
        """
        if not self.trials or not math.isfinite(self.variance) or count < 2:
            return math.nan
        own = 1.0 / (count - 1)
        raw = expected_maximum(self.trials, max(self.variance, own))
        if self.effective is None or self.effective_variance is None:
            return raw
        return max(raw, expected_maximum(self.effective, max(self.effective_variance, own)))


@dataclass(frozen=True, slots=True)
class TrialReturns:
    """Net returns of a scope's trials side by side: sessions int64 (T,), values float64 (T, N), NaN where a trial has none; trials."""

    sessions: NDArray[np.int64]
    values: Array
    trials: tuple[Trial, ...]

    def common(self) -> Array:
        """The rows on which every trial has a return, (T', N): what PBO is made of."""
        return self.values[np.isfinite(self.values).all(axis=1)]


@dataclass(slots=True)
class Attempt:
    """A run in progress: hand in what it earned."""

    returns: Array | None = None
    sessions: NDArray[np.int64] | None = None
    note: str = ""
    trial: Trial | None = field(default=None, init=False)

    def finish(self, returns: Array, sessions: NDArray[np.int64] | None = None, note: str = "") -> None:
        """returns: net, per period, float64 (T,); sessions: int64 (T,) their days, without which they cannot be laid beside others."""
        self.returns, self.sessions, self.note = returns, sessions, note


class TrialRegistry:
    """Appends to and reads one registry file; an absent file is an empty registry."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self._chain = HashChain(self.path)
        self._kept = self.path.with_suffix(".returns")

    def trials(self) -> tuple[Trial, ...]:
        """All records in order. Raises CorruptionError where a line does not parse or the chain breaks (an edit, a deletion)."""
        found = []
        for stored in self._chain.records():
            try:
                found.append(Trial(**{**{k: v for k, v in stored.items() if k != "hash"}, "span": tuple(stored["span"])}))
            except (KeyError, TypeError) as error:
                what = f"record {stored.get('seq')} is not a trial: {error}"
                raise CorruptionError(what, str(self.path), "restore the registry from its backup") from error
        return tuple(found)

    def head(self) -> str:
        """Hash of the newest record, GENESIS when empty; a bundle's metadata pins it, so that a cut-off tail is found."""
        return self._chain.head()

    def record(
        self,
        *,
        scope: str,
        recipe: str,
        span: tuple[int, int],
        data_version: str,
        at: int,
        returns: Array | None,
        note: str = "",
        sessions: NDArray[np.int64] | None = None,
    ) -> Trial:
        """Append a run and return it, durable. returns: net, per period; None records a failed trial. sessions: int64, their days."""
        state = "failed" if returns is None else "completed"
        return self._append(state, scope, recipe, span, data_version, at, returns, sessions, note)

    @contextmanager
    def attempt(self, *, scope: str, recipe: str, span: tuple[int, int], data_version: str, at: int) -> Iterator[Attempt]:
        """Put a run on record before it begins, and its end afterwards: completed with what `finish` got, failed where the body raised.

        A process that dies in between leaves the start, which counts as a trial that failed; so does this one until the body has ended:
        count afterwards.
        """
        self._append("started", scope, recipe, span, data_version, at)
        attempt = Attempt()
        try:
            yield attempt
        except BaseException as error:  # one that somebody stopped counts as well
            note = f"{type(error).__name__}: {error}"
            attempt.trial = self._append("failed", scope, recipe, span, data_version, at, note=note)
            raise
        state, note = ("failed", "ended without returns") if attempt.returns is None else ("completed", attempt.note)
        attempt.trial = self._append(state, scope, recipe, span, data_version, at, attempt.returns, attempt.sessions, note)

    def _append(
        self,
        state: str,
        scope: str,
        recipe: str,
        span: tuple[int, int],
        data_version: str,
        at: int,
        returns: Array | None = None,
        sessions: NDArray[np.int64] | None = None,
        note: str = "",
    ) -> Trial:
        if not scope or not recipe or span[1] < span[0]:
            raise InputError(f"scope {scope!r}, recipe {recipe!r}, span {span}", "research.trials", "name all three; the span runs forward")
        clean = np.empty(0) if returns is None else returns[np.isfinite(returns)]
        moments = {"sharpe": sharpe(clean), "skew": skewness(clean), "kurtosis": kurtosis(clean)}
        fields = {
            "scope": scope,
            "recipe": recipe,
            "span": span,
            "data_version": data_version,
            "state": state,
            "count": int(clean.size),
            "at": at,
            "note": note[:LONGEST_NOTE],
            "returns": None if returns is None else self._keep(returns, sessions),
            **{name: value for name, value in moments.items() if math.isfinite(value)},
        }
        stored = self._chain.append(fields)
        return Trial(**{**{k: v for k, v in stored.items() if k != "hash"}, "span": span})

    def _keep(self, returns: Array, sessions: NDArray[np.int64] | None) -> str:
        """Write the returns under the hash of their bytes, durable before the record that names them."""
        days = np.empty(0, dtype=np.int64) if sessions is None else np.ascontiguousarray(sessions, dtype=np.int64)
        if days.size and (days.shape != returns.shape or bool(np.any(np.diff(days) <= 0))):
            what = f"{days.size} sessions for {returns.size} returns, or not ascending"
            raise InputError(what, "research.trials", "give one day per return, ascending")
        file = io.BytesIO()
        np.savez(file, sessions=days, returns=np.ascontiguousarray(returns, dtype=np.float64))
        name = sha256_hex(file.getvalue())
        write_atomic(self._kept / f"{name}.npz", file.getvalue(), if_absent=True)
        return name

    def kept_returns(self, trial: Trial) -> tuple[NDArray[np.int64], Array]:
        """(sessions, returns) of a completed trial; sessions is empty where none were given.

        Raises InputError for a trial without returns, CorruptionError where the file is missing or other bytes than recorded.
        """
        if trial.returns is None:
            raise InputError(f"record {trial.seq} ({trial.state}) kept no returns", str(self.path), "ask for a completed trial")
        path = self._kept / f"{trial.returns}.npz"
        try:
            data = path.read_bytes()
            if sha256_hex(data) != trial.returns:
                raise CorruptionError("the kept returns were edited", str(path), "restore the file from its backup")
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return arrays["sessions"], arrays["returns"]
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise CorruptionError(f"the returns of record {trial.seq} cannot be read: {error}", str(path), "restore the file") from error

    def returns(self, scope: str) -> TrialReturns:
        """The kept returns of a scope's trials side by side; trials whose returns have no days are left out."""
        return self._returns(standing(self.trials(), scope))

    def _returns(self, trials: Sequence[Trial]) -> TrialReturns:
        kept = [(trial, *self.kept_returns(trial)) for trial in trials if trial.returns is not None]
        dated = [one for one in kept if one[1].size]
        days = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *(sessions for _, sessions, _ in dated)]))
        values = np.full((days.size, len(dated)), np.nan)
        for column, (_, sessions, returns) in enumerate(dated):
            values[np.searchsorted(days, sessions), column] = returns
        return TrialReturns(days, values, tuple(trial for trial, _, _ in dated))

    def count(self, scope: str) -> TrialCount:
        """N and V of a scope, raw and effective; with no trial yet N is 0 and V is NaN."""
        found = standing(self.trials(), scope)
        return count_trials(found, self._returns(found) if len(found) <= MAX_CLUSTERED else None)


def standing(trials: Sequence[Trial], scope: str | None = None) -> tuple[Trial, ...]:
    """One record for each (recipe, span), of one scope or all: the newest completed one, the newest of any state where none completed."""
    found: dict[tuple[str, tuple[int, int]], Trial] = {}
    for trial in trials:
        if scope is not None and trial.scope != scope:
            continue
        before = found.get((trial.recipe, trial.span))
        if before is None or trial.state == "completed" or before.state != "completed":
            found[trial.recipe, trial.span] = trial
    return tuple(found.values())


def count_trials(trials: Sequence[Trial], returns: TrialReturns | None = None) -> TrialCount:
    """Distinct (recipe, span) pairs; V over the completed ones, never below 1 / (T - 1).

    The floor is the variance that one worthless strategy's estimate has by itself; a few near-equal trials must not make V vanish. With
    `returns` also the effective number: clusters of these, and each trial without returns for itself.
    """
    found = standing(trials)
    longest = max((t.count for t in found), default=0)
    floor = 1.0 / (longest - 1) if longest > 1 else math.nan

    def variance(ratios: Sequence[float]) -> float:
        return max(float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0, floor) if math.isfinite(floor) else math.nan

    raw = TrialCount(len(found), sum(t.state != "completed" for t in found), variance([t.sharpe for t in found if t.sharpe is not None]))
    if returns is None or not returns.trials or not math.isfinite(floor):
        return raw
    cluster = clusters(returns.values)
    ratios = cluster_sharpes(returns.values, cluster)
    effective = int(cluster.max()) + 1 + len(found) - len(returns.trials)
    return TrialCount(raw.trials, raw.failed, raw.variance, effective, variance(list(ratios[np.isfinite(ratios)])))
