"""Strategies: from alphas to the wish to hold. One exists: the cross-sectional long/flat sleeve (profile.Strategy)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

import trading_platform.kernel_cache  # noqa: F401  (names the cache folder before the first kernel)
from trading_platform.features.operators.cross_section import rank


@njit(cache=True, nogil=True)
def _latch(ranks: np.ndarray, entry: float, exit_: float, latched: np.ndarray, held: np.ndarray) -> None:
    for t in range(ranks.shape[0]):
        for s in range(ranks.shape[1]):
            value = ranks[t, s]
            if value >= entry:
                latched[s] = True
            elif value < exit_:  # false for NaN: an instrument without a rank keeps its latch
                latched[s] = False
            held[t, s] = latched[s]


def long_flat(
    alpha: NDArray[np.float64], member: NDArray[np.bool_], entry_rank: float, exit_rank: float, latched: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Hold the best: bool (T, S), and `latched` bool (S,) advanced in place.

    alpha: float64 (T, S), NaN undefined. Each row's defined alphas of members are ranked (average rank / count, best 1, T3); an instrument
    latches on at rank >= entry_rank and off below exit_rank; without a rank (absent, undefined, not a member) it keeps its latch.
    """
    ranks = np.empty(alpha.shape)
    rank(member, np.ascontiguousarray(alpha), ranks)
    held = np.empty(alpha.shape, np.bool_)
    _latch(ranks, entry_rank, exit_rank, latched, held)
    return held
