"""What an alpha knows before any engine trades it: IC by horizon, returns by quantile, and paper portfolios of its best and worst names.

Outcomes are total returns between attainable prices from the row after the signal on (T7), the labels' own price function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.panel import Panel
from trading_platform.contracts.profile import Costs
from trading_platform.research.evaluate import per_session
from trading_platform.research.labels import forward_return
from trading_platform.research.metrics import hac_t, information_coefficient

Array = NDArray[np.float64]
HORIZONS = (1, 2, 3, 5, 10, 21)
ANNUAL_BORROW = 0.005  # 50 bp a year on what is short, quant.md 3: the least that a report may assume


@dataclass(frozen=True, slots=True)
class Decay:
    """Mean rank IC at each horizon in rows, its HAC t with as many lags as outcomes overlap, its standard error, rows counted."""

    horizon: NDArray[np.int64]
    ic: Array
    t: Array
    error: Array
    rows: NDArray[np.int64]


def ic_decay(panel: Panel, predictions: Array, horizons: Sequence[int] = HORIZONS) -> Decay:
    """Rank IC of a signal with the return of the next h rows among members. Horizons that no row can complete are left out."""
    speaks = np.where(panel.member, predictions, np.nan)
    found = []
    for horizon in horizons:
        if horizon + 1 >= panel.shape[0]:
            continue
        ic = information_coefficient(speaks, forward_return(panel, horizon).values)
        clean = ic[np.isfinite(ic)]
        if clean.size:
            mean, t = float(clean.mean()), hac_t(clean, horizon)
            found.append((horizon, mean, t, abs(mean / t) if t else np.nan, clean.size))
    columns = list(zip(*found, strict=True)) if found else [(), (), (), (), ()]
    kinds = (np.int64, np.float64, np.float64, np.float64, np.int64)
    return Decay(*(np.array(values, dtype=kind) for values, kind in zip(columns, kinds, strict=True)))  # type: ignore[arg-type]


def buckets_for(names: float) -> int:
    """How many quantiles a cross-section of this many names carries: ten names or more in each, 10, 5 or 3 of them."""
    return 10 if names >= 100 else 5 if names >= 50 else 3


def quantile_of(values: Array, buckets: int) -> NDArray[np.int64]:
    """Quantile of each cell within its row, 0 lowest, int64 (T, S), -1 where undefined. Ties go by column, so that every size is even."""
    defined = np.isfinite(values)
    order = np.argsort(np.where(defined, values, np.inf), axis=1, kind="stable")
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.broadcast_to(np.arange(values.shape[1]), values.shape), axis=1)
    count = defined.sum(axis=1, keepdims=True)
    return np.where(defined, place * buckets // np.maximum(count, 1), -1)


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Mean outcome per quantile of the signal, lowest first, float64 (Q,), over the labels' horizon, gross; HAC t of each.

    spread, spread_t: highest less lowest. by_row: float64 (T,) that difference per row. rows: rows counted. monotone: rank correlation of
    quantile and mean outcome.
    """

    mean: Array
    t: Array
    spread: float
    spread_t: float
    by_row: Array
    rows: int
    monotone: float


def quantile_returns(predictions: Array, outcome: Array, horizon: int) -> Quantiles:
    """Outcomes float64 (T, S), less each row's mean, by quantile of the signal. Rows with fewer than 9 names with both are left out."""
    both = np.isfinite(predictions) & np.isfinite(outcome)
    rows = both.sum(axis=1) >= 9
    typical = float(np.median(both[rows].sum(axis=1))) if rows.any() else 0.0
    buckets = buckets_for(typical)
    signal = np.where(both & rows[:, np.newaxis], predictions, np.nan)
    counted = np.where(np.isfinite(signal), outcome, 0.0)
    relative = counted - counted.sum(axis=1, keepdims=True) / np.maximum(both.sum(axis=1, keepdims=True), 1)
    place = quantile_of(signal, buckets)
    means = np.full((predictions.shape[0], buckets), np.nan)
    for bucket in range(buckets):
        inside = place == bucket
        number = inside.sum(axis=1)
        means[:, bucket] = np.where(number > 0, np.where(inside, relative, 0.0).sum(axis=1) / np.maximum(number, 1), np.nan)
    spread = means[:, -1] - means[:, 0]
    if not rows.any():
        return Quantiles(np.full(buckets, np.nan), np.full(buckets, np.nan), np.nan, np.nan, spread, 0, np.nan)
    mean = np.nanmean(means[rows], axis=0)
    monotone = float(information_coefficient(np.arange(float(buckets))[np.newaxis], mean[np.newaxis], min_names=3)[0])
    t = np.array([hac_t(column, horizon) for column in means.T])
    return Quantiles(mean, t, float(np.nanmean(spread)), hac_t(spread, horizon), spread, int(rows.sum()), monotone)


@dataclass(frozen=True, slots=True)
class Paper:
    """Equal-weighted paper portfolios of the signal's best and worst quantile, a tranche per row held for the horizon (Jegadeesh, Titman).

    session: int64 (D,) days on which the position was sold or marked. long_only, long_short: float64 (D,) returns per session, net of half
    spread and fees' share of turnover, and of borrow on the short side; the engine does not trade them, no limit and no stop applies.
    """

    session: NDArray[np.int64]
    long_only: Array
    long_short: Array
    turnover: Array


def paper_portfolios(panel: Panel, predictions: Array, horizon: int, costs: Costs, periods: float, borrow: float = ANNUAL_BORROW) -> Paper:
    """Hold the tranches of the last `horizon` rows at equal weight, entered at the next row's attainable price (T7).

    periods: rows per year, for the borrow fee. Impact is left out: a paper portfolio has no size. Long/short is 100 % long, 100 % short.
    """
    speaks = np.where(panel.member, predictions, np.nan)
    buckets = buckets_for(float(np.median(np.isfinite(speaks).sum(axis=1)[np.isfinite(speaks).any(axis=1)])))
    place = quantile_of(speaks, buckets)
    change = forward_return(panel, 1).values
    legs, cost, turnover = [], [], []
    for wanted in (buckets - 1, 0):
        inside = (place == wanted) & np.isfinite(change)
        tranche = inside / np.maximum(inside.sum(axis=1, keepdims=True), 1)
        total = np.cumsum(tranche, axis=0)
        total[horizon:] = total[horizon:] - total[:-horizon]
        weight = total / horizon
        traded = np.abs(np.diff(weight, axis=0, prepend=0.0)).sum(axis=1)
        legs.append(np.where(np.isfinite(change), weight * np.nan_to_num(change), 0.0).sum(axis=1))
        cost.append(traded * costs.half_spread_bps * 1e-4)
        turnover.append(traded)
    rows = np.flatnonzero(np.isfinite(speaks).any(axis=1))
    rows = rows[rows < panel.shape[0] - 2]
    fee = borrow / periods
    only = (legs[0] - cost[0])[rows]
    both = (legs[0] - legs[1] - cost[0] - cost[1] - fee)[rows]
    sold = panel.session[rows + 2]
    session, long_only = per_session(sold, only, compound=True)
    return Paper(session, long_only, per_session(sold, both, compound=True)[1], per_session(sold, turnover[0][rows], compound=False)[1])
