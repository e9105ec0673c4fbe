"""The minute set, aware of the session: what has happened since the open, beside short windows over the last present bars.

All features are scale-free. Volatilities are fractions per bar. `intraday_vix` adds the VIX, a field of the panel, not an instrument.
"""

from __future__ import annotations

from trading_platform.features.expression import (
    Expression,
    adj,
    bars_since_open,
    cs_demean,
    cs_rank,
    ema,
    field,
    max_,
    mean,
    min_,
    overnight,
    pct_change,
    session_first,
    session_max,
    session_min,
    session_sum,
    sqrt,
    std,
)
from trading_platform.features.indicators import (
    adx,
    atr,
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
from trading_platform.features.program import FeatureSet


def _session_features() -> dict[str, Expression]:
    open_, high, low, close, volume = adj("open"), adj("high"), adj("low"), adj("close"), adj("volume")
    top, bottom = session_max(high), session_min(low)
    returns = log_return(close)
    average = session_sum(typical_price() * volume) / session_sum(volume)
    return {
        "bars_since_open": bars_since_open(),
        "overnight_return": overnight(),
        "session_return": close / session_first(open_) - 1.0,
        "session_vwap_gap": close / average - 1.0,
        "session_high_gap": close / top - 1.0,
        "session_low_gap": close / bottom - 1.0,
        "session_range_position": (close - bottom) / (top - bottom),
        "session_realized_volatility": sqrt(session_sum(returns * returns) / (bars_since_open() + 1.0)),
        "session_volume_pace": volume * (bars_since_open() + 1.0) / session_sum(volume),
    }


def _features() -> dict[str, Expression]:
    high, low, close, volume = adj("high"), adj("low"), adj("close"), adj("volume")
    returns = log_return(close)
    line = macd(close)
    volatility_20, volatility_60 = std(returns, 20), std(returns, 60)
    returns_5, returns_15 = pct_change(close, 5), pct_change(close, 15)
    volume_ratio = volume / mean(volume, 20)
    return _session_features() | {
        "returns_1": pct_change(close, 1),
        "returns_5": returns_5,
        "returns_15": returns_15,
        "returns_30": pct_change(close, 30),
        "returns_60": pct_change(close, 60),
        "volatility_20": volatility_20,
        "volatility_60": volatility_60,
        "volatility_ratio": volatility_20 / volatility_60,
        "parkinson_20": parkinson(20),
        "garman_klass_20": garman_klass(20),
        "atr_20_pct": atr(20) / close,
        "rsi_14": rsi(close, 14),
        "adx_14": adx(14),
        "macd_pct": line / close,
        "macd_histogram_pct": (line - ema(line, 9)) / close,
        "ema_12_gap": close / ema(close, 12) - 1.0,
        "sma_60_gap": close / mean(close, 60) - 1.0,
        "zscore_20": zscore(close, 20),
        "stochastic_14": stochastic(14),
        "high_60_gap": close / max_(high, 60) - 1.0,
        "low_60_gap": close / min_(low, 60) - 1.0,
        "volume_ratio": volume_ratio,
        "volume_zscore_20": zscore(volume, 20),
        "signed_volume_20": signed_volume_share(20),
        "returns_5_excess": cs_demean(returns_5),
        "reversal_rank_5": cs_rank(returns_5),
        "momentum_rank_15": cs_rank(returns_15),
        "volatility_rank_20": cs_rank(volatility_20),
        "volume_rank": cs_rank(volume_ratio),
    }


def feature_set() -> FeatureSet:
    """The set `intraday` for minute bars; reads open, high, low, close, volume and both factors."""
    return FeatureSet("intraday", "v1.0", _features())


def feature_set_with_vix() -> FeatureSet:
    """`intraday` plus the field vix (index points, the latest value known at the row)."""
    vix = field("vix")
    return FeatureSet(
        "intraday_vix", "v1.0", _features() | {"vix": vix, "vix_change_20": pct_change(vix, 20), "vix_zscore_60": zscore(vix, 60)}
    )
