"""The leakage checks on the very arrays the models learned from: features recomputed, universe rebuilt, labels made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.assets.bars import read_periods
from trading_platform.assets.labels import sectors_of
from trading_platform.assets.models import TrainingSet
from trading_platform.assets.panels import set_of
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import Reader

if TYPE_CHECKING:
    from trading_platform.contracts.panel import Panel
    from trading_platform.research.leakage import Members
    from trading_platform.research.splits import Fold


def leaks_of(out: Reader, pipeline: Pipeline, known: TrainingSet, folds: list[Fold], fills: NDArray[Any] | None = None) -> tuple[str, ...]:
    """What the leakage checks find. out: a reader of bars, universe and features; fills: of the backtest that is judged."""
    from trading_platform.features.program import Program
    from trading_platform.research import leakage
    from trading_platform.research.labels import make

    chosen = set_of(out, pipeline)
    kept = [chosen.names.index(name) for name in known.names]

    def compute(panel: Panel) -> NDArray[np.float32]:
        return np.ascontiguousarray(Program(chosen, panel.instrument_ids).step(panel)[..., kept])

    members = members_before(out, pipeline, known.panel)
    honest = make(known.panel, pipeline.label_rule, sectors_of(out, pipeline, known.panel))
    return leakage.check(known.panel, known.features, known.names, known.labels, folds, compute, members, honest, fills)


def members_before(out: Reader, pipeline: Pipeline, panel: Panel) -> Members:
    """row -> bool (S,): who the universe's rule names for that row's session, seeing bars of earlier sessions alone.

    A name without a bar before the session has no history to judge and keeps what the panel says of it.
    """
    import polars as pl

    from trading_platform.market_data.universe import build_universe

    bars, rules = read_periods(out, pipeline.bars, pipeline), out.place.profile(pipeline).universe
    day = pl.col("session").to_physical()

    def members(row: int) -> NDArray[np.bool_]:
        session, told = int(panel.session[row]), panel.member[row].copy()
        before = bars.filter(day < session)
        if before.is_empty():
            return told
        named = build_universe(before, rules, out.place.calendar).filter(day == session)
        found = dict(zip(named["instrument_id"].to_list(), named["member"].to_list(), strict=True))
        return np.array([found.get(name, bool(old)) for name, old in zip(panel.instrument_ids, told, strict=True)], dtype=np.bool_)

    return members
