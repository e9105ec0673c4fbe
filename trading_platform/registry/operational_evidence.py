"""What paper, or the present step of live capital, has shown: sessions, fills, parity, unknown orders, breaks, costs (T26)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import t as student

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class EvidenceLimits:
    """T26's numbers."""

    sessions: int = 20
    fills: int = 200
    cost_ratio: float = 1.5


@dataclass(frozen=True, slots=True)
class SessionEvidence:
    """One closed session. unexplained: parity differences without a cause, None where nobody compared. unknown: orders that nobody knows
    about at its end. paid, modelled: costs of its fills beyond the attainable price, as paid and as the backtest would have charged;
    traded: their value. All three in quote currency. pnl: change of equity less flows.
    """

    session_id: str
    fills: int
    unknown: int
    breaks: int
    unexplained: int | None
    paid: float
    modelled: float
    traded: float
    pnl: float


@dataclass(frozen=True, slots=True)
class RealisedCost:
    """Costs in bps of what was traded: paid, its upper 95 % bound (sessions are the observations), modelled."""

    paid_bps: float
    upper_bps: float
    modelled_bps: float


def realised_cost(sessions: Sequence[SessionEvidence]) -> RealisedCost:
    """Ratio of sums with a standard error over sessions, whose fills share a market and are not independent; NaN below two sessions.

    Source: Cochran, Sampling Techniques (1977), 6.3 (ratio estimator), one-sided Student bound.
    """
    traded = np.array([session.traded for session in sessions if session.traded > 0.0])
    paid = np.array([session.paid for session in sessions if session.traded > 0.0])
    if len(traded) < 2:
        return RealisedCost(math.nan, math.nan, math.nan)
    ratio, n = float(paid.sum() / traded.sum()), len(traded)
    error = math.sqrt(n / (n - 1) * float(np.sum((paid - ratio * traded) ** 2))) / float(traded.sum())
    upper = ratio + float(student.ppf(CONFIDENCE, n - 1)) * error
    modelled = sum(session.modelled for session in sessions) / float(traded.sum())
    return RealisedCost(ratio * 1e4, upper * 1e4, modelled * 1e4)


def shortfalls(sessions: Sequence[SessionEvidence], skew: Sequence[str], limits: EvidenceLimits) -> tuple[str, ...]:
    """What is still missing or went wrong, one clause each; empty: enough. skew: why the feeds do not go together."""
    wrong = []
    fills, cost = sum(session.fills for session in sessions), realised_cost(sessions)
    if len(sessions) < limits.sessions:
        wrong.append(f"{len(sessions)} sessions of {limits.sessions}")
    if fills < limits.fills:
        wrong.append(f"{fills} fills of {limits.fills}")
    for name, found in (
        ("never compared with the batch world", [s for s in sessions if s.unexplained is None]),
        ("with an unexplained difference", [s for s in sessions if s.unexplained]),
        ("ended with an UNKNOWN order", [s for s in sessions if s.unknown]),
        ("with a break", [s for s in sessions if s.breaks]),
    ):
        if found:
            wrong.append(f"{len(found)} sessions {name}, the first {found[0].session_id}")
    wrong += [f"feeds: {text}" for text in skew]
    if not cost.upper_bps <= limits.cost_ratio * cost.modelled_bps:
        bound = f"{cost.upper_bps:.2f} bps against {cost.modelled_bps:.2f} modelled" if math.isfinite(cost.upper_bps) else "not measured"
        wrong.append(f"upper 95 % bound of the realised cost {bound}, at most {limits.cost_ratio} times")
    return tuple(wrong)


def evidence_gate(
    sessions: Sequence[SessionEvidence],
    skew: Sequence[str],
    since: int,
    storage_id: int | None,
    journal_head: str,
    limits: EvidenceLimits | None = None,
) -> dict[str, Any]:
    """Gate `operational_evidence` as the ledger keeps it.

    since: number of the ledger entry it counts from. storage_id: the newest parity materialization used, None where there is none.
    """
    used = limits or EvidenceLimits()
    wrong, cost = shortfalls(sessions, skew, used), realised_cost(sessions)
    text = "; ".join(wrong) or f"{len(sessions)} sessions, {sum(s.fills for s in sessions)} fills without an unexplained thing"
    said: dict[str, Any] = {"kind": "operational", "passed": not wrong, "text": text, "value": len(sessions), "threshold": used.sessions}
    said |= {"since": since, "journal_head": journal_head, "fills": sum(s.fills for s in sessions)}
    said |= {name: getattr(cost, name) for name in RealisedCost.__dataclass_fields__ if math.isfinite(getattr(cost, name))}
    if sessions:
        said |= {"first": sessions[0].session_id, "last": sessions[-1].session_id}
    return said if storage_id is None else {**said, "storage_id": storage_id}
