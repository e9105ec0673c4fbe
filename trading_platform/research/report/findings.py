"""Everything a report says, computed once: the numbers behind each chart and table. What draws them computes nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.research import metrics
from trading_platform.research.evaluate import Arena, Evaluation, NetResult, aligned
from trading_platform.research.gates import GateResult, Power
from trading_platform.research.labels import Labels
from trading_platform.research.nulls import NullComparison
from trading_platform.research.report import alpha, breakdown, holdings
from trading_platform.research.report.attribution import Attribution
from trading_platform.research.walk_forward import WalkForward

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Identity:
    """What the report is about: model and pipeline names, and the hashes that say which data, features, labels and code it was made of."""

    model: str
    pipeline: str
    timeframe: str
    label: str
    hashes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was decided about the model. trials: what the registry says of the scope. power: of these gates on this many sessions."""

    gates: Sequence[GateResult]
    trials: Mapping[str, object]
    power: Sequence[Power]
    warning: str


@dataclass(frozen=True, slots=True)
class Number:
    """One number with what it is. unit: percent (of a fraction), ratio, money, count, bps, sessions, t. basis: net, gross or empty."""

    name: str
    value: float
    unit: str
    n: int
    basis: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Rival:
    """A return series beside the model's on its sessions, and the model's return regressed on it (T29).

    correlation: of the two. annual_intercept, intercept_t: what the model earned beyond its exposure to this series, per year, and HAC t.
    """

    name: str
    returns: Array
    performance: metrics.Performance
    correlation: float
    annual_intercept: float
    intercept_t: float


@dataclass(frozen=True, slots=True)
class Findings:
    """The report of one model. session: int64 (D,) days; arrays of the traded sessions are float64 (D,), of the panel's rows (T,)."""

    identity: Identity
    judgement: Judgement
    session: NDArray[np.int64]
    row_session: NDArray[np.int64]
    net: NetResult
    numbers: tuple[Number, ...]
    rivals: tuple[Rival, ...]
    nulls: NullComparison | None
    stress: tuple[tuple[str, metrics.Performance], ...]
    months: breakdown.Months
    market_years: Array
    rolling: breakdown.Rolling
    falls: tuple[breakdown.Fall, ...]
    regimes: tuple[breakdown.Regime, ...]
    ic: Array
    decay: alpha.Decay
    quantiles: alpha.Quantiles
    paper: tuple[tuple[str, NDArray[np.int64], Array, metrics.Performance], ...]
    walk_forward: WalkForward
    exposures: holdings.Exposures
    horizon: int
    capacity: float
    attribution: Attribution | None


def collect(
    identity: Identity,
    judgement: Judgement,
    arena: Arena,
    evaluation: Evaluation,
    walk_forward: WalkForward,
    labels: Labels,
    sectors: tuple[str, ...] = (),
    attribution: Attribution | None = None,
) -> Findings:
    """Compute the report. sectors: names of the codes in arena.sector. attribution: where the fold models are trees."""
    net, panel, periods = evaluation.net, arena.panel, evaluation.net.performance.periods_per_year
    outcome = np.where(panel.member, labels.values, np.nan)
    rows_per_year = periods * panel.shape[0] / max(np.unique(panel.session).size, 1)
    paper = alpha.paper_portfolios(panel, walk_forward.predictions, labels.horizon, arena.profile.costs, rows_per_year)
    held = holdings.holdings(arena, net)
    exposed = holdings.exposures(arena, net, held, sectors)
    capacity = holdings.capacity(arena, net)
    shown_paper = (("best quantile, long only", paper.long_only), ("best less worst quantile, long/short", paper.long_short))
    quantiles = alpha.quantile_returns(walk_forward.predictions, outcome, labels.horizon)
    return Findings(
        identity=identity,
        judgement=judgement,
        session=net.session,
        row_session=panel.session,
        net=net,
        numbers=_numbers(evaluation, walk_forward, labels, quantiles, exposed, capacity),
        rivals=_rivals(evaluation, periods),
        nulls=evaluation.evidence.nulls,
        stress=_stress(evaluation),
        months=breakdown.monthly(net.session, net.returns),
        market_years=breakdown.monthly(net.session, evaluation.market).total,
        rolling=breakdown.rolling_sharpe(net.returns, periods),
        falls=breakdown.falls(net.session, net.returns),
        regimes=breakdown.regimes(net.returns, evaluation.market, breakdown.states(evaluation.market, _vix_before(arena, net)), periods),
        ic=walk_forward.ic,
        decay=alpha.ic_decay(panel, walk_forward.predictions),
        quantiles=quantiles,
        paper=tuple((name, paper.session, r, metrics.performance(r, periods)) for name, r in shown_paper),
        walk_forward=walk_forward,
        exposures=exposed,
        horizon=labels.horizon,
        capacity=capacity,
        attribution=attribution,
    )


def _vix_before(arena: Arena, net: NetResult) -> Array | None:
    """VIX known before each traded session: the value of the last row of the session before; None where the panel has none."""
    if "vix" not in arena.panel.fields:
        return None
    seen = arena.panel.fields["vix"]
    by_row = np.where(arena.panel.present & np.isfinite(seen), seen, -np.inf).max(axis=1)
    first = np.searchsorted(arena.panel.session, net.session, side="left")
    return np.where((first > 0) & np.isfinite(by_row[first - 1]), by_row[first - 1], np.nan)


def _rivals(evaluation: Evaluation, periods: float) -> tuple[Rival, ...]:
    """The other signals, and the market: equal-weighted, gross, never traded by anybody here."""
    mine = evaluation.net.returns
    series: list[tuple[str, Array, Array | None, bool]] = [("equal-weighted market", evaluation.market, None, False)]
    series[:0] = [(name, aligned(rival, evaluation.net), rival.turnover, True) for name, rival in evaluation.rivals.items()]
    found = []
    for name, returns, turnover, is_net in series:
        both = mine.std() > 1e-15 and returns.std() > 1e-15
        correlation = float(np.corrcoef(mine, returns)[0, 1]) if both and mine.size > 2 else math.nan
        seen = metrics.performance(returns, periods, turnover, net=is_net)
        intercept, t = metrics.hac_intercept_t(mine, returns[:, np.newaxis])
        found.append(Rival(name, returns, seen, correlation, intercept * periods, t))
    return tuple(found)


def _stress(evaluation: Evaluation) -> tuple[tuple[str, metrics.Performance], ...]:
    named = {factor: f"{factor:g} x costs" if factor else "no costs, gross" for factor in sorted(evaluation.costs)}
    costs = [(name, evaluation.costs[factor].performance) for factor, name in named.items()]
    late = [(f"{rows} row{'s' * (rows > 1)} late", result.performance) for rows, result in sorted(evaluation.delays.items())]
    return (*costs[:1], ("as modelled", evaluation.net.performance), *costs[1:], *late)


def _numbers(
    evaluation: Evaluation,
    walk_forward: WalkForward,
    labels: Labels,
    quantiles: alpha.Quantiles,
    exposed: holdings.Exposures,
    capacity: float,
) -> tuple[Number, ...]:
    p, fills = evaluation.net.performance, len(evaluation.net.backtest.fills)
    drag = evaluation.costs[0.0].performance.annual_return - p.annual_return
    ic = walk_forward.ic[np.isfinite(walk_forward.ic)]
    mean_ic = float(ic.mean()) if ic.size else math.nan
    spread = float(ic.std(ddof=1)) if ic.size > 1 else math.nan
    held = evaluation.net.exposure > 0.0
    gross = float(exposed.gross[held].mean()) if held.any() else math.nan
    return (
        Number("annual return", p.annual_return, "percent", p.n_obs, "net", "geometric"),
        Number("cost drag", drag, "percent", p.n_obs, "", "annual return without any cost less the net one"),
        Number("annual volatility", p.annual_volatility, "percent", p.n_obs, "net", "ddof 1"),
        Number("annual Sharpe ratio", p.annual_sharpe, "ratio", p.n_obs, "net", f"standard error {breakdown.sharpe_error(p):.2f}"),
        Number("Sharpe ratio per session", p.sharpe, "small", p.n_obs, "net", "what DSR and PSR read"),
        Number("Sortino ratio per session", p.sortino, "small", p.n_obs, "net", "downside deviation below zero"),
        Number("largest drawdown", p.max_drawdown, "percent", p.n_obs, "net", "compounded, the start counts as a high"),
        Number("Calmar ratio", p.calmar, "ratio", p.n_obs, "net", "annual return over largest drawdown"),
        Number("mean return, HAC t", p.mean_t_hac, "ratio", p.n_obs, "net", "Newey-West"),
        Number("days won", p.hit_rate, "percent", p.n_obs, "net", "says nothing about skill: noise passes 45 %"),
        Number("profit factor", p.profit_factor, "ratio", p.n_obs, "net", "gains over losses, per session"),
        Number("skewness", p.skew, "ratio", p.n_obs, "net", "population"),
        Number("kurtosis", p.kurtosis_raw, "ratio", p.n_obs, "net", "raw, 3 for a normal"),
        Number("mean rank IC", mean_ic, "small", ic.size, "gross", f"horizon {labels.horizon} rows"),
        Number("rank IC, HAC t", metrics.hac_t(ic, labels.horizon), "ratio", ic.size, "gross", f"{labels.horizon} lags"),
        Number("rank ICIR per row", mean_ic / spread if spread else math.nan, "small", ic.size, "gross", "mean over deviation"),
        Number("quantile spread", quantiles.spread * 1e4, "bps", quantiles.rows, "gross", f"best less worst, t {quantiles.spread_t:.2f}"),
        Number("daily turnover", p.mean_turnover, "percent", p.n_obs, "net", "traded value over equity, both sides"),
        Number("fills", float(fills), "count", fills, "", "orders filled by the engine's own matching"),
        Number("mean gross exposure", gross, "percent", int(held.sum()), "", "of sessions with a position"),
        Number("capacity", capacity, "money", fills, "", "capital at which the largest twentieth of fills reach 1 % of ADV"),
        Number("effective bets", evaluation.evidence.effective_bets, "count", p.n_obs, "", "label uniqueness of the cells held"),
        Number("names that left", evaluation.evidence.names_left, "percent", p.n_obs, "", "of the universe, in the span (T33)"),
    )
