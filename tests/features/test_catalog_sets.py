"""The catalogue as a whole: names, counts, docs of one line per feature, definitions against slow forms, and real bars of 2012 to 2014."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import talib
from feature_panels import clean_panel, compute

from trading_platform.calendar import MarketCalendar
from trading_platform.contracts import names
from trading_platform.contracts.panel import Panel
from trading_platform.features import expression, indicators, reference
from trading_platform.features.catalog import core, registry
from trading_platform.features.catalog.listing import Feature
from trading_platform.features.expression import Expression, adj, field, mean
from trading_platform.features.functions import clock, cross_section, elementwise, recursive, rolling, session
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.plan import nodes_of, warm_up_of
from trading_platform.features.program import FeatureSet
from trading_platform.market_data.panel import action_table, build_panel
from trading_platform.market_data.sectors import with_sectors
from trading_platform.market_data.sources.files import FileSource

NAMES_OF_FEAT_10 = {
    "price",
    "returns_1d",
    "returns_5d",
    "volatility_20d",
    "rsi_14",
    "macd",
    "macd_signal",
    "volume_ratio",
    "ema_12",
    "ema_26",
}
COUNTS = {
    "alpha158": 158,
    "core": 68,
    "core_sentiment": 72,
    "core_year": 73,
    "cross_section": 32,
    "intraday": 46,
    "intraday_vix": 49,
    "microstructure": 36,
    "microstructure_quotes": 26,
}
MODULES = (elementwise, rolling, recursive, session, clock, cross_section, indicators)
FUNCTIONS = {name: function for module in MODULES for name, function in reference.functions_of(module).items()}
N = 7


def called(function: Callable[..., Expression]) -> Expression:
    """A function of the algebra on plain inputs, every window N."""
    close, volume = adj("close"), adj("volume")
    plain = {"x": close, "y": volume, "condition": close > volume, "returns": close, "market": volume, "group": field("sector")}
    numbers = {"n": N, "q": 0.5, "low": 0.0, "high": 1.0, "tail": 0.1, "fast": 3, "slow": N, "width": 2.0, "slots": 5}
    return function(**{name: {**plain, **numbers}[name] for name in inspect.signature(function).parameters})


# --- names, counts, docs ----------------------------------------------------------------------------------------------------------------


def test_the_sets_have_the_names_and_sizes_they_promise() -> None:
    assert {name: len(registry.feature_set(name).names) for name in registry.names()} == COUNTS
    chosen = registry.feature_set("core")
    assert NAMES_OF_FEAT_10 | {"rsi"} <= set(chosen.names)
    assert set(chosen.level) == {"price", "ema_12", "ema_26", "macd", "macd_signal"}
    assert chosen.warm_up == 127
    assert set(chosen.names) < set(registry.feature_set("core_year").names)
    assert set(registry.feature_set("intraday").names) < set(registry.feature_set("intraday_vix").names)
    assert set(chosen.names) < set(registry.feature_set("core_sentiment").names)


@pytest.mark.parametrize("name", registry.names())
def test_every_feature_says_what_it_is_and_no_two_of_a_set_are_the_same(name: str) -> None:
    features = registry.listing(name).features
    assert all(feature.meaning.strip() and "\n" not in feature.meaning for feature in features.values())
    twins = {key for key, feature in features.items() if sum(other.expression == feature.expression for other in features.values()) > 1}
    assert twins <= {"rsi", "rsi_14"}  # SPEC names both


def test_every_function_states_formula_unit_warm_up_nan_rule_and_source() -> None:
    assert len(FUNCTIONS) > 65
    public = {name for name in expression.__all__ if inspect.isfunction(getattr(expression, name))} - {"constant", "field", "adj"}
    assert public == {name for name, function in FUNCTIONS.items() if function.__module__ != indicators.__name__}
    for function in FUNCTIONS.values():
        assert all(reference.entry(function)), function.__name__


def test_a_function_without_a_source_is_refused() -> None:
    def nameless(x: Expression) -> Expression:
        """Something. Unit: none. Warm-up: 0. Undefined: never."""
        return x

    with pytest.raises(ValueError, match="nameless"):
        reference.entry(nameless)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_stated_warm_up_is_that_of_the_graph(name: str) -> None:
    stated = eval(reference.entry(FUNCTIONS[name]).warm_up, {"n": N, "slow": N})  # a number or an expression in n of our own docstring
    assert stated == warm_up_of({name: called(FUNCTIONS[name])}) - 1


def test_every_operator_has_a_function() -> None:
    x, y = adj("close"), adj("volume")
    built = {f"arithmetic_{k}": e for k, e in enumerate((x + y, x - y, x * y, x / y, -x, x < y, x <= y))}
    built |= {name: called(function) for name, function in FUNCTIONS.items()}
    used = {node.operator for node in nodes_of(built)} - {"field", "constant"}
    assert used == set(OPERATORS)


@pytest.fixture
def one_more(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The catalogue with one line more in `core`."""
    listing = core.listing()
    more = replace(listing, features={**listing.features, "sma_5_gap": Feature(adj("close") / mean(adj("close"), 5) - 1.0, "a new gap")})
    monkeypatch.setitem(registry._LISTINGS, "core", lambda: more)
    for cached in (registry.listing, registry.feature_set):
        cached.cache_clear()
    yield
    monkeypatch.undo()
    for cached in (registry.listing, registry.feature_set):
        cached.cache_clear()


def test_one_line_more_in_the_catalogue_is_one_row_more_in_the_docs(request: pytest.FixtureRequest) -> None:
    before = reference.markdown().splitlines()
    request.getfixturevalue("one_more")
    after = reference.markdown().splitlines()
    added = [line for line in after if line not in before]
    assert len(after) == len(before) + 1
    assert added[0].startswith("69 features, ready after 127") and added[1:] == ["| `sma_5_gap` | a new gap | 5 |  |"]
    assert "sma_5_gap" in registry.feature_set("core").names


# --- definitions against slow forms -------------------------------------------------------------------------------------------------------


def frame_of(panel: Panel) -> pd.DataFrame:
    """Adjusted bars of column 0."""
    names_of = ("open", "high", "low", "close")
    bars = {name: panel.fields[name][:, 0] * panel.fields["return_factor"][:, 0] for name in names_of}
    return pd.DataFrame(bars | {"volume": panel.fields["volume"][:, 0] / panel.fields["split_factor"][:, 0]})


def values_of(panel: Panel, made: Expression) -> np.ndarray:
    return compute(FeatureSet("one", "test", {"x": made}), panel)[:, 0, 0]


SIX_BARS = {
    "open": [100.0, 101.0, 103.0, 102.0, 104.0, 103.5],
    "high": [102.0, 104.0, 104.0, 105.0, 106.0, 105.0],
    "low": [99.0, 100.0, 101.0, 101.0, 103.0, 102.0],
    "close": [101.0, 103.0, 102.0, 104.5, 103.5, 104.0],
}


@pytest.mark.parametrize(
    ("volatility", "variance"),
    [
        (indicators.parkinson, 4.016534945e-4),
        (indicators.garman_klass, 4.708628447e-4),
        (indicators.rogers_satchell, 4.708651738e-4),
        (indicators.yang_zhang, 4.454431606e-4),
    ],
)
def test_range_volatilities_of_six_bars_are_the_reference_values(volatility: Callable[[int], Expression], variance: float) -> None:
    panel = clean_panel(1, 6, 1)
    panel = replace(panel, fields={**panel.fields, **{name: np.array(v)[:, None] for name, v in SIX_BARS.items()}})
    assert values_of(panel, volatility(5))[-1] ** 2 == pytest.approx(variance, rel=1e-9)


def test_money_flow_and_bands_are_talibs() -> None:
    panel = clean_panel(5, 200, 1)
    bars = frame_of(panel)
    mfi = talib.MFI(*(bars[name].to_numpy() for name in ("high", "low", "close", "volume")), 14)
    np.testing.assert_allclose(values_of(panel, indicators.money_flow(14)), mfi, rtol=1e-9)
    width = 2.0 * (20.0 / 19.0) ** 0.5  # TA-Lib's bands have the population's deviation
    upper, _, lower = talib.BBANDS(bars["close"].to_numpy(), 20, width, width)
    np.testing.assert_allclose(
        values_of(panel, indicators.bollinger(adj("close"), 20)), (bars["close"] - lower) / (upper - lower), rtol=1e-9
    )


def test_residuals_are_those_of_a_regression_on_the_market() -> None:
    panel = clean_panel(6, 90, 5)
    closes = np.log(panel.fields["close"])
    returns = np.diff(closes, axis=0, prepend=np.nan)
    market, own, n = returns.mean(axis=1), returns[:, 0], 30
    made = indicators.log_return(adj("close"))
    features = {
        "left": indicators.residual(made, expression.cs_mean(made), n),
        "spread": indicators.residual_deviation(made, expression.cs_mean(made), n),
    }
    got = compute(FeatureSet("residuals", "test", features), panel)[:, 0]
    for t in range(n, 90):
        inputs, targets = np.c_[np.ones(n), market[t - n + 1 : t + 1]], own[t - n + 1 : t + 1]
        left = targets - inputs @ np.linalg.lstsq(inputs, targets, rcond=None)[0]
        assert got[t].tolist() == pytest.approx([left[-1], np.sqrt((left**2).sum() / (n - 1))], rel=1e-8)


def test_bipower_and_the_spread_proxy_are_their_formulas() -> None:
    panel = clean_panel(7, 80, 1)
    bars = frame_of(panel)
    returns = np.log(bars["close"]).diff()
    expected = (returns.abs() * returns.abs().shift()).rolling(10).mean() * np.pi / 2.0
    np.testing.assert_allclose(values_of(panel, indicators.bipower(indicators.log_return(adj("close")), 10)), expected, rtol=1e-9)
    middle, close = np.log(bars["high"] * bars["low"]) / 2.0, np.log(bars["close"])
    product = 4.0 * (close.shift() - middle.shift()) * (close.shift() - middle)
    np.testing.assert_allclose(values_of(panel, indicators.spread_proxy(21)), product.rolling(21).mean().clip(lower=0.0) ** 0.5, rtol=1e-9)


def test_the_opening_range_is_that_of_the_first_thirty_bars() -> None:
    panel, chosen = clean_panel(8, 400, 2, session_rows=80), registry.feature_set("intraday")
    ours = compute(chosen, panel)[:, 0]
    bars = frame_of(panel).assign(session=panel.session)
    place = bars.groupby("session").cumcount()
    top = bars["high"].where(place < 30).groupby(bars["session"]).cummax().groupby(bars["session"]).ffill()
    bottom = bars["low"].where(place < 30).groupby(bars["session"]).cummin().groupby(bars["session"]).ffill()
    early = bars["close"].where(place < 30).groupby(bars["session"]).ffill()
    before = bars.groupby("session")["close"].last().shift().reindex(bars["session"]).to_numpy()
    assert (place >= 30).mean() > 0.3
    for name, expected in {
        "opening_high_gap": bars["close"] / top - 1.0,
        "opening_low_gap": bars["close"] / bottom - 1.0,
        "opening_range": top / bottom - 1.0,
        "opening_return": np.log(early / before),
    }.items():
        known = np.isfinite(expected.to_numpy())
        np.testing.assert_allclose(ours[known, chosen.names.index(name)], expected[known], rtol=1e-9, atol=1e-12, err_msg=name)


# --- real bars --------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def daily() -> Panel:
    """50 real stocks with sectors, 2012-2014, vwap = typical price."""
    root = Path(os.environ.get(names.ENV_TEST_DATA, Path(__file__).parents[3] / "shared" / "data" / "open"))
    if not root.is_dir():
        pytest.skip(f"no shared data at {root}: set {names.ENV_TEST_DATA}")
    source = FileSource(root, MarketCalendar(), daily_last=date(2014, 12, 31))
    bars = source.bars("1Day", date(2012, 1, 3), date(2014, 12, 31))
    ids = sorted(bars["instrument_id"].unique().to_list())[::5][:50]
    bars = bars.filter(pl.col("instrument_id").is_in(ids)).with_columns(vwap=(pl.col("high") + pl.col("low") + pl.col("close")) / 3.0)
    panel = build_panel(bars, action_table(source.corporate_actions()), "1Day", MarketCalendar(), fields=("vwap",))
    return with_sectors(panel, source.sectors())


@pytest.mark.parametrize("name", ["core_year", "alpha158", "cross_section"])
def test_real_features_are_finite_in_nearly_every_warm_cell(daily: Panel, name: str) -> None:
    chosen = registry.feature_set(name)
    features = compute(chosen, daily)
    warm = (np.cumsum(daily.present, axis=0) > chosen.warm_up) & daily.present
    finite = np.isfinite(features[warm])
    assert warm.sum() > 20_000
    assert finite.mean(axis=0).min() > 0.98, chosen.names[int(finite.mean(axis=0).argmin())]
    assert finite.all(axis=1).mean() > 0.98  # a model speaks only where all of its inputs are


def test_betas_to_the_universe_average_one_and_sectors_are_real(daily: Panel) -> None:
    chosen = registry.feature_set("cross_section")
    features = compute(chosen, daily)[chosen.warm_up :]
    assert np.nanmean(features[..., chosen.names.index("beta_60d")]) == pytest.approx(1.0, abs=0.02)
    sector, market = (np.nanmean(features[..., chosen.names.index(f"{of}_corr_60d")]) for of in ("sector", "market"))
    assert sector > market > 0.4  # a stock moves with its sector more than with all
    assert len(np.unique(daily.fields["sector"][-1])) >= 8


def test_core_is_its_formulas_on_a_real_stock(daily: Panel) -> None:
    chosen, column = registry.feature_set("core_year"), daily.instrument_ids.index("us:AON")
    ours = compute(chosen, daily)[:, column]
    own = {name: values[:, column] for name, values in daily.fields.items()}
    b = pd.DataFrame({name: own[name] * own["return_factor"] for name in ("open", "high", "low", "close")})
    c, volume = b["close"], pd.Series(own["volume"] / own["split_factor"])
    r, typical = np.log(c).diff(), (b["high"] + b["low"] + b["close"]) / 3.0
    amihud, night = r.abs() / (c * volume), b["open"] / c.shift() - 1.0
    expected = {
        "momentum_252_21": c.shift(21) / c.shift(252) - 1.0,
        "high_252d_gap": c / b["high"].rolling(252).max() - 1.0,
        "max_return_21d": c.pct_change().rolling(21).max(),
        "overnight_21d": night.rolling(21).sum(),
        "intraday_21d": (c / b["open"] - 1.0).rolling(21).sum(),
        "autocorrelation_21d": r.rolling(21).corr(r.shift()),
        "realized_volatility_5d": (r**2).rolling(5).mean() ** 0.5,
        "downside_share_20d": (r.clip(upper=0.0) ** 2).rolling(20).sum() / (r**2).rolling(20).sum(),
        "skewness_60d": r.rolling(60).skew(),
        "sma_200_gap": c / c.rolling(200).mean() - 1.0,
        "bollinger_width_20d": 4.0 * c.rolling(20).std() / c.rolling(20).mean(),
        "volume_trend_20_252": volume.rolling(20).mean() / volume.rolling(252).mean(),
        "volume_shock_50d": volume.rolling(50).rank(pct=True),
        "tick_imbalance_21d": np.sign(c.diff()).rolling(21).mean(),
        "vwap_20d_gap": c / ((typical * volume).rolling(20).sum() / volume.rolling(20).sum()) - 1.0,
        "return_volume_corr_20d": r.rolling(20).corr(volume),
        "illiquidity_ratio": amihud.rolling(20).mean() / amihud.rolling(60).mean(),
    }
    for name, wanted in expected.items():
        got = ours[chosen.warm_up :, chosen.names.index(name)]
        np.testing.assert_allclose(got, wanted[chosen.warm_up :], rtol=1e-7, atol=1e-10, err_msg=name)


def standard_score(x: np.ndarray) -> np.ndarray:
    """One row, its outer percents pulled in."""
    low, high = np.quantile(x, (0.01, 0.99))
    kept = np.clip(x, low, high)
    return (kept - kept.mean()) / kept.std(ddof=1)


def test_cross_sections_are_their_formulas_on_real_stocks(daily: Panel) -> None:
    chosen = registry.feature_set("cross_section")
    ours = compute(chosen, daily)
    adjusted = pd.DataFrame(daily.fields["close"] * daily.fields["return_factor"])
    returns, sector = np.log(adjusted).diff(), np.nanmax(daily.fields["sector"], axis=0)
    momentum = adjusted.shift(21) / adjusted.shift(126) - 1.0
    market = returns.mean(axis=1)
    by_sector = returns.T.groupby(sector).transform("mean").T
    for t in (200, 431, 500):
        whole = np.flatnonzero(daily.present[t])
        assert np.isfinite(momentum.to_numpy()[t, whole]).all()  # nobody is young: one set of names for every line below
        values = {name: ours[t, whole, f] for f, name in enumerate(chosen.names)}
        five, past = adjusted.pct_change(5).to_numpy()[t, whole], momentum.to_numpy()[t, whole]
        spread = returns.rolling(60).std().to_numpy()[t, whole]
        mine, theirs = standard_score(past), standard_score(spread)
        window = slice(t - 59, t + 1)
        expected = {
            "relative_strength_5d": five - five.mean(),
            "sector_relative_126_21": (pd.Series(past) - pd.Series(past).groupby(sector[whole]).transform("mean")).to_numpy(),
            "sector_momentum_126_21": pd.Series(past).groupby(sector[whole]).transform("mean").to_numpy(),
            "momentum_score": mine,
            "momentum_neutral": mine - np.polyval(np.polyfit(theirs, mine, 1), theirs),
            "market_corr_60d": np.array([np.corrcoef(returns[s][window], market[window])[0, 1] for s in whole]),
            "sector_corr_60d": np.array([np.corrcoef(returns[s][window], by_sector[s][window])[0, 1] for s in whole]),
            "beta_60d": np.array([np.polyfit(market[window], returns[s][window], 1)[0] for s in whole]),
        }
        for name, wanted in expected.items():
            np.testing.assert_allclose(values[name], wanted, rtol=1e-7, atol=1e-9, err_msg=f"{name} in row {t}")
