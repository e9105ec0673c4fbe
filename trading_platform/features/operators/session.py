"""Operators that know the exchange session: running aggregates since the open, the previous session's last value, the bar count.

The session of a row is its day number in the panel, never a wall clock. A column's session begins with its first present bar of that
day (`opens`); an instrument that joins cold in mid-session knows only what it has seen. A session without a defined value is no previous
session.
"""

from __future__ import annotations

from trading_platform.features.operators.kernel import NAN, Kind, Operator, defined, is_infinite, kernel


@kernel
def running_sum(present, opens, lo, state, x, out):
    """Sum of the defined values since the open. state: the sum; 1 once it holds a value."""
    rows, width = x.shape
    total, started, made = state[0, lo : lo + width], state[1, lo : lo + width], 0
    for t in range(rows):
        for s in range(width):
            if opens[t, s]:
                total[s], started[s] = 0.0, 0.0
            v = x[t, s]
            if v == v:
                total[s] += v
                started[s] = 1.0
            known = present[t, s] and started[s] > 0.0
            made += is_infinite(total[s]) if known else 0
            out[t, s] = defined(total[s]) if known else NAN
    return made


@kernel
def running_extreme(present, opens, lo, state, x, side, out):
    """Largest side * x of the session so far, times side. state: side * the extreme, NaN before the first defined value."""
    rows, width = x.shape
    best = state[0, lo : lo + width]
    for t in range(rows):
        for s in range(width):
            v, old = side * x[t, s], NAN if opens[t, s] else best[s]
            best[s] = old if old >= v or v != v else v
            out[t, s] = side * best[s] if present[t, s] else NAN
    return 0


@kernel
def first(present, opens, lo, state, x, out):
    """First defined value of the session. state: that value, NaN before it."""
    rows, width = x.shape
    value = state[0, lo : lo + width]
    for t in range(rows):
        for s in range(width):
            old = NAN if opens[t, s] else value[s]
            value[s] = old if old == old else x[t, s]
            out[t, s] = value[s] if present[t, s] else NAN
    return 0


@kernel
def previous_last(present, opens, lo, state, x, out):
    """Last defined value of the column's previous session. state: this session's last value, the previous session's (NaN: none)."""
    rows, width = x.shape
    last, previous = state[0, lo : lo + width], state[1, lo : lo + width]
    for t in range(rows):
        for s in range(width):
            if opens[t, s] and last[s] == last[s]:
                previous[s], last[s] = last[s], NAN
            v = x[t, s]
            last[s] = v if v == v else last[s]
            out[t, s] = previous[s] if present[t, s] else NAN
    return 0


@kernel
def bars_since_open(present, opens, lo, state, out):
    """Present bars of the session before this one. state: present bars of the session so far."""
    rows, width = out.shape
    count = state[0, lo : lo + width]
    for t in range(rows):
        for s in range(width):
            if opens[t, s]:
                count[s] = 0.0
            out[t, s] = count[s] if present[t, s] else NAN
            count[s] += 1.0 if present[t, s] else 0.0
    return 0


OPERATORS = (
    Operator("session_sum", Kind.SESSION, running_sum, 1, "sum since the session's open", cold=lambda _: (0.0, 0.0)),
    Operator(
        "session_max",
        Kind.SESSION,
        running_extreme,
        1,
        "largest value since the session's open",
        extra=lambda _: (1.0,),
        cold=lambda _: (NAN,),
    ),
    Operator(
        "session_min",
        Kind.SESSION,
        running_extreme,
        1,
        "smallest value since the session's open",
        extra=lambda _: (-1.0,),
        cold=lambda _: (NAN,),
    ),
    Operator("session_first", Kind.SESSION, first, 1, "first defined value of the session", cold=lambda _: (NAN,)),
    Operator(
        "session_previous",
        Kind.SESSION,
        previous_last,
        1,
        "last defined value of the previous session",
        cold=lambda _: (NAN, NAN),
        warm_up=lambda _: 1,
    ),
    Operator("bars_since_open", Kind.SESSION, bars_since_open, 0, "present bars of the session before this one", cold=lambda _: (0.0,)),
)
