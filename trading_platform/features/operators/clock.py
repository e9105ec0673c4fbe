"""Operators that know the time of a row: windows in wall-clock minutes, the minute of the session, the same minute of other sessions.

A row's grid step is its timestamp divided by the timeframe. Steps that lie between two rows had no bar of any instrument; they take their
place in a wall-clock window as empty ones. The session's minutes count from its first row, whichever instrument opened it.
"""

from __future__ import annotations

from trading_platform.features.operators.kernel import LARGEST, NAN, Kind, Operator, Params, defined, is_infinite, kernel
from trading_platform.features.operators.rolling_moments import close_sums


@kernel
def take_step(state, lo, hi, p, n):
    """Add what stands at place p of the ring to the current block, which begins at place 0."""
    cells, running = state[p, lo:hi], state[n + 1, lo:hi]
    for s in range(running.size):
        running[s] = cells[s] if p == 0 else running[s] + cells[s]


@kernel
def sum_over(present, minutes, steps, lo, state, x, n, out):
    """Sum of the defined values of the last n grid steps; every column stands at the step's place.

    state: as of rolling_moments.sums, then what an empty step holds: NaN before the column's first bar, 0 from it on. Twice n empty steps
    clear all that was.
    """
    rows, width = x.shape
    hi, made, empty = lo + width, 0, state[n + 2, lo : lo + width]
    for t in range(rows):
        now, values, here, result = steps[t + 1], x[t], present[t], out[t]
        for step in range(max(steps[t] + 1, now - 2 * n), now + 1):
            p = step % n
            cells = state[p, lo:hi]
            if step == now:
                for s in range(width):
                    empty[s] = 0.0 if here[s] else empty[s]
                for s in range(width):
                    cells[s] = values[s] if values[s] == values[s] else empty[s]
            else:
                cells[:] = empty
            take_step(state, lo, hi, p, n)
            if step == now:
                suffix, running = state[p + 1, lo:hi], state[n + 1, lo:hi]
                for s in range(width):
                    v = suffix[s] + running[s]
                    made += is_infinite(v) & here[s]
                    result[s] = defined(v) if here[s] else NAN
            if p + 1 == n:
                close_sums(state, lo, hi, n)
    return made


@kernel
def minute_of_session(present, minutes, steps, lo, state, out):
    """Minutes from the session's first row to this one."""
    for t in range(out.shape[0]):
        for s in range(out.shape[1]):
            out[t, s] = minutes[t] if present[t, s] else NAN
    return 0


@kernel
def same_minute_mean(present, minutes, steps, lo, state, x, n, slots, weight, out):
    """Exponential mean of x at this minute of earlier sessions. state: a mean for each of `slots` minutes, then how many made it (<= n)."""
    rows, width = x.shape
    slots, made = int(slots), 0
    for t in range(rows):
        slot = min(int(minutes[t]), slots - 1)
        means, counts = state[slot, lo : lo + width], state[slots + slot, lo : lo + width]
        for s in range(width):
            v, k = x[t, s], counts[s]
            out[t, s] = means[s] if present[t, s] and k > 0.0 else NAN
            new = means[s] + (weight if k >= n else 1.0 / (k + 1.0)) * (v - means[s])
            made += is_infinite(new)
            if abs(new) <= LARGEST:
                means[s], counts[s] = new, min(k + 1.0, float(n))
    return made


def _sum_state(params: Params) -> tuple[float, ...]:
    return (NAN,) * int(params["n"]) + (0.0, NAN, NAN)


def _minute_state(params: Params) -> tuple[float, ...]:
    return (0.0,) * (2 * int(params["slots"]))


OPERATORS = (
    Operator(
        "sum_over",
        Kind.CLOCK,
        sum_over,
        1,
        "sum of the defined values of the last n grid steps (wall clock)",
        ("n",),
        cold=_sum_state,
        warm_up=lambda params: int(params["n"]) - 1,
    ),
    Operator("minute_of_session", Kind.CLOCK, minute_of_session, 0, "minutes since the session's first row"),
    Operator(
        "same_minute_mean",
        Kind.CLOCK,
        same_minute_mean,
        1,
        "exponential mean of weight 2 / (n + 1) of x at this minute of earlier sessions",
        ("n", "slots"),
        extra=lambda params: (2.0 / (params["n"] + 1.0),),
        cold=_minute_state,
        warm_up=lambda _: 1,
    ),
)
