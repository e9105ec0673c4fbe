"""What an instrument does beside its universe and its sector: relative strength, betas, residuals, neutral and standardised scores.

Reads `sector`, a number per instrument (market_data.sectors); an instrument without one has no sector features. Windows over a
cross-section are undefined for n bars after a name joined the universe.
"""

from __future__ import annotations

from trading_platform.features.catalog.listing import Feature, Listing
from trading_platform.features.expression import (
    Expression,
    adj,
    beta,
    corr,
    cs_demean,
    cs_mean,
    cs_neutralize,
    cs_rank,
    cs_winsorize,
    cs_zscore,
    field,
    lag,
    max_,
    mean,
    pct_change,
    rank,
    std,
    sum_,
)
from trading_platform.features.indicators import atr, log_return, residual, residual_deviation

Features = dict[str, Feature]


def _score(x: Expression) -> Expression:
    """Standard score in the universe of x, its outer percents pulled in first."""
    return cs_zscore(cs_winsorize(x, 0.01))


def _momentum() -> Expression:
    close = adj("close")
    return lag(close, 21) / lag(close, 126) - 1.0


def _risk() -> Features:
    close = adj("close")
    returns = log_return(close)
    market, sector = cs_mean(returns), cs_mean(returns, field("sector"))
    left = residual(returns, market, 60)
    return {
        "volatility_20d": Feature(std(returns, 20), "deviation of 20 log returns, fraction per bar"),
        "atr_20_pct": Feature(atr(20) / close, "average true range of 20 bars / close, fraction"),
        "market_return_1d": Feature(market, "mean log return of the universe over 1 bar"),
        "sector_return_1d": Feature(sector, "mean log return of the sector over 1 bar"),
        "market_corr_60d": Feature(corr(returns, market, 60), "correlation of 60 log returns with the universe's mean"),
        "sector_corr_60d": Feature(corr(returns, sector, 60), "correlation of 60 log returns with the sector's mean"),
        "beta_60d": Feature(beta(returns, market, 60), "slope of 60 log returns on the universe's mean"),
        "sector_beta_60d": Feature(beta(returns, sector, 60), "slope of 60 log returns on the sector's mean"),
        "idiosyncratic_volatility_60d": Feature(
            residual_deviation(returns, market, 60), "deviation of 60 log returns that the market leaves"
        ),
        "residual_return_1d": Feature(left, "log return less its line on the universe's mean over 60 bars"),
        "residual_reversal_5d": Feature(sum_(left, 5), "sum of 5 residual returns (Blitz, Huij, Lansdorp and Verbeek 2013)"),
        "residual_momentum_126_21": Feature(
            sum_(lag(left, 21), 105) / std(lag(left, 21), 105),
            "residual returns from 126 to 21 bars ago / deviation (Blitz, Huij and Martens 2011)",
        ),
    }


def _relative() -> Features:
    close, sector = adj("close"), field("sector")
    momentum = _momentum()
    return {
        "relative_strength_5d": Feature(cs_demean(pct_change(close, 5)), "5-bar return less the universe's mean, fraction"),
        "relative_strength_21d": Feature(cs_demean(pct_change(close, 21)), "21-bar return less the universe's mean, fraction"),
        "relative_strength_63d": Feature(cs_demean(pct_change(close, 63)), "63-bar return less the universe's mean, fraction"),
        "sector_relative_1d": Feature(cs_demean(pct_change(close, 1), sector), "1-bar return less the sector's mean, fraction"),
        "sector_relative_5d": Feature(cs_demean(pct_change(close, 5), sector), "5-bar return less the sector's mean, fraction"),
        "sector_relative_21d": Feature(cs_demean(pct_change(close, 21), sector), "21-bar return less the sector's mean, fraction"),
        "sector_relative_126_21": Feature(cs_demean(momentum, sector), "momentum from 126 to 21 bars ago less the sector's mean, fraction"),
        "sector_momentum_126_21": Feature(cs_mean(momentum, sector), "the sector's mean of it, fraction (Moskowitz and Grinblatt 1999)"),
        "sector_rank_5d": Feature(cs_rank(cs_demean(pct_change(close, 5), sector)), "rank of sector_relative_5d in the universe, (0, 1]"),
        "sector_rank_126_21": Feature(cs_rank(cs_demean(momentum, sector)), "rank of sector_relative_126_21 in the universe, (0, 1]"),
    }


def _scores() -> Features:
    close, volume = adj("close"), adj("volume")
    returns = log_return(close)
    volatility = std(returns, 60)
    turnover = mean(volume, 20) / mean(volume, 126)
    return {
        "momentum_score": Feature(_score(_momentum()), "momentum from 126 to 21 bars ago, winsorised at 1 %, standard score"),
        "reversal_score": Feature(_score(pct_change(close, 5)), "5-bar return, winsorised, standard score"),
        "volatility_score": Feature(_score(volatility), "deviation of 60 log returns, winsorised, standard score"),
        "turnover_score": Feature(_score(turnover), "mean of 20 volumes / of 126, winsorised, standard score"),
        "max_score": Feature(_score(max_(returns, 21)), "largest log return of 21 bars, winsorised, standard score"),
        "high_score": Feature(
            _score(close / max_(adj("high"), 126)), "close over the highest high of 126 bars, winsorised, standard score"
        ),
        "volume_shock_score": Feature(cs_zscore(rank(volume, 50)), "rank of the volume among 50, standard score"),
        "momentum_neutral": Feature(
            cs_neutralize(_score(_momentum()), _score(volatility)), "momentum_score less its line on volatility_score"
        ),
        "reversal_neutral": Feature(
            cs_neutralize(_score(pct_change(close, 5)), _score(volatility)), "reversal_score less its line on volatility_score"
        ),
        "turnover_neutral": Feature(
            cs_neutralize(_score(turnover), _score(volatility)), "turnover_score less its line on volatility_score"
        ),
    }


def listing() -> Listing:
    """The set `cross_section` for daily bars; reads close, high, low, volume, both factors and sector."""
    note = "Daily bars with a `sector` field. The market is the equally weighted mean of the universe's defined log returns."
    return Listing("cross_section", "v1.0", note, _risk() | _relative() | _scores())
