"""What a split or a dividend does to a held position (T10): the one arithmetic of backtest, runner and market_data.

Plain Python on plain numbers: `engine.account` compiles it, `market_data.corporate_actions` offers it without importing a compiler.
"""

from __future__ import annotations

LOT_NOISE = 1e-9  # of a lot: binary noise of the ratio, not a fraction


def rescale(
    lots: int,
    average_cost: float,
    stop_price: float,
    split_ratio: float,
    cash_dividend: float,
    previous_close: float,
    lots_per_unit: int = 1,
) -> tuple[int, float, float, float, float, float]:
    """Return (lots, average_cost, stop_price, cash_in_lieu, dividend_cash, price_scale) after the event.

    lots: signed. Prices in quote currency per unit. split_ratio: new per old. cash_dividend: per unit after the split. previous_close: raw,
    before the ex-date. Lots round toward zero and the fraction is paid at the last close; a short owes, so its cash is negative. A dividend
    moves no stop: the venue's GTC orders are told not to reduce.
    """
    exact = lots * split_ratio
    nearest = round(exact)
    if abs(exact - nearest) <= LOT_NOISE * max(1.0, abs(exact)):
        exact = float(nearest)
    whole = int(exact)
    scale = 1.0 / split_ratio
    fraction = exact - whole
    cash_in_lieu = fraction / lots_per_unit * previous_close * scale if fraction != 0.0 else 0.0
    return whole, average_cost * scale, stop_price * scale, cash_in_lieu, exact / lots_per_unit * cash_dividend, scale
