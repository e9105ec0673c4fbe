"""The account as a fold: arrays over the instruments, changed in place by compiled steps, one definition of P&L for backtest and live.

Everything that moves money or a position passes here: fills, cash, corporate actions, the start of a session, marks. No decision is made
here, and nothing reads a clock. The state has one canonical form, whose sha256 enters every decision's id.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.contracts.canonical import canonical_bytes, decode_array, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.instruments import Instrument
from trading_platform.engine.corporate import rescale
from trading_platform.engine.price_grid import catastrophe_stop_ticks, price_ticks

_rescale = njit(cache=True, nogil=True)(rescale)
ACCOUNT_FORMAT = "account-state-1"


class AccountState(NamedTuple):
    """One account over S instruments in instrument_id order.

    position i8 (S,) signed lots. avg_cost f8 (S,) quote currency per unit, 0 when flat. stop_ticks i8 (S,) protective stop, 0 none.
    entry_atr f8 (S,) atr (fraction per bar) of the row that decided the entry, NaN none. working_buy, working_sell i8 (S,) lots of open
    orders that are not protective, UNKNOWN ones included. naked i8 (S,) lots the venue is known not to cover (T16). unknown, hands_off,
    stopped bool (S,): an UNKNOWN order, foreign hands or exit-only, stopped out and not wanted again until the signal has left. mark f8
    (S,) last good price, NaN before the first. realised f8 (S,) P&L of closed lots plus dividends; trip_pnl f8 (S,) the same since the
    position was opened. Arrays of length 1: cash, session_start_equity, session_high_equity f8; session, trades_today, loss_streak,
    pause_left i8.
    """

    position: NDArray[np.int64]
    avg_cost: NDArray[np.float64]
    stop_ticks: NDArray[np.int64]
    entry_atr: NDArray[np.float64]
    working_buy: NDArray[np.int64]
    working_sell: NDArray[np.int64]
    naked: NDArray[np.int64]
    unknown: NDArray[np.bool_]
    hands_off: NDArray[np.bool_]
    stopped: NDArray[np.bool_]
    mark: NDArray[np.float64]
    realised: NDArray[np.float64]
    trip_pnl: NDArray[np.float64]
    cash: NDArray[np.float64]
    session_start_equity: NDArray[np.float64]
    session_high_equity: NDArray[np.float64]
    session: NDArray[np.int64]
    trades_today: NDArray[np.int64]
    loss_streak: NDArray[np.int64]
    pause_left: NDArray[np.int64]


class Grid(NamedTuple):
    """Price and quantity grids of S instruments: ticks_per_unit, lots_per_unit i8 (S,), shortable bool (S,)."""

    ticks_per_unit: NDArray[np.int64]
    lots_per_unit: NDArray[np.int64]
    shortable: NDArray[np.bool_]


def grid_of(instruments: tuple[Instrument, ...]) -> Grid:
    """The grids in instrument_id order. InputError unless the ids are strictly ascending."""
    ids = [instrument.instrument_id for instrument in instruments]
    if any(a >= b for a, b in itertools.pairwise(ids)):
        raise InputError("instruments are not in ascending order of instrument_id", "engine.account.grid_of", "sort them, drop duplicates")
    return Grid(
        np.array([instrument.ticks_per_unit for instrument in instruments], dtype=np.int64),
        np.array([instrument.lots_per_unit for instrument in instruments], dtype=np.int64),
        np.array([instrument.shortable for instrument in instruments], dtype=np.bool_),
    )


def empty_account(width: int, cash: float) -> AccountState:
    """A flat account of `width` instruments with `cash` quote currency; no session has started."""
    ints, floats, flags = np.int64, np.float64, np.bool_
    return AccountState(
        position=np.zeros(width, ints),
        avg_cost=np.zeros(width, floats),
        stop_ticks=np.zeros(width, ints),
        entry_atr=np.full(width, np.nan),
        working_buy=np.zeros(width, ints),
        working_sell=np.zeros(width, ints),
        naked=np.zeros(width, ints),
        unknown=np.zeros(width, flags),
        hands_off=np.zeros(width, flags),
        stopped=np.zeros(width, flags),
        mark=np.full(width, np.nan),
        realised=np.zeros(width, floats),
        trip_pnl=np.zeros(width, floats),
        cash=np.array([cash], floats),
        session_start_equity=np.array([cash], floats),
        session_high_equity=np.array([cash], floats),
        session=np.array([-1], ints),
        trades_today=np.zeros(1, ints),
        loss_streak=np.zeros(1, ints),
        pause_left=np.zeros(1, ints),
    )


@njit(cache=True, nogil=True)
def equity_of(state: AccountState, lots_per_unit: np.ndarray) -> float:
    """Cash plus every position at its last good mark (its average cost before the first), in quote currency; summed in column order."""
    total = float(state.cash[0])
    for s in range(len(state.position)):
        if state.position[s] != 0:
            price = state.mark[s] if math.isfinite(state.mark[s]) else state.avg_cost[s]
            total += state.position[s] / lots_per_unit[s] * price
    return total


@njit(cache=True, nogil=True)
def _close_trip(state: AccountState, s: int) -> None:
    """A position went flat: the round trip counts as won or lost (T19), and what belongs to the position is forgotten."""
    if state.trip_pnl[s] < 0.0:
        state.loss_streak[0] += 1
    elif state.trip_pnl[s] > 0.0:
        state.loss_streak[0] = 0
    state.trip_pnl[s] = 0.0
    state.avg_cost[s] = 0.0
    state.stop_ticks[s] = 0
    state.entry_atr[s] = np.nan


@njit(cache=True, nogil=True)
def apply_fill(state: AccountState, s: int, side: int, lots: int, ticks: float, grid: Grid, stop_atr: float, protective: bool) -> None:
    """Fold one fill of instrument `s`: `lots` > 0 at `ticks` (a venue's sub-tick price is a fraction of a tick).

    Average cost moves only when a position grows. The first fill of a position fixes its protective stop from `entry_atr` and `stop_atr`
    (T16). A fill that crosses zero closes one round trip and opens the next, whose stop uses the same atr. A protective fill that ends flat
    marks the instrument as stopped out.
    """
    price = ticks / grid.ticks_per_unit[s]
    units = lots / grid.lots_per_unit[s]
    state.cash[0] -= side * units * price
    before = state.position[s]
    after = before + side * lots
    state.position[s] = after
    atr = state.entry_atr[s]
    if before * side >= 0:
        state.avg_cost[s] = (abs(before) * state.avg_cost[s] + lots * price) / abs(after)
    else:
        closed = min(lots, abs(before))
        gain = -side * (closed / grid.lots_per_unit[s]) * (price - state.avg_cost[s])
        state.realised[s] += gain
        state.trip_pnl[s] += gain
        if before * after <= 0:
            _close_trip(state, s)
            state.avg_cost[s] = price if after != 0 else 0.0
    if after != 0 and before * after <= 0:
        state.entry_atr[s] = atr
        state.stop_ticks[s] = catastrophe_stop_ticks(price, after, atr, stop_atr, grid.ticks_per_unit[s])
    if protective and after == 0:
        state.stopped[s] = True


@njit(cache=True, nogil=True)
def apply_cash(state: AccountState, amount: float) -> None:
    """Fold a fee, interest or another amount that belongs to no position; quote currency, positive when received."""
    state.cash[0] += amount


@njit(cache=True, nogil=True)
def apply_flow(state: AccountState, amount: float) -> None:
    """Fold a deposit (+) or withdrawal (-): it moves the session's reference equities too, so it is neither a gain nor a drawdown (T12)."""
    state.cash[0] += amount
    state.session_start_equity[0] += amount
    state.session_high_equity[0] += amount


@njit(cache=True, nogil=True)
def apply_action(state: AccountState, s: int, split_ratio: float, dividend: float, grid: Grid) -> float:
    """Fold a split and/or dividend of instrument `s` before the open of its ex-date; return the cash it moved (T10).

    Position, average cost, stop and mark move to the new share count; a stop stays on the grid on its own side. The dividend takes the
    mark down with it, so equity is continuous over the ex-date.
    """
    tpu = grid.ticks_per_unit[s]
    mark = state.mark[s]
    last = mark if math.isfinite(mark) else state.avg_cost[s]
    before = state.position[s]
    stop = state.stop_ticks[s] / tpu
    lots, cost, stop, in_lieu, paid, scale = _rescale(before, state.avg_cost[s], stop, split_ratio, dividend, last, grid.lots_per_unit[s])
    state.mark[s] = mark * scale - dividend
    state.position[s] = lots
    state.avg_cost[s] = cost
    if split_ratio != 1.0 and state.stop_ticks[s] > 0:
        state.stop_ticks[s] = max(price_ticks(stop, -1 if before > 0 else 1, tpu), 1)
    amount = in_lieu + paid
    if before != 0:
        fraction = before * split_ratio - lots
        gain = paid + (in_lieu - fraction / grid.lots_per_unit[s] * cost if in_lieu != 0.0 else 0.0)
        state.realised[s] += gain
        state.trip_pnl[s] += gain
        if lots == 0:
            _close_trip(state, s)
    state.cash[0] += amount
    return amount


@njit(cache=True, nogil=True)
def start_session(state: AccountState, session: int, grid: Grid) -> None:
    """First row of a session, after its corporate actions: counters start again, drawdown is measured from the equity at this moment."""
    state.session[0] = session
    state.trades_today[0] = 0
    state.loss_streak[0] = 0
    state.pause_left[0] = 0
    equity = equity_of(state, grid.lots_per_unit)
    state.session_start_equity[0] = equity
    state.session_high_equity[0] = equity


@njit(cache=True, nogil=True)
def mark_row(state: AccountState, close: np.ndarray, present: np.ndarray, grid: Grid) -> float:
    """Take the closes (S,) of the bars that are there as marks, raise the session's high, return the equity."""
    for s in range(len(close)):
        if present[s] and math.isfinite(close[s]) and close[s] > 0.0:
            state.mark[s] = close[s]
    equity = equity_of(state, grid.lots_per_unit)
    if equity > state.session_high_equity[0]:
        state.session_high_equity[0] = equity
    return equity


def to_bytes(state: AccountState, instrument_ids: tuple[str, ...]) -> bytes:
    """Canonical bytes of the state with its instrument axis."""
    return canonical_bytes({"format": ACCOUNT_FORMAT, "instrument_ids": list(instrument_ids), "state": state._asdict()})


def from_bytes(data: bytes, instrument_ids: tuple[str, ...]) -> AccountState:
    """The state of `to_bytes`, re-indexed to `instrument_ids`: new instruments start flat. CorruptionError if a held one would be lost."""
    value: Mapping[str, Any] = parse(data)
    if value.get("format") != ACCOUNT_FORMAT:
        raise CorruptionError(f"account state format {value.get('format')!r}", "engine.account", "use a snapshot written by this version")
    saved = {name: decode_array(value["state"][name]) for name in AccountState._fields}
    column = {name: s for s, name in enumerate(instrument_ids)}
    state = empty_account(len(instrument_ids), 0.0)
    for old, name in enumerate(value["instrument_ids"]):
        if name not in column and (saved["position"][old] != 0 or saved["working_buy"][old] != 0 or saved["working_sell"][old] != 0):
            raise CorruptionError(f"{name} is held or working but not on the axis", "engine.account", "keep held names in the universe")
    pairs = [(column[name], old) for old, name in enumerate(value["instrument_ids"]) if name in column]
    here, there = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    for name, values in saved.items():
        target = getattr(state, name)
        if name in SCALARS:
            target[:] = values
        else:
            target[here] = values[there]
    return state


SCALARS = frozenset({"cash", "session_start_equity", "session_high_equity", "session", "trades_today", "loss_streak", "pause_left"})


def state_hash(state: AccountState, instrument_ids: tuple[str, ...]) -> str:
    """sha256 of `to_bytes`, 64 hex digits."""
    return sha256_hex(to_bytes(state, instrument_ids))
