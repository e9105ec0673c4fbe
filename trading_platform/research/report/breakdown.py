"""A return series taken apart: by month, by window, by fall, by regime. Per-session net returns in, plain arrays out; nothing is annualised
unless the name says so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.research import metrics

Array = NDArray[np.float64]
Days = NDArray[np.int64]
ROLLING_SESSIONS = 252
REGIME_ROWS = 63
MARKET_THAT_DAY = "market that day"


@dataclass(frozen=True, slots=True)
class Months:
    """Compounded returns. years: (Y,); months: float64 (Y, 12), NaN where no session; total: float64 (Y,) of the year's sessions."""

    years: NDArray[np.int64]
    months: Array
    total: Array


def monthly(session: Days, returns: Array) -> Months:
    """Compound daily returns to calendar months and years. session: int64 (D,) days since 1970-01-01, ascending."""
    month = session.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    found, start = np.unique(month, return_index=True)
    grown = np.expm1(np.add.reduceat(np.log1p(returns), start))
    years = np.arange(1970 + found[0] // 12, 1971 + found[-1] // 12)
    table = np.full((years.size, 12), np.nan)
    table[1970 + found // 12 - years[0], found % 12] = grown
    return Months(years, table, np.expm1(np.nansum(np.log1p(table), axis=1)))


@dataclass(frozen=True, slots=True)
class Rolling:
    """Annual Sharpe ratio of the last `window` sessions, float64 (D,), NaN before a full window, and its standard error (Lo 2002)."""

    window: int
    sharpe: Array
    error: Array


def rolling_sharpe(returns: Array, periods: float, window: int = ROLLING_SESSIONS) -> Rolling:
    """Sharpe ratio over a moving window with standard error sqrt((1 + SR^2 / 2) / (n - 1)), SR per period, both times sqrt(periods)."""
    ratio = np.full(returns.size, np.nan)
    if returns.size >= window:
        seen = np.lib.stride_tricks.sliding_window_view(returns, window)
        spread = seen.std(axis=1, ddof=1)
        ratio[window - 1 :] = np.where(spread > 1e-15, seen.mean(axis=1) / np.where(spread > 1e-15, spread, 1.0), np.nan)
    error = np.sqrt((1.0 + 0.5 * ratio * ratio) / (window - 1))
    return Rolling(window, ratio * math.sqrt(periods), error * math.sqrt(periods))


@dataclass(frozen=True, slots=True)
class Fall:
    """One drawdown: depth a fraction > 0; session days of the high before it, its bottom and the recovery (None: not yet)."""

    depth: float
    high: int
    bottom: int
    recovered: int | None
    sessions: int


def drawdown(returns: Array) -> Array:
    """Wealth over its highest value so far minus 1, float64 (D,) <= 0; the start counts as a high."""
    wealth = np.cumprod(1.0 + np.nan_to_num(returns))
    return np.asarray(wealth / np.maximum.accumulate(np.maximum(wealth, 1.0)) - 1.0)


def falls(session: Days, returns: Array, count: int = 5) -> tuple[Fall, ...]:
    """The `count` deepest drawdowns, deepest first. sessions: from the high to the recovery or to the end."""
    under = drawdown(returns)
    below = under < 0.0
    starts = np.flatnonzero(below & ~np.concatenate([[False], below[:-1]]))
    ends = np.flatnonzero(below & ~np.concatenate([below[1:], [False]]))
    found = []
    for start, end in zip(starts, ends, strict=True):
        bottom = int(start) + int(np.argmin(under[start : end + 1]))
        after = int(session[end + 1]) if end + 1 < session.size else None
        length = int(end + (after is not None) - start + 1)
        found.append(Fall(-float(under[bottom]), int(session[max(int(start) - 1, 0)]), int(session[bottom]), after, length))
    return tuple(sorted(found, key=lambda fall: -fall.depth)[:count])


@dataclass(frozen=True, slots=True)
class Regime:
    """The model in one kind of market: n sessions, its annual numbers there, HAC t of the mean return, and the market's own."""

    family: str
    name: str
    sessions: int
    annual_return: float
    annual_volatility: float
    annual_sharpe: float
    t: float
    market_annual_return: float


def terciles(values: Array) -> tuple[NDArray[np.bool_], ...]:
    """Masks of the lowest, middle and highest third of the defined values: a description of the whole span, not a rule to trade by."""
    low, high = np.nanquantile(values, [1.0 / 3.0, 2.0 / 3.0])
    defined = np.isfinite(values)
    return defined & (values <= low), defined & (values > low) & (values <= high), defined & (values > high)


def states(market: Array, vix: Array | None = None, rows: int = REGIME_ROWS) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """family -> state -> bool (D,). All but MARKET_THAT_DAY are known before the session begins.

    market: float64 (D,) return per session. vix: float64 (D,), index points known BEFORE the session; shown from 63 defined values on.
    """
    volatility, trend = np.full(market.size, np.nan), np.full(market.size, np.nan)
    if market.size > rows:
        seen = np.lib.stride_tricks.sliding_window_view(market, rows)[:-1]
        volatility[rows:], trend[rows:] = seen.std(axis=1, ddof=1), np.log1p(seen).sum(axis=1)
    found: dict[str, dict[str, NDArray[np.bool_]]] = {MARKET_THAT_DAY: {"up": market > 0.0, "down": market < 0.0}}
    if np.isfinite(trend).any():
        names = ("calm", "usual", "stormy")
        found[f"market over {rows} sessions before"] = {"up": trend > 0.0, "down": trend <= 0.0}
        found[f"market volatility over {rows} sessions before"] = dict(zip(names, terciles(volatility), strict=True))
    if vix is not None and np.isfinite(vix).sum() >= rows:
        found["VIX before the session"] = dict(zip(("low", "middle", "high"), terciles(vix), strict=True))
    return found


def regimes(
    returns: Array, market: Array, kinds: Mapping[str, Mapping[str, NDArray[np.bool_]]], periods: float, least: int = 20
) -> tuple[Regime, ...]:
    """The model's returns within each state of at least `least` sessions. Annual return: mean per session times periods."""
    found = []
    for family, members in kinds.items():
        for name, inside in members.items():
            chosen = returns[inside]
            if chosen.size < least:
                continue
            found.append(
                Regime(
                    family,
                    name,
                    int(chosen.size),
                    float(chosen.mean()) * periods,
                    metrics.annual_volatility(chosen, periods),
                    metrics.annual_sharpe(chosen, periods),
                    metrics.hac_t(chosen),
                    float(market[inside].mean()) * periods,
                )
            )
    return tuple(found)


def sharpe_error(performance: metrics.Performance) -> float:
    """Standard error of the annual Sharpe ratio (Mertens 2002): sqrt((1 - g3 SR + (g4 - 1) / 4 SR^2) / (n - 1)) x sqrt(periods)."""
    p = performance
    variance = 1.0 - p.skew * p.sharpe + (p.kurtosis_raw - 1.0) / 4.0 * p.sharpe * p.sharpe
    return math.sqrt(variance / (p.n_obs - 1) * p.periods_per_year) if p.n_obs > 1 and variance > 0.0 else math.nan


def at_volatility_of(returns: Array, other: Array) -> Array:
    """Returns scaled to the volatility of another series (T29); unchanged where they have none."""
    own = float(np.nanstd(returns))
    return np.asarray(returns * (float(np.nanstd(other)) / own)) if own > 1e-15 else returns


def wealth(returns: Sequence[float] | Array) -> Array:
    """Growth of 1, float64 (D,)."""
    return np.asarray(np.cumprod(1.0 + np.nan_to_num(np.asarray(returns, dtype=np.float64))), dtype=np.float64)
