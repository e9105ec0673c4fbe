"""How far two matrices of features are apart, column by column."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.workload import feature_set, some_columns
from trading_platform.contracts.panel import Panel
from trading_platform.features.program import Program

EXACT = 1e-9
FADED = 1500  # present bars after which another seed of a recursion no longer shows at 1e-9
SEEDED_ELSEWHERE = frozenset({"macd", "macd_signal", "macd_histogram", "adx_14"})  # TA-Lib's other seeds
RECURSIVE = SEEDED_ELSEWHERE | {"ema_12", "ema_26", "ema_50", "rsi_14", "atr_14"}  # frames seed with the first value


@dataclass(frozen=True)
class Column:
    """One column: the largest relative difference, the number of cells compared, the cells that only one side defines."""

    name: str
    worst: float
    compared: int
    one_sided: int


def our_values(panel: Panel, columns: list[int]) -> NDArray[np.float64]:
    """(T, symbols, 32) float64 of some symbols."""
    small = some_columns(panel, columns)
    return Program(feature_set(), small.instrument_ids).step(small, np.empty((*small.shape, len(feature_set().names))))


def compare(
    mine: NDArray[np.float64], theirs: NDArray[np.float64], names: tuple[str, ...], present: NDArray[np.bool_], seeded: frozenset[str]
) -> list[Column]:
    """Per column of (T, k, F): |a - b| / max(|b|, the symbol's median |b|), over present cells that both define.

    The median keeps a column that crosses zero from dividing by nothing. Columns in `seeded` count from FADED present bars on.
    """
    age = np.cumsum(present, axis=0)
    found = []
    for f, name in enumerate(names):
        a, b = mine[:, :, f], theirs[:, :, f]
        wanted = present & (age > FADED) if name in seeded else present
        both = wanted & np.isfinite(a) & np.isfinite(b)
        with np.errstate(invalid="ignore"):
            usual = [float(np.median(np.abs(b[both[:, k], k]))) if both[:, k].any() else 1.0 for k in range(b.shape[1])]
            scale = np.maximum(np.abs(b), np.array(usual))
            apart = np.where(both & (a != b), np.abs(a - b) / scale, 0.0)
        one_sided = int((wanted & (np.isfinite(a) != np.isfinite(b))).sum())
        found.append(Column(name, float(apart.max(initial=0.0)), int(both.sum()), one_sided))
    return found


def worst(columns: list[Column]) -> Column:
    """The column that is furthest apart. Raises ValueError if nothing was compared in some column."""
    empty = [column.name for column in columns if not column.compared]
    if empty:
        raise ValueError(f"no cell was compared in {', '.join(empty)}")
    return max(columns, key=lambda column: column.worst)
