"""Is the model in use still the one that was judged? CUSUMs calibrated to their false alarms; what short Sharpes are worth (T32).

A CUSUM adds up how far a session's value lies on the bad side of what was expected, less an allowance, never below zero, and alarms above
a limit (Page 1954). The limit is found on the reference's own blocks, so that autocorrelation and fat tails count: a limit for independent
normal noise rings more than twice as often at an autocorrelation of 0.3. Closed forms (Siegmund 1985; Brook, Evans 1972) stand beside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import MonitorRules

WHERE = "research.monitoring"
SHIFT = 0.5  # standard deviations per session; the allowance is half of the shift that is to be found fastest
LEAST_REFERENCE = 60  # sessions: of fewer the mean is a guess by more than half of the allowance
LEARNED = 20  # sessions that teach a detector without a reference its own noise
LEAST_SHARPE_SESSIONS = 60  # T32: no automatic action on a Sharpe of fewer
PATHS, BLOCK, SEED = 512, 21, 7
Side = Literal["low", "high"]
Action = Literal["notify", "refit"]
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Detector:
    """A one-sided CUSUM of (value - mean) / sd. side: which side is bad. allowance, limit: in standard deviations.

    every: sessions between two false alarms it is calibrated to. reference: sessions it was calibrated on, 0 for independent normal noise.
    """

    name: str
    side: Side
    mean: float
    sd: float
    allowance: float
    limit: float
    every: float
    reference: int


@dataclass(frozen=True, slots=True)
class Watched:
    """A detector over some sessions. sums: (T,) the CUSUM after each, back at zero after an alarm. alarms: positions of the alarms."""

    sums: Array
    alarms: NDArray[np.int64]


def standardized(detector: Detector, values: Array) -> Array:
    """(T,) how far each value lies on the bad side, in standard deviations."""
    return (values - detector.mean) / detector.sd * (1.0 if detector.side == "high" else -1.0)


def watch(detector: Detector, values: Array) -> Watched:
    """Run a detector over sessions in order. values: (T,) in the unit of the reference; a session without a value (NaN) leaves the sum."""
    sums, alarms = np.zeros(values.size), []
    total = 0.0
    for place, bad in enumerate(standardized(detector, values)):
        if math.isfinite(bad):
            total = max(0.0, total + bad - detector.allowance)
        sums[place] = total
        if total > detector.limit:
            alarms.append(place)
            total = 0.0
    return Watched(sums, np.array(alarms, dtype=np.int64))


def calibrated(name: str, reference: Array, side: Side, every: float, shift: float = SHIFT, seed: int = SEED) -> Detector:
    """A detector that rings about once in `every` sessions on what the reference (n,) resamples to in blocks of 21.

    InputError for a reference of fewer than 60 defined values or one that never changes.
    """
    clean = reference[np.isfinite(reference)]
    if clean.size < LEAST_REFERENCE:
        raise InputError(f"{name}: {clean.size} sessions of reference", WHERE, f"a detector is calibrated on at least {LEAST_REFERENCE}")
    mean, sd = float(clean.mean()), float(clean.std(ddof=1))
    if not sd > 1e-12 * max(abs(mean), 1e-300):
        raise InputError(f"{name}: the reference is constant", WHERE, "give the out-of-sample series, session by session")
    bad = (clean - mean) / sd * (1.0 if side == "high" else -1.0)
    limit = limit_for(resampled(bad, sessions=int(4 * every), seed=seed), shift / 2.0, every)
    return Detector(name, side, mean, sd, shift / 2.0, limit, every, clean.size)


def for_noise(name: str, side: Side, every: float, shift: float = SHIFT) -> Detector:
    """The detector of values that are standard normal and independent while all is well (`learned_from_zero`), by the Markov chain."""
    allowance = shift / 2.0
    limit = optimize.brentq(lambda h: run_length_chain(allowance, h) - every, 0.01, 60.0, xtol=1e-4)
    return Detector(name, side, 0.0, 1.0, allowance, float(limit), every, 0)


def learned_from_zero(values: Array, learned: int = LEARNED) -> Array:
    """(T,) differences that should be zero on average, as independent standard normals while they are (Hawkins 1987, mean known).

    Each is divided by the root mean square of those before it and its Student t law is mapped to the normal one, which makes up for how
    little was known. The first `learned` defined values are NaN.
    """
    out, square, count = np.full(values.size, np.nan), 0.0, 0
    for place, value in enumerate(values):
        if not math.isfinite(value):
            continue
        if count >= learned and square > 0.0:
            # The normal tail ends at 8 standard deviations: a probability of exactly 0 or 1 has no quantile.
            z = special.ndtri(special.stdtr(count, value / math.sqrt(square / count)))
            out[place] = float(np.clip(z, -8.0, 8.0))
        square, count = square + value * value, count + 1
    return out


def distance(reference: Array, sample: Array) -> float:
    """Kolmogorov's distance of a sample (n,) from a large ascending reference (N,); NaN for an empty sample."""
    clean = np.sort(sample[np.isfinite(sample)])
    if not clean.size or not reference.size:
        return math.nan
    expected = np.searchsorted(reference, clean, side="right") / reference.size
    above = np.arange(1, clean.size + 1) / clean.size - expected
    below = np.searchsorted(reference, clean, side="left") / reference.size - np.arange(clean.size) / clean.size
    return float(max(above.max(), below.max()))


def resampled(values: Array, sessions: int, paths: int = PATHS, block: int = BLOCK, seed: int = SEED) -> Array:
    """(sessions, paths) float64: circular blocks of a series, one after the other."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, values.size, (math.ceil(sessions / block), 1, paths))
    rows = (starts + np.arange(block)[np.newaxis, :, np.newaxis]) % values.size
    return np.asarray(values[rows.reshape(-1, paths)[:sessions]])


def alarm_rate(paths: Array, allowance: float, limit: float) -> float:
    """Alarms per session of a CUSUM that begins anew after each, over (T, P) standardized paths."""
    total, alarms = np.zeros(paths.shape[1]), 0
    for row in paths:
        total = np.maximum(total + row - allowance, 0.0)
        rung = total > limit
        alarms += int(rung.sum())
        total[rung] = 0.0
    return alarms / paths.size


def limit_for(paths: Array, allowance: float, every: float) -> float:
    """The lowest limit with at most one alarm in `every` sessions over these paths, to 1 %."""
    low, high = 0.0, 4.0
    while alarm_rate(paths, allowance, high) * every > 1.0:
        low, high = high, 2.0 * high
        if high > 4096.0:
            raise InputError("no limit is high enough", WHERE, "the reference drifts: detrend it, or give a longer one")
    while high - low > 0.01 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if alarm_rate(paths, allowance, middle) * every > 1.0 else (low, middle)
    return high


def delay(detector: Detector, shift: float, reference: Array | None = None, seed: int = SEED) -> float:
    """Mean sessions from a shift (standard deviations to the bad side) to the alarm, the sum being zero before.

    reference: as in `calibrated`; None: independent normal noise. A path that does not ring within 40 years counts as long as it is.
    """
    if reference is None:
        return run_length_chain(detector.allowance, detector.limit, shift)
    clean = reference[np.isfinite(reference)]
    paths = resampled(standardized(detector, clean), 10_080, 200, seed=seed) + shift
    total, first = np.zeros(paths.shape[1]), np.full(paths.shape[1], paths.shape[0])
    for at, row in enumerate(paths):
        total = np.maximum(total + row - detector.allowance, 0.0)
        first[(total > detector.limit) & (first == paths.shape[0])] = at + 1
        if bool((first < paths.shape[0]).all()):
            break
    return float(first.mean())


def run_length_siegmund(allowance: float, limit: float, shift: float = 0.0) -> float:
    """Mean sessions to an alarm on independent normal noise with this shift: (e^(-2db) + 2db - 1) / 2d^2, d = shift - allowance,
    b = limit + 1.166. Siegmund, Sequential Analysis, 1985, 2.52.
    """
    drift, bound = shift - allowance, limit + 1.166
    if abs(drift) < 1e-9:
        return bound * bound
    return (math.exp(-2.0 * drift * bound) + 2.0 * drift * bound - 1.0) / (2.0 * drift * drift)


def run_length_chain(allowance: float, limit: float, shift: float = 0.0, states: int = 300) -> float:
    """The same by a Markov chain over `states` values of the sum: the row sums of (I - Q)^-1. Brook, Evans, Biometrika 1972."""
    width = 2.0 * limit / (2 * states - 1)
    middle = np.arange(states) * width
    step = middle[np.newaxis, :] - middle[:, np.newaxis] + allowance - shift
    inside = special.ndtr(step + width / 2.0) - special.ndtr(step - width / 2.0)
    inside[:, 0] = special.ndtr(step[:, 0] + width / 2.0)  # everything below is put back to zero
    return float(np.linalg.solve(np.eye(states) - inside, np.ones(states))[0])


@dataclass(frozen=True, slots=True)
class SharpeTrigger:
    """A Sharpe of the last `window` sessions below `share` of the expected one, or of that of the window before (`against` earlier).

    action: `notify`, or `refit`. InputError for a `refit` on fewer than 60 sessions (T32).
    """

    name: str
    window: int
    share: float
    against: Literal["expected", "earlier"] = "expected"
    action: Action = "notify"

    def __post_init__(self) -> None:
        if self.action != "notify" and self.window < LEAST_SHARPE_SESSIONS:
            what = f"trigger {self.name} would {self.action} on a Sharpe of {self.window} sessions"
            raise InputError(what, WHERE, f"use notify, or a window of at least {LEAST_SHARPE_SESSIONS} sessions (T32)")

    def false_alarms(self, annual_sharpe: float, periods: float = 252.0) -> float:
        """Share of sessions on which a model whose true Sharpe is the expected one breaches, independent normal returns.

        Against the expected one exact: root n x Sharpe is noncentral t. Against the window before: both normal with variance 1/n.
        """
        each = annual_sharpe / math.sqrt(periods)
        if self.against == "expected":
            root = math.sqrt(self.window)
            return float(stats.nct.cdf(self.share * each * root, self.window - 1, each * root))
        spread = math.sqrt((1.0 + self.share**2) / self.window)
        return float(stats.norm.cdf(-(1.0 - self.share) * each / spread))

    def breached(self, returns: Array, annual_sharpe: float, periods: float = 252.0) -> bool | None:
        """Whether the newest sessions of (T,) returns breach; None where they are too few or never change."""
        clean = returns[np.isfinite(returns)]
        newest = clean[-self.window :]
        found = _sharpe(newest, self.window)
        base = annual_sharpe / math.sqrt(periods)
        if self.against == "earlier":
            base = _sharpe(clean[-2 * self.window : -self.window], self.window)
        return None if math.isnan(found) or math.isnan(base) else bool(found < self.share * base)


def _sharpe(values: Array, count: int) -> float:
    if values.size < count or count < 2:
        return math.nan
    spread = float(values.std(ddof=1))
    return float(values.mean()) / spread if spread > 0.0 else math.nan


# The degradation rules that the specification names, kept as keys, and one that is long enough to act.
SHARPE_TRIGGERS: Mapping[str, SharpeTrigger] = {
    trigger.name: trigger
    for trigger in (
        SharpeTrigger("week_over_week_20", 5, 0.80, "earlier"),
        SharpeTrigger("five_days_30", 5, 0.70),
        SharpeTrigger("half_of_backtest", 20, 0.50),
        SharpeTrigger("half_of_backtest_60", 60, 0.50),
    )
}


def sharpe_triggers(rules: MonitorRules) -> tuple[SharpeTrigger, ...]:
    """Every trigger with the action that the profile gives it. InputError for an unknown action, or a `refit` on fewer than 60 sessions."""
    actions = {
        "week_over_week_20": rules.week_over_week_20,
        "five_days_30": rules.five_days_30,
        "half_of_backtest": rules.half_of_backtest,
        "half_of_backtest_60": rules.half_of_backtest_60,
    }
    unknown = sorted(set(actions.values()) - {"notify", "refit"})
    if unknown:
        raise InputError(f"action {', '.join(unknown)} of a trigger", WHERE, "use notify or refit")
    return tuple(replace(one, action=actions[name]) for name, one in SHARPE_TRIGGERS.items())  # type: ignore[arg-type]


def trigger_rows(returns: Array, annual_sharpe: float, periods: float, triggers: Sequence[SharpeTrigger]) -> list[dict[str, object]]:
    """One row per trigger: what it looks at, whether it is breached now, and how often it would be were all well."""
    return [
        {
            "trigger": one.name,
            "window": one.window,
            "breached": one.breached(returns, annual_sharpe, periods),
            "false_alarms": one.false_alarms(annual_sharpe, periods),
            "action": one.action,
        }
        for one in triggers
    ]
