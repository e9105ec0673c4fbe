"""How often a strategy is right: trades that won, signals whose sign came true. For the seed's gates; neither measures skill."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def closed_trades(fills: NDArray[np.void]) -> Array:
    """Price gained per share by each fill that reduced a position, float64 (C,), in ticks against the position's average entry.

    fills: structured, in order of time, with column, side (+1 or -1), lots and ticks, as `backtest.run` gives them. A fill through zero
    closes first. Fees are not in it; spread and impact are, being in the price. Splits between entry and exit are not undone.
    """
    held: dict[int, tuple[int, float]] = {}
    gained = []
    for column, side, lots, ticks in zip(*(fills[name].tolist() for name in ("column", "side", "lots", "ticks")), strict=True):
        position, entry = held.get(column, (0, 0.0))
        if position * side < 0:
            gained.append((ticks - entry) * (1.0 if position > 0 else -1.0))
            left = position + side * lots
            held[column] = (left, entry if left * position > 0 else float(ticks))
        else:
            total = abs(position) + lots
            held[column] = (side * total, (abs(position) * entry + lots * ticks) / total)
    return np.array(gained)


def win_rate(fills: NDArray[np.void]) -> float:
    """Share of the closing fills that gained; NaN without one."""
    gained = closed_trades(fills)
    return float(np.mean(gained > 0.0)) if gained.size else math.nan


def accuracy(predictions: Array, outcomes: Array) -> float:
    """Share of the cells with both whose signs agree, each relative to its row's mean over those cells; zeros left out, NaN without any.

    predictions, outcomes: float64 (T, S).
    """
    both = np.isfinite(predictions) & np.isfinite(outcomes)
    count = np.maximum(both.sum(axis=1, keepdims=True), 1)
    signs = []
    for values in (predictions, outcomes):
        seen = np.where(both, values, 0.0)
        signs.append(np.where(both, np.sign(seen - seen.sum(axis=1, keepdims=True) / count), 0.0))
    judged = (signs[0] != 0.0) & (signs[1] != 0.0)
    return float(np.mean((signs[0] == signs[1])[judged])) if judged.any() else math.nan
