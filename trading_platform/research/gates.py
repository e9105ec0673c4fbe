"""Gates: what a model must show before each stage. Thresholds with their reasons are in docs/gates.md; the ledger enforces the results.

Technical gates bind everywhere, statistical and data gates from paper to live (DESIGN 7). passed None = could not be judged, with the
reason in the text; nobody counts that as passed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from trading_platform.research import metrics, overfitting
from trading_platform.research.export import Latency, Parity
from trading_platform.research.nulls import MIN_RUNS, NullComparison
from trading_platform.research.trials import TrialCount

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Where each gate closes. Defaults: SPEC's seed gates where they mean something, quant.md section 3 where they do not."""

    parity_rows: int = 10_000
    parity_max_abs: float = 1e-6
    parity_spearman: float = 0.9999
    parity_sign_flips: float = 1e-3
    parity_top_overlap: float = 0.99
    golden_max_abs: float = 0.0
    latency_p99_ms: float = 100.0
    min_observations: int = 252
    dsr: float = 0.95
    annual_sharpe: float = 1.0
    suspicious_sharpe: float = 3.0
    expectancy_t: float = 2.0
    fixed_volatility: float = 0.06
    max_drawdown: float = 0.10
    effective_bets: float = 100.0
    delayed_share: float = 0.5
    null_intercept_t: float = 2.0
    survivor_years: float = 2.0


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's judgement. value was compared with threshold; kind is technical, statistical or data; text is for people."""

    name: str
    kind: str
    passed: bool | None
    value: float | None
    threshold: float | None
    text: str

    @property
    def verdict(self) -> str:
        """passed, failed or not judged."""
        return "not judged" if self.passed is None else "passed" if self.passed else "failed"

    def record(self) -> dict[str, object]:
        """Plain values for the ledger and metadata; what is undefined is left out, and so is a verdict that was not reached."""
        numbers = {"value": self.value, "threshold": self.threshold}
        kept: dict[str, object] = {k: v for k, v in numbers.items() if v is not None and math.isfinite(v)}
        kept |= {"kind": self.kind, "text": self.text}
        return kept if self.passed is None else {**kept, "passed": self.passed}


@dataclass(frozen=True, slots=True)
class Technical:
    """Evidence of the technical gates; None = the check was not run. leaks: what `leakage` found, empty when clean."""

    leaks: Sequence[str] | None
    parity: Parity | None
    golden_difference: float | None
    latency: Latency | None


@dataclass(frozen=True, slots=True)
class Statistical:
    """Evidence of the statistical gates, all out of sample and net of costs.

    returns: float64 (T,) per period, cross-checked by `stressed` at twice the costs and `delayed` by one more row (None: not run). periods:
    per year. trials: from the trial registry. effective_bets: summed label uniqueness. sessions: market days covered. names_left: share of
    the names that left the universe in the span.
    """

    returns: Array
    stressed: Array | None
    delayed: Array | None
    periods: float
    trials: TrialCount
    effective_bets: float
    nulls: NullComparison | None
    sessions: int
    names_left: float


def _result(name: str, kind: str, passed: bool | None, value: float | None, threshold: float | None, text: str) -> GateResult:
    shown = None if value is None or not math.isfinite(value) else float(value)
    return GateResult(name, kind, None if passed is None else bool(passed), shown, threshold, text)


def _missing(name: str, kind: str, why: str) -> GateResult:
    return GateResult(name, kind, None, None, None, why)


def technical_gates(evidence: Technical, limits: Thresholds) -> tuple[GateResult, ...]:
    """leakage, parity, golden, latency, batch_invariance."""
    kind, found = "technical", []
    if evidence.leaks is None:
        found.append(_missing("leakage", kind, "the leakage checks were not run"))
    else:
        text = "; ".join(evidence.leaks) or "no leak found"
        found.append(_result("leakage", kind, not evidence.leaks, float(len(evidence.leaks)), 0.0, text))
    if evidence.parity is None:
        found += [_missing(name, kind, "the model was not exported") for name in ("parity", "batch_invariance")]
    else:
        found += [_parity(evidence.parity, limits), _invariance(evidence.parity)]
    if evidence.golden_difference is None:
        found.append(_missing("golden", kind, "no golden rows"))
    else:
        text = f"golden rows replay with a largest difference of {evidence.golden_difference:.3g}"
        within = evidence.golden_difference <= limits.golden_max_abs
        found.append(_result("golden", kind, within, evidence.golden_difference, limits.golden_max_abs, text))
    if evidence.latency is None:
        found.append(_missing("latency", kind, "latency was not measured"))
    else:
        speed = evidence.latency
        text = f"{speed.rows} rows: p50 {speed.p50_ms:.2f} ms, p99 {speed.p99_ms:.2f} ms"
        found.append(_result("latency", kind, speed.p99_ms <= limits.latency_p99_ms, speed.p99_ms, limits.latency_p99_ms, text))
    return tuple(found)


def _parity(parity: Parity, limits: Thresholds) -> GateResult:
    failures = [
        text
        for wrong, text in (
            (parity.rows < limits.parity_rows, f"only {parity.rows} rows compared, {limits.parity_rows} needed"),
            (not parity.max_abs <= limits.parity_max_abs, f"differs by up to {parity.max_abs:.3g}"),
            (not parity.spearman >= limits.parity_spearman, f"rank correlation {parity.spearman:.6f}"),
            (not parity.sign_flips <= limits.parity_sign_flips, f"{parity.sign_flips:.2%} of the signs flip"),
            (not parity.top_overlap >= limits.parity_top_overlap, f"top tenths overlap by {parity.top_overlap:.2%}"),
        )
        if wrong
    ]
    mixed = f" ({parity.mixed} of them mixed)" if parity.mixed else ""
    text = "; ".join(failures) or f"{parity.rows} rows{mixed}: largest difference {parity.max_abs:.3g}, no rank or sign lost"
    return _result("parity", "technical", not failures, parity.max_abs, limits.parity_max_abs, text)


def _invariance(parity: Parity) -> GateResult:
    text = "same bits for every batch size" if parity.batch_invariant else "a prediction depends on its neighbours in the batch"
    return _result("batch_invariance", "technical", parity.batch_invariant, float(parity.batch_invariant), 1.0, text)


STATISTICAL_NAMES = (
    "dsr",
    "expectancy",
    "net_sharpe",
    "plausible_sharpe",
    "drawdown_at_fixed_volatility",
    "effective_bets",
    "cost_stress",
    "beats_nulls",
)


def statistical_gates(evidence: Statistical | None, limits: Thresholds) -> tuple[GateResult, ...]:
    """dsr, expectancy, net_sharpe, plausible_sharpe, drawdown_at_fixed_volatility, effective_bets, cost_stress, beats_nulls.

    All are `not judged: no power` below limits.min_observations sessions.
    """
    kind = "statistical"
    if evidence is None:
        return tuple(_missing(name, kind, "no out-of-sample returns") for name in STATISTICAL_NAMES)
    if evidence.sessions < limits.min_observations:
        why = f"no power: {evidence.sessions} sessions out of sample, {limits.min_observations} needed"
        return tuple(_missing(name, kind, why) for name in STATISTICAL_NAMES)
    seen = metrics.performance(evidence.returns, evidence.periods)
    fall = metrics.drawdown_at_volatility(evidence.returns, evidence.periods, limits.fixed_volatility)
    yearly, t = seen.annual_sharpe, seen.mean_t_hac
    return (
        _dsr(evidence, seen, limits),
        _result("expectancy", kind, t >= limits.expectancy_t, t, limits.expectancy_t, f"HAC t of the mean net return {t:.2f}"),
        _result("net_sharpe", kind, yearly > limits.annual_sharpe, yearly, limits.annual_sharpe, f"annual net Sharpe ratio {yearly:.2f}"),
        _plausible(yearly, limits),
        _result(
            "drawdown_at_fixed_volatility",
            kind,
            fall <= limits.max_drawdown,
            fall,
            limits.max_drawdown,
            f"{fall:.1%} at {limits.fixed_volatility:.0%} annual volatility ({seen.max_drawdown:.1%} as run)",
        ),
        _result(
            "effective_bets",
            kind,
            evidence.effective_bets >= limits.effective_bets,
            evidence.effective_bets,
            limits.effective_bets,
            f"{evidence.effective_bets:.0f} independent bets after label overlap",
        ),
        _stress(evidence, yearly, limits),
        _nulls(evidence.nulls, limits),
    )


def _dsr(evidence: Statistical, seen: metrics.Performance, limits: Thresholds) -> GateResult:
    trials = evidence.trials
    if trials.trials < 1 or not math.isfinite(trials.variance):
        return _missing("dsr", "statistical", "no registered trial: an unregistered backtest cannot be promoted")
    value = overfitting.deflated_sharpe(seen.sharpe, seen.n_obs, seen.skew, seen.kurtosis_raw, trials.trials, trials.variance)
    hurdle = overfitting.expected_maximum(trials.trials, trials.variance)
    yearly = hurdle * math.sqrt(evidence.periods)
    needed = overfitting.minimum_track_record(seen.sharpe, hurdle, seen.skew, seen.kurtosis_raw, limits.dsr)
    record = f"{math.ceil(needed)} observations" if math.isfinite(needed) else "none: the result is below it"
    text = (
        f"DSR {value:.3f} (0.80 is informative) against an annual Sharpe of {yearly:.2f} expected from {trials.trials} worthless trials; "
        f"minimum track record {record} (there are {seen.n_obs}); minimum backtest length for this number of trials "
        f"{overfitting.minimum_backtest_length(trials.trials):.1f} years"
    )
    return _result("dsr", "statistical", value > limits.dsr, value, limits.dsr, text)


def _plausible(yearly: float, limits: Thresholds) -> GateResult:
    fine = math.isfinite(yearly) and yearly <= limits.suspicious_sharpe
    text = (
        "no sign of leakage in the size of the result"
        if fine
        else f"an annual net Sharpe ratio of {yearly:.2f} is a bug until proven otherwise"
    )
    return _result("plausible_sharpe", "statistical", fine, yearly, limits.suspicious_sharpe, text)


def _stress(evidence: Statistical, yearly: float, limits: Thresholds) -> GateResult:
    if evidence.stressed is None:
        return _missing("cost_stress", "statistical", "the run at twice the costs is missing")
    stressed = metrics.annual_sharpe(evidence.stressed, evidence.periods)
    passed, text = stressed > 0.0, f"annual Sharpe ratio {stressed:.2f} at twice the costs"
    if evidence.delayed is None:
        text += "; one row of delay was not run"
    else:
        delayed = metrics.annual_sharpe(evidence.delayed, evidence.periods)
        passed = passed and delayed >= limits.delayed_share * yearly
        text += f", {delayed:.2f} one row later"
    return _result("cost_stress", "statistical", passed, stressed, 0.0, text)


def _nulls(nulls: NullComparison | None, limits: Thresholds) -> GateResult:
    kind = "statistical"
    if nulls is None:
        return _missing("beats_nulls", kind, "the null models were not run")
    text = f"rank IC {nulls.model_ic:.4f}; random signals' 95th percentile {nulls.random_95:.4f}; 12-1 momentum {nulls.momentum_ic:.4f}"
    if not nulls.model_ic > nulls.random_95:
        return _result("beats_nulls", kind, False, nulls.model_ic, nulls.random_95, text)
    if nulls.shuffled_95 is not None and not nulls.model_ic > nulls.shuffled_95:
        return _result(
            "beats_nulls", kind, False, nulls.model_ic, nulls.shuffled_95, f"{text}; shuffled labels reach {nulls.shuffled_95:.4f}"
        )
    if nulls.intercept_t is not None and not nulls.intercept_t >= limits.null_intercept_t:
        wrong = f"{text}; t {nulls.intercept_t:.2f} after market and momentum"
        return _result("beats_nulls", kind, False, nulls.intercept_t, limits.null_intercept_t, wrong)
    if min(nulls.random_runs, nulls.shuffled_runs) < MIN_RUNS or nulls.intercept_t is None:
        lacking = f"{nulls.random_runs} random and {nulls.shuffled_runs} shuffled-label runs of {MIN_RUNS}, momentum regression "
        return _missing("beats_nulls", kind, f"{text}; incomplete: {lacking}{'missing' if nulls.intercept_t is None else 'done'}")
    return _result("beats_nulls", kind, True, nulls.model_ic, nulls.random_95, text)


def data_gates(evidence: Statistical | None, limits: Thresholds) -> tuple[GateResult, ...]:
    """survivorship (T33): a universe that nobody left in years is a list of survivors."""
    if evidence is None:
        return (_missing("survivorship", "data", "no universe was given"),)
    years = evidence.sessions / metrics.SESSIONS_PER_YEAR
    if years <= limits.survivor_years:
        return (_missing("survivorship", "data", f"{years:.1f} years are too short to tell"),)
    biased = evidence.names_left <= 0.0
    text = "SURVIVORSHIP BIASED: " if biased else ""
    text += f"{evidence.names_left:.1%} of the names left the universe in {years:.1f} years"
    return (_result("survivorship", "data", not biased, evidence.names_left, 0.0, text),)


def evaluate(technical: Technical, statistical: Statistical | None, limits: Thresholds | None = None) -> tuple[GateResult, ...]:
    """All gates in order; the ledger decides which of them a stage needs."""
    used = limits or Thresholds()
    return (*technical_gates(technical, used), *statistical_gates(statistical, used), *data_gates(statistical, used))


def as_record(results: Iterable[GateResult]) -> dict[str, dict[str, object]]:
    """name -> record, as the ledger and metadata.json keep it."""
    return {result.name: result.record() for result in results}


@dataclass(frozen=True, slots=True)
class Power:
    """Chance that one strategy of this true annual Sharpe ratio, the best of N trials, passes a gate."""

    annual_sharpe: float
    dsr: float
    net_sharpe: float
    expectancy: float
    drawdown: float
    all: float


def power_table(
    observations: int,
    periods: float,
    trials: int,
    limits: Thresholds | None = None,
    sharpes: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0),
    runs: int = 400,
    seed: int = 7,
) -> tuple[Power, ...]:
    """What the gates can see: simulate `trials` strategies of which one has the stated true Sharpe ratio, judge the best one found.

    Normal returns; the other trials are worthless and only their estimates are drawn. Deterministic for a seed; about 0.1 s per 1e6 draws.
    """
    used = limits or Thresholds()
    rng = np.random.default_rng(seed)
    rows = []
    for yearly in sharpes:
        series = rng.standard_normal((runs, observations)) + yearly / math.sqrt(periods)
        others = rng.standard_normal((runs, max(trials - 1, 0))) / math.sqrt(observations)
        own = series.mean(axis=1) / series.std(axis=1, ddof=1)
        everyone = np.column_stack([own, others])
        spread = np.maximum(everyone.var(axis=1, ddof=1) if trials > 1 else 0.0, 1.0 / (observations - 1))
        hurdle = np.sqrt(spread) * overfitting.expected_maximum(max(trials, 1))
        chance = norm.cdf((own - hurdle) * math.sqrt(observations - 1) / np.sqrt(1.0 + 0.5 * own * own))
        best = own >= everyone.max(axis=1)
        scale = used.fixed_volatility / math.sqrt(periods)
        shallow = np.array([metrics.max_drawdown(row * scale) <= used.max_drawdown for row in series])
        passes = (
            best & (chance > used.dsr),
            own * math.sqrt(periods) > used.annual_sharpe,
            own * math.sqrt(observations) >= used.expectancy_t,
            shallow,
        )
        together = np.logical_and.reduce(passes)
        rows.append(Power(yearly, *(float(np.mean(passed)) for passed in (*passes, together))))
    return tuple(rows)


def power_lines(table: Sequence[Power]) -> list[str]:
    """The power table as Markdown lines."""
    head = ["| true annual Sharpe | DSR | net Sharpe | expectancy | drawdown | all four |", "|---|---|---|---|---|---|"]
    body = [
        f"| {p.annual_sharpe:.1f} | {p.dsr:.2f} | {p.net_sharpe:.2f} | {p.expectancy:.2f} | {p.drawdown:.2f} | {p.all:.2f} |" for p in table
    ]
    return head + body
