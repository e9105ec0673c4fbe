"""Labels: what happened after a row, in their own type, so that they cannot become an input of a feature (I1).

A label's entry price is never earlier than the decision (T7): decided on row t, entered in row t+1, left in row t+1+horizon at the latest,
at `matching.price.attainable_prices`, the price function of the fills. Rows whose full horizon the panel does not hold have no label, even
where a barrier was met before the panel ended: keeping only the early ends would choose rows by their outcome.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.matching.price import attainable_prices
from trading_platform.research import barriers
from trading_platform.research.label_rules import ForwardReturn, LabelRule, MeanReversion, MetaLabel, TrendContinuation, TripleBarrier
from trading_platform.research.primary_signals import checked_side, mean_reversion, trend_continuation, volatility

NEVER = np.iinfo(np.int64).max
Array = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labels:
    """One label per cell.

    values: float64 (T, S), what a model learns, NaN where there is no label. t0, t1: int64 (T,) UTC ns, when the row's decision was made
    and when the outcome of its last cell was known, or that it has none; the interval (t0, t1] is what purging works on. Rows whose
    horizon ends after the panel have t1 = NEVER and only NaN values. horizon: rows. name: what the values are.
    ends: int64 (T, S) UTC ns, when each cell's outcome was known (barriers end early), NEVER without a label. exits: int64 (T, S), the
    row of that outcome, -1 without a label. raw: float64 (T, S), the return behind the value, in the direction of its side, before
    costs. rule: what the labels were made by. The last four are None for labels put together by hand.
    """

    values: Array
    t0: Rows
    t1: Rows
    horizon: int
    name: str
    ends: Rows | None = None
    exits: Rows | None = None
    raw: Array | None = None
    rule: LabelRule | None = None

    def before(self, row: int) -> Labels:
        """The labels of the rows before `row` that were known before it was decided: nothing that happened from then on is left.

        A row counts as a whole: cells of it that ended early go with the last one, or what is left would be chosen by its outcome.
        """
        known = (self.t1[:row] < self.t0[row])[:, np.newaxis]
        return replace(
            self,
            values=np.where(known, self.values[:row], np.nan),
            t0=self.t0[:row],
            t1=self.t1[:row],
            ends=None if self.ends is None else np.where(known, self.ends[:row], NEVER),
            exits=None if self.exits is None else np.where(known, self.exits[:row], -1),
            raw=None if self.raw is None else np.where(known, self.raw[:row], np.nan),
        )


@dataclass(frozen=True, slots=True)
class _Market:
    """A panel as labels read it: adjusted attainable prices (T, S), the row of each name's last bar (S,), what it settles at (S,)."""

    panel: Panel
    price: Array
    last: Rows
    final: Array


def make(panel: Panel, rule: LabelRule, sectors: NDArray[np.int64] | None = None, side: NDArray[np.int8] | None = None) -> Labels:
    """The labels of a rule on a panel.

    sectors: int64 (S,), equal for instruments of one sector, -1 unknown; needed by `neutral=sector`. side: int (T, S), -1, 0 or 1, what a
    primary signal said at each row's end; needed by a meta-label whose primary is `given`. An instrument that disappears before its exit
    settles at its last close (T33); one that only misses the bar of its exit has no label.
    Raises InputError for a panel without return_factor, with fewer rows than horizon + 2, or whose next bar opens before a row is known.
    """
    market = _market(panel, rule)
    if isinstance(rule, ForwardReturn):
        return _forward(market, rule, sectors)
    if isinstance(rule, TripleBarrier):  # a meta-label is one, with a side
        return _barrier(market, rule, side)
    if isinstance(rule, MeanReversion | TrendContinuation):
        return _strategy(market, rule)
    raise InputError(f"no labels are made by {type(rule).__name__}", "research.labels", "use a rule of research.label_rules")


def forward_return(panel: Panel, horizon: int, demean: bool = False) -> Labels:
    """Total return from the entry in row t+1 to the exit in row t+1+horizon, dividends and splits included by return_factor.

    demean: subtract each row's mean over the members with a label. See `make` for what is absent and what is refused.
    """
    return make(panel, ForwardReturn(horizon=horizon, neutral="market" if demean else "none"))


def demeaned(labels: Labels, member: NDArray[np.bool_]) -> Labels:
    """The labels minus each row's mean over members that have one; what a cross-sectional model learns. member: bool (T, S)."""
    rule = replace(labels.rule, neutral="market") if isinstance(labels.rule, ForwardReturn) else labels.rule
    return replace(labels, values=neutral(labels.values, member), name=f"{labels.name}_demeaned", rule=rule)


def neutral(values: Array, member: NDArray[np.bool_], sectors: NDArray[np.int64] | None = None) -> Array:
    """values (T, S) minus each row's mean over its members with a value; given sectors (S,), over those of the same sector.

    NaN where fewer than two members have a value: the only one of its kind is not at its mean, it has none. NaN for sector -1.
    """
    found = np.full(values.shape, np.nan)
    groups = np.zeros(values.shape[1], np.int64) if sectors is None else sectors
    for group in np.unique(groups[groups >= 0]):
        columns = groups == group
        part = values[:, columns]
        counted = member[:, columns] & np.isfinite(part)
        number = counted.sum(axis=1, keepdims=True)
        mean = np.where(counted, part, 0.0).sum(axis=1, keepdims=True) / np.maximum(number, 1)
        found[:, columns] = np.where(number > 1, part - mean, np.nan)
    return found


def _market(panel: Panel, rule: LabelRule) -> _Market:
    count, width = panel.shape
    if "return_factor" not in panel.fields:
        raise InputError("the panel has no field return_factor", "research.labels", "build the panel with market_data.panel")
    if count < rule.horizon + 2:
        what = f"the horizon of {rule.horizon} rows crosses the end of the data: a panel of {count} rows holds not one label"
        raise InputError(what, "research.labels", f"read at least {rule.horizon + 2} rows, or shorten the horizon")
    if bool(np.any(panel.timestamp[1:] < panel.known_at[:-1])):
        row = int(np.argmax(panel.timestamp[1:] < panel.known_at[:-1]))
        raise InputError(
            f"row {row} is known only after row {row + 1} began", "research.labels", "an entry there would come before its decision"
        )
    there = panel.present.any(axis=0)
    last = np.where(there, count - 1 - np.argmax(panel.present[::-1], axis=0), count - 1)
    columns = np.arange(width)
    close = panel.fields["close"][last, columns] * panel.fields["return_factor"][last, columns]
    price = attainable_prices(panel) * panel.fields["return_factor"]
    return _Market(panel, price, last, close * (1.0 + rule.delisting_return))


def _until(panel: Panel, horizon: int, ends_with_session: bool = False) -> Rows:
    """Last row in which what is decided on each row may be held, int64 (T,), -1 where the panel does not hold the full horizon.

    Intraday positions are flat at night: a horizon that crosses the session's end gives -1, or with ends_with_session the session's last
    row, unless that is the panel's last row, behind which the session may go on.
    """
    count = panel.shape[0]
    until = np.arange(count) + 1 + horizon
    if panel.timeframe != "1Day":
        closing = np.searchsorted(panel.session, panel.session, side="right") - 1
        crosses = until > closing
        early = np.where(closing < count - 1, closing, -1) if ends_with_session else -1
        until = np.where(crosses, early, until)
    return np.where((until < count) & (until >= np.arange(count) + 2), until, -1)


def _labels(market: _Market, rule: LabelRule, values: Array, raw: Array, exits: Rows, until: Rows) -> Labels:
    """Put together. exits: where each cell ended, or was known to have no outcome: that, too, is news of the row, so t1 waits for it.

    A row in which nothing was entered keeps the time at which its horizon had passed.
    """
    panel, defined = market.panel, np.isfinite(values)
    passed = np.where(until >= 0, until, np.arange(panel.shape[0]) + 1 + rule.horizon)
    latest = exits.max(axis=1, initial=-1)
    latest = np.where(latest >= 0, latest, passed)
    exits = np.where(defined, exits, -1)
    held = latest < panel.shape[0]
    t1 = np.where(held, panel.known_at[np.minimum(latest, panel.shape[0] - 1)], NEVER)
    ends = np.where(defined, panel.known_at[exits], NEVER)
    return Labels(values, panel.known_at.copy(), t1, rule.horizon, rule.name, ends, exits, np.where(defined, raw, np.nan), rule)


def _forward(market: _Market, rule: ForwardReturn, sectors: NDArray[np.int64] | None) -> Labels:
    panel = market.panel
    until = _until(panel, rule.horizon)
    rows = np.flatnonzero(until >= 0)
    leave = np.where(until[rows, np.newaxis] > market.last, market.final, market.price[until[rows]])
    raw = np.full(panel.shape, np.nan)
    raw[rows] = leave / market.price[rows + 1] - 1.0
    raw[~np.isfinite(raw)] = np.nan
    values = raw
    if rule.volatility_rows:
        values = values / (volatility(panel, rule.volatility_rows) * math.sqrt(rule.horizon))
    if rule.neutral != "none":
        if rule.neutral == "sector" and (sectors is None or sectors.shape != panel.shape[1:]):
            fix = "give labels.make one number per instrument, -1 for unknown"
            raise InputError(f"{rule.name} needs the sectors of {panel.shape[1]} instruments", "research.labels", fix)
        values = neutral(values, panel.member, sectors if rule.neutral == "sector" else None)
    return _labels(market, rule, values, raw, np.repeat(until[:, np.newaxis], panel.shape[1], axis=1), until)


def _prices(market: _Market, tick: float = 0.0) -> barriers.Prices:
    fields, factor = market.panel.fields, market.panel.fields["return_factor"]
    adjusted = (np.ascontiguousarray(fields[name] * factor) for name in ("open", "high", "low"))
    return barriers.Prices(*adjusted, market.price, tick * factor, market.last, market.final)


def _barrier(market: _Market, rule: TripleBarrier, given: NDArray[np.int8] | None) -> Labels:
    panel = market.panel
    side = _side(panel, rule, given)
    width = volatility(panel, rule.volatility_rows) * math.sqrt(rule.horizon)
    until, never = _until(panel, rule.horizon), np.zeros(panel.shape, np.bool_)
    plan = barriers.Plan(side, rule.stop * width, rule.profit * width, until, never, never, False)
    walks = barriers.walk(_prices(market, rule.tick), plan)
    if isinstance(rule, MetaLabel):
        values = np.where(walks.returned > rule.cost_bps * 1e-4, 1.0, 0.0)
    else:
        settled = walks.how == barriers.SETTLED
        above = (walks.how == barriers.REACHED) | (settled & (walks.returned >= plan.target))
        below = (walks.how == barriers.STOPPED) | (settled & (walks.returned <= -plan.stop))
        values = above.astype(np.float64) - below
    return _labels(market, rule, np.where(np.isfinite(walks.returned), values, np.nan), walks.returned, walks.row, until)


def _side(panel: Panel, rule: TripleBarrier, given: NDArray[np.int8] | None) -> NDArray[np.int8]:
    """Long everywhere for a plain triple barrier; for a meta-label what its primary says."""
    if not isinstance(rule, MetaLabel):
        return np.ones(panel.shape, np.int8)
    if rule.primary == "mean_reversion":
        return mean_reversion(panel, MeanReversion(horizon=rule.horizon)).side
    if rule.primary == "trend_continuation":
        return trend_continuation(panel, TrendContinuation(horizon=rule.horizon)).side
    return checked_side(panel, given)


def _strategy(market: _Market, rule: MeanReversion | TrendContinuation) -> Labels:
    panel = market.panel
    until = _until(panel, rule.horizon, ends_with_session=True)
    if isinstance(rule, MeanReversion):
        signal, distance = mean_reversion(panel, rule), rule.stop_atr
    else:
        signal, distance = trend_continuation(panel, rule), rule.trail_atr
    plan = barriers.Plan(
        side=signal.side,
        stop=distance * signal.atr,
        target=np.full(panel.shape, np.inf),
        until=until,
        leave_long=signal.leave_long,
        leave_short=signal.leave_short,
        trailing=isinstance(rule, TrendContinuation),
    )
    walks = barriers.walk(_prices(market), plan)
    if isinstance(rule, MeanReversion):
        paid = walks.how == barriers.LEFT
    else:
        paid = walks.returned > rule.cost_bps * 1e-4
    values = np.where(np.isfinite(walks.returned), paid.astype(np.float64), np.nan)
    return _labels(market, rule, values, walks.returned, walks.row, until)
