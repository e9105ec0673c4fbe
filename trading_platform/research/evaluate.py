"""From predictions to net results: every number of a report comes from `backtest.run`, the loop over the engine's own functions.

The same arena judges the model, its stressed and delayed versions and the nulls, so that they differ in the signal alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trading_platform.backtest.run import BacktestResult, Sessions
from trading_platform.backtest.run import run as backtest
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Profile
from trading_platform.engine.signals import block_from_alpha
from trading_platform.market_data.corporate_actions import CorporateAction
from trading_platform.research import hits, metrics, nulls
from trading_platform.research.gates import Statistical
from trading_platform.research.labels import Labels
from trading_platform.research.splits import Fold
from trading_platform.research.trials import TrialCount
from trading_platform.research.walk_forward import WalkForward

Array = NDArray[np.float64]
SESSIONS_PER_YEAR = metrics.SESSIONS_PER_YEAR
COST_FACTORS, DELAYS = (0.0, 2.0, 3.0), (1, 2)  # no costs at all is the gross result
MOMENTUM = "momentum 12-1"


@dataclass(frozen=True, slots=True)
class Arena:
    """What all compared signals share. volatility, atr: float64 (T, S), fractions per bar. sector: int64 (S,) or None."""

    profile: Profile
    panel: Panel
    sessions: Sessions
    actions: Sequence[CorporateAction]
    instruments: Sequence[Instrument]
    volatility: Array
    atr: Array
    starting_cash: float
    sector: NDArray[np.int64] | None = None

    def rows(self, start: int, stop: int) -> Arena:
        """The same arena on rows start..stop-1."""
        cut = slice(start, stop)
        times = Sessions(self.sessions.open_ns[cut], self.sessions.close_ns[cut], self.sessions.next_open_ns[cut])
        return replace(self, panel=self.panel.rows(start, stop), sessions=times, volatility=self.volatility[cut], atr=self.atr[cut])


@dataclass(frozen=True, slots=True)
class NetResult:
    """A signal's result.

    first: arena row where it began. session: int64 (D,) days; returns (net), turnover, exposure (gross at the end, of equity):
    float64 (D,) per session.
    """

    first: int
    session: NDArray[np.int64]
    returns: Array
    turnover: Array
    exposure: Array
    performance: metrics.Performance
    backtest: BacktestResult


def per_session(session: NDArray[np.int64], values: Array, compound: bool) -> tuple[NDArray[np.int64], Array]:
    """Rows gathered to sessions: returns compounded, other flows summed. session: int64 (T,), not descending."""
    days, start = np.unique(session, return_index=True)
    if compound:
        return days, np.expm1(np.add.reduceat(np.log1p(values), start))
    return days, np.add.reduceat(values, start)


def model_age(panel: Panel, fold: NDArray[np.int64], folds: Sequence[Fold]) -> NDArray[np.int64]:
    """Sessions between the newest training row of the fold that speaks and each row, int64 (T,); 0 where nobody speaks (T25)."""
    _, place = np.unique(panel.session, return_inverse=True)
    trained = np.array([place[f.train.max()] for f in folds], dtype=np.int64)
    return np.where(fold >= 0, place - trained[np.maximum(fold, 0)], 0)


def net_result(arena: Arena, predictions: Array, age: NDArray[np.int64] | None = None, cost_factor: float = 1.0) -> NetResult:
    """Trade a signal from its first row on. predictions: float64 (T, S); age: int64 (T,) sessions; cost_factor scales spread, impact, fees.

    Raises InputError for a signal that never speaks.
    """
    speaking = np.flatnonzero(np.isfinite(predictions).any(axis=1))
    if speaking.size == 0:
        raise InputError("the signal is undefined everywhere", "research.evaluate", "check the features and the folds")
    first = int(speaking[0])
    here = arena.rows(first, arena.panel.shape[0])
    costs = here.profile.costs
    dear = replace(
        costs,
        half_spread_bps=costs.half_spread_bps * cost_factor,
        impact_bps=costs.impact_bps * cost_factor,
        fee_per_share=costs.fee_per_share * cost_factor,
    )
    profile = replace(here.profile, costs=dear)
    block = block_from_alpha(profile, here.panel, np.ascontiguousarray(predictions[first:]), here.volatility, here.atr)
    result = backtest(
        profile,
        here.panel,
        block,
        here.sessions,
        here.actions,
        here.instruments,
        here.starting_cash,
        sector=here.sector,
        model_age=None if age is None else np.ascontiguousarray(age[first:]),
    )
    session, returns = per_session(here.panel.session, result.returns, compound=True)
    _, turnover = per_session(here.panel.session, result.turnover, compound=False)
    last = np.searchsorted(here.panel.session, session, side="right") - 1
    return NetResult(
        first,
        session,
        returns,
        turnover,
        result.gross[last],
        metrics.performance(returns, SESSIONS_PER_YEAR, turnover, net=cost_factor > 0.0),
        result,
    )


def delayed(predictions: Array, rows: int = 1) -> Array:
    """The same signal `rows` rows later."""
    later = np.full_like(predictions, np.nan)
    later[rows:] = predictions[:-rows]
    return later


def row_returns(panel: Panel) -> tuple[Array, Array]:
    """Gross total return of each cell since the row before, float64 (T, S), and its equal-weighted mean over the members, (T,)."""
    wealth = panel.fields["close"] * panel.fields["return_factor"]
    change = np.full(panel.shape, np.nan)
    change[1:] = wealth[1:] / wealth[:-1] - 1.0
    usable = np.isfinite(change) & panel.member
    return change, np.where(usable, change, 0.0).sum(axis=1) / np.maximum(usable.sum(axis=1), 1)


def market_returns(panel: Panel, first: int) -> Array:
    """Equal-weighted gross return of the members per session from row `first` on: the market that the nulls are regressed on."""
    return per_session(panel.session[first:], row_returns(panel)[1][first:], compound=True)[1]


def share_left(panel: Panel, first: int) -> float:
    """Share of the members since row `first` whose last bar comes more than 5 rows before the panel's end (T33)."""
    ever = panel.member[first:].any(axis=0) & panel.present[first:].any(axis=0)
    last = panel.shape[0] - 1 - np.argmax(panel.present[::-1], axis=0)
    return float(np.mean(last[ever] < panel.shape[0] - 6)) if ever.any() else 0.0


def effective_bets(arena: Arena, predictions: Array, horizon: int) -> float:
    """Label uniqueness summed over the cells the strategy would hold, at most max_positions of them per row."""
    panel = arena.panel
    block = block_from_alpha(arena.profile, panel, predictions, arena.volatility, arena.atr)
    held = np.minimum(block.held.sum(axis=1), arena.profile.limits.max_positions)
    return metrics.effective_bets(panel.shape[0], horizon, float(held.mean()))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model beside its stressed and delayed versions and its rivals, and the evidence for the gates made of them.

    costs: the model at this multiple of the modelled costs. delays: the model this many rows late. rivals: other signals in the same
    arena, net, by name. market: float64 (D,), the members' equal-weighted GROSS return on the model's sessions.
    """

    net: NetResult
    costs: Mapping[float, NetResult]
    delays: Mapping[int, NetResult]
    rivals: Mapping[str, NetResult]
    market: Array
    evidence: Statistical

    @property
    def stressed(self) -> NetResult:
        """The model at twice the costs."""
        return self.costs[2.0]

    @property
    def delayed(self) -> NetResult:
        """The model one row late."""
        return self.delays[1]

    @property
    def momentum(self) -> NetResult | None:
        """12-1 momentum in the same arena, where it could speak."""
        return self.rivals.get(MOMENTUM)

    def curves(self) -> dict[str, Array]:
        """Net returns per session by name, all on the model's sessions, for the equity plot."""
        rivals = {name: aligned(rival, self.net) for name, rival in self.rivals.items()}
        return {"model": self.net.returns, "twice the costs": self.stressed.returns, **rivals}


def aligned(other: NetResult, net: NetResult) -> Array:
    """Another signal's returns on this one's sessions, zero where it did not trade yet."""
    found = np.zeros(net.session.size)
    _, mine, theirs = np.intersect1d(net.session, other.session, return_indices=True)
    found[mine] = other.returns[theirs]
    return found


def trade_rivals(arena: Arena, predictions: Array, scores: Mapping[str, Array]) -> dict[str, NetResult]:
    """Trade other signals, each float64 (T, S), from the row on which the model first speaks; one that never does is left out."""
    speaks = np.isfinite(predictions).any(axis=1, keepdims=True)
    masked = {name: np.where(speaks, score, np.nan) for name, score in scores.items()}
    return {name: net_result(arena, score) for name, score in masked.items() if np.isfinite(score).any()}


def evaluate(
    arena: Arena,
    walk_forward: WalkForward,
    folds: Sequence[Fold],
    labels: Labels,
    trials: TrialCount,
    shuffled_ics: Array | None = None,
    runs: int = 200,
    rivals: Mapping[str, Array] | None = None,
    net: NetResult | None = None,
    comparison: nulls.NullComparison | None = None,
) -> Evaluation:
    """Run the model and everything it is compared with.

    shuffled_ics: mean rank ICs of refits on shuffled labels, where they were run. rivals: signals float64 (T, S) to trade beside the model;
    12-1 momentum is always among them. net: the model's own result, where it was run already. comparison: what `null_models` found
    already, instead of the quick one made here (no net Sharpe ratios of the populations).
    """
    predictions = walk_forward.predictions
    age = model_age(arena.panel, walk_forward.fold, folds)
    net = net or net_result(arena, predictions, age)
    costs = {factor: net_result(arena, predictions, age, cost_factor=factor) for factor in COST_FACTORS}
    delays = {rows: net_result(arena, delayed(predictions, rows), age) for rows in DELAYS}
    momentum = nulls.momentum_12_1(arena.panel)
    traded = trade_rivals(arena, predictions, {MOMENTUM: momentum, **(rivals or {})})
    outcome = np.where(arena.panel.member, labels.values, np.nan)
    if comparison is None:
        comparison = _compared(arena.panel, walk_forward, outcome, momentum, net, traded.get(MOMENTUM), shuffled_ics, runs)
    evidence = Statistical(
        returns=net.returns,
        stressed=costs[2.0].returns,
        delayed=delays[1].returns,
        periods=SESSIONS_PER_YEAR,
        trials=trials,
        effective_bets=effective_bets(arena.rows(net.first, arena.panel.shape[0]), predictions[net.first :], labels.horizon),
        nulls=comparison,
        sessions=int(np.count_nonzero(net.exposure)),
        names_left=share_left(arena.panel, net.first),
        trades=int(net.backtest.fills.size),
        win_rate=hits.win_rate(net.backtest.fills),
        accuracy=hits.accuracy(predictions, outcome),
    )
    return Evaluation(net, costs, delays, traded, market_returns(arena.panel, net.first), evidence)


def _compared(
    panel: Panel,
    walk_forward: WalkForward,
    outcome: Array,
    momentum: Array,
    net: NetResult,
    rival: NetResult | None,
    shuffled_ics: Array | None,
    runs: int,
) -> nulls.NullComparison:
    """The model's rank IC and net return beside the nulls'."""
    predictions = walk_forward.predictions
    score = np.where(np.isfinite(predictions).any(axis=1, keepdims=True), momentum, np.nan)
    random = nulls.random_signal_ics(predictions, outcome, runs)
    return nulls.NullComparison(
        model_ic=float(np.nanmean(walk_forward.ic)),
        random_95=float(np.quantile(random, 0.95)),
        random_runs=runs,
        momentum_ic=float("nan") if rival is None else float(np.nanmean(metrics.information_coefficient(score, outcome))),
        shuffled_95=None if shuffled_ics is None else float(np.quantile(shuffled_ics, 0.95)),
        shuffled_runs=0 if shuffled_ics is None else int(shuffled_ics.size),
        intercept_t=None if rival is None else _intercept_t(panel, net, rival),
    )


def _intercept_t(panel: Panel, net: NetResult, momentum: NetResult) -> float:
    """HAC t of what is left of the net return after market and momentum; scaling to equal volatility does not change it."""
    factors = np.column_stack([market_returns(panel, net.first), aligned(momentum, net)])
    return metrics.hac_intercept_t(net.returns, factors)[1]
