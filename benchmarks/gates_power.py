"""What the statistical gates let through: simulated searches of 50 configurations, one of them with a stated true Sharpe ratio.

usage: python -m benchmarks.gates_power [--quick] [--markdown FILE]
Each repetition searches as a person does: 50 configurations are run, the one with the best Sharpe ratio is submitted, and the platform's
own `gates.statistical_gates` judge it. At a true Sharpe ratio of 0 all 50 are noise. The page says how costs, delay, nulls are simulated.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from benchmarks import report
from trading_platform.research import gates, metrics, overfitting
from trading_platform.research.nulls import NullComparison
from trading_platform.research.thresholds import Thresholds
from trading_platform.research.trials import TrialCount

Array = NDArray[np.float64]
PERIODS = 252.0
VOLATILITY = 0.10  # a year, of every configuration
COST_SHARPE = 0.5  # annual Sharpe ratio that the modelled costs take; at twice the costs they take as much again
DELAY_KEEPS = 0.8  # of the expected return, one row later
DELAY_CORRELATION = 0.9
LEVELS = (0.0, 1.0, 1.5, 2.0, 2.5, 3.0)
NOISE_MUST, SKILL_MUST = 0.01, 0.80


@dataclass(frozen=True)
class World:
    """How returns are drawn. correlation: of any two configurations; tails: degrees of freedom of Student's t, 0 for a normal."""

    name: str
    correlation: float = 0.0
    tails: int = 0


WORLDS = (World("independent, normal"), World("correlated by 0.5, normal", 0.5), World("independent, Student t(4)", 0.0, 4))


@dataclass(frozen=True)
class Submission:
    """One search: whether the strategy with the true Sharpe ratio was submitted, and what each gate said; the seed's bind nothing."""

    planted: bool
    passed: dict[str, bool]
    seed: dict[str, bool]

    @property
    def through(self) -> bool:
        """Every statistical gate passed."""
        return all(self.passed.values())


def draw(world: World, rng: np.random.Generator, rows: int, count: int) -> Array:
    """Unit-variance noise (rows, count)."""

    def unit(width: int) -> Array:
        if not world.tails:
            return rng.standard_normal((rows, width))
        return np.asarray(rng.standard_t(world.tails, (rows, width)) / math.sqrt(world.tails / (world.tails - 2)))

    return np.asarray(math.sqrt(1.0 - world.correlation) * unit(count) + math.sqrt(world.correlation) * unit(1))


def nulls_of(returns: Array, rng: np.random.Generator, limits: Thresholds) -> NullComparison:
    """Populations of nulls without costs (so harder to beat than real ones), and a market and a momentum that explain nothing.

    The rank IC stands in for by the Sharpe ratio per period: both are a mean over the same rows in units of its noise.
    """
    rows = returns.size
    random, shuffled = (rng.standard_normal(limits.null_runs) / math.sqrt(rows) for _ in range(2))
    factors = rng.standard_normal((rows, 2)) * 0.01 + 0.0003
    own, year = metrics.sharpe(returns), math.sqrt(PERIODS)
    high = [float(np.quantile(population, 0.95)) for population in (random, shuffled)]
    intercept = metrics.hac_intercept_t(returns, factors)[1]
    scaled = (own * year, high[0] * year, high[1] * year)
    return NullComparison(own, high[0], limits.null_runs, 0.0, high[1], limits.null_runs, intercept, *scaled)


def search(world: World, yearly: float, rng: np.random.Generator, rows: int, count: int, limits: Thresholds) -> Submission:
    """Draw a search, submit its best configuration, judge it."""
    scale = VOLATILITY / math.sqrt(PERIODS)
    noise = draw(world, rng, rows, count)
    mean = np.zeros(count)
    mean[0] = yearly / math.sqrt(PERIODS)
    found = (noise + mean) * scale
    ratios = found.mean(axis=0) / found.std(axis=0, ddof=1)
    best = int(np.argmax(ratios))
    returns = found[:, best]
    drag = COST_SHARPE / math.sqrt(PERIODS) * scale
    late = DELAY_CORRELATION * noise[:, best] + math.sqrt(1.0 - DELAY_CORRELATION**2) * rng.standard_normal(rows)
    evidence = gates.Statistical(
        returns=returns,
        stressed=returns - drag,
        delayed=(late + DELAY_KEEPS * mean[best]) * scale,
        periods=PERIODS,
        trials=TrialCount(count, 0, max(float(np.var(ratios, ddof=1)), 1.0 / (rows - 1))),
        effective_bets=rows * 5.0,
        nulls=nulls_of(returns, rng, limits),
        sessions=rows,
        names_left=0.02,
        pbo=gates.Overfitting(overfitting.probability_of_overfitting(found, limits.pbo_blocks), count, limits.pbo_blocks, 0.0, 1.0),
        capacity=1e9,
        capital=1e6,
        win_rate=metrics.hit_rate(returns),
    )
    judged, seeds = gates.statistical_gates(evidence, limits), gates.seed_gates(evidence, limits)
    said = {gate.name: gate.passed is True for gate in seeds if gate.passed is not None}
    return Submission(best == 0, {gate.name: gate.passed is True for gate in judged}, said)


def interval(hits: int, runs: int) -> tuple[float, float]:
    """95 % interval of a share by Clopper and Pearson."""
    low = float(beta.ppf(0.025, hits, runs - hits + 1)) if hits else 0.0
    return low, float(beta.ppf(0.975, hits + 1, runs - hits)) if hits < runs else 1.0


def share(hits: int, runs: int) -> str:
    """A pass rate with its interval."""
    low, high = interval(hits, runs)
    return f"{hits / runs:.1%} [{low:.1%}, {high:.1%}]"


def searches(world: World, yearly: float, runs: int, rows: int, count: int, limits: Thresholds, seed: int = 7) -> list[Submission]:
    """`runs` independent searches, the same for the same seed."""
    sequence = np.random.SeedSequence([seed, WORLDS.index(world), round(yearly * 100)])
    return [search(world, yearly, np.random.default_rng(child), rows, count, limits) for child in sequence.spawn(runs)]


def meets(yearly: float, hits: int, runs: int) -> str:
    """The issue's two demands; nothing in between."""
    if yearly == LEVELS[0]:
        return f"at most {NOISE_MUST:.0%}: {report.verdict(hits <= NOISE_MUST * runs)}"
    return f"at least {SKILL_MUST:.0%}: {report.verdict(hits >= SKILL_MUST * runs)}" if yearly == LEVELS[-1] else ""


def page(runs: dict[float, int], others: int, rows: int, count: int) -> list[str]:
    """Run every search and tell. runs: repetitions at each level of the first world; others: of the other worlds' ends."""
    limits = Thresholds()
    found: list[list[object]] = []
    each: list[dict[str, str]] = []
    for world in WORLDS:
        levels = runs if world is WORLDS[0] else {LEVELS[0]: others, LEVELS[-1]: others}
        for yearly, number in levels.items():
            made = searches(world, yearly, number, rows, count, limits)
            through = sum(one.through for one in made)
            luck = sum(one.through and not one.planted for one in made) if yearly else 0
            found.append([world.name, f"{yearly:g}", number, share(through, number), luck, meets(yearly, through, number)])
            if world is WORLDS[0]:
                alone = [one.passed | one.seed for one in made]
                each.append({"true Sharpe": f"{yearly:g}", **{f"`{n}`": f"{np.mean([o[n] for o in alone]):.1%}" for n in alone[0]}})
            sys.stderr.write(f"{world.name}, {yearly:g}: {through} of {number}\n")
    told = (
        f"{count} configurations, {rows:,} sessions; the best one is submitted; thresholds `{limits.hash[:16]}`. Annual volatility "
        f"{VOLATILITY:.0%}. The stated Sharpe ratio is annual, true, and net of costs that take {COST_SHARPE:g} of Sharpe ratio; at twice "
        f"the costs they take as much again; one row later {DELAY_KEEPS:.0%} of the expected return are left, at a correlation of "
        f"{DELAY_CORRELATION:g}. {limits.null_runs} random and as many shuffled runs pay no costs. Capacity and effective bets are facts "
        "about a market, not chances: here they are in order."
    )
    heads = ("returns", "true annual net Sharpe", "searches", "through every statistical gate [95 %]", "of these worthless", "")
    alone = report.table(list(each[0]), [list(row.values()) for row in each])
    seeds = "Each gate alone, in the first world. The last three are the seed's own numbers, which bind nothing; trades here are days:"
    return [told, "", *report.table(heads, found), "", seeds, "", *alone]


def main() -> None:
    """Print the tables; optionally write them."""
    given = report.parser(__doc__).parse_args()
    started = report.machine()
    lines = (
        page(dict.fromkeys(LEVELS, 10), 4, 1000, 50) if given.quick else page({0.0: 400, **dict.fromkeys(LEVELS[1:], 200)}, 200, 1000, 50)
    )
    report.publish("Power of the gates", "gates_power", lines, given, started)


if __name__ == "__main__":
    main()
