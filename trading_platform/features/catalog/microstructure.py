"""Quotes, order books and trades in rows of fixed length (market_data.order_book). What is known at the row's end, and the flow within it.

Fields: bid_price, bid_size, ask_price, ask_size (best), bid_price_2 .. ask_size_10 (deeper levels), order_flow, book_updates; from trades
volume, buy_volume, sell_volume, trade_count, signed_ticks, effective_spread. A row without a trade has volume 0.
"""

from __future__ import annotations

from functools import reduce
from operator import add

from trading_platform.features.catalog.listing import Feature, Listing
from trading_platform.features.expression import Expression, adj, beta, corr, ema, field, lag, log, mean, std, sum_, where
from trading_platform.features.indicators import log_return, zscore

Features = dict[str, Feature]
BPS = 1e4
LEVELS = 10


def _level(k: int) -> tuple[Expression, Expression, Expression, Expression]:
    """Bid price, bid size, ask price, ask size of level k (1: the best)."""
    end = "" if k == 1 else f"_{k}"
    return adj(f"bid_price{end}"), adj(f"bid_size{end}"), adj(f"ask_price{end}"), adj(f"ask_size{end}")


def _total(values: list[Expression]) -> Expression:
    return reduce(add, values)


def _middle() -> Expression:
    bid, _, ask, _ = _level(1)
    return (bid + ask) / 2.0


def _share(part: Expression, whole: Expression) -> Expression:
    """part / whole, 0 where the whole is: nothing traded, so neither side did."""
    return where(whole > 0.0, part / whole, 0.0)


def _quotes() -> Features:
    bid, bids, ask, asks = _level(1)
    middle = _middle()
    spread, imbalance = (ask - bid) / middle, (bids - asks) / (bids + asks)
    micro = (bid * asks + ask * bids) / (bids + asks)
    move = log_return(middle)
    liquidity = (bid * bids + ask * asks) / (spread * BPS)
    updates = field("book_updates")
    return {
        "spread_bps": Feature(spread * BPS, "best ask less best bid / their middle, basis points"),
        "spread_ratio_60": Feature(spread / mean(spread, 60), "spread / mean of 60 rows"),
        "imbalance": Feature(imbalance, "bid-ask imbalance: (best bid size - ask size) / both, -1 .. 1"),
        "imbalance_10": Feature(mean(imbalance, 10), "mean imbalance of 10 rows"),
        "microprice_gap_bps": Feature((micro / middle - 1.0) * BPS, "size-weighted middle over the middle, basis points (Stoikov 2018)"),
        "mid_return_1_bps": Feature(move * BPS, "log return of the middle over 1 row, basis points"),
        "mid_return_10_bps": Feature(log_return(middle, 10) * BPS, "log return of the middle over 10 rows, basis points"),
        "mid_return_60_bps": Feature(log_return(middle, 60) * BPS, "log return of the middle over 60 rows, basis points"),
        "mid_volatility_60_bps": Feature(std(move, 60) * BPS, "deviation of 60 returns of the middle, basis points per row"),
        "liquidity_score": Feature(log(liquidity), "log of currency at the best prices per basis point of spread", level=True),
        "liquidity_ratio_60": Feature(liquidity / mean(liquidity, 60), "currency at the best per basis point of spread / mean of 60 rows"),
        "update_intensity": Feature(_share(updates, mean(updates, 60)), "updates of the book in the row / mean of 60 rows"),
    }


def _flow() -> Features:
    _, bids, _, asks = _level(1)
    flow, depth = adj("order_flow"), mean((bids + asks) / 2.0, 60)
    move = log_return(_middle()) * BPS
    return {
        "order_flow": Feature(flow / depth, "order flow imbalance of the row / mean best size of 60 rows (Cont, Kukanov and Stoikov 2014)"),
        "order_flow_10": Feature(sum_(flow, 10) / depth, "order flow imbalance of 10 rows / mean best size of 60"),
        "order_flow_60": Feature(sum_(flow, 60) / depth, "order flow imbalance of 60 rows / mean best size of 60"),
        "order_flow_zscore_60": Feature(zscore(flow, 60), "order flow imbalance in deviations from the mean of 60 rows"),
        "flow_impact_60": Feature(
            beta(move, flow, 60) * depth, "basis points that one mean best size of order flow moved the middle, 60 rows"
        ),
        "flow_corr_60": Feature(corr(move, flow, 60), "correlation of the middle's return with order flow, 60 rows"),
    }


def _trades() -> Features:
    volume, buys, sells = adj("volume"), adj("buy_volume"), adj("sell_volume")
    trades, paid = field("trade_count"), ema(field("effective_spread"), 20)
    bid, _, ask, _ = _level(1)
    quoted = ema((ask - bid) / _middle(), 20)
    return {
        "trade_imbalance": Feature(_share(buys - sells, buys + sells), "(bought - sold) / both by the aggressor's side, -1 .. 1"),
        "trade_imbalance_10": Feature(_share(sum_(buys - sells, 10), sum_(buys + sells, 10)), "the same over 10 rows"),
        "trade_imbalance_60": Feature(_share(sum_(buys - sells, 60), sum_(buys + sells, 60)), "the same over 60 rows"),
        "tick_imbalance_60": Feature(
            _share(sum_(field("signed_ticks"), 60), sum_(trades, 60)), "trades at rising less falling ticks / all, 60 rows"
        ),
        "trade_intensity": Feature(_share(trades, mean(trades, 60)), "trades of the row / mean of 60 rows"),
        "volume_ratio": Feature(_share(volume, mean(volume, 60)), "volume / mean of 60 rows"),
        "effective_spread_bps": Feature(
            paid * BPS, "twice the distance of trades from the middle before them, mean of 20 rows, basis points"
        ),
        "effective_ratio": Feature(paid / quoted, "effective spread / quoted spread, means of 20 rows"),
    }


def _book() -> Features:
    levels = [_level(k) for k in range(1, LEVELS + 1)]
    middle = _middle()
    bids, asks = [level[1] for level in levels], [level[3] for level in levels]
    depth = _total(bids + asks)
    near, far = _total(bids[:5] + asks[:5]), levels[-1]
    pressure = _total([(b - a) / float(k) for k, (b, a) in enumerate(zip(bids, asks, strict=True), 1)])
    weight = _total([(b + a) / float(k) for k, (b, a) in enumerate(zip(bids, asks, strict=True), 1)])
    centre = _total([bid * theirs + ask * ours for bid, ours, ask, theirs in levels]) / depth
    below, above = (levels[0][0] - far[0]) / middle * BPS, (far[2] - levels[0][2]) / middle * BPS
    value = _total([bid * ours + ask * theirs for bid, ours, ask, theirs in levels])
    spread = (levels[0][2] - levels[0][0]) / middle * BPS
    deep = _total([_row_flow(k) for k in range(1, 6)])
    return {
        "depth_imbalance_5": Feature((_total(bids[:5]) - _total(asks[:5])) / near, "(bid - ask sizes) / all of 5 levels, -1 .. 1"),
        "depth_imbalance_10": Feature((_total(bids) - _total(asks)) / depth, "(bid - ask sizes) / all of 10 levels, -1 .. 1"),
        "depth_pressure": Feature(pressure / weight, "depth imbalance of 10 levels, level k weighing 1 / k, -1 .. 1"),
        "depth_ratio_60": Feature(depth / mean(depth, 60), "size of 10 levels / mean of 60 rows"),
        "best_share": Feature((bids[0] + asks[0]) / depth, "share of the size of 10 levels that stands at the best prices"),
        "deep_microprice_gap_bps": Feature(
            (centre / middle - 1.0) * BPS, "size-weighted middle of 10 levels over the middle, basis points"
        ),
        "bid_reach_bps": Feature(below, "best bid to the 10th, basis points of the middle"),
        "ask_reach_bps": Feature(above, "best ask to the 10th, basis points of the middle"),
        "deep_order_flow_10": Feature(
            sum_(deep, 10) / mean(near, 60), "row-to-row order flow of 5 levels over 10 rows / mean size (Xu et al. 2018)"
        ),
        "deep_liquidity_score": Feature(log(value / spread), "log of currency in 10 levels per basis point of spread", level=True),
    }


def _row_flow(k: int) -> Expression:
    """Order flow imbalance of level k from row end to row end: what the bid gained less what the ask gained (Cont et al., equation 4)."""
    bid, bids, ask, asks = _level(k)
    bid_before, bids_before, ask_before, asks_before = lag(bid), lag(bids), lag(ask), lag(asks)
    gained = where(bid >= bid_before, bids, 0.0) - where(bid <= bid_before, bids_before, 0.0)
    return gained - (where(ask <= ask_before, asks, 0.0) - where(ask >= ask_before, asks_before, 0.0))


def listing_of_quotes() -> Listing:
    """The set `microstructure_quotes`: best quotes and trades."""
    note = "Rows of quotes and trades (`market_data.order_book`): best bid and ask at the row's end, flow within the row."
    return Listing("microstructure_quotes", "v1.0", note, _quotes() | _flow() | _trades())


def listing() -> Listing:
    """The set `microstructure`: a book of 10 levels and trades."""
    note = "`microstructure_quotes` with a book of 10 levels. Order flow at the best is per update, deeper from row end to row end."
    return Listing("microstructure", "v1.0", note, _quotes() | _flow() | _trades() | _book())
