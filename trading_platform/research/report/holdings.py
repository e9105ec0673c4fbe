"""What a backtest held: positions from its fills, and from them exposures, concentration and capacity. No price is invented here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.panel import Panel
from trading_platform.engine.corporate import rescale
from trading_platform.research.evaluate import Arena, NetResult, row_returns

Array = NDArray[np.float64]
ADV_ROWS, BETA_ROWS = 20, 126
ADV_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Holdings:
    """After each row of the traded span. lots: int64 (n, S), signed. weight: float64 (n, S), value over equity at the last close known."""

    lots: NDArray[np.int64]
    weight: Array


@dataclass(frozen=True, slots=True)
class Exposures:
    """At each session's end, float64 (D,), fractions of equity unless named otherwise.

    long and short (>= 0), gross = long + short, net = long - short. beta: sum of weight x the name's beta to the equal-weighted market over
    the last 126 rows. names: positions held. effective_names: 1 / sum of squared shares of gross. sectors: name -> net weight.
    """

    long: Array
    short: Array
    gross: Array
    net: Array
    beta: Array
    names: Array
    largest: Array
    effective_names: Array
    sectors: dict[str, Array]


def holdings(arena: Arena, result: NetResult) -> Holdings:
    """The fills added up row by row, splits applied by the engine's own arithmetic; equal to the engine's account at the end."""
    panel = arena.panel.rows(result.first, arena.panel.shape[0])
    fills, close = result.backtest.fills, panel.fields["close"]
    column = {name: s for s, name in enumerate(panel.instrument_ids)}
    splits = sorted((a.ex_date, column[a.instrument_id], a.split_ratio) for a in arena.actions if a.instrument_id in column)
    splits = [split for split in splits if split[0] >= panel.session[0] and split[2] != 1.0]
    per_unit = np.array([instrument.lots_per_unit for instrument in arena.instruments], np.int64)
    held, mark = np.zeros(panel.shape[1], np.int64), np.full(panel.shape[1], np.nan)
    lots, value = np.empty(panel.shape, np.int64), np.empty(panel.shape)
    ends = np.searchsorted(fills["row"], np.arange(panel.shape[0]), side="right")
    start = following = 0
    for t, stop in enumerate(ends):
        while following < len(splits) and splits[following][0] <= panel.session[t]:
            _, s, ratio = splits[following]
            held[s] = rescale(int(held[s]), 0.0, 0.0, ratio, 0.0, 0.0, int(per_unit[s]))[0]
            mark[s] /= ratio
            following += 1
        np.add.at(held, fills["column"][start:stop], fills["side"][start:stop] * fills["lots"][start:stop])
        mark = np.where(panel.present[t], close[t], mark)
        lots[t], value[t], start = held, np.where(held != 0, held / per_unit * mark, 0.0), stop
    return Holdings(lots, value / result.backtest.equity[:, np.newaxis])


def rolling_beta(change: Array, market: Array, rows: int = BETA_ROWS) -> Array:
    """Beta of each name to the market over the last `rows` rows, float64 (T, S); NaN below half a window of common rows. Causal."""
    usable = np.isfinite(change)
    x, y = np.where(usable, market[:, np.newaxis], 0.0), np.where(usable, change, 0.0)

    def over(values: Array) -> Array:
        total = np.cumsum(values, axis=0)
        total[rows:] = total[rows:] - total[:-rows]
        return total

    count = over(usable.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance, variance = over(x * y) - over(x) * over(y) / count, over(x * x) - over(x) ** 2 / count
        return np.where((count >= rows / 2) & (variance > 0.0), covariance / variance, np.nan)


def exposures(arena: Arena, result: NetResult, held: Holdings, sectors: tuple[str, ...] = ()) -> Exposures:
    """Where the money was at each session's end. sectors: names of the codes in arena.sector; without them no sector is told."""
    panel = arena.panel.rows(result.first, arena.panel.shape[0])
    last = np.searchsorted(panel.session, result.session, side="right") - 1
    weight = held.weight[last]
    beta = np.nan_to_num(rolling_beta(*row_returns(arena.panel))[result.first :][last], nan=1.0)
    long, short = np.maximum(weight, 0.0).sum(axis=1), np.maximum(-weight, 0.0).sum(axis=1)
    gross = long + short
    with np.errstate(invalid="ignore", divide="ignore"):
        even = gross**2 / np.sum(weight * weight, axis=1)
    by_sector = {} if arena.sector is None else {n: weight[:, arena.sector == c].sum(axis=1) for c, n in enumerate(sectors)}
    return Exposures(
        long=long,
        short=short,
        gross=gross,
        net=long - short,
        beta=np.sum(weight * beta, axis=1),
        names=np.count_nonzero(weight, axis=1).astype(np.float64),
        largest=np.abs(weight).max(axis=1),
        effective_names=np.nan_to_num(even),
        sectors={name: values for name, values in by_sector.items() if np.any(values != 0.0)},
    )


def dollar_volume(panel: Panel, rows: int = ADV_ROWS) -> Array:
    """Mean traded value per session over the `rows` rows before each row, float64 (T, S), quote currency; known before the row trades."""
    value = np.nan_to_num(panel.fields["close"] * panel.fields["volume"])
    there = np.cumsum(panel.present, axis=0).astype(np.float64)
    total = np.cumsum(value, axis=0)
    total[rows:], there[rows:] = total[rows:] - total[:-rows], there[rows:] - there[:-rows]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there > 0.0, total / there, np.nan)
    return np.concatenate([np.full((1, mean.shape[1]), np.nan), mean[:-1]])


def capacity(arena: Arena, result: NetResult, quantile: float = 0.05, share: float = ADV_SHARE) -> float:
    """Capital at which a fill reaches `share` of its name's average daily dollar volume; the `quantile` of all fills' capacities.

    A fill of value v at equity E trades the fraction v / E, which at capital C is C v / E: its capacity is share x ADV x E / v.
    """
    fills = result.backtest.fills
    if not len(fills):
        return float("nan")
    panel = arena.panel.rows(result.first, arena.panel.shape[0])
    units = np.array([i.lots_per_unit for i in arena.instruments], np.float64)[fills["column"]]
    ticks = np.array([i.ticks_per_unit for i in arena.instruments], np.float64)[fills["column"]]
    value = fills["lots"] / units * (fills["ticks"] / ticks)
    adv = dollar_volume(arena.panel)[result.first :][fills["row"], fills["column"]]
    if panel.timeframe != "1Day":
        adv = adv * np.median(np.unique(panel.session, return_counts=True)[1])
    bound = share * adv * result.backtest.equity[fills["row"]] / value
    defined = bound[np.isfinite(bound)]
    return float(np.quantile(defined, quantile)) if defined.size else float("nan")
