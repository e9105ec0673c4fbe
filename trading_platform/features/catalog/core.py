"""The daily set. Scale-free but for the five textbook levels that SPEC FEAT-10 names; a model reads the names outside `level`.

Warm-up is 127 present bars, so a name listed half a year ago may trade. Volatilities are fractions per bar.
"""

from __future__ import annotations

from trading_platform.features.expression import Expression, adj, cs_demean, cs_rank, ema, lag, max_, mean, min_, overnight, pct_change, std
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
    zscore,
)
from trading_platform.features.program import FeatureSet


def _features() -> dict[str, Expression]:
    open_, high, low, close, volume = adj("open"), adj("high"), adj("low"), adj("close"), adj("volume")
    returns = log_return(close)
    line = macd(close)
    signal = ema(line, 9)
    volatility_20d, volatility_60d = std(returns, 20), std(returns, 60)
    returns_1d, returns_5d, returns_21d = pct_change(close, 1), pct_change(close, 5), pct_change(close, 21)
    volume_ratio = volume / mean(volume, 20)
    illiquidity = abs(returns) / (close * volume)
    return {
        # levels, in adjusted currency
        "price": close,
        "ema_12": ema(close, 12),
        "ema_26": ema(close, 26),
        "macd": line,
        "macd_signal": signal,
        # returns and momentum, fractions
        "returns_1d": returns_1d,
        "returns_5d": returns_5d,
        "returns_10d": pct_change(close, 10),
        "returns_21d": returns_21d,
        "returns_63d": pct_change(close, 63),
        "momentum_126_21": lag(close, 21) / lag(close, 126) - 1.0,
        "overnight_return": overnight(),
        "intraday_return": close / open_ - 1.0,
        # volatility, fractions per bar
        "volatility_20d": volatility_20d,
        "volatility_60d": volatility_60d,
        "volatility_ratio": volatility_20d / volatility_60d,
        "parkinson_20d": parkinson(20),
        "garman_klass_20d": garman_klass(20),
        "atr_20_pct": atr(20) / close,
        # trend and position
        "rsi_14": rsi(close, 14),
        "adx_14": adx(14),
        "macd_pct": line / close,
        "macd_signal_pct": signal / close,
        "macd_histogram_pct": (line - signal) / close,
        "ema_12_gap": close / ema(close, 12) - 1.0,
        "ema_26_gap": close / ema(close, 26) - 1.0,
        "sma_50_gap": close / mean(close, 50) - 1.0,
        "zscore_20d": zscore(close, 20),
        "stochastic_14": stochastic(14),
        "high_60d_gap": close / max_(high, 60) - 1.0,
        "low_60d_gap": close / min_(low, 60) - 1.0,
        "range_position": (close - low) / (high - low),
        # volume and liquidity
        "volume_ratio": volume_ratio,
        "volume_zscore_20d": zscore(volume, 20),
        "signed_volume_20d": signed_volume_share(20),
        "illiquidity_ratio": mean(illiquidity, 20) / mean(illiquidity, 60),
        # across the universe
        "returns_1d_excess": cs_demean(returns_1d),
        "reversal_rank_5d": cs_rank(returns_5d),
        "momentum_rank_21d": cs_rank(returns_21d),
        "momentum_rank_126_21": cs_rank(lag(close, 21) / lag(close, 126) - 1.0),
        "volatility_rank_20d": cs_rank(volatility_20d),
        "volume_rank": cs_rank(volume_ratio),
    }


def feature_set() -> FeatureSet:
    """The set `core` for daily bars; reads open, high, low, close, volume and both factors."""
    return FeatureSet("core", "v1.0", _features(), frozenset({"price", "ema_12", "ema_26", "macd", "macd_signal"}))
