"""Entries and exits of the two strategies whose outcomes are labels (STRA-04..11), computed by the causal algebra up to each row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.features.expression import Expression, adj, ema, log, mean, session_sum, sqrt, std
from trading_platform.features.indicators import adx, atr, log_return, rsi, typical_price, zscore
from trading_platform.features.program import FeatureSet, Program
from trading_platform.research.label_rules import MeanReversion, TrendContinuation

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Signal:
    """A primary signal at each row's end.

    side: i1 (T, S), 1 long, -1 short, 0 nothing. leave_long, leave_short: bool (T, S), the signal that closes a position. atr: f8 (T, S),
    average true range of 14 bars as a fraction of the close, NaN undefined.
    """

    side: NDArray[np.int8]
    leave_long: NDArray[np.bool_]
    leave_short: NDArray[np.bool_]
    atr: Array


def _computed(panel: Panel, features: dict[str, Expression]) -> dict[str, Array]:
    """Each expression as f8 (T, S), from the panel's first row on. InputError where the panel lacks a field that one reads."""
    chosen = FeatureSet("label signals", "labels", features, frozenset(features))
    values = Program(chosen, panel.instrument_ids).step(panel, np.empty((*panel.shape, len(features))))
    return {name: values[:, :, place] for place, name in enumerate(chosen.names)}


def volatility(panel: Panel, rows: int) -> Array:
    """Sample deviation of the last `rows` log returns of each name, known at each row, f8 (T, S), fraction per row; NaN undefined or 0."""
    found = _computed(panel, {"volatility": std(log_return(adj("close")), rows)})["volatility"]
    return np.where(found > 0.0, found, np.nan)


def _distance(panel: Panel, window: int) -> Expression:
    """How far the close is from where it should come back to, in its usual distances."""
    close, volume = adj("close"), adj("volume")
    if panel.timeframe == "1Day":
        return zscore(log(close), window)
    gap = close / (session_sum(typical_price() * volume) / session_sum(volume)) - 1.0
    return gap / sqrt(mean(gap * gap, window))


def mean_reversion(panel: Panel, rule: MeanReversion) -> Signal:
    """Against a stretched price that RSI confirms, until the price is back."""
    close = adj("close")
    found = _computed(panel, {"z": _distance(panel, rule.window), "rsi": rsi(close, 14), "atr": atr(14) / close})
    z, strength = found["z"], found["rsi"]
    long = (z < -rule.entry_z) & (strength < rule.rsi)
    short = (z > rule.entry_z) & (strength > 100.0 - rule.rsi)
    back = np.abs(z) < rule.exit_z
    return Signal(long.astype(np.int8) - short.astype(np.int8), back, back, found["atr"])


def trend_continuation(panel: Panel, rule: TrendContinuation) -> Signal:
    """With a trend that ADX confirms, on a bar that came back to the fast mean, until the means cross."""
    close = adj("close")
    fast, slow = ema(close, rule.fast), ema(close, rule.slow)
    wanted = {
        "trend": fast / slow - 1.0,
        "adx": adx(14),
        "low": adj("low") / fast - 1.0,
        "high": adj("high") / fast - 1.0,
        "close": close / slow - 1.0,
        "atr": atr(14) / close,
    }
    found = _computed(panel, wanted)
    trend, strong = found["trend"], found["adx"] > rule.adx
    long = strong & (trend > 0.0) & (found["low"] <= 0.0) & (found["close"] > 0.0)
    short = strong & (trend < 0.0) & (found["high"] >= 0.0) & (found["close"] < 0.0)
    return Signal(long.astype(np.int8) - short.astype(np.int8), trend < 0.0, trend > 0.0, found["atr"])


def checked_side(panel: Panel, side: NDArray[np.int8] | None) -> NDArray[np.int8]:
    """A side that somebody gave, as i1 (T, S). InputError where there is none, for another shape, or for values besides -1, 0 and 1."""
    if side is None:
        raise InputError("the rule's primary is `given` and no side came with it", "research.labels", "give labels.make a side (T, S)")
    if side.shape != panel.shape or not np.isin(side, (-1, 0, 1)).all():
        raise InputError(f"side is {side.dtype} {side.shape}", "research.labels", f"give -1, 0 or 1 for each of {panel.shape} cells")
    return side.astype(np.int8)
