"""The one price function of fills and labels (T7): what somebody who traded through a bar could have paid, before costs."""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import PRICE_FIELDS, Panel


@njit(cache=True, nogil=True)
def attainable_price(open_: float, high: float, low: float, close: float, vwap: float) -> float:
    """The bar's vwap where it is finite and positive, otherwise its typical price (high + low + close) / 3. Quote currency.

    `open_` is part of the signature because an auction order will need it; a bar without prices (NaN) gives NaN.
    """
    if math.isfinite(vwap) and vwap > 0.0:
        return vwap
    return (high + low + close) / 3.0


@njit(cache=True, nogil=True)
def _fill_prices(open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray, vwap: np.ndarray, out: np.ndarray) -> None:
    for t in range(out.shape[0]):
        for s in range(out.shape[1]):
            out[t, s] = attainable_price(open_[t, s], high[t, s], low[t, s], close[t, s], vwap[t, s])


def bar_arrays(panel: Panel) -> tuple[NDArray[np.float64], ...]:
    """(open, high, low, close, vwap), each float64 (T, S); vwap all NaN for a panel without that field. InputError if a price is absent."""
    missing = [name for name in PRICE_FIELDS if name not in panel.fields]
    if missing:
        raise InputError(f"the panel has no field {', '.join(missing)}", "matching.price", "build the panel with all four prices")
    vwap = panel.fields.get("vwap")
    return (*(panel.fields[name] for name in PRICE_FIELDS), np.full(panel.shape, np.nan) if vwap is None else vwap)


def attainable_prices(panel: Panel) -> NDArray[np.float64]:
    """`attainable_price` of every cell: float64 (T, S), NaN where the bar is absent. Labels enter and leave at these prices."""
    out = np.empty(panel.shape)
    open_, high, low, close, vwap = bar_arrays(panel)
    _fill_prices(open_, high, low, close, vwap, out)
    out[~panel.present] = np.nan
    return out
