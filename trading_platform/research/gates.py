"""Gates: what a model must show before each stage. Thresholds with their reasons are in docs/gates.md; the ledger enforces the results.

Technical gates bind everywhere, statistical and data gates from paper to live (DESIGN 7); seed gates are SPEC's own numbers, judged and
shown beside them, and bind nowhere, because noise passes them or skill does not. passed None = could not be judged, with the reason in the
text; nobody counts that as passed.
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
from trading_platform.research.nulls import NullComparison
from trading_platform.research.thresholds import Thresholds
from trading_platform.research.trials import TrialCount

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate's judgement. value was compared with threshold; kind is technical, statistical, data, seed or policy; text is for people."""

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
class Overfitting:
    """PBO of a search: its probability, over how many configurations and blocks, and the 5 % and 95 % quantiles it has on pure noise."""

    probability: float
    configurations: int
    blocks: int
    null_low: float
    null_high: float


@dataclass(frozen=True, slots=True)
class Statistical:
    """Evidence of the statistical gates, all out of sample and net of costs.

    returns: float64 (T,) per period, cross-checked by `stressed` at twice the costs and `delayed` by one more row (None: not run). periods:
    per year. trials: from the trial registry. effective_bets: summed label uniqueness. sessions: market days covered. names_left: share of
    the names that left the universe in the span. pbo: of the scope's kept returns. capacity: equity at which trades reach 1 % of the
    average volume, capital: equity to be run, both quote currency. trades: orders filled; win_rate: of trades; accuracy: share of the
    signals whose sign came true. None everywhere: not known.
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
    pbo: Overfitting | None = None
    capacity: float | None = None
    capital: float | None = None
    trades: int | None = None
    win_rate: float | None = None
    accuracy: float | None = None


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
    "pbo",
    "capacity",
)
SEED_NAMES = ("seed_drawdown", "seed_trades", "seed_win_rate", "seed_accuracy", "seed_suspected_leakage")


def statistical_gates(evidence: Statistical | None, limits: Thresholds) -> tuple[GateResult, ...]:
    """The gates of STATISTICAL_NAMES in that order.

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
        _plausible(seen, limits),
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
        _pbo(evidence, limits),
        _capacity(evidence, limits),
    )


def _dsr(evidence: Statistical, seen: metrics.Performance, limits: Thresholds) -> GateResult:
    trials = evidence.trials
    if trials.trials < 1 or not math.isfinite(trials.variance):
        return _missing("dsr", "statistical", "no registered trial: an unregistered backtest cannot be promoted")
    hurdle = trials.hurdle(seen.n_obs)
    value = overfitting.probabilistic_sharpe(seen.sharpe, seen.n_obs, seen.skew, seen.kurtosis_raw, hurdle)
    yearly = hurdle * math.sqrt(evidence.periods)
    needed = overfitting.minimum_track_record(seen.sharpe, hurdle, seen.skew, seen.kurtosis_raw, limits.dsr)
    record = f"{math.ceil(needed)} observations" if math.isfinite(needed) else "none: the result is below it"
    text = (
        f"DSR {value:.3f} (0.80 is informative) against an annual Sharpe of {yearly:.2f} expected from {_counted(trials)}; "
        f"minimum track record {record} (there are {seen.n_obs}); minimum backtest length for this number of trials "
        f"{overfitting.minimum_backtest_length(trials.trials):.1f} years"
    )
    return _result("dsr", "statistical", value > limits.dsr, value, limits.dsr, text)


def _counted(trials: TrialCount) -> str:
    different = "" if trials.effective is None else f" ({trials.effective} different bets; the stricter count binds)"
    return f"{trials.trials} worthless trials{different}"


def _plausible(seen: metrics.Performance, limits: Thresholds) -> GateResult:
    """Too good to be true beyond its sampling error: at four years a true 3 is estimated above 3 every second time."""
    yearly, known = seen.annual_sharpe, math.isfinite(seen.annual_sharpe)
    bar = limits.suspicious_sharpe / math.sqrt(seen.periods_per_year)
    above = overfitting.probabilistic_sharpe(seen.sharpe, seen.n_obs, seen.skew, seen.kurtosis_raw, bar) if known else math.nan
    suspect = not known or (yearly > limits.suspicious_sharpe and not above <= limits.suspicious_confidence)
    text = f"annual net Sharpe ratio {yearly:.2f}"
    text += f", above {limits.suspicious_sharpe:g} with probability {above:.2f}" if math.isfinite(above) else ""
    text += ": a bug until proven otherwise" if suspect else ""
    return _result("plausible_sharpe", "statistical", not suspect, yearly, limits.suspicious_sharpe, text)


def _stress(evidence: Statistical, yearly: float, limits: Thresholds) -> GateResult:
    if evidence.stressed is None or evidence.delayed is None:
        missing = "at twice the costs" if evidence.stressed is None else "one row later"
        return _missing("cost_stress", "statistical", f"the run {missing} is missing")
    stressed = metrics.annual_sharpe(evidence.stressed, evidence.periods)
    delayed = metrics.annual_sharpe(evidence.delayed, evidence.periods)
    passed = stressed > 0.0 and delayed >= limits.delayed_share * yearly
    text = f"annual Sharpe ratio {stressed:.2f} at twice the costs, {delayed:.2f} one row later (of {yearly:.2f})"
    return _result("cost_stress", "statistical", passed, stressed, 0.0, text)


def _nulls(nulls: NullComparison | None, limits: Thresholds) -> GateResult:
    """T29: above both populations of nulls by every measure that was taken, and something left after market and momentum."""
    kind = "statistical"
    if nulls is None:
        return _missing("beats_nulls", kind, "the null models were not run")
    text = f"rank IC {nulls.model_ic:.4f}; random signals' 95th percentile {nulls.random_95:.4f}; 12-1 momentum {nulls.momentum_ic:.4f}"
    compared = [
        ("rank IC", "random signals", nulls.model_ic, nulls.random_95 if nulls.random_runs else None),
        ("rank IC", "shuffled labels", nulls.model_ic, nulls.shuffled_95),
    ]
    compared += [("annual net Sharpe ratio", "random signals", nulls.model_sharpe, nulls.random_sharpe_95)]
    compared += [("annual net Sharpe ratio", "shuffled labels", nulls.model_sharpe, nulls.shuffled_sharpe_95)]
    for measure, whose, mine, theirs in compared:
        if theirs is not None and (mine is None or not mine > theirs):
            reached = "unknown" if mine is None else f"{mine:.4f}"
            return _result("beats_nulls", kind, False, mine, theirs, f"{text}; {measure} {reached}, {whose} reach {theirs:.4f}")
    if nulls.intercept_t is not None and not nulls.intercept_t >= limits.null_intercept_t:
        wrong = f"{text}; t {nulls.intercept_t:.2f} after market and momentum"
        return _result("beats_nulls", kind, False, nulls.intercept_t, limits.null_intercept_t, wrong)
    if min(nulls.random_runs, nulls.shuffled_runs) < limits.null_runs or nulls.intercept_t is None:
        lacking = f"{nulls.random_runs} random and {nulls.shuffled_runs} shuffled-label runs of {limits.null_runs}, momentum regression "
        return _missing("beats_nulls", kind, f"{text}; incomplete: {lacking}{'missing' if nulls.intercept_t is None else 'done'}")
    return _result("beats_nulls", kind, True, nulls.model_ic, nulls.random_95, text)


def _pbo(evidence: Statistical, limits: Thresholds) -> GateResult:
    """PBO of few configurations says nothing, so below the threshold's number the deflated Sharpe ratio alone carries the search."""
    kind, found = "statistical", evidence.pbo
    if evidence.trials.trials < limits.pbo_configurations and (found is None or found.configurations < limits.pbo_configurations):
        text = f"does not bind: {evidence.trials.trials} trials of the {limits.pbo_configurations} that PBO needs; the DSR counts them all"
        return _result("pbo", kind, True, None, limits.pbo, text)
    if found is None:
        return _missing("pbo", kind, f"the returns of {evidence.trials.trials} trials were not compared")
    if found.configurations < limits.pbo_configurations or found.blocks < limits.pbo_blocks:
        lacking = (
            f"{found.configurations} configurations, {found.blocks} blocks; {limits.pbo_configurations} and {limits.pbo_blocks} needed"
        )
        return _missing("pbo", kind, f"no power: {lacking}")
    band = f"[{found.null_low:.2f}, {found.null_high:.2f}]"
    text = f"PBO {found.probability:.2f} over {found.configurations} configurations, {found.blocks} blocks; on pure noise {band}"
    return _result("pbo", kind, found.probability <= limits.pbo, found.probability, limits.pbo, text)


def _capacity(evidence: Statistical, limits: Thresholds) -> GateResult:
    if evidence.capacity is None or evidence.capital is None:
        return _missing("capacity", "statistical", "the capacity at 1 % of the average volume was not estimated")
    needed = limits.capacity_share * evidence.capital
    text = f"trades reach 1 % of the average volume at an equity of {evidence.capacity:,.0f}; {evidence.capital:,.0f} is to be run"
    return _result("capacity", "statistical", evidence.capacity >= needed, evidence.capacity, needed, text)


def seed_gates(evidence: Statistical | None, limits: Thresholds) -> tuple[GateResult, ...]:
    """SPEC's seed gates as they were given (VALD-06..08, 12, 14; Sharpe > 1 is `net_sharpe`), unscaled (docs/gates.md has what passes)."""
    kind = "seed"
    if evidence is None:
        return tuple(_missing(name, kind, "no out-of-sample returns") for name in SEED_NAMES)
    fall = metrics.max_drawdown(evidence.returns)
    yearly = metrics.annual_sharpe(evidence.returns, evidence.periods)
    shown = f"annual net Sharpe ratio {yearly:.2f}"
    results = [_result("seed_drawdown", kind, fall < limits.seed_max_drawdown, fall, limits.seed_max_drawdown, f"{fall:.1%} as run")]
    for name, value, bar, text in (
        ("seed_trades", evidence.trades, limits.seed_trades, "{:.0f} trades"),
        ("seed_win_rate", evidence.win_rate, limits.seed_win_rate, "{:.1%} of the trades won"),
        ("seed_accuracy", evidence.accuracy, limits.seed_accuracy, "{:.1%} of the signals had the right sign"),
    ):
        known = value is not None and math.isfinite(value)
        results.append(_result(name, kind, value > bar, value, bar, text.format(value)) if known else _missing(name, kind, "not counted"))
    flagged = not yearly <= limits.suspicious_sharpe
    text = f"{shown}: FLAGGED, look for the leak first" if flagged else shown
    return (*results, _result("seed_suspected_leakage", kind, not flagged, yearly, limits.suspicious_sharpe, text))


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
    """All gates in order, then `thresholds`, whose text is the hash they were judged under; the ledger decides what a stage needs."""
    used = limits or Thresholds()
    policy = GateResult("thresholds", "policy", True, None, None, used.hash)
    found = (*technical_gates(technical, used), *statistical_gates(statistical, used), *data_gates(statistical, used))
    return (*found, *seed_gates(statistical, used), policy)


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
