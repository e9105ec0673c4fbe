"""Functions of the exchange session: what happened since its open, and at the end of the one before."""

from __future__ import annotations

from trading_platform.features.node import Expression, adj, apply


def session_sum(x: Expression) -> Expression:
    """Sum of the defined values since the session's open.

    Unit: of x. Warm-up: 0. Undefined: before the session's first defined value. Source: pandas groupby(session).cumsum().
    """
    return apply("session_sum", x)


def session_max(x: Expression) -> Expression:
    """Largest defined value since the session's open.

    Unit: of x. Warm-up: 0. Undefined: before the session's first defined value. Source: pandas groupby(session).cummax().
    """
    return apply("session_max", x)


def session_min(x: Expression) -> Expression:
    """Smallest defined value since the session's open.

    Unit: of x. Warm-up: 0. Undefined: before the session's first defined value. Source: pandas groupby(session).cummin().
    """
    return apply("session_min", x)


def session_first(x: Expression) -> Expression:
    """First defined value of the session.

    Unit: of x. Warm-up: 0. Undefined: before the session's first defined value. Source: pandas groupby(session).first().
    """
    return apply("session_first", x)


def session_previous(x: Expression) -> Expression:
    """Last defined value of the instrument's previous session.

    Unit: of x. Warm-up: 1. Undefined: before a session with a defined value has ended. Source: pandas groupby(session).last().shift(1).
    """
    return apply("session_previous", x)


def bars_since_open() -> Expression:
    """Present bars of the session before this one, 0 at the open.

    Unit: present bars. Warm-up: 0. Undefined: never in a present bar. Source: pandas groupby(session).cumcount().
    """
    return apply("bars_since_open")


def overnight() -> Expression:
    """Overnight return: session_first(adj open) / session_previous(adj close) - 1, the same in all bars of a session.

    Unit: fraction. Warm-up: 1. Undefined: in an instrument's first session. Source: Lou, Polk and Skouras, JFE 134 (2019).
    """
    return session_first(adj("open")) / session_previous(adj("close")) - 1.0
