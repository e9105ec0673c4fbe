"""Operators that know the exchange session: running aggregates since the open, the previous session's last value, the bar count.

The session of a row is its day number in the panel, never a wall clock. A column's session begins with its first present bar of that
day; an instrument that joins cold in mid-session knows only what it has seen.
"""

from __future__ import annotations

from trading_platform.features.operators.kernel import NAN, Kind, Operator, Params, StateOf, StateShapes, defined, is_infinite, kernel


@kernel
def running_sum(present, session, lo, day, started, total, x, out):
    """Sum of the defined values since the open. day (S,): session of the state; started: 1 once it holds a value."""
    rows, width = x.shape
    made = 0
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            if day[c] != session[t]:
                day[c], started[c], total[c] = session[t], 0, 0.0
            v = x[t, s]
            if v == v:
                started[c] = 1
                total[c] += v
            made += is_infinite(total[c])
            out[t, s] = defined(total[c]) if started[c] else NAN
    return made


@kernel
def running_extreme(present, session, lo, day, started, best, x, side, out):
    """Largest side * x of the session so far, times side."""
    rows, width = x.shape
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            if day[c] != session[t]:
                day[c], started[c], best[c] = session[t], 0, 0.0
            v = side * x[t, s]
            if v == v and (started[c] == 0 or v > best[c]):
                started[c], best[c] = 1, v
            out[t, s] = side * best[c] if started[c] else NAN
    return 0


@kernel
def first(present, session, lo, day, started, value, x, out):
    """First defined value of the session."""
    rows, width = x.shape
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            if day[c] != session[t]:
                day[c], started[c] = session[t], 0
            v = x[t, s]
            if v == v and started[c] == 0:
                started[c], value[c] = 1, v
            out[t, s] = value[c] if started[c] else NAN
    return 0


@kernel
def previous_last(present, session, lo, day, started, last, known, previous, x, out):
    """Last defined value of the column's previous session. last, started: this session's; previous, known: the one before."""
    rows, width = x.shape
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            if day[c] != session[t]:
                day[c] = session[t]
                if started[c]:
                    previous[c], known[c], started[c] = last[c], 1, 0
            v = x[t, s]
            if v == v:
                last[c], started[c] = v, 1
            out[t, s] = previous[c] if known[c] else NAN
    return 0


@kernel
def bars_since_open(present, session, lo, day, count, out):
    """Present bars of the session before this one. count (S,): present bars so far, day (S,): their session."""
    rows, width = out.shape
    for t in range(rows):
        for s in range(width):
            c = lo + s
            if not present[t, s]:
                out[t, s] = NAN
                continue
            if day[c] != session[t]:
                day[c], count[c] = session[t], 0
            out[t, s] = count[c]
            count[c] += 1
    return 0


def _value_state(name: str) -> StateOf:
    def shapes(_: Params) -> StateShapes:
        return {"day": ((), "i8"), "started": ((), "i8"), name: ((), "f8")}

    return shapes


def _previous_state(_: Params) -> StateShapes:
    return {"day": ((), "i8"), "started": ((), "i8"), "last": ((), "f8"), "known": ((), "i8"), "previous": ((), "f8")}


def _count_state(_: Params) -> StateShapes:
    return {"day": ((), "i8"), "count": ((), "i8")}


OPERATORS = (
    Operator("session_sum", Kind.SESSION, running_sum, 1, "sum since the session's open", state=_value_state("total")),
    Operator(
        "session_max",
        Kind.SESSION,
        running_extreme,
        1,
        "largest value since the session's open",
        extra=lambda _: (1.0,),
        state=_value_state("best"),
    ),
    Operator(
        "session_min",
        Kind.SESSION,
        running_extreme,
        1,
        "smallest value since the session's open",
        extra=lambda _: (-1.0,),
        state=_value_state("best"),
    ),
    Operator("session_first", Kind.SESSION, first, 1, "first defined value of the session", state=_value_state("value")),
    Operator(
        "session_previous",
        Kind.SESSION,
        previous_last,
        1,
        "last defined value of the previous session",
        state=_previous_state,
        warm_up=lambda _: 1,
    ),
    Operator("bars_since_open", Kind.SESSION, bars_since_open, 0, "present bars of the session before this one", state=_count_state),
)
