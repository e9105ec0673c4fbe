"""Every operator against a slow form written apart from it (NumPy, pandas), and the indicators against TA-Lib."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import talib
from feature_panels import clean_panel, compute, every_operator, expression_of, with_event, without
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.features import expression, indicators
from trading_platform.features.expression import (
    Expression,
    adj,
    corr,
    count,
    cs_neutralize,
    cs_winsorize,
    decay_linear,
    ema,
    field,
    max_,
    mean,
    min_,
    overnight,
    pct_change,
    session_sum,
    slope,
    std,
    sum_,
)
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.program import FeatureSet, Program

N, Q, TAIL, SLOTS = 7, 0.3, 0.2, 8
MINUTE = 60_000_000_000
Column = NDArray[np.float64]


def panel_with_gaps() -> Panel:
    """Gaps, undefined cells, ties and a listing, without the values that overflow the slow forms."""
    panel, rng = clean_panel(31, 180, 5), np.random.default_rng(31)
    panel.fields["close"][60:80, 1] = 41.0
    panel.fields["close"][100:140, 2] = np.round(panel.fields["close"][100:140, 2])
    panel.fields["close"][rng.random(panel.shape) < 0.01] = np.nan
    present = rng.random(panel.shape) >= 0.1
    present[:40, 3] = False
    return without(panel, present)


def regression(y: Column) -> tuple[float, float, float]:
    """Slope, r squared and last residual of y on its place."""
    time = np.arange(y.size, dtype=float)
    fit = np.polyfit(time, y, 1)
    moving = np.ptp(y) > 0.0
    return fit[0], np.corrcoef(time, y)[0, 1] ** 2 if moving else np.nan, y[-1] - np.polyval(fit, time[-1])


def correlation(x: Column, y: Column) -> float:
    """Correlation, undefined where x does not move."""
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0.0 else np.nan


def shape_of(y: Column, kind: str) -> float:
    """pandas' skew or kurt, undefined where nothing moves."""
    return float(getattr(pd.Series(y), kind)()) if np.ptp(y) > 0.0 else np.nan


# One argument per input; each is the window's n values, oldest first, all defined.
WINDOW_ORACLES: dict[str, Callable[..., float]] = {
    "sum": lambda x: np.sum(x),
    "mean": lambda x: np.mean(x),
    "var": lambda x: np.var(x, ddof=1),
    "std": lambda x: np.std(x, ddof=1),
    "skew": lambda x: shape_of(x, "skew"),
    "kurt": lambda x: shape_of(x, "kurt"),
    "max": lambda x: np.max(x),
    "min": lambda x: np.min(x),
    "argmax": lambda x: np.argmax(x[::-1]),
    "argmin": lambda x: np.argmin(x[::-1]),
    "rank": lambda x: pd.Series(x).rank(pct=True).iloc[-1],
    "median": lambda x: np.median(x),
    "quantile": lambda x: np.quantile(x, Q),
    "cov": lambda x, y: np.cov(x, y)[0, 1],
    "corr": correlation,
    "beta": lambda x, y: np.cov(x, y)[0, 1] / np.var(y, ddof=1),
    "slope": lambda x: regression(x)[0],
    "rsquare": lambda x: regression(x)[1],
    "resid": lambda x: regression(x)[2],
    "decay_linear": lambda x: np.average(x, weights=np.arange(1, x.size + 1)),
}


def smoothed(x: Column, weight: float) -> Column:
    """Recursive mean seeded by the mean of the first N defined values; undefined inputs are skipped."""
    out, seen, value = np.full(x.size, np.nan), [], np.nan
    for t, v in enumerate(x):
        if v == v:
            seen.append(v)
            value = np.mean(seen) if len(seen) <= N else value + weight * (v - value)
        out[t] = value if len(seen) >= N else np.nan
    return out


# One argument per input: a column's present bars in order, undefined ones NaN.
COLUMN_ORACLES: dict[str, Callable[..., Column]] = {
    "lag": lambda x: pd.Series(x).shift(N).to_numpy(),
    "ema": lambda x: smoothed(x, 2.0 / (N + 1)),
    "wilder": lambda x: smoothed(x, 1.0 / N),
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "log": np.log,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "clip": lambda x: np.clip(x, -0.5, 40.0),
    "maximum": np.maximum,
    "minimum": np.minimum,
    "lt": lambda x, y: np.where(np.isnan(x + y), np.nan, x < y),
    "le": lambda x, y: np.where(np.isnan(x + y), np.nan, x <= y),
    "equal": lambda x, y: np.where(np.isnan(x + y), np.nan, x == y),
    "where": lambda c, x, y: np.where(np.isnan(c), np.nan, np.where(c != 0.0, x, y)),
    "bars_since": lambda c: since(c),
}


def by_session(x: Column, session: NDArray[np.int64], total: Callable[[pd.Series], pd.Series]) -> Column:
    """A running aggregate within each session."""
    return pd.Series(x).groupby(session).transform(total).to_numpy()


def last_of_previous(x: Column, session: NDArray[np.int64]) -> Column:
    """Last defined value of the sessions before each row's."""
    series = pd.Series(x)
    return np.array([series[session < day].dropna().iloc[-1] if series[session < day].notna().any() else np.nan for day in session])


def first_of_own(x: Column, session: NDArray[np.int64]) -> Column:
    """First defined value of each row's session, up to the row."""
    heads = [x[: t + 1][(session[: t + 1] == day) & ~np.isnan(x[: t + 1])] for t, day in enumerate(session)]
    return np.array([head[0] if head.size else np.nan for head in heads])


# A column's present bars and their sessions.
SESSION_ORACLES: dict[str, Callable[..., Column]] = {
    "session_sum": lambda x, day: by_session(x, day, lambda g: g.cumsum().ffill()),
    "session_max": lambda x, day: by_session(x, day, lambda g: g.cummax().ffill()),
    "session_min": lambda x, day: by_session(x, day, lambda g: g.cummin().ffill()),
    "session_first": first_of_own,
    "session_previous": last_of_previous,
    "bars_since_open": lambda day: pd.Series(day).groupby(day).cumcount().to_numpy().astype(float),
}


def in_reach(x: Column, timestamp: NDArray[np.int64]) -> Column:
    """Sum of the defined values that started within the last N minutes, once the instrument (timestamp 0) is N minutes old."""
    age = timestamp[:, None] - timestamp[None, :]
    within = (age >= 0) & (age < N * MINUTE) & ~np.isnan(x)[None, :]
    return np.where(timestamp >= (N - 1) * MINUTE, (within * np.nan_to_num(x)[None, :]).sum(axis=1), np.nan)


def at_this_minute(x: Column, minute: Column) -> Column:
    """Recursive mean of the earlier defined values of the same minute (the last slot takes all later ones)."""
    out, slot = np.full(x.size, np.nan), np.minimum(minute, SLOTS - 1).astype(int)
    for t in range(x.size):
        earlier = x[:t][(slot[:t] == slot[t]) & ~np.isnan(x[:t])]
        for k, v in enumerate(earlier, start=1):
            out[t] = v if k == 1 else out[t] + (v - out[t]) * (1.0 / k if k <= N else 2.0 / (N + 1))
    return out


# All rows of a column, absent ones NaN, with the rows' timestamps since the instrument's first and minutes of the session.
CLOCK_ORACLES: dict[str, Callable[..., Column]] = {
    "sum_over": lambda x, timestamp, minute: in_reach(x, timestamp),
    "minute_of_session": lambda timestamp, minute: minute,
    "same_minute_mean": lambda x, timestamp, minute: at_this_minute(x, minute),
}


def demeaned(x: Column, group: Column) -> Column:
    """x minus the mean of its group."""
    return (x - pd.Series(x).groupby(group).transform("mean")).to_numpy()


def neutralized(x: Column, y: Column) -> Column:
    """Residuals of x on y and a constant by least squares; undefined below two cells."""
    if x.size < 2:
        return np.full(x.size, np.nan)
    design = np.column_stack([np.ones(x.size), (y - y.mean()) / (np.ptp(y) or 1.0)])
    return x - design @ np.linalg.lstsq(design, x, rcond=None)[0]


def since(condition: Column) -> Column:
    """Bars since the condition was last neither 0 nor undefined."""
    held = np.flatnonzero(np.nan_to_num(condition) != 0.0)
    return np.array([t - held[held <= t][-1] if (held <= t).any() else np.nan for t in range(condition.size)], dtype=float)


# One row's defined cells of the universe.
CROSS_ORACLES: dict[str, Callable[..., Column]] = {
    "cs_rank": lambda x: pd.Series(x).rank(pct=True).to_numpy(),
    "cs_zscore": lambda x: ((pd.Series(x) - pd.Series(x).mean()) / pd.Series(x).std()).to_numpy(),
    "cs_demean": demeaned,
    "cs_winsorize": lambda x: np.clip(x, *np.quantile(x, [TAIL, 1.0 - TAIL])) if x.size else x,
    "cs_neutralize": neutralized,
}


def test_every_operator_has_an_oracle() -> None:
    assert {*WINDOW_ORACLES, *COLUMN_ORACLES, *SESSION_ORACLES, *CLOCK_ORACLES, *CROSS_ORACLES} == set(OPERATORS)


def feature(expression: Expression, panel: Panel) -> Column:
    """One expression's values, (T, S)."""
    return compute(FeatureSet("oracle", "test", {"x": expression}), panel)[..., 0]


def inputs_of(name: str, panel: Panel) -> list[Column]:
    """The inputs of the generated expression, themselves computed by the program (elementwise only)."""
    return [feature(x, panel) for x in expression_of(OPERATORS[name]).inputs]


def assert_close(got: Column, expected: Column) -> None:
    """Equal to 1e-9 of the scale, and defined in the same cells."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", sorted(WINDOW_ORACLES))
def test_windows_agree_with_the_slow_form(name: str) -> None:
    panel = panel_with_gaps()
    got, inputs = feature(expression_of(OPERATORS[name]), panel), inputs_of(name, panel)
    for s in range(panel.shape[1]):
        here = panel.present[:, s]
        columns = [x[here, s] for x in inputs]
        expected = np.full(here.sum(), np.nan)
        for t in range(N - 1, expected.size):
            windows = [x[t - N + 1 : t + 1] for x in columns]
            if not any(np.isnan(w).any() for w in windows):
                expected[t] = WINDOW_ORACLES[name](*windows)
        assert_close(got[here, s], expected)
        assert np.isnan(got[~here, s]).all()


@pytest.mark.parametrize("name", sorted(COLUMN_ORACLES))
def test_columns_agree_with_the_slow_form(name: str) -> None:
    panel = panel_with_gaps()
    got, inputs = feature(expression_of(OPERATORS[name]), panel), inputs_of(name, panel)
    for s in range(panel.shape[1]):
        here = panel.present[:, s]
        with np.errstate(all="ignore"):
            assert_close(got[here, s], COLUMN_ORACLES[name](*(x[here, s] for x in inputs)))
        assert np.isnan(got[~here, s]).all()


@pytest.mark.parametrize("name", sorted(SESSION_ORACLES))
def test_sessions_agree_with_the_slow_form(name: str) -> None:
    panel = panel_with_gaps()
    got, inputs = feature(expression_of(OPERATORS[name]), panel), inputs_of(name, panel)
    for s in range(panel.shape[1]):
        here = panel.present[:, s]
        assert_close(got[here, s], SESSION_ORACLES[name](*(x[here, s] for x in inputs), panel.session[here]))


def with_missing_rows(panel: Panel) -> Panel:
    """The panel without some rows: single ones, more than a window, more than two."""
    kept = np.setdiff1d(np.arange(panel.shape[0]), [3, 20, *range(41, 41 + N), *range(90, 92 + 2 * N), *range(130, 130 + 5 * N)])
    axes = {name: getattr(panel, name)[kept] for name in ("timestamp", "known_at", "session", "present", "member")}
    return replace(panel, fields={name: values[kept] for name, values in panel.fields.items()}, **axes)


@pytest.mark.parametrize("name", sorted(CLOCK_ORACLES))
def test_operators_by_the_clock_agree_with_the_slow_form(name: str) -> None:
    panel = with_missing_rows(panel_with_gaps())
    got, inputs = feature(expression_of(OPERATORS[name]), panel), inputs_of(name, panel)
    opened = pd.Series(panel.timestamp).groupby(panel.session).transform("first").to_numpy()
    minute = (panel.timestamp - opened) / MINUTE
    for s in range(panel.shape[1]):
        here = panel.present[:, s]
        age = panel.timestamp - panel.timestamp[here][0]
        assert_close(got[here, s], CLOCK_ORACLES[name](*(x[:, s] for x in inputs), age, minute)[here])
        assert np.isnan(got[~here, s]).all()


@pytest.mark.parametrize("name", sorted(CROSS_ORACLES))
def test_cross_sections_agree_with_the_slow_form(name: str) -> None:
    panel = panel_with_gaps()
    panel.member[50:90, 2] = False
    got, inputs = feature(expression_of(OPERATORS[name]), panel), inputs_of(name, panel)
    for t in range(panel.shape[0]):
        cells = panel.member[t] & ~np.isnan(inputs[0][t])
        assert_close(got[t, cells], CROSS_ORACLES[name](*(x[t, cells] for x in inputs)))
        assert np.isnan(got[t, ~cells]).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_shortest_windows_mean_what_they_say(n: int) -> None:
    panel = panel_with_gaps()
    close = feature(adj("close"), panel)[panel.present[:, 0], 0]
    for name in ("sum", "mean", "max", "min", "argmax", "argmin", "rank", "median", "decay_linear"):
        got = feature(Expression(name, (adj("close"),), (("n", n),)), panel)[panel.present[:, 0], 0]
        windows = np.lib.stride_tricks.sliding_window_view(close, n)
        expected = [np.nan if np.isnan(w).any() else WINDOW_ORACLES[name](w) for w in windows]
        assert_close(got, np.array([np.nan] * (n - 1) + expected))


def test_a_count_is_how_often_a_condition_held() -> None:
    panel = panel_with_gaps()
    rises = adj("close") > adj("open")
    got, held = feature(count(rises, N), panel), feature(rises, panel)
    for s in range(panel.shape[1]):
        here = panel.present[:, s]
        assert_close(got[here, s], pd.Series(held[here, s]).rolling(N).sum().to_numpy())


def test_tails_that_leave_nothing_are_refused() -> None:
    for tail in (-0.01, 0.5, float("nan")):
        with pytest.raises(InputError, match="tail"):
            cs_winsorize(adj("close"), tail)


def test_what_is_neutral_to_a_field_has_no_slope_on_it() -> None:
    panel = clean_panel(35, 40, 8)
    left, volume = feature(cs_neutralize(adj("close"), adj("volume")), panel), feature(adj("volume"), panel)
    for t in range(panel.shape[0]):
        cells = panel.member[t]
        assert abs(np.corrcoef(left[t, cells], volume[t, cells])[0, 1]) < 1e-9 and abs(left[t, cells].mean()) < 1e-9


def test_every_operator_can_be_written() -> None:
    written = {name.rstrip("_") for name in expression.__all__}
    overloads = {"add", "sub", "mul", "div", "neg", "lt", "le"}
    assert set(OPERATORS) - overloads <= written


def test_a_huge_value_leaves_no_trace_after_its_window() -> None:
    # Add and subtract would be wrong by 1e284 here. EMA-like operators keep what they have seen; session sums end with the session.
    clean = clean_panel(33, 120, 3)
    spiked = clean_panel(33, 120, 3)
    for name in ("open", "high", "low", "close", "volume"):
        spiked.fields[name][40, 0] = 1e300
    windowed = FeatureSet("w", "test", {name: expression_of(OPERATORS[name]) for name in (*WINDOW_ORACLES, "lag")})
    after = 40 + 2 * N + 1
    np.testing.assert_array_equal(compute(windowed, spiked)[after:], compute(windowed, clean)[after:])


def test_equal_values_have_no_spread() -> None:
    panel = clean_panel(34, 60, 2)
    panel.fields["close"][20:, 0] = 0.1 + 0.2
    spread = compute(FeatureSet("s", "test", {"s": std(adj("close"), N), "z": indicators.zscore(adj("close"), N)}), panel)
    assert (spread[20 + N :, 0, 0] == 0.0).all()
    assert np.isnan(spread[20 + N :, 0, 1]).all()


def test_cells_that_divide_by_zero_are_undefined_and_counted() -> None:
    panel = clean_panel(35, 10, 2)
    panel.fields["volume"][4, 1] = 0.0
    program = Program(FeatureSet("d", "test", {"d": adj("close") / adj("volume")}), panel.instrument_ids)
    features = program.step(panel)
    assert np.isnan(features[4, 1, 0])
    assert program.undefined_count == 1


def test_a_value_too_large_for_the_matrix_is_undefined_and_counted_not_infinite() -> None:
    panel = clean_panel(35, 10, 2)
    panel.fields["close"][4, 1] = 1e300
    program = Program(FeatureSet("p", "test", {"price": adj("close")}), panel.instrument_ids)
    assert np.isnan(program.step(panel)[4, 1, 0])
    assert program.undefined_count == 1
    assert compute(program.feature_set, panel)[4, 1, 0] == 1e300


def test_a_dividend_gives_the_total_return() -> None:
    panel = clean_panel(36, 30, 2)
    paid = with_event(panel, 12, 0, 2.0, 0.03)
    returns = FeatureSet("r", "test", {"r": pct_change(adj("close"), 1)})
    np.testing.assert_allclose(compute(returns, paid), compute(returns, panel), rtol=0.0, atol=1e-15)


# --- TA-Lib --------------------------------------------------------------------------------------------------------------------------

C, H, L, V = adj("close"), adj("high"), adj("low"), adj("volume")
# name: (ours, TA-Lib's, first row compared: 0 where the definitions are one, later where TA-Lib seeds a recursion differently)
TALIB: dict[str, tuple[Expression, Callable[[dict[str, Column]], Column], int]] = {
    "SMA": (mean(C, 20), lambda b: talib.SMA(b["close"], 20), 0),
    "EMA": (ema(C, 12), lambda b: talib.EMA(b["close"], 12), 0),
    "WMA": (decay_linear(C, 10), lambda b: talib.WMA(b["close"], 10), 0),
    "RSI": (indicators.rsi(C, 14), lambda b: talib.RSI(b["close"], 14), 0),
    "ATR": (indicators.atr(14), lambda b: talib.ATR(b["high"], b["low"], b["close"], 14), 0),
    "BBANDS upper": (mean(C, 20) + 2.0 * (19 / 20) ** 0.5 * std(C, 20), lambda b: talib.BBANDS(b["close"], 20, 2, 2)[0], 0),
    "STDDEV": ((19 / 20) ** 0.5 * std(C, 20), lambda b: talib.STDDEV(b["close"], 20), 0),
    "STOCHF": (100.0 * indicators.stochastic(14), lambda b: talib.STOCHF(b["high"], b["low"], b["close"], 14, 3)[0], 15),
    "MAX": (max_(H, 20), lambda b: talib.MAX(b["high"], 20), 0),
    "MIN": (min_(L, 20), lambda b: talib.MIN(b["low"], 20), 0),
    "SUM": (sum_(V, 20), lambda b: talib.SUM(b["volume"], 20), 0),
    "LINEARREG_SLOPE": (slope(C, 14), lambda b: talib.LINEARREG_SLOPE(b["close"], 14), 0),
    "CORREL": (corr(H, L, 20), lambda b: talib.CORREL(b["high"], b["low"], 20), 0),
    "MACD": (indicators.macd(C), lambda b: talib.MACD(b["close"], 12, 26, 9)[0], 300),
    "MACD signal": (ema(indicators.macd(C), 9), lambda b: talib.MACD(b["close"], 12, 26, 9)[1], 300),
    "ADX": (indicators.adx(14), lambda b: talib.ADX(b["high"], b["low"], b["close"], 14), 500),
    "OBV": (
        indicators.signed_volume_share(20) * sum_(V, 20),
        lambda b: talib.MOM(talib.OBV(b["close"], b["volume"]), 20),
        0,
    ),
}


@pytest.mark.parametrize("name", sorted(TALIB))
def test_indicators_agree_with_talib(name: str) -> None:
    ours, theirs, first = TALIB[name]
    panel = clean_panel(41, 700, 2)
    got = feature(ours, panel)
    for s in range(2):
        bars = {key: np.ascontiguousarray(values[:, s]) for key, values in panel.fields.items()}
        expected = theirs(bars)
        assert_close(got[first:, s] + 0.0, expected[first:])


def test_vwap_of_the_session_and_the_overnight_gap_mean_what_they_say() -> None:
    panel = clean_panel(42, 60, 1)
    vwap = feature(session_sum(C * V) / session_sum(V), panel)[:, 0]
    gap = feature(overnight(), panel)[:, 0]
    close, volume, open_, day = panel.fields["close"][:, 0], panel.fields["volume"][:, 0], panel.fields["open"][:, 0], panel.session
    for t in range(60):
        own = day[: t + 1] == day[t]
        assert vwap[t] == pytest.approx(np.average(close[: t + 1][own], weights=volume[: t + 1][own]), rel=1e-12)
        if day[t] > day[0]:
            assert gap[t] == pytest.approx(open_[day == day[t]][0] / close[day < day[t]][-1] - 1.0, abs=1e-12)


def test_optional_fields_are_read_as_they_are() -> None:
    panel = clean_panel(43, 20, 2)
    np.testing.assert_array_equal(feature(field("vix"), panel), panel.fields["vix"])
    assert "vix" not in every_operator().fields
