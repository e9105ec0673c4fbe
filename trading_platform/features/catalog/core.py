"""The daily set. Scale-free but for the five textbook levels that SPEC FEAT-10 names; a model reads the names outside `level`.

Every feature is defined in nearly every warm cell, because a model speaks only where all of its inputs are: nothing here rolls over a
cross-section (a name that leaves the universe for a day would be silent for a whole window); that is what `cross_section` is for.
"""

from __future__ import annotations

from trading_platform.features.catalog.listing import Feature, Listing
from trading_platform.features.expression import (
    adj,
    corr,
    cs_demean,
    cs_neutralize,
    cs_rank,
    diff,
    ema,
    field,
    lag,
    log,
    max_,
    mean,
    min_,
    minimum,
    overnight,
    pct_change,
    rank,
    rsquare,
    sign,
    skew,
    slope,
    sqrt,
    std,
    sum_,
    where,
)
from trading_platform.features.indicators import (
    adx,
    atr,
    bollinger,
    garman_klass,
    log_return,
    macd,
    money_flow,
    parkinson,
    rogers_satchell,
    rsi,
    signed_volume_share,
    spread_proxy,
    stochastic,
    vwap,
    yang_zhang,
    zscore,
)

Features = dict[str, Feature]


def _levels() -> Features:
    close = adj("close")
    return {
        "price": Feature(close, "adjusted close, currency", level=True),
        "ema_12": Feature(ema(close, 12), "exponential mean of 12 closes, currency", level=True),
        "ema_26": Feature(ema(close, 26), "exponential mean of 26 closes, currency", level=True),
        "macd": Feature(macd(close), "ema_12 - ema_26, currency", level=True),
        "macd_signal": Feature(ema(macd(close), 9), "exponential mean of 9 values of macd, currency", level=True),
    }


def _returns() -> Features:
    open_, high, low, close = adj("open"), adj("high"), adj("low"), adj("close")
    day = close / open_ - 1.0
    return {
        "returns_1d": Feature(pct_change(close, 1), "return over 1 bar, fraction"),
        "returns_5d": Feature(pct_change(close, 5), "return over 5 bars, fraction"),
        "returns_10d": Feature(pct_change(close, 10), "return over 10 bars, fraction"),
        "returns_21d": Feature(pct_change(close, 21), "return over 21 bars, fraction"),
        "returns_63d": Feature(pct_change(close, 63), "return over 63 bars, fraction"),
        "log_return_1d": Feature(log_return(close), "log return over 1 bar"),
        "momentum_126_21": Feature(lag(close, 21) / lag(close, 126) - 1.0, "return from 126 to 21 bars ago, fraction"),
        "max_return_21d": Feature(max_(pct_change(close, 1), 21), "MAX: largest 1-bar return of 21 bars, fraction (Bali et al. 2011)"),
        "overnight_return": Feature(overnight(), "previous close to open, fraction"),
        "intraday_return": Feature(day, "open to close, fraction"),
        "overnight_21d": Feature(sum_(overnight(), 21), "sum of 21 overnight returns, fraction (Lou, Polk and Skouras 2019)"),
        "intraday_21d": Feature(sum_(day, 21), "sum of 21 open-to-close returns, fraction"),
        "high_low_ratio": Feature(high / low, "high / low, ratio"),
        "autocorrelation_21d": Feature(
            corr(log_return(close), lag(log_return(close)), 21), "correlation of log returns with the ones before, 21 bars"
        ),
    }


def _volatility() -> Features:
    close = adj("close")
    returns = log_return(close)
    volatility_20d, volatility_60d = std(returns, 20), std(returns, 60)
    falling = sum_(minimum(returns, 0.0) * minimum(returns, 0.0), 20)
    return {
        "volatility_20d": Feature(volatility_20d, "deviation of 20 log returns, fraction per bar"),
        "volatility_60d": Feature(volatility_60d, "deviation of 60 log returns, fraction per bar"),
        "volatility_ratio": Feature(volatility_20d / volatility_60d, "volatility_20d / volatility_60d"),
        "realized_volatility_5d": Feature(sqrt(mean(returns * returns, 5)), "root mean square of 5 log returns (HAR, Corsi 2009)"),
        "realized_volatility_21d": Feature(sqrt(mean(returns * returns, 21)), "root mean square of 21 log returns"),
        "downside_share_20d": Feature(falling / sum_(returns * returns, 20), "share of squared log returns that fell, 20 bars"),
        "parkinson_20d": Feature(parkinson(20), "volatility from high and low, fraction per bar"),
        "garman_klass_20d": Feature(garman_klass(20), "volatility from range and move, fraction per bar"),
        "rogers_satchell_20d": Feature(rogers_satchell(20), "volatility from range, free of drift, fraction per bar"),
        "yang_zhang_20d": Feature(yang_zhang(20), "volatility from nights, days and ranges, fraction per bar"),
        "atr_20_pct": Feature(atr(20) / close, "average true range of 20 bars / close, fraction"),
        "skewness_60d": Feature(skew(returns, 60), "skewness of 60 log returns"),
    }


def _trend() -> Features:
    high, low, close = adj("high"), adj("low"), adj("close")
    line = macd(close)
    signal = ema(line, 9)
    return {
        "rsi": Feature(rsi(close), "rsi_14 under its other name (SPEC FEAT-10 has both)"),
        "rsi_14": Feature(rsi(close, 14), "relative strength index of 14 bars, 0 .. 100"),
        "adx_14": Feature(adx(14), "average directional index of 14 bars, 0 .. 100"),
        "macd_pct": Feature(line / close, "macd / close, fraction"),
        "macd_signal_pct": Feature(signal / close, "macd_signal / close, fraction"),
        "macd_histogram_pct": Feature((line - signal) / close, "(macd - macd_signal) / close, fraction"),
        "ema_12_gap": Feature(close / ema(close, 12) - 1.0, "close over ema_12 - 1"),
        "ema_26_gap": Feature(close / ema(close, 26) - 1.0, "close over ema_26 - 1"),
        "sma_20_gap": Feature(close / mean(close, 20) - 1.0, "close over the mean of 20 closes - 1"),
        "sma_50_gap": Feature(close / mean(close, 50) - 1.0, "close over the mean of 50 closes - 1"),
        "bollinger_20d": Feature(bollinger(close, 20), "place in the Bollinger bands of 20 bars, 0 lower .. 1 upper"),
        "bollinger_width_20d": Feature(4.0 * std(close, 20) / mean(close, 20), "distance of the Bollinger bands / their middle, fraction"),
        "zscore_20d": Feature(zscore(close, 20), "close in deviations from the mean of 20 closes"),
        "stochastic_14": Feature(stochastic(14), "place of the close in the range of 14 bars, 0 .. 1"),
        "high_60d_gap": Feature(close / max_(high, 60) - 1.0, "close over the highest high of 60 bars - 1"),
        "low_60d_gap": Feature(close / min_(low, 60) - 1.0, "close over the lowest low of 60 bars - 1"),
        "range_position": Feature(where(high > low, (close - low) / (high - low), 0.5), "place of the close in the bar, 0 low .. 1 high"),
        "slope_20d": Feature(slope(log(close), 20), "slope of the line through 20 log closes, fraction per bar"),
        "rsquare_20d": Feature(rsquare(close, 20), "share of variance that the line through 20 closes explains"),
    }


def _volume() -> Features:
    close, volume = adj("close"), adj("volume")
    returns = log_return(close)
    # A bar without volume moved at no price: it says nothing of liquidity, rather than that it is infinitely bad.
    illiquidity = where(volume > 0.0, abs(returns) / (close * volume), 0.0)
    return {
        "volume_ratio": Feature(volume / mean(volume, 20), "volume / mean of 20 volumes"),
        "volume_zscore_20d": Feature(zscore(volume, 20), "volume in deviations from the mean of 20 volumes"),
        "volume_shock_50d": Feature(rank(volume, 50), "rank of the volume among 50, (0, 1] (Gervais, Kaniel and Mingelgrin 2001)"),
        "signed_volume_20d": Feature(signed_volume_share(20), "volume of rising less falling bars / all volume, 20 bars, -1 .. 1"),
        "tick_imbalance_21d": Feature(mean(sign(diff(close)), 21), "rising less falling bars / 21, -1 .. 1"),
        "money_flow_14": Feature(money_flow(14), "money flow index of 14 bars, 0 .. 100"),
        "vwap_20d_gap": Feature(close / vwap(20) - 1.0, "close over the volume-weighted price of 20 bars - 1"),
        "return_volume_corr_20d": Feature(corr(returns, volume, 20), "correlation of 20 log returns with volumes"),
        "illiquidity_ratio": Feature(mean(illiquidity, 20) / mean(illiquidity, 60), "Amihud (2002) illiquidity of 20 bars / of 60"),
        "spread_proxy_21d": Feature(spread_proxy(21), "bid-ask spread from high, low and close, fraction (Abdi and Ranaldo 2017)"),
    }


def _universe() -> Features:
    close = adj("close")
    volatility_60d = std(log_return(close), 60)
    return {
        "returns_1d_excess": Feature(cs_demean(pct_change(close, 1)), "1-bar return less the universe's mean, fraction"),
        "relative_strength_63d": Feature(cs_demean(pct_change(close, 63)), "63-bar return less the universe's mean, fraction"),
        "reversal_rank_5d": Feature(cs_rank(pct_change(close, 5)), "rank of the 5-bar return in the universe, (0, 1]"),
        "reversal_residual_5d": Feature(
            cs_neutralize(pct_change(close, 5), volatility_60d), "5-bar return less its line on volatility_60d"
        ),
        "momentum_rank_21d": Feature(cs_rank(pct_change(close, 21)), "rank of the 21-bar return in the universe, (0, 1]"),
        "momentum_rank_126_21": Feature(cs_rank(lag(close, 21) / lag(close, 126) - 1.0), "rank of momentum_126_21, (0, 1]"),
        "volatility_rank_20d": Feature(cs_rank(std(log_return(close), 20)), "rank of volatility_20d, (0, 1]"),
        "volume_rank": Feature(cs_rank(adj("volume") / mean(adj("volume"), 20)), "rank of volume_ratio, (0, 1]"),
    }


def features() -> Features:
    """All lines of the set."""
    return _levels() | _returns() | _volatility() | _trend() | _volume() | _universe()


def listing() -> Listing:
    """The set `core` for daily bars; reads open, high, low, close, volume and both factors."""
    note = "Daily bars. Volatilities are fractions per bar, not annualised. The longest window is 126 bars; `core_year` looks further."
    return Listing("core", "v2.0", note, features())


def listing_of_a_year() -> Listing:
    """`core` and what a year of bars tells."""
    high, close, volume = adj("high"), adj("close"), adj("volume")
    momentum = lag(close, 21) / lag(close, 252) - 1.0
    year = {
        "momentum_252_21": Feature(momentum, "12-1 momentum: return from 252 to 21 bars ago, fraction"),
        "sma_200_gap": Feature(close / mean(close, 200) - 1.0, "close over the mean of 200 closes - 1"),
        "high_252d_gap": Feature(close / max_(high, 252) - 1.0, "close over the 52-week high - 1 (George and Hwang 2004)"),
        "volume_trend_20_252": Feature(mean(volume, 20) / mean(volume, 252), "turnover: mean of 20 volumes / mean of 252"),
        "momentum_rank_252_21": Feature(cs_rank(momentum), "rank of momentum_252_21, (0, 1]"),
    }
    note = "`core` with 12-1 momentum, the 52-week high and year-long means. Nothing is known of an instrument before it is a year old."
    return Listing("core_year", "v1.0", note, features() | year)


def listing_with_sentiment() -> Listing:
    """`core` plus the field sentiment (market_data.sentiment), NaN where nobody has said anything lately."""
    sentiment = field("sentiment")
    note = "`core` with a sentiment score per instrument, a field that `market_data.sentiment` joins. Off unless a pipeline names this set."
    return Listing(
        "core_sentiment",
        "v1.0",
        note,
        features()
        | {
            "sentiment": Feature(sentiment, "newest score known at the row, as the source gives it"),
            "sentiment_surprise": Feature(sentiment - ema(sentiment, 21), "score less its exponential mean of 21 bars"),
            "sentiment_change_5d": Feature(diff(sentiment, 5), "score less the one of 5 bars ago"),
            "sentiment_rank": Feature(cs_rank(sentiment), "rank of the score in the universe, (0, 1]"),
        },
    )
