"""The trial registry: every backtest counts, nothing can be taken back (T30, VALD-04).

One JSON line per record, hash-chained. A trial is a recipe on a data span; refits and re-runs of it are not new trials, failed ones count.
N and V for the deflated Sharpe ratio are read from here and from nowhere else.
"""

from __future__ import annotations

import fcntl
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.registry.object_store import write_atomic
from trading_platform.research.metrics import kurtosis, sharpe, skewness

GENESIS = "0" * 64
STATES = ("completed", "failed")


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of a recipe.

    scope: asset class x universe rule x horizon family, in which trials compete. recipe: content hash of what people would approve (code,
    features, label, universe, parameters). span: session days (days since 1970-01-01) of the first and last row. sharpe: net, per period;
    with skew and raw kurtosis, None where undefined or failed. count: periods. at: UTC ns.
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

    @property
    def hash(self) -> str:
        """Chained hash of the record."""
        return content_hash(self)


@dataclass(frozen=True, slots=True)
class TrialCount:
    """What the deflated Sharpe ratio needs: trials in scope, of which failed, and the variance of their per-period Sharpe ratios."""

    trials: int
    failed: int
    variance: float


class TrialRegistry:
    """Appends to and reads one registry file; an absent file is an empty registry."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(self.path.suffix + ".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def trials(self) -> tuple[Trial, ...]:
        """All records in order. Raises CorruptionError where a line does not parse or the chain breaks (an edit, a deletion)."""
        lines = self.path.read_bytes().splitlines() if self.path.exists() else []
        found: list[Trial] = []
        previous = GENESIS
        for number, line in enumerate(lines, start=1):
            stored = parse(line)
            try:
                stored_hash = stored.pop("hash")
                trial = Trial(**{**stored, "span": tuple(stored["span"])})
            except (AttributeError, KeyError, TypeError) as error:
                raise CorruptionError(
                    f"line {number} is not a trial: {error}", str(self.path), "restore the registry from its backup"
                ) from error
            if trial.seq != number or trial.prev != previous or trial.hash != stored_hash:
                raise CorruptionError(
                    f"record {number} breaks the chain", str(self.path), "restore the registry from its backup; do not edit it"
                )
            found.append(trial)
            previous = stored_hash
        return tuple(found)

    def head(self) -> str:
        """Hash of the newest record, GENESIS when empty; a bundle's metadata pins it, so that a cut-off tail is found."""
        trials = self.trials()
        return trials[-1].hash if trials else GENESIS

    def record(
        self,
        *,
        scope: str,
        recipe: str,
        span: tuple[int, int],
        data_version: str,
        at: int,
        returns: NDArray[np.float64] | None,
        note: str = "",
    ) -> Trial:
        """Append a run and return it, durable. returns: net, per period; None records a failed trial."""
        if not scope or not recipe or span[1] < span[0]:
            raise InputError(f"scope {scope!r}, recipe {recipe!r}, span {span}", "research.trials", "name all three; the span runs forward")
        clean = np.empty(0) if returns is None else returns[np.isfinite(returns)]
        moments = {"sharpe": sharpe(clean), "skew": skewness(clean), "kurtosis": kurtosis(clean)}
        defined = {name: value for name, value in moments.items() if math.isfinite(value)}
        state = "failed" if returns is None else "completed"
        with self._locked():
            before = self.trials()
            head = before[-1].hash if before else GENESIS
            fields = {
                "scope": scope,
                "recipe": recipe,
                "span": span,
                "data_version": data_version,
                "state": state,
                "count": int(clean.size),
            }
            trial = Trial(seq=len(before) + 1, prev=head, at=at, note=note, **fields, **defined)  # type: ignore[arg-type]
            line = canonical_bytes({**asdict(trial), "hash": trial.hash}) + b"\n"
            stored = self.path.read_bytes() if self.path.exists() else b""
            write_atomic(self.path, stored + line, if_absent=False)  # whole, so a power cut leaves no torn record
        return trial

    def count(self, scope: str) -> TrialCount:
        """N and V of a scope; with no trial yet N is 0 and V is NaN."""
        return count_trials([t for t in self.trials() if t.scope == scope])


def count_trials(trials: Sequence[Trial]) -> TrialCount:
    """Distinct (recipe, span) pairs, the newest record of each; V over the completed ones, never below 1 / (T - 1).

    The floor is the variance that one worthless strategy's estimate has by itself; a few near-equal trials must not make V vanish.
    """
    newest = {(t.recipe, t.span): t for t in trials}
    ratios = [t.sharpe for t in newest.values() if t.sharpe is not None]
    longest = max((t.count for t in newest.values()), default=0)
    floor = 1.0 / (longest - 1) if longest > 1 else math.nan
    spread = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    return TrialCount(
        len(newest), sum(t.state == "failed" for t in newest.values()), max(spread, floor) if math.isfinite(floor) else math.nan
    )
