"""One row to decide, for the tests of `decide_row`: everything allows an entry, and each test says what it changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from synthetic_market import DAY_NS, HOUR_NS

from trading_platform.contracts.profile import Execution, Limits, ModelRules, Profile, Strategy
from trading_platform.engine import account as accounts
from trading_platform.engine.account import AccountState, Grid, empty_account
from trading_platform.engine.decide import decide_row
from trading_platform.engine.rows import Plan, Row, empty_book, empty_plan, numbers_of

WIDTH = 4
OPEN, CLOSE = 14 * HOUR_NS, 21 * HOUR_NS
GRID = Grid(np.full(WIDTH, 100, np.int64), np.ones(WIDTH, np.int64), np.zeros(WIDTH, np.bool_))


def base_row() -> Row:
    """All four at 100, all members, ready, quoted; nothing held by the strategy."""
    return Row(
        close=np.full(WIDTH, 100.0),
        present=np.ones(WIDTH, np.bool_),
        member=np.ones(WIDTH, np.bool_),
        alpha=np.arange(WIDTH, dtype=np.float64),
        held=np.zeros(WIDTH, np.bool_),
        ready=np.ones(WIDTH, np.bool_),
        volatility=np.full(WIDTH, 1e-4),  # calm enough that the caps bind, not the volatility target
        atr=np.full(WIDTH, 0.02),
        quote_mid=np.full(WIDTH, 100.0),
        quote_age_s=np.zeros(WIDTH),
        adv_lots=np.full(WIDTH, 1e7),
        sector=np.arange(WIDTH, dtype=np.int64),
        coverage=1.0,
        known_at=17 * HOUR_NS,
        session_open=OPEN,
        session_close=CLOSE,
        next_open=OPEN + DAY_NS,
        kill_level=0,
        model_age=0,
        trading_blocked=False,
    )


@dataclass
class Scene:
    """One row to decide. By default instrument 2 is wanted and everything allows it."""

    limits: dict[str, Any] = field(default_factory=dict)
    strategy: dict[str, Any] = field(default_factory=dict)
    execution: dict[str, Any] = field(default_factory=dict)
    timeframe: str = "1Min"
    wanted: tuple[int, ...] = (2,)
    cash: float = 1_000_000.0
    row: dict[str, Any] = field(default_factory=dict)
    cells: dict[str, dict[int, Any]] = field(default_factory=dict)
    prepare: Callable[[AccountState], None] = lambda state: None
    shortable: bool = False

    def profile(self) -> Profile:
        return Profile(
            "scene",
            limits=replace(Limits(), **self.limits),
            strategy=replace(Strategy(), **self.strategy),
            execution=replace(Execution(), **self.execution),
            models=ModelRules(),
        )

    def run(self) -> tuple[Plan, AccountState]:
        row = base_row()._replace(**self.row)
        for column in self.wanted:
            row.held[column] = True
        for name, values in self.cells.items():
            for column, value in values.items():
                getattr(row, name)[column] = value
        state, plan = empty_account(WIDTH, self.cash), empty_plan(WIDTH)
        accounts.mark_row(state, np.full(WIDTH, 100.0), np.ones(WIDTH, np.bool_), GRID)
        self.prepare(state)
        grid = GRID._replace(shortable=np.full(WIDTH, self.shortable))
        decide_row(state, row, numbers_of(self.profile(), self.timeframe), grid, plan, empty_book(WIDTH))
        return plan, state


def hold(state: AccountState, s: int, lots: int, price: float = 100.0) -> None:
    state.entry_atr[s] = 0.02
    accounts.apply_fill(state, s, 1 if lots > 0 else -1, abs(lots), price * 100.0, GRID, 3.0, False)


def with_positions(*lots: int) -> Callable[[AccountState], None]:
    def prepare(state: AccountState) -> None:
        for s, count in enumerate(lots):
            if count:
                hold(state, s, count)

    return prepare


def put(name: str, value: Any, s: int | None = None) -> Callable[[AccountState], None]:
    def prepare(state: AccountState) -> None:
        getattr(state, name)[0 if s is None else s] = value

    return prepare


def together(*steps: Callable[[AccountState], None]) -> Callable[[AccountState], None]:
    def prepare(state: AccountState) -> None:
        for step in steps:
            step(state)

    return prepare
