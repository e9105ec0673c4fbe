"""NautilusTrader's indicator objects, one set per symbol, one update per bar: what it has of the 32 columns.

usage: python -m benchmarks.peers.with_nautilus PANEL.npz live
23 columns: 4 rates of change, 3 SMAs, 3 EMAs, RSI, MACD line, volume SMA, ATR, Bollinger (upper, lower, place, z), stochastic, Donchian
(2), directional movement in place of ADX, OBV. Its rate of change needs 2 bars at least, its EMAs start with the first value, its MACD has
no signal line: definitions differ, so values are not compared.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from nautilus_trader.indicators import averages, momentum, trend, volatility, volume

from benchmarks.peers.program import LIVE_CHUNK, LIVE_WARM_UP, Bars, live_chunks, read_panel, serve

WILDER = averages.MovingAverageType.WILDER


class Symbol:
    """One symbol's indicators, grouped by what an update takes."""

    def __init__(self) -> None:
        mean, ema = averages.SimpleMovingAverage, averages.ExponentialMovingAverage
        of_close = [*(momentum.RateOfChange(n) for n in (2, 5, 15, 60)), mean(5), mean(20), mean(60), ema(12), ema(26), ema(50)]
        of_close += [momentum.RelativeStrengthIndex(14, WILDER)]
        of_close += [trend.MovingAverageConvergenceDivergence(12, 26, averages.MovingAverageType.EXPONENTIAL)]
        of_range = [volatility.AverageTrueRange(14, WILDER), volatility.BollingerBands(20, 2.0), momentum.Stochastics(14, 3)]
        of_high_low = [volatility.DonchianChannel(20), trend.DirectionalMovement(14, WILDER)]
        self.of_close = [one.update_raw for one in of_close]
        self.of_range = [one.update_raw for one in of_range]
        self.of_high_low = [one.update_raw for one in of_high_low]
        self.of_volume = mean(20).update_raw
        self.of_flow = volume.OnBalanceVolume(20).update_raw

    def step(self, o: float, h: float, l: float, c: float, v: float) -> None:  # noqa: E741
        """One bar."""
        for update in self.of_close:
            update(c)
        self.of_volume(v)
        for update in self.of_range:
            update(h, l, c)
        for update in self.of_high_low:
            update(h, l)
        self.of_flow(o, c, v)


class Live:
    """All symbols, warmed on the first rows."""

    def __init__(self, panel: Bars) -> None:
        self.rows, width = panel["close"].shape
        self.bars = [panel[name].tolist() for name in panel]
        self.symbols = [Symbol() for _ in range(width)]
        for row in range(LIVE_WARM_UP - LIVE_CHUNK, LIVE_WARM_UP):
            self.step(row)

    def step(self, row: int) -> None:
        """One bar of every symbol."""
        o, h, l, c, v = (field[row] for field in self.bars)  # noqa: E741
        for s, symbol in enumerate(self.symbols):
            symbol.step(o[s], h[s], l[s], c[s], v[s])


if __name__ == "__main__":
    live = Live(read_panel(sys.argv[1]))
    serve({"indicators": live_chunks(live.step, LIVE_WARM_UP, live.rows)}, None, f"NautilusTrader {version('nautilus_trader')}")
