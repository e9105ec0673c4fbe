"""Operational evidence: what is enough, and that each shortfall refuses by name (T26)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from trading_platform.registry.operational_evidence import SessionEvidence, evidence_gate, realised_cost

GOOD = SessionEvidence("demo/paper/2014-01-02/1", 10, 0, 0, 0, paid=30.0, modelled=30.0, traded=100_000.0, pnl=1.0)


def sessions(count: int = 20, **changes: float | int | None) -> list[SessionEvidence]:
    found = [replace(GOOD, session_id=f"demo/paper/2014-01-{day + 1:02d}/1") for day in range(count)]
    found[3] = replace(found[3], **changes)  # type: ignore[arg-type]
    return found


def test_twenty_clean_sessions_with_two_hundred_fills_are_enough() -> None:
    gate = evidence_gate(sessions(), (), 3, 17, "h" * 64)
    assert gate["passed"] is True and gate["since"] == 3 and gate["storage_id"] == 17 and gate["fills"] == 200
    assert gate["first"].endswith("2014-01-01/1") and gate["last"].endswith("2014-01-20/1")


@pytest.mark.parametrize(
    "found, skew, why",
    [
        (sessions(19), (), "19 sessions of 20"),
        (sessions(fills=9), (), "199 fills of 200"),
        (sessions(unexplained=None), (), "1 sessions never compared with the batch world, the first demo/paper/2014-01-04/1"),
        (sessions(unexplained=1), (), "with an unexplained difference"),
        (sessions(unknown=1), (), "ended with an UNKNOWN order"),
        (sessions(breaks=1), (), "with a break"),
        (sessions(), ("flips 3 % of the decisions",), "feeds: flips 3 %"),
        ([replace(one, paid=46.0) for one in sessions()], (), "upper 95 % bound of the realised cost 4.60 bps against 3.00 modelled"),
        ([replace(one, traded=0.0) for one in sessions()], (), "realised cost not measured"),
        ([], (), "0 sessions of 20"),
    ],
)
def test_each_shortfall_refuses_by_name(found: list[SessionEvidence], skew: tuple[str, ...], why: str) -> None:
    gate = evidence_gate(found, skew, 3, None, "")
    assert gate["passed"] is False and why in gate["text"] and "storage_id" not in gate


def test_costs_that_only_look_cheap_on_average_are_refused_by_their_bound() -> None:
    """A mean of 1.33 times the model whose sessions scatter: the point is inside 1.5 times, the bound is not."""
    wild = [replace(one, paid=40.0 + (60.0 if number % 2 else -60.0)) for number, one in enumerate(sessions())]
    assert realised_cost(wild).paid_bps == pytest.approx(4.0)
    assert evidence_gate(wild, (), 1, 1, "")["passed"] is False
    assert evidence_gate([replace(one, paid=40.0) for one in sessions()], (), 1, 1, "")["passed"] is True


def test_the_bound_holds_the_true_cost_as_often_as_it_says() -> None:
    """4,000 sets of 20 sessions of unequal size: the one-sided 95 % bound covers the true 4 bps in about 95 % of them."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(4000):
        traded = rng.uniform(5e4, 1.5e5, 20)
        paid = traded * (4e-4 + rng.normal(0.0, 2e-4, 20))
        made = [replace(GOOD, paid=float(p), traded=float(v)) for p, v in zip(paid, traded, strict=True)]
        covered += realised_cost(made).upper_bps >= 4.0
    assert 0.93 <= covered / 4000 <= 0.97


def test_the_bound_on_numbers_worked_out_by_hand() -> None:
    """Two sessions, 100 of 10,000 and 300 of 10,000: ratio 200 bps, deviations -100 and +100, error sqrt(2 x 20000) / 20000 = 0.01."""
    made = [replace(GOOD, paid=100.0, traded=1e4), replace(GOOD, paid=300.0, traded=1e4)]
    found = realised_cost(made)
    assert found.paid_bps == pytest.approx(200.0) and found.upper_bps == pytest.approx(200.0 + 6.313751515 * 100.0)
