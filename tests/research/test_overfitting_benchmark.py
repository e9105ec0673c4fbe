"""The benchmark at a size of seconds: both sides agree before they are timed, and a difference stops it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import overfitting as page
from trading_platform.research import overfitting as of


def test_the_quick_page_has_all_of_its_tables() -> None:
    text = "\n".join(page.page(quick=True))
    assert "160 x 8 returns, S = 8: 70 splits" in text and text.count("| concatenated |") == 1
    assert "| standard deviation |" in text and "| 100 |" in text and "Effective number of 20 trials" in text


def test_concatenated_splits_leave_out_the_oldest_rows_as_ours_do() -> None:
    returns = page.noise(3, 85, 5)
    ours = of.cross_validate(returns, 8).logit
    np.testing.assert_allclose(np.sort(page.concatenated(returns, 8)), np.sort(ours), rtol=1e-12)


def test_a_difference_stops_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "concatenated", lambda returns, blocks: of.cross_validate(returns, blocks).logit + 1e-6)
    with pytest.raises(SystemExit, match="differ by up to"):
        page.splits_page(64, 4, 4, 1)


def test_the_chain_that_is_timed_is_a_sound_one(tmp_path: Path) -> None:
    chain = page.chain_of(tmp_path / "chain.jsonl", 20)
    assert len(chain.records()) == 20 and chain.append({"scope": "s"})["seq"] == 21
