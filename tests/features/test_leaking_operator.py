"""A kernel that looks ahead cannot be written with the algebra's words; one written by hand is caught whatever it hides behind."""

from __future__ import annotations

import numpy as np
import pytest
from feature_panels import clean_panel

from trading_platform.features.expression import Expression, adj, cs_rank, mean, pct_change
from trading_platform.features.operators.kernel import Kind, Operator, kernel
from trading_platform.features.operators.table import OPERATORS
from trading_platform.features.program import FeatureSet
from trading_platform.features.proof import Proof

PANEL = clean_panel(3, 420, 6)


@kernel
def peek(present, opens, lo, state, x, out):
    """The value of the next row of the block."""
    rows, width = x.shape
    for t in range(rows):
        for s in range(width):
            out[t, s] = x[t + 1, s] if t + 1 < rows else x[t, s]
    return 0


@kernel
def centre(present, opens, lo, state, x, out):
    """The value less the mean of the whole block: what a scaler fitted on everything does."""
    rows, width = x.shape
    for s in range(width):
        total, count = 0.0, 0
        for t in range(rows):
            if x[t, s] == x[t, s]:
                total += x[t, s]
                count += 1
        for t in range(rows):
            out[t, s] = x[t, s] - total / max(count, 1)
    return 0


@pytest.mark.parametrize("planted", [peek, centre])
def test_a_kernel_that_looks_ahead_is_found_behind_other_operators(monkeypatch: pytest.MonkeyPatch, planted: object) -> None:
    monkeypatch.setitem(OPERATORS, "planted", Operator("planted", Kind.SESSION, planted, 1, "looks ahead"))  # type: ignore[arg-type]
    returns = pct_change(adj("close"), 1)
    ahead = Expression("planted", (returns,))
    chosen = FeatureSet("leaks", "test", {"honest": mean(returns, 5), "hidden": cs_rank(mean(ahead, 3)), "plain": ahead})
    proof = Proof(chosen, PANEL)
    for check in ("causal", "chunks"):
        verdict = proof.run(check, np.random.default_rng(2))
        assert verdict.passed is False and {f.feature for f in verdict.findings} == {"hidden", "plain"}, check
