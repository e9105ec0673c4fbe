"""Timing: contenders take turns, so that whatever else the machine does hits all of them; a figure is the median of the turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.peers.program import timed

REST_S = 0.5
Turn = Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Times:
    """Seconds of each turn: wall, CPU (all threads, all children), and the samples of single rows where a turn took them."""

    walls: tuple[float, ...]
    cpus: tuple[float, ...]
    samples: tuple[float, ...]

    @property
    def wall(self) -> float:
        """Median wall seconds of a turn."""
        return statistics.median(self.walls)

    @property
    def cpu(self) -> float:
        """Median CPU seconds of a turn."""
        return statistics.median(self.cpus)

    def quantile(self, q: float) -> float:
        """The q-th of the samples, the next larger one (seconds)."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))]


def ours(call: Callable[[], list[float] | None]) -> Turn:
    """A contender in this process."""
    return lambda: timed(call)


def take_turns(contenders: Mapping[str, Turn], runs: int) -> dict[str, Times]:
    """One warm-up turn each, then `runs` rounds; every round starts with another contender.

    Before each turn the machine rests: a frame library gives its memory back in the background, which would cost whoever comes next.
    """
    names = list(contenders)
    for name in names:
        contenders[name]()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(runs):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            time.sleep(REST_S)
            found[name].append(contenders[name]())
    return {
        name: Times(
            tuple(one["wall"] for one in results),
            tuple(one["cpu"] for one in results),
            tuple(second for one in results for second in one["samples"] or ()),
        )
        for name, results in found.items()
    }
