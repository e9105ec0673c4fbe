"""The classical indicators as expressions over the operators. Definitions are the books'; where TA-Lib differs, the docstring says so."""

from __future__ import annotations

import math

from trading_platform.features.expression import (
    Expression,
    abs_,
    adj,
    beta,
    corr,
    diff,
    ema,
    lag,
    log,
    max_,
    maximum,
    mean,
    min_,
    minimum,
    sign,
    sqrt,
    std,
    sum_,
    var,
    where,
    wilder,
)

_LN2 = math.log(2.0)


def log_return(x: Expression, n: int = 1) -> Expression:
    """Log return over n present bars: ln(x[t] / x[t-n]).

    Unit: natural log units. Warm-up: n. Undefined: where x[t] or x[t-n] is, or their ratio is not positive. Source: textbook.
    """
    return log(x / lag(x, n))


def rsi(x: Expression, n: int = 14) -> Expression:
    """Relative strength index: 100 * wilder(gain) / (wilder(gain) + wilder(loss)) of the change over one bar.

    Unit: 0 .. 100. Warm-up: n. Undefined: while nothing has moved (TA-Lib: 0). Source: Wilder (1978), TA-Lib RSI.
    """
    change = diff(x)
    gain, loss = wilder(maximum(change, 0.0), n), wilder(maximum(-change, 0.0), n)
    return 100.0 * gain / (gain + loss)


def true_range() -> Expression:
    """max(high, previous close) - min(low, previous close), adjusted prices.

    Unit: currency. Warm-up: 1. Undefined: where a price or the previous close is. Source: Wilder (1978), TA-Lib TRANGE.
    """
    before = lag(adj("close"))
    return maximum(adj("high"), before) - minimum(adj("low"), before)


def atr(n: int = 14) -> Expression:
    """Average true range: Wilder's mean of the true range.

    Unit: currency. Warm-up: n. Undefined: before n true ranges. Source: Wilder (1978), TA-Lib ATR.
    """
    return wilder(true_range(), n)


def macd(x: Expression, fast: int = 12, slow: int = 26) -> Expression:
    """Moving average convergence divergence: ema(x, fast) - ema(x, slow).

    Unit: of x. Warm-up: slow - 1. Undefined: before `slow` values. Source: Appel; TA-Lib MACD seeds the fast mean later, then agrees.
    """
    return ema(x, fast) - ema(x, slow)


def adx(n: int = 14) -> Expression:
    """Average directional index: Wilder's mean of 100 |DI+ - DI-| / (DI+ + DI-).

    Unit: 0 .. 100. Warm-up: 2 * n - 1. Undefined: before that. Source: Wilder (1978); TA-Lib ADX seeds with n - 1 bars, then agrees.
    """
    up, down = diff(adj("high")), -diff(adj("low"))
    plus = wilder(where((up > down) * (up > 0.0), up, 0.0), n)
    minus = wilder(where((down > up) * (down > 0.0), down, 0.0), n)
    return wilder(100.0 * abs_(plus - minus) / (plus + minus), n)


def zscore(x: Expression, n: int) -> Expression:
    """(x - mean) / sample standard deviation of the last n present bars.

    Unit: standard deviations. Warm-up: n - 1. Undefined: while one of the n values is, or all are equal. Source: textbook.
    """
    return (x - mean(x, n)) / std(x, n)


def bollinger(x: Expression, n: int = 20, width: float = 2.0) -> Expression:
    """Place in the Bollinger bands (%B): 0 at mean - width * std, 1 at mean + width * std.

    Unit: share of the bands' distance. Warm-up: n - 1. Undefined: as zscore. Source: Bollinger (2001), with the sample deviation.
    """
    return zscore(x, n) / (2.0 * width) + 0.5


def stochastic(n: int = 14) -> Expression:
    """Place of the close between the lowest low and the highest high of n bars (%K / 100).

    Unit: 0 .. 1. Warm-up: n - 1. Undefined: while one of the prices is, or the range is 0. Source: Lane; TA-Lib STOCHF / 100.
    """
    low = min_(adj("low"), n)
    return (adj("close") - low) / (max_(adj("high"), n) - low)


def parkinson(n: int) -> Expression:
    """Parkinson's volatility: sqrt(mean of ln(high / low)^2 / (4 ln 2)) over n bars.

    Unit: fraction per bar. Warm-up: n - 1. Undefined: while one of the prices is. Source: Parkinson (1980).
    """
    span = log(adj("high") / adj("low"))
    return sqrt(mean(span * span, n) / (4.0 * _LN2))


def garman_klass(n: int) -> Expression:
    """Garman and Klass' volatility: root of the mean of ln(high / low)^2 / 2 - (2 ln 2 - 1) ln(close / open)^2 over n bars.

    Unit: fraction per bar. Warm-up: n - 1. Undefined: while one of the prices is. Source: Garman and Klass (1980).
    """
    span, move = log(adj("high") / adj("low")), log(adj("close") / adj("open"))
    return sqrt(maximum(mean(0.5 * span * span - (2.0 * _LN2 - 1.0) * move * move, n), 0.0))


def _rogers_satchell_terms() -> Expression:
    high, low, close = (log(adj(name) / adj("open")) for name in ("high", "low", "close"))
    return high * (high - close) + low * (low - close)


def rogers_satchell(n: int) -> Expression:
    """Rogers and Satchell's volatility, free of drift: root of the mean of u (u - c) + d (d - c); u, d, c: logs of high, low, close / open.

    Unit: fraction per bar. Warm-up: n - 1. Undefined: while one of the prices is. Source: Rogers and Satchell (1991).
    """
    return sqrt(maximum(mean(_rogers_satchell_terms(), n), 0.0))


def yang_zhang(n: int) -> Expression:
    """Yang and Zhang's volatility: root of var(night) + k var(day) + (1 - k) Rogers-Satchell, k = 0.34 / (1.34 + (n + 1) / (n - 1)).

    Unit: fraction per bar. Warm-up: n. Undefined: while one of the prices or previous closes is. Source: Yang and Zhang (2000).
    """
    k = 0.34 / (1.34 + (n + 1.0) / (n - 1.0))
    night, day = log(adj("open") / lag(adj("close"))), log(adj("close") / adj("open"))
    return sqrt(maximum(var(night, n) + k * var(day, n) + (1.0 - k) * mean(_rogers_satchell_terms(), n), 0.0))


def bipower(returns: Expression, n: int) -> Expression:
    """Bipower variation, the part of variance that is no jump: pi / 2 * mean of |r[t]| |r[t-1]| over n bars.

    Unit: of returns squared, per bar. Warm-up: n. Undefined: while one of n + 1 returns is. Source: Barndorff-Nielsen, Shephard (2004).
    """
    size = abs_(returns)
    return mean(size * lag(size), n) * (math.pi / 2.0)


def money_flow(n: int = 14) -> Expression:
    """Money flow index: 100 * volume x typical price of rising bars / that of all bars that moved, n bars.

    Unit: 0 .. 100. Warm-up: n. Undefined: while one of the values is, or nothing moved. Source: Quong and Soudack (1989), TA-Lib MFI.
    """
    price = typical_price()
    flow, change = price * adj("volume"), diff(price)
    gain, loss = sum_(where(change > 0.0, flow, 0.0), n), sum_(where(change < 0.0, flow, 0.0), n)
    return 100.0 * gain / (gain + loss)


def vwap(n: int) -> Expression:
    """Volume-weighted average of the typical price over n bars.

    Unit: currency. Warm-up: n - 1. Undefined: while one of the values is, or no share traded. Source: textbook.
    """
    return sum_(typical_price() * adj("volume"), n) / sum_(adj("volume"), n)


def signed_volume_share(n: int) -> Expression:
    """Volume of rising bars minus that of falling bars over n bars, as a share of all volume.

    Unit: -1 .. 1. Warm-up: n. Undefined: while one of the values is, or no share traded. Source: Granville's on-balance volume, scaled.
    """
    volume = adj("volume")
    return sum_(sign(diff(adj("close"))) * volume, n) / sum_(volume, n)


def residual(x: Expression, market: Expression, n: int) -> Expression:
    """Newest residual of the regression of x on the market over n bars: (x - mean x) - beta (market - mean market).

    Unit: of x. Warm-up: n - 1. Undefined: while one of the 2n values is, or the market does not move. Source: least squares.
    """
    return x - mean(x, n) - beta(x, market, n) * (market - mean(market, n))


def residual_deviation(x: Expression, market: Expression, n: int) -> Expression:
    """Deviation of what the market leaves of x over n bars: std(x) * sqrt(1 - corr(x, market)^2).

    Unit: of x. Warm-up: n - 1. Undefined: while a value is, or a series does not move. Source: Ang et al. (2006), one factor.
    """
    share = corr(x, market, n)
    return std(x, n) * sqrt(maximum(1.0 - share * share, 0.0))


def typical_price() -> Expression:
    """(high + low + close) / 3, adjusted.

    Unit: currency. Warm-up: 0. Undefined: where one of the prices is. Source: TA-Lib TYPPRICE.
    """
    return (adj("high") + adj("low") + adj("close")) / 3.0


def spread_proxy(n: int) -> Expression:
    """Bid-ask spread from bars: root of the mean of 4 (c[t-1] - m[t-1]) (c[t-1] - m[t]) over n bars, at least 0; m: mean of log high, low.

    Unit: fraction of the price. Warm-up: n. Undefined: while one of the prices is. Source: Abdi and Ranaldo, RFS 30 (2017).
    """
    close, middle = log(adj("close")), (log(adj("high")) + log(adj("low"))) / 2.0
    product = (lag(close) - lag(middle)) * (lag(close) - middle)
    return sqrt(maximum(4.0 * mean(product, n), 0.0))
