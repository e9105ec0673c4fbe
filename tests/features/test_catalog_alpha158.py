"""Alpha158 against Qlib's formulas, evaluated the slow way: its operators written again with pandas, after its qlib/data/ops.py.

`benchmarks/alpha158_parity.py` compares with Qlib itself; this test needs no Qlib.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from feature_panels import clean_panel, compute

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.panel import Panel
from trading_platform.features.catalog import registry
from trading_platform.features.program import FeatureSet
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sources.files import FileSource

ALPHA158 = registry.feature_set("alpha158")
WARM = 60
# sha256 of {name: formula without blanks} as pyqlib 0.9.7's Alpha158DL.get_feature_config() gives it, JSON with sorted keys.
QLIB_FORMULAS = "7863ffae828ff79047578365d0fde0aa0f8750fad4e8a4123795f3f20be9d3f2"


def over(x: pd.Series, n: int, value: Callable[[np.ndarray], float]) -> pd.Series:
    """value(window) of every full window of n."""
    return x.rolling(n).apply(value, raw=True)


def line(window: np.ndarray) -> tuple[float, float]:
    """Slope per place and the end of the least-squares line through a window."""
    slope, level = np.polyfit(np.arange(1.0, len(window) + 1.0), window, 1)
    return slope, slope * len(window) + level


def squared_correlation(window: np.ndarray) -> float:
    """With time; undefined for a window that does not move."""
    return np.nan if np.ptp(window) == 0.0 else float(np.corrcoef(window, np.arange(len(window)))[0, 1] ** 2)


OPERATORS = {
    "Ref": lambda x, n: x.shift(n),
    "Mean": lambda x, n: x.astype(float).rolling(n).mean(),
    "Sum": lambda x, n: x.rolling(n).sum(),
    "Std": lambda x, n: over(x, n, lambda w: float(np.std(w, ddof=1))),
    "Max": lambda x, n: x.rolling(n).max(),
    "Min": lambda x, n: x.rolling(n).min(),
    "Quantile": lambda x, n, q: over(x, n, lambda w: float(np.quantile(w, q))),
    "Rank": lambda x, n: x.rolling(n).rank(pct=True),
    "IdxMax": lambda x, n: over(x, n, lambda w: int(np.argmax(w)) + 1.0),
    "IdxMin": lambda x, n: over(x, n, lambda w: int(np.argmin(w)) + 1.0),
    "Slope": lambda x, n: over(x, n, lambda w: line(w)[0]),
    "Resi": lambda x, n: over(x, n, lambda w: w[-1] - line(w)[1]),
    "Rsquare": lambda x, n: over(x, n, squared_correlation),
    "Corr": lambda x, y, n: x.rolling(n).corr(y),
    "Greater": np.maximum,
    "Less": np.minimum,
    "Abs": np.abs,
    "Log": np.log,
}


def by_formula(formula: str, fields: dict[str, pd.Series]) -> pd.Series:
    """The value of one of Qlib's formulas over one instrument's adjusted fields."""
    return eval(re.sub(r"\$(\w+)", r"F['\1']", formula), {**OPERATORS, "F": fields})  # the catalogue's own text


def adjusted(panel: Panel, s: int) -> dict[str, pd.Series]:
    """One instrument's fields as features read them."""
    factor, splits = panel.fields["return_factor"][:, s], panel.fields["split_factor"][:, s]
    fields = {name: pd.Series(panel.fields[name][:, s] * factor) for name in ("open", "high", "low", "close", "vwap")}
    return fields | {"volume": pd.Series(panel.fields["volume"][:, s] / splits)}


def worst(panel: Panel, feature_set: FeatureSet = ALPHA158) -> dict[str, float]:
    """Largest difference per feature after the warm-up, relative to 1 or to the value; inf where only one side is defined."""
    ours = compute(feature_set, panel)
    meaning = registry.listing("alpha158").features
    gaps = {}
    for f, name in enumerate(feature_set.names):
        gaps[name] = 0.0
        for s in range(panel.shape[1]):
            got, expected = ours[WARM:, s, f], by_formula(meaning[name].meaning, adjusted(panel, s)).to_numpy()[WARM:]
            gap = np.abs(got - expected) / np.maximum(1.0, np.abs(expected))
            gap = np.where(np.isnan(got) != np.isnan(expected), np.inf, np.nan_to_num(gap))
            gaps[name] = max(gaps[name], float(gap.max()))
    return gaps


def coarse_panel(seed: int, rows: int, width: int) -> Panel:
    """Prices in whole units and volumes in hundreds: ties everywhere, as in real prices of few ticks."""
    panel = clean_panel(seed, rows, width)
    fields = dict(panel.fields)
    for name in ("open", "high", "low", "close", "vwap"):
        fields[name] = np.round(panel.fields[name] / 2.0)
    fields["volume"] = np.round(panel.fields["volume"] / 1000.0) * 1000.0 + 1000.0
    return replace(panel, fields=fields)


def test_the_set_holds_qlibs_158_names_and_formulas() -> None:
    features = registry.listing("alpha158").features
    formulas = {name: feature.meaning.replace(" ", "") for name, feature in features.items()}
    assert len(formulas) == 158
    assert hashlib.sha256(json.dumps(formulas, sort_keys=True).encode()).hexdigest() == QLIB_FORMULAS
    assert ALPHA158.level == ()
    assert ALPHA158.warm_up == WARM + 1


def test_every_column_is_its_formula_where_prices_tie() -> None:
    gaps = worst(coarse_panel(31, 170, 3))
    # Where a pandas correlation of a window that barely moves is noise, ours is undefined or exact: those cells are not of this test.
    assert {name: gap for name, gap in gaps.items() if gap > 1e-9 and not name.startswith("COR")} == {}


def test_every_column_is_its_formula_on_real_daily_bars() -> None:
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[3] / "shared" / "data" / "open"))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}: set {names.ENV_TEST_DATA}")
    source = FileSource(root, MarketCalendar(), daily_last=date(2014, 12, 31))
    bars = source.bars("1Day", date(2014, 1, 2), date(2014, 12, 31)).filter(pl.col("instrument_id").is_in(["us:AAPL", "us:KO", "us:GE"]))
    bars = bars.with_columns(vwap=(pl.col("high") + pl.col("low") + pl.col("close")) / 3.0)
    panel = build_panel(bars, action_table(source.corporate_actions()), "1Day", MarketCalendar(), fields=("vwap",))
    assert {name: gap for name, gap in worst(panel).items() if gap > 1e-9} == {}


def test_the_oldest_of_equal_extremes_counts_as_qlibs_does() -> None:
    features = registry.feature_set("alpha158").features
    panel = coarse_panel(32, 200, 4)
    few = FeatureSet("ties", "test", {name: features[name] for name in ("IMAX5", "IMAX60", "IMIN20", "IMXD30")})
    assert max(worst(panel, few).values()) < 1e-12
    high = pd.DataFrame(panel.fields["high"])
    ties = (high.rolling(60).apply(lambda w: (w == w.max()).sum(), raw=True) > 1.0).to_numpy()[WARM:]
    assert ties.mean() > 0.2  # otherwise this proves nothing
