"""The simulated searches behind docs/benchmarks/gates_power.md, at a size of seconds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import gates_power as power
from trading_platform.research.thresholds import Thresholds

FLAT, CORRELATED, HEAVY = power.WORLDS


def through(yearly: float, limits: Thresholds, runs: int = 12) -> int:
    return sum(one.through for one in power.searches(FLAT, yearly, runs, 1000, 30, limits))


def test_noise_stays_out_skill_gets_in_and_without_dsr_and_pbo_noise_gets_in_too() -> None:
    limits = Thresholds()
    assert through(0.0, limits) == 0 and through(3.5, limits) >= 8
    assert through(0.0, replace(limits, dsr=0.0, pbo=1.0)) >= 3


def test_searches_are_the_same_for_the_same_seed_and_say_which_strategy_was_submitted() -> None:
    one, again = (power.searches(FLAT, 3.0, 4, 400, 30, Thresholds()) for _ in range(2))
    assert one == again and sum(each.planted for each in one) >= 3
    assert {"dsr", "pbo", "beats_nulls"} <= set(one[0].passed) and "seed_win_rate" in one[0].seed


@pytest.mark.parametrize("world", power.WORLDS, ids=lambda world: world.name)
def test_drawn_returns_are_what_the_world_says(world: power.World) -> None:
    drawn = power.draw(world, np.random.default_rng(5), 20_000, 6)
    between = np.corrcoef(drawn.T)[np.triu_indices(6, 1)]
    assert np.allclose(drawn.std(axis=0), 1.0, atol=0.15) and abs(between.mean() - world.correlation) < 0.03
    assert (np.abs(drawn).max() > 7.0) == (world.tails > 0)


def test_intervals_are_clopper_and_pearsons() -> None:
    assert power.interval(0, 400) == (0.0, pytest.approx(1 - 0.025 ** (1 / 400)))
    assert power.interval(184, 200) == (pytest.approx(0.8733, abs=2e-3), pytest.approx(0.9536, abs=2e-3))
    assert power.interval(5, 5)[1] == 1.0
    assert (
        "**missed**" in power.meets(0.0, 5, 400) and "**met**" in power.meets(3.0, 160, 200) and "**missed**" in power.meets(3.0, 159, 200)
    )
