"""The values that compiled code reads and writes for one row: inputs, the profile's numbers, the plan, the provisional book.

Named tuples of arrays and scalars, because Numba compiles those; everything else of the engine speaks dataclasses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.checks import CheckCode
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import Profile

CODES = len(CheckCode)
SECTORS = 64  # codes 0..63; -1 is "unknown", one bucket of its own
ROWS_PER_YEAR = {"1Min": 252.0 * 390.0, "5Min": 252.0 * 78.0, "15Min": 252.0 * 26.0, "1Hour": 252.0 * 6.5, "1Day": 252.0}

# Legs and kinds as compiled code writes them; `decide.LEGS` and matching.bar name them.
NO_LEG, ENTER, REDUCE, FLATTEN = 0, 1, 2, 3
NOT_APPLIED, ALLOWED, DENIED = 0, 1, 2


class Row(NamedTuple):
    """Inputs of one row over S instruments; times in UTC ns, ages in seconds, fractions per bar."""

    close: NDArray[np.float64]
    present: NDArray[np.bool_]
    member: NDArray[np.bool_]
    alpha: NDArray[np.float64]
    held: NDArray[np.bool_]
    ready: NDArray[np.bool_]
    volatility: NDArray[np.float64]
    atr: NDArray[np.float64]
    quote_mid: NDArray[np.float64]
    quote_age_s: NDArray[np.float64]
    adv_lots: NDArray[np.float64]
    sector: NDArray[np.int64]
    coverage: float
    known_at: int
    session_open: int
    session_close: int
    next_open: int
    kill_level: int
    model_age: int
    trading_blocked: bool


class Numbers(NamedTuple):
    """The profile's numbers that the compiled row reads; names and units as in contracts.profile."""

    max_position: float
    max_gross: float
    max_short_of_gross: float
    max_positions: int
    max_sector: float
    max_leverage: float
    max_daily_drawdown: float
    max_consecutive_losses: int
    pause_rows: int
    max_trades_per_session: int
    max_orders_per_row: int
    max_risk_per_trade: float
    max_participation: float
    price_collar_bps: float
    reduce_price_collar_bps: float
    max_quote_age_s: float
    min_coverage: float
    min_maintenance_excess: float
    max_naked: float
    hard_max_age_sessions: int
    capital: float
    target_gross: float
    volatility_per_row: float
    no_trade_band: float
    entry_cutoff_ns: int
    flat_at_end_of_day: bool
    limit_offset_bps: float
    opening_toxic_ns: int
    order_timeout_ns: int
    stop_atr: float
    session_bars: bool


class Plan(NamedTuple):
    """What one row concluded, written in place (S instruments, C = CODES).

    equity f8 (1,). position, target i8 (S,) lots before and wanted. exposure f8 (S,), NaN undefined. leg, side i1 (S,), lots i8 (S,),
    limit_ticks i8 (S,) (0 = market), approved bool (S,): the one order an instrument may have. sequence i8 (S,), acting i8 (1,): columns of
    the acting instruments in the order they were checked and are sent. valid_from, expires_at i8 (1,). outcome i1 (S, C) of NOT_APPLIED,
    ALLOWED, DENIED with limit and value f8 (S, C). denied i8 (C,): orders each check refused.
    """

    equity: NDArray[np.float64]
    position: NDArray[np.int64]
    target: NDArray[np.int64]
    exposure: NDArray[np.float64]
    leg: NDArray[np.int8]
    side: NDArray[np.int8]
    lots: NDArray[np.int64]
    limit_ticks: NDArray[np.int64]
    approved: NDArray[np.bool_]
    sequence: NDArray[np.int64]
    acting: NDArray[np.int64]
    valid_from: NDArray[np.int64]
    expires_at: NDArray[np.int64]
    outcome: NDArray[np.int8]
    limit: NDArray[np.float64]
    value: NDArray[np.float64]
    denied: NDArray[np.int64]


class Sheet(NamedTuple):
    """One acting instrument's row of the plan's outcome i1, limit and value f8, each (C,)."""

    outcome: NDArray[np.int8]
    limit: NDArray[np.float64]
    value: NDArray[np.float64]


class Book(NamedTuple):
    """Provisional worst case while a row's orders are checked: every working, UNKNOWN and approved order filled where it hurts (T13).

    price f8 (S,): valuation. worst i8 (S,): largest |lots|. worst_short i8 (S,): lots short at worst. sector_gross f8 (SECTORS + 1,).
    Arrays of length 1: gross, short, buys (cost of open and approved buys), naked f8; positions, orders i8.
    """

    price: NDArray[np.float64]
    worst: NDArray[np.int64]
    worst_short: NDArray[np.int64]
    sector_gross: NDArray[np.float64]
    gross: NDArray[np.float64]
    short: NDArray[np.float64]
    buys: NDArray[np.float64]
    naked: NDArray[np.float64]
    positions: NDArray[np.int64]
    orders: NDArray[np.int64]


def empty_plan(width: int) -> Plan:
    """A plan for `width` instruments in which nothing acts."""
    ints, floats = np.int64, np.float64
    return Plan(
        equity=np.zeros(1, floats),
        position=np.zeros(width, ints),
        target=np.zeros(width, ints),
        exposure=np.zeros(width, floats),
        leg=np.zeros(width, np.int8),
        side=np.zeros(width, np.int8),
        lots=np.zeros(width, ints),
        limit_ticks=np.zeros(width, ints),
        approved=np.zeros(width, np.bool_),
        sequence=np.zeros(width, ints),
        acting=np.zeros(1, ints),
        valid_from=np.zeros(1, ints),
        expires_at=np.zeros(1, ints),
        outcome=np.zeros((width, CODES), np.int8),
        limit=np.zeros((width, CODES), floats),
        value=np.zeros((width, CODES), floats),
        denied=np.zeros(CODES, ints),
    )


def empty_book(width: int) -> Book:
    """A book for `width` instruments; the decision fills it."""
    ints, floats = np.int64, np.float64
    return Book(
        price=np.zeros(width, floats),
        worst=np.zeros(width, ints),
        worst_short=np.zeros(width, ints),
        sector_gross=np.zeros(SECTORS + 1, floats),
        gross=np.zeros(1, floats),
        short=np.zeros(1, floats),
        buys=np.zeros(1, floats),
        naked=np.zeros(1, floats),
        positions=np.zeros(1, ints),
        orders=np.zeros(1, ints),
    )


MINUTE_NS = 60_000_000_000


def numbers_of(profile: Profile, timeframe: str) -> Numbers:
    """The numbers of a profile for rows of `timeframe`. InputError for an unknown timeframe or a sleeve without capital."""
    if timeframe not in ROWS_PER_YEAR:
        raise InputError(f"unknown timeframe {timeframe!r}", "engine.rows", f"use one of {', '.join(ROWS_PER_YEAR)}")
    limits, strategy, execution = profile.limits, profile.strategy, profile.execution
    if not strategy.capital > 0.0:
        raise InputError(f"strategy.capital is {strategy.capital}", f"profile {profile.name}", "give the sleeve a positive share of equity")
    return Numbers(
        max_position=float(limits.max_position),
        max_gross=float(limits.max_gross),
        max_short_of_gross=float(limits.max_short_of_gross),
        max_positions=int(limits.max_positions),
        max_sector=float(limits.max_sector),
        max_leverage=float(limits.max_leverage),
        max_daily_drawdown=float(limits.max_daily_drawdown),
        max_consecutive_losses=int(limits.max_consecutive_losses),
        pause_rows=int(limits.pause_rows),
        max_trades_per_session=int(limits.max_trades_per_session),
        # an order costs at most two requests: shrink the stop, then POST (T21)
        max_orders_per_row=min(int(limits.max_orders_per_row), int(execution.requests_per_minute) // 2),
        max_risk_per_trade=float(limits.max_risk_per_trade),
        max_participation=float(limits.max_participation),
        price_collar_bps=float(limits.price_collar_bps),
        reduce_price_collar_bps=float(limits.reduce_price_collar_bps),
        max_quote_age_s=float(limits.max_quote_age_s),
        min_coverage=float(limits.min_coverage),
        min_maintenance_excess=float(limits.min_maintenance_excess),
        max_naked=float(limits.max_naked),
        hard_max_age_sessions=int(profile.models.hard_max_age_sessions),
        capital=float(strategy.capital),
        target_gross=float(strategy.target_gross),
        volatility_per_row=float(strategy.annual_volatility_target) / ROWS_PER_YEAR[timeframe] ** 0.5,
        no_trade_band=float(strategy.no_trade_band),
        entry_cutoff_ns=max(int(strategy.entry_cutoff_minutes), int(execution.closing_toxic_minutes)) * MINUTE_NS,
        flat_at_end_of_day=bool(strategy.flat_at_end_of_day),
        limit_offset_bps=float(execution.limit_offset_bps),
        opening_toxic_ns=int(execution.opening_toxic_minutes) * MINUTE_NS,
        order_timeout_ns=int(execution.order_timeout_s * 1_000_000_000),
        stop_atr=float(execution.catastrophe_stop_atr),
        session_bars=timeframe == "1Day",
    )
