"""talipp's incremental indicators, one set per symbol, one update per bar: 29 of the 32 columns' state.

usage: python -m benchmarks.peers.with_talipp PANEL.npz live
No Parkinson, no Garman-Klass, no log return. Definitions of seeds differ, so values are not compared.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

from talipp.indicators import ADX, ATR, BB, EMA, MACD, OBV, ROC, RSI, SMA, VWMA, DonchianChannels, StdDev, Stoch
from talipp.ohlcv import OHLCV

from benchmarks.peers.program import LIVE_CHUNK, LIVE_WARM_UP, Bars, live_chunks, read_panel, serve


class Symbol:
    """One symbol's indicators, grouped by what an update takes."""

    def __init__(self) -> None:
        of_close = [*(ROC(n) for n in (1, 5, 15, 60)), *(SMA(n) for n in (5, 20, 60)), *(EMA(n) for n in (12, 26, 50))]
        of_close += [RSI(14), MACD(12, 26, 9), BB(20, 2)]
        of_bar = [ATR(14), ADX(14, 14), OBV(), Stoch(14, 3), DonchianChannels(20), VWMA(20)]
        self.of_close = [one.add for one in of_close]
        self.of_return = [one.add for one in (StdDev(20), StdDev(60))]
        self.of_volume = [one.add for one in (SMA(20), StdDev(20))]
        self.of_bar = [one.add for one in of_bar]
        self.before = 0.0

    def step(self, o: float, h: float, l: float, c: float, v: float) -> None:  # noqa: E741
        """One bar."""
        for add in self.of_close:
            add(c)
        if self.before:
            for add in self.of_return:
                add(c / self.before - 1)
        for add in self.of_volume:
            add(v)
        bar = OHLCV(o, h, l, c, v)
        for add in self.of_bar:
            add(bar)
        self.before = c


class Live:
    """All symbols, warmed on the first rows."""

    def __init__(self, panel: Bars) -> None:
        self.rows, width = panel["close"].shape
        self.bars = [panel[name].tolist() for name in panel]
        self.symbols = [Symbol() for _ in range(width)]
        for row in range(LIVE_WARM_UP - 2 * LIVE_CHUNK, LIVE_WARM_UP):
            self.step(row)

    def step(self, row: int) -> None:
        """One bar of every symbol."""
        o, h, l, c, v = (field[row] for field in self.bars)  # noqa: E741
        for s, symbol in enumerate(self.symbols):
            symbol.step(o[s], h[s], l[s], c[s], v[s])


if __name__ == "__main__":
    live = Live(read_panel(sys.argv[1]))
    serve({"indicators": live_chunks(live.step, LIVE_WARM_UP, live.rows)}, None, f"talipp {version('talipp')}")
