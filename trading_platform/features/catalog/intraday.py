"""The minute set, aware of the session: what has happened since the open, beside short windows over the last present bars.

All features are scale-free. Volatilities are fractions per bar. `intraday_vix` adds the VIX, a field of the panel, not an instrument.
"""

from __future__ import annotations

from trading_platform.features.catalog.listing import Feature, Listing
from trading_platform.features.expression import (
    adj,
    bars_since_open,
    cs_demean,
    cs_rank,
    ema,
    field,
    max_,
    maximum,
    mean,
    min_,
    minute_of_session,
    overnight,
    pct_change,
    same_minute_mean,
    session_first,
    session_max,
    session_min,
    session_sum,
    sqrt,
    std,
    where,
)
from trading_platform.features.indicators import (
    adx,
    atr,
    bipower,
    garman_klass,
    log_return,
    macd,
    parkinson,
    rsi,
    signed_volume_share,
    stochastic,
    typical_price,
    zscore,
)

Features = dict[str, Feature]
OPENING_BARS = 30
BEYOND_ANY_PRICE = 1e300


def _session() -> Features:
    open_, high, low, close, volume = adj("open"), adj("high"), adj("low"), adj("close"), adj("volume")
    top, bottom, returns = session_max(high), session_min(low), log_return(close)
    average = session_sum(typical_price() * volume) / session_sum(volume)
    bars = bars_since_open() + 1.0
    place = where(top > bottom, (close - bottom) / (top - bottom), 0.5)
    return {
        "bars_since_open": Feature(bars_since_open(), "bars of the session before this one"),
        "overnight_return": Feature(overnight(), "previous close to open, fraction"),
        "session_return": Feature(close / session_first(open_) - 1.0, "session's open to close, fraction"),
        "session_vwap_gap": Feature(close / average - 1.0, "close over the session's volume-weighted price - 1"),
        "session_high_gap": Feature(close / top - 1.0, "close over the session's high - 1"),
        "session_low_gap": Feature(close / bottom - 1.0, "close over the session's low - 1"),
        "session_range_position": Feature(place, "place of the close in the session's range, 0 low .. 1 high"),
        "session_realized_volatility": Feature(sqrt(session_sum(returns * returns) / bars), "root mean square log return since the open"),
        "minute_of_session": Feature(minute_of_session(), "minutes since the session's first row"),
        "minute_volume_ratio": Feature(volume / same_minute_mean(volume, 20), "volume / mean volume of this minute in some 20 sessions"),
        "session_volume_pace": Feature(volume * bars / session_sum(volume), "volume / mean volume per bar since the open"),
    }


def _opening() -> Features:
    high, low, close = adj("high"), adj("low"), adj("close")
    early = bars_since_open() < float(OPENING_BARS)
    top = session_max(where(early, high, 0.0))
    bottom = session_min(where(early, low, BEYOND_ANY_PRICE))
    first = session_sum(where(early, log_return(close), 0.0))
    return {
        "opening_high_gap": Feature(close / top - 1.0, "close over the high of the first 30 bars - 1 (so far, until they are over)"),
        "opening_low_gap": Feature(close / bottom - 1.0, "close over the low of the first 30 bars - 1"),
        "opening_range": Feature(top / bottom - 1.0, "high over low of the first 30 bars - 1"),
        "opening_return": Feature(first, "log return from the previous close to the 30th bar (Gao, Han, Li and Zhou 2018)"),
    }


def _windows() -> Features:
    high, low, close, volume = adj("high"), adj("low"), adj("close"), adj("volume")
    returns, line = log_return(close), macd(close)
    volatility_20, volatility_60 = std(returns, 20), std(returns, 60)
    squares = mean(returns * returns, 30)
    jump = where(squares > 0.0, maximum(1.0 - bipower(returns, 30) / squares, 0.0), 0.0)
    return {
        "returns_1": Feature(pct_change(close, 1), "return over 1 bar, fraction"),
        "returns_5": Feature(pct_change(close, 5), "return over 5 bars, fraction"),
        "returns_15": Feature(pct_change(close, 15), "return over 15 bars, fraction"),
        "returns_30": Feature(pct_change(close, 30), "return over 30 bars, fraction"),
        "returns_60": Feature(pct_change(close, 60), "return over 60 bars, fraction"),
        "volatility_20": Feature(volatility_20, "deviation of 20 log returns, fraction per bar"),
        "volatility_60": Feature(volatility_60, "deviation of 60 log returns, fraction per bar"),
        "volatility_ratio": Feature(volatility_20 / volatility_60, "volatility_20 / volatility_60"),
        "realized_volatility_30": Feature(sqrt(squares), "root mean square of 30 log returns, fraction per bar"),
        "jump_share_30": Feature(jump, "share of 30 bars' variance that is jumps: 1 - bipower / realized, at least 0"),
        "parkinson_20": Feature(parkinson(20), "volatility from high and low, fraction per bar"),
        "garman_klass_20": Feature(garman_klass(20), "volatility from range and move, fraction per bar"),
        "atr_20_pct": Feature(atr(20) / close, "average true range of 20 bars / close, fraction"),
        "rsi_14": Feature(rsi(close, 14), "relative strength index of 14 bars, 0 .. 100"),
        "adx_14": Feature(adx(14), "average directional index of 14 bars, 0 .. 100"),
        "macd_pct": Feature(line / close, "macd / close, fraction"),
        "macd_histogram_pct": Feature((line - ema(line, 9)) / close, "(macd - its exponential mean of 9) / close, fraction"),
        "ema_12_gap": Feature(close / ema(close, 12) - 1.0, "close over the exponential mean of 12 closes - 1"),
        "sma_60_gap": Feature(close / mean(close, 60) - 1.0, "close over the mean of 60 closes - 1"),
        "zscore_20": Feature(zscore(close, 20), "close in deviations from the mean of 20 closes"),
        "stochastic_14": Feature(stochastic(14), "place of the close in the range of 14 bars, 0 .. 1"),
        "high_60_gap": Feature(close / max_(high, 60) - 1.0, "close over the highest high of 60 bars - 1"),
        "low_60_gap": Feature(close / min_(low, 60) - 1.0, "close over the lowest low of 60 bars - 1"),
        "volume_ratio": Feature(volume / mean(volume, 20), "volume / mean of 20 volumes"),
        "volume_zscore_20": Feature(zscore(volume, 20), "volume in deviations from the mean of 20 volumes"),
        "signed_volume_20": Feature(signed_volume_share(20), "volume of rising less falling bars / all volume, 20 bars, -1 .. 1"),
    }


def _universe() -> Features:
    close, volume = adj("close"), adj("volume")
    return {
        "returns_5_excess": Feature(cs_demean(pct_change(close, 5)), "5-bar return less the universe's mean, fraction"),
        "reversal_rank_5": Feature(cs_rank(pct_change(close, 5)), "rank of the 5-bar return in the universe, (0, 1]"),
        "momentum_rank_15": Feature(cs_rank(pct_change(close, 15)), "rank of the 15-bar return in the universe, (0, 1]"),
        "volatility_rank_20": Feature(cs_rank(std(log_return(close), 20)), "rank of volatility_20, (0, 1]"),
        "volume_rank": Feature(cs_rank(volume / mean(volume, 20)), "rank of volume_ratio, (0, 1]"),
    }


def _features() -> Features:
    return _session() | _opening() | _windows() | _universe()


def listing() -> Listing:
    """The set `intraday` for minute bars; reads open, high, low, close, volume and both factors."""
    return Listing(
        "intraday",
        "v2.0",
        "Minute bars. Volatilities are fractions per bar. The first 30 bars are those an instrument traded in.",
        _features(),
    )


def listing_with_vix() -> Listing:
    """`intraday` plus the field vix (index points, the latest value known at the row)."""
    vix = field("vix")
    index = {
        "vix": Feature(vix, "newest VIX known at the row, index points"),
        "vix_change_20": Feature(pct_change(vix, 20), "change of the VIX over 20 bars, fraction"),
        "vix_zscore_60": Feature(zscore(vix, 60), "VIX in deviations from the mean of 60 bars"),
    }
    return Listing("intraday_vix", "v2.0", "`intraday` with the VIX, a market-wide field (docs/data.md).", _features() | index)
