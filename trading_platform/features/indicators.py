"""The classical indicators as expressions over the operators. Definitions are the books'; where TA-Lib differs, the docstring says so."""

from __future__ import annotations

import math

from trading_platform.features.expression import (
    Expression,
    abs_,
    adj,
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
    where,
    wilder,
)

_LN2 = math.log(2.0)


def log_return(x: Expression, n: int = 1) -> Expression:
    """log(x / x n present bars ago)."""
    return log(x / lag(x, n))


def rsi(x: Expression, n: int = 14) -> Expression:
    """Wilder's relative strength index, 0..100 (New Concepts, 1978). Undefined while nothing has moved (TA-Lib: 0)."""
    change = diff(x)
    gain, loss = wilder(maximum(change, 0.0), n), wilder(maximum(-change, 0.0), n)
    return 100.0 * gain / (gain + loss)


def true_range() -> Expression:
    """max(high, previous close) - min(low, previous close), adjusted prices."""
    before = lag(adj("close"))
    return maximum(adj("high"), before) - minimum(adj("low"), before)


def atr(n: int = 14) -> Expression:
    """Wilder's average true range in currency, as TA-Lib's ATR."""
    return wilder(true_range(), n)


def macd(x: Expression, fast: int = 12, slow: int = 26) -> Expression:
    """ema(fast) - ema(slow). TA-Lib seeds the fast mean later, so the first few hundred values differ and then agree."""
    return ema(x, fast) - ema(x, slow)


def adx(n: int = 14) -> Expression:
    """Wilder's average directional index, 0..100. TA-Lib seeds its sums with n - 1 bars, so early values differ and then agree."""
    up, down = diff(adj("high")), -diff(adj("low"))
    plus = wilder(where((up > down) * (up > 0.0), up, 0.0), n)
    minus = wilder(where((down > up) * (down > 0.0), down, 0.0), n)
    return wilder(100.0 * abs_(plus - minus) / (plus + minus), n)


def zscore(x: Expression, n: int) -> Expression:
    """(x - mean) / sample standard deviation over the last n present bars; undefined when they are all equal."""
    return (x - mean(x, n)) / std(x, n)


def stochastic(n: int = 14) -> Expression:
    """Place of the close between the lowest low and the highest high of n bars, 0..1 (%K / 100)."""
    low = min_(adj("low"), n)
    return (adj("close") - low) / (max_(adj("high"), n) - low)


def parkinson(n: int) -> Expression:
    """Parkinson (1980) volatility per bar from the high-low range."""
    span = log(adj("high") / adj("low"))
    return sqrt(mean(span * span, n) / (4.0 * _LN2))


def garman_klass(n: int) -> Expression:
    """Garman and Klass (1980) volatility per bar from range and open-to-close move."""
    span, move = log(adj("high") / adj("low")), log(adj("close") / adj("open"))
    return sqrt(maximum(mean(0.5 * span * span - (2.0 * _LN2 - 1.0) * move * move, n), 0.0))


def signed_volume_share(n: int) -> Expression:
    """Volume of rising bars minus that of falling bars over n bars, as a share of all volume: -1..1."""
    volume = adj("volume")
    return sum_(sign(diff(adj("close"))) * volume, n) / sum_(volume, n)


def typical_price() -> Expression:
    """(high + low + close) / 3, adjusted."""
    return (adj("high") + adj("low") + adj("close")) / 3.0
