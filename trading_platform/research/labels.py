"""Labels: what happened after a row, in their own type, so that they cannot become an input of a feature (I1).

A label's entry price is never earlier than the decision (T7): decided on row t, bought in row t+1, sold in row t+1+horizon, both at
`matching.price.attainable_prices`, the price function of the fills.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.matching.price import attainable_prices

NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Labels:
    """One label per cell.

    values: float64 (T, S), fraction over the horizon, NaN where the full horizon is not there. t0, t1: int64 (T,) UTC ns, when the row's
    decision was made and when its outcome was known; the closed interval [t0, t1] is what purging works on. Rows whose horizon ends after
    the panel have t1 = NEVER and only NaN values. horizon: rows. name: what the values are.
    """

    values: NDArray[np.float64]
    t0: NDArray[np.int64]
    t1: NDArray[np.int64]
    horizon: int
    name: str


def _exit_rows(panel: Panel, horizon: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """(rows that can be labelled, whether each may hold over its horizon): intraday labels stay inside one session, being flat at night."""
    rows = np.arange(max(panel.shape[0] - horizon - 1, 0))
    if panel.timeframe == "1Day":
        return rows, np.ones(rows.shape, dtype=np.bool_)
    return rows, panel.session[rows] == panel.session[rows + 1 + horizon]


def _settled(panel: Panel, price: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices with the last close carried forward after an instrument's last bar: a delisted name settles at its last trade (T33)."""
    settled = price.copy()
    rows = np.arange(panel.shape[0])[:, np.newaxis]
    last = np.where(panel.present.any(axis=0), panel.shape[0] - 1 - np.argmax(panel.present[::-1], axis=0), -1)
    columns = np.arange(panel.shape[1])
    final = panel.fields["close"][last, columns] * panel.fields["return_factor"][last, columns]
    gone = (rows > last) & (last >= 0)
    settled[gone] = np.broadcast_to(final, settled.shape)[gone]
    return settled


def forward_return(panel: Panel, horizon: int, demean: bool = False) -> Labels:
    """Total return from the entry in row t+1 to the exit in row t+1+horizon, dividends and splits included by return_factor.

    horizon: rows >= 1. demean: subtract each row's mean over the members with a label. An instrument that disappears before its exit
    settles at its last close; one that only misses the exit bar has no label, and neither have the last horizon + 1 rows of the panel
    (absent, never zero). Raises InputError for a panel without return_factor, or whose next bar opens before the row is known.
    """
    if horizon < 1:
        raise InputError(f"horizon {horizon} is below one row", "research.labels", "give the rows between entry and exit")
    if "return_factor" not in panel.fields:
        raise InputError("the panel has no field return_factor", "research.labels", "build the panel with market_data.panel")
    if bool(np.any(panel.timestamp[1:] < panel.known_at[:-1])):
        row = int(np.argmax(panel.timestamp[1:] < panel.known_at[:-1]))
        raise InputError(
            f"row {row} is known only after row {row + 1} began", "research.labels", "an entry there would come before its decision"
        )
    count, width = panel.shape
    entry = attainable_prices(panel) * panel.fields["return_factor"]
    leave = _settled(panel, entry)
    rows, allowed = _exit_rows(panel, horizon)
    values = np.full((count, width), np.nan)
    values[rows] = leave[rows + 1 + horizon] / entry[rows + 1] - 1.0
    values[rows[~allowed]] = np.nan
    values[~np.isfinite(values)] = np.nan
    t1 = np.full(count, NEVER, dtype=np.int64)
    t1[rows] = panel.known_at[rows + 1 + horizon]
    labels = Labels(values, panel.known_at.copy(), t1, horizon, f"forward_return_{horizon}")
    return demeaned(labels, panel.member) if demean else labels


def demeaned(labels: Labels, member: NDArray[np.bool_]) -> Labels:
    """The labels minus each row's mean over members that have one; what a cross-sectional model learns. member: bool (T, S)."""
    counted = np.where(member & np.isfinite(labels.values), labels.values, 0.0)
    number = np.sum(member & np.isfinite(labels.values), axis=1, keepdims=True)
    mean = counted.sum(axis=1, keepdims=True) / np.maximum(number, 1)
    return Labels(np.where(number > 0, labels.values - mean, np.nan), labels.t0, labels.t1, labels.horizon, f"{labels.name}_demeaned")
