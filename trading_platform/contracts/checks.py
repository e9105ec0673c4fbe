"""Risk checks and refusals as one enum; the table in docs/checks.md is generated from it.

`denied` = our risk said no. Codes are stable: journals and forensics store them by value.
"""

from __future__ import annotations

from enum import IntEnum


class CheckCode(IntEnum):
    """Each outcome of a check: its number is its column in the outcome arrays. The docstring table below is the public text."""

    KILL_SWITCH = 0
    POSITION_LIMIT = 1
    GROSS_EXPOSURE = 2
    SHORT_EXPOSURE = 3
    MAX_POSITIONS = 4
    SECTOR_EXPOSURE = 5
    LEVERAGE = 6
    BUYING_POWER = 7
    MAINTENANCE_EXCESS = 8
    DAILY_DRAWDOWN = 9
    CONSECUTIVE_LOSSES = 10
    MAX_TRADES = 11
    ORDER_BUDGET = 12
    PER_TRADE_RISK = 13
    PARTICIPATION = 14
    PRICE_COLLAR = 15
    STALE_QUOTE = 16
    COVERAGE = 17
    UNKNOWN_ORDER = 18
    HANDS_OFF = 19
    NOT_MEMBER = 20
    MODEL_AGE = 21
    CROSSES_ZERO = 22
    ACCOUNT_FLAGS = 23
    NAKED_LIMIT = 24
    ENTRY_WINDOW = 25


CHECK_TEXT: dict[CheckCode, str] = {
    CheckCode.KILL_SWITCH: "a latched kill level (HALT_NEW, REDUCE, FLATTEN) refuses new risk (T17)",
    CheckCode.POSITION_LIMIT: "position value after the trade, all working and unknown orders filled, over its share of equity",
    CheckCode.GROSS_EXPOSURE: "gross exposure over its share of equity (intraday 50 %, swing 100 %)",
    CheckCode.SHORT_EXPOSURE: "short exposure over its share of gross, or shorting not allowed",
    CheckCode.MAX_POSITIONS: "number of open positions over the limit",
    CheckCode.SECTOR_EXPOSURE: "exposure of one sector over its share of equity",
    CheckCode.LEVERAGE: "gross exposure over equity times the leverage limit",
    CheckCode.BUYING_POWER: "cost of all buys, working ones included, over the cash and margin available (T13)",
    CheckCode.MAINTENANCE_EXCESS: "projected maintenance excess below 20 % of equity (T13)",
    CheckCode.DAILY_DRAWDOWN: "equity below the session's high by more than the daily limit",
    CheckCode.CONSECUTIVE_LOSSES: "the sleeve is paused after consecutive losing round trips (T19)",
    CheckCode.MAX_TRADES: "number of orders of this session over the limit",
    CheckCode.ORDER_BUDGET: "over the request budget of this row; re-planned at the next (T21)",
    CheckCode.PER_TRADE_RISK: "quantity times stop distance over the risk allowed per trade",
    CheckCode.PARTICIPATION: "quantity over the share of the average volume",
    CheckCode.PRICE_COLLAR: "limit price too far from the reference price",
    CheckCode.STALE_QUOTE: "no fresh reference price: no new risk (T9)",
    CheckCode.COVERAGE: "too few members reported this row: no new risk (T3)",
    CheckCode.UNKNOWN_ORDER: "an order of this instrument is UNKNOWN: no new risk until it is looked up (I6)",
    CheckCode.HANDS_OFF: "someone else traded this instrument, or it is exit-only (T10, T18)",
    CheckCode.NOT_MEMBER: "not a member of the universe: exit only (T3)",
    CheckCode.MODEL_AGE: "the bundle is older than its hard limit: no new risk (T25)",
    CheckCode.CROSSES_ZERO: "a reduction larger than the position minus working reductions (T14)",
    CheckCode.ACCOUNT_FLAGS: "the venue blocks trading for this account (T13)",
    CheckCode.NAKED_LIMIT: "unprotected position value over its limit (T16)",
    CheckCode.ENTRY_WINDOW: "no entries in this part of the session (T9)",
}


class KillLevel(IntEnum):
    """Latched levels of T17; higher includes lower."""

    NONE = 0
    HALT_NEW = 1
    REDUCE = 2
    FLATTEN = 3
