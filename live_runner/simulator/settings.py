"""What a simulated venue is configured with: one immutable value, made by the command line or by a test."""

from __future__ import annotations

import math
from dataclasses import dataclass

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import Costs

GRACE_NS = 2_000_000_000  # after a bar's end a runner waits this long for late bars (DESIGN 8)
LATENCY_NS = 1_000_000_000  # real time it may take to decide and send, generously
MOST_ALLOWANCE_NS = 30_000_000_000  # half a minute bar: what comes later has missed it at any speed
_COSTS = Costs()


def arrival_allowance(speed: float | None) -> int:
    """The default allowance (ns of virtual time) at a speed, None for lock-step: a runner's grace is virtual, its latency is real."""
    return min(GRACE_NS + int(LATENCY_NS * max(speed or 1.0, 1.0)), MOST_ALLOWANCE_NS)


@dataclass(frozen=True, slots=True)
class VenueSettings:
    """account: its number; a new one gets new ids for everything. cash_cents: its first deposit. Costs as in `contracts.profile.Costs`:
    basis points and a share of the bar's volume.

    multiplier: 1 cash account, 2 Reg T margin. shorts: the account may open shorts. requests_per_minute: of the trading API, per key and
    virtual minute, 0 = unlimited. key, secret: the only ones accepted; empty = any non-empty pair. bar_delay_ns: how long after its end a
    bar stays invisible to REST. arrival_allowance_ns: how long after a minute bar's start an order may arrive and still trade in that bar.
    """

    seed: int = 0
    account: int = 1
    cash_cents: int = 100_000_000
    half_spread_bps: float = _COSTS.half_spread_bps
    impact_bps: float = _COSTS.impact_bps
    participation: float = _COSTS.participation
    multiplier: int = 2
    shorts: bool = False
    requests_per_minute: int = 200
    key: str = ""
    secret: str = ""
    bar_delay_ns: int = 0
    arrival_allowance_ns: int = GRACE_NS + LATENCY_NS

    @property
    def account_key(self) -> str:
        """What all ids of this account are made from."""
        return f"{self.seed}.{self.account}"

    def __post_init__(self) -> None:
        numbers = (self.half_spread_bps, self.impact_bps, self.participation)
        sound = (
            all(math.isfinite(n) and n >= 0.0 for n in numbers) and self.cash_cents > 0 and self.account > 0 and self.multiplier in (1, 2)
        )
        if not sound or self.participation > 1.0 or self.requests_per_minute < 0 or self.bar_delay_ns < 0 or self.arrival_allowance_ns < 0:
            raise InputError(
                f"these settings make no venue: {self.cash_cents / 100} cash, costs {numbers}, multiplier {self.multiplier}",
                "simulator settings",
                "cash is positive, costs are not negative, participation is at most 1, the multiplier is 1 or 2",
            )
