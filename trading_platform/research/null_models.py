"""Every null traded in the model's own arena, and one table of all pairs with intervals (T29).

The nulls are in `nulls`; the arena is `evaluate`'s, so model and nulls differ in the signal alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.research import metrics, nulls
from trading_platform.research.evaluate import Arena, NetResult, market_returns, net_result, per_session
from trading_platform.research.labels import Labels

Array = NDArray[np.float64]
POPULATIONS = ("random signal", "shuffled labels")
RULES = ("12-1 momentum", "1-day reversal")
BUY_AND_HOLD = "buy and hold"
BOOTSTRAPS = 2000
BLOCK = 21  # sessions: longer than any label and than volatility's shortest memory
TIGHT = 0.95


@dataclass(frozen=True, slots=True)
class NullRun:
    """One null's result. number: its deal. ic: mean rank IC with the model's labels. sharpe: annual, net. turnover: per session.

    session: int64 (D,) days since 1970-01-01; returns: float64 (D,) net per session.
    """

    null: str
    number: int
    ic: float
    sharpe: float
    turnover: float
    session: NDArray[np.int64]
    returns: Array


@dataclass(frozen=True, slots=True)
class Pair:
    """The model against one null, or against the 95th percentile run of a population of them.

    difference: annual net Sharpe ratio, the model's minus the null's, on the sessions both traded; low, high: 95 % interval by the paired
    circular block bootstrap. beaten: share of the population's runs that the model beats by rank IC and by net Sharpe ratio.
    """

    null: str
    runs: int
    ic: float
    ic_95: float
    sharpe: float
    sharpe_95: float
    turnover: float
    difference: float
    low: float
    high: float
    beaten_ic: float
    beaten_sharpe: float


def traded(arena: Arena, null: str, number: int, signal: Array, outcome: Array, age: NDArray[np.int64] | None = None) -> NullRun:
    """Trade a null's signal. signal, outcome: float64 (T, S); outcome: the model's labels of members, NaN elsewhere."""
    net = net_result(arena, signal, age)
    return NullRun(
        null, number, mean_ic(signal, outcome), net.performance.annual_sharpe, net.performance.mean_turnover, net.session, net.returns
    )


def mean_ic(signal: Array, outcome: Array) -> float:
    """Mean rank IC over the rows that have one; NaN without any."""
    series = metrics.information_coefficient(signal, outcome)
    defined = series[np.isfinite(series)]
    return float(defined.mean()) if defined.size else math.nan


def member_outcome(arena: Arena, labels: Labels) -> Array:
    """The labels of members, NaN elsewhere: what every rank IC is taken with."""
    return np.where(arena.panel.member, labels.values, np.nan)


def random_runs(
    arena: Arena, predictions: Array, outcome: Array, age: NDArray[np.int64] | None, deals: Iterable[int], workers: int = 2
) -> list[NullRun]:
    """The model's own predictions dealt to other instruments, traded, `workers` at a time; the result does not depend on workers."""

    def one(deal: int) -> NullRun:
        return traded(arena, POPULATIONS[0], deal, nulls.random_signal(predictions, deal), outcome, age)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(one, deals))


def rule_runs(arena: Arena, predictions: Array, outcome: Array) -> list[NullRun]:
    """Momentum, reversal, and buying and holding, from the model's first row on. A rule without history is left out."""
    speaking = np.isfinite(predictions).any(axis=1, keepdims=True)
    scores = (nulls.momentum_12_1(arena.panel), nulls.reversal_1(arena.panel))
    signals = {name: np.where(speaking, score, np.nan) for name, score in zip(RULES, scores, strict=True)}
    runs = [traded(arena, name, 0, signal, outcome) for name, signal in signals.items() if np.isfinite(signal).any()]
    first = int(np.argmax(speaking[:, 0]))
    costs = arena.profile.costs
    held = nulls.buy_and_hold(arena.panel, first, costs.half_spread_bps + costs.impact_bps)
    session, returns = per_session(arena.panel.session[first:], held, compound=True)
    yearly = metrics.annual_sharpe(returns, metrics.SESSIONS_PER_YEAR)
    return [*runs, NullRun(BUY_AND_HOLD, 0, math.nan, yearly, 1.0 / len(session), session, returns)]


def block_bootstrap(model: Array, null: Array, runs: int = BOOTSTRAPS, block: int = BLOCK, seed: int = 7) -> tuple[float, float, float]:
    """(difference, low, high) of the annual Sharpe ratios of two paired series: 95 % percentile interval, circular blocks.

    model, null: float64 (D,), net per session, the same sessions. Both are drawn by the same blocks, so what moves both cancels. Politis,
    Romano 1992; Ledoit, Wolf 2008 for Sharpe ratios. NaN below two blocks. Raises InputError for series of different length.
    """
    if model.shape != null.shape:
        raise InputError(f"series of {model.shape} and {null.shape}", "research.null_models", "give both on the same sessions")
    count, year = model.size, math.sqrt(metrics.SESSIONS_PER_YEAR)
    if count < 2 * block:
        return math.nan, math.nan, math.nan
    rng = np.random.default_rng(seed)
    drawn = np.empty(runs)
    for number in range(runs):
        starts = rng.integers(0, count, -(-count // block))
        rows = (starts[:, np.newaxis] + np.arange(block)).ravel()[:count] % count
        drawn[number] = metrics.sharpe(model[rows]) - metrics.sharpe(null[rows])
    clean = drawn[np.isfinite(drawn)] * year
    own = (metrics.sharpe(model) - metrics.sharpe(null)) * year
    if clean.size < runs // 2 or not math.isfinite(own):
        return math.nan, math.nan, math.nan
    return own, float(np.quantile(clean, 0.025)), float(np.quantile(clean, 0.975))


def compared(net: NetResult, ic: float, runs: Sequence[NullRun]) -> tuple[Pair, ...]:
    """One row per null, populations by their run at the 95th percentile of the net Sharpe ratio; the order is that of `runs`."""
    pairs = []
    for name in dict.fromkeys(run.null for run in runs):
        same = [run for run in runs if run.null == name]
        ics, sharpes = np.array([run.ic for run in same]), np.array([run.sharpe for run in same])
        ranked = sorted(same, key=lambda run: (math.isfinite(run.sharpe), run.sharpe, run.number))
        rival = ranked[math.ceil(TIGHT * len(ranked)) - 1]
        _, mine, theirs = np.intersect1d(net.session, rival.session, return_indices=True)
        interval = block_bootstrap(net.returns[mine], rival.returns[theirs])
        own = net.performance.annual_sharpe
        pairs.append(
            Pair(
                name,
                len(same),
                _mean(ics),
                _high(ics),
                _mean(sharpes),
                _high(sharpes),
                _mean(np.array([run.turnover for run in same])),
                *interval,
                float(np.mean(ic > ics)),
                float(np.mean(own > sharpes)),
            )
        )
    return tuple(pairs)


def _mean(values: Array) -> float:
    clean = values[np.isfinite(values)]
    return float(clean.mean()) if clean.size else math.nan


def _high(values: Array) -> float:
    clean = values[np.isfinite(values)]
    return float(np.quantile(clean, TIGHT)) if clean.size else math.nan


def intercept(arena: Arena, net: NetResult, runs: Sequence[NullRun]) -> tuple[float, float]:
    """(annual return, HAC t) left of the model's net return after market and momentum; NaN without a momentum run (T29).

    Scaling the factors to equal volatility changes their slopes and neither of these.
    """
    momentum = next((run for run in runs if run.null == RULES[0]), None)
    if momentum is None:
        return math.nan, math.nan
    aligned = np.zeros(net.session.size)
    _, mine, theirs = np.intersect1d(net.session, momentum.session, return_indices=True)
    aligned[mine] = momentum.returns[theirs]
    factors = np.column_stack([market_returns(arena.panel, net.first), aligned])
    level, t = metrics.hac_intercept_t(net.returns, factors)
    return level * metrics.SESSIONS_PER_YEAR, t


def comparison(net: NetResult, ic: float, runs: Sequence[NullRun], intercept_t: float) -> nulls.NullComparison:
    """What the gate `beats_nulls` reads: the populations' 95th percentiles, and how many runs there are of each."""

    def population(name: str) -> tuple[int, float | None, float | None]:
        same = [run for run in runs if run.null == name]
        if not same:
            return 0, None, None
        return len(same), _high(np.array([run.ic for run in same])), _high(np.array([run.sharpe for run in same]))

    (random, random_ic, random_sharpe), (shuffled, shuffled_ic, shuffled_sharpe) = (population(name) for name in POPULATIONS)
    momentum = next((run.ic for run in runs if run.null == RULES[0]), math.nan)
    return nulls.NullComparison(
        model_ic=ic,
        random_95=math.nan if random_ic is None else random_ic,
        random_runs=random,
        momentum_ic=momentum,
        shuffled_95=shuffled_ic,
        shuffled_runs=shuffled,
        intercept_t=intercept_t if math.isfinite(intercept_t) else None,
        model_sharpe=net.performance.annual_sharpe,
        random_sharpe_95=random_sharpe,
        shuffled_sharpe_95=shuffled_sharpe,
    )


HEADS: Mapping[str, str] = {
    "null": "null",
    "runs": "runs",
    "ic": "rank IC",
    "ic_95": "its 95 %",
    "sharpe": "annual net Sharpe",
    "sharpe_95": "its 95 %",
    "turnover": "turnover a session",
    "difference": "model minus it [95 %]",
    "beaten_ic": "beaten by IC",
    "beaten_sharpe": "by Sharpe",
}


def table_lines(net: NetResult, ic: float, pairs: Sequence[Pair], left: tuple[float, float]) -> list[str]:
    """The comparison as Markdown lines; the model first, then each null, then what is left after market and momentum."""

    def number(value: float, form: str) -> str:
        return format(value, form) if math.isfinite(value) else ""

    seen = net.performance
    lines = [f"| {' | '.join(HEADS.values())} |", "|" + "---|" * len(HEADS)]
    lines.append(
        f"| **the model** | 1 | {number(ic, '.4f')} | | {number(seen.annual_sharpe, '.2f')} | | {number(seen.mean_turnover, '.3f')} | | | |"
    )
    for pair in pairs:
        many = pair.runs > 1
        interval = f"{pair.difference:+.2f} [{pair.low:+.2f}, {pair.high:+.2f}]" if math.isfinite(pair.difference) else "too short"
        cells = [pair.null, str(pair.runs), number(pair.ic, ".4f"), number(pair.ic_95, ".4f") if many else "", number(pair.sharpe, ".2f")]
        cells += [number(pair.sharpe_95, ".2f") if many else "", number(pair.turnover, ".3f"), interval]
        cells += [f"{pair.beaten_ic:.0%}" if math.isfinite(pair.ic) else "", f"{pair.beaten_sharpe:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    level, t = left
    said = f"After market and momentum: {level:+.1%} a year, HAC t {t:.2f}." if math.isfinite(t) else "After market and momentum: not run."
    counted = f"{seen.n_obs} sessions, net of costs; differences are annual net Sharpe ratios by paired circular blocks of {BLOCK} sessions"
    return [*lines, "", f"{said} {counted}; a population stands by its run at the 95th percentile."]
