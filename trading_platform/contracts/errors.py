"""The error tree. Each class says what its catcher must do; only command lines and the loop's edge catch them.

Every error carries what went wrong, where, and what to do about it. No error text may contain a secret.
"""

from __future__ import annotations


class TradingError(Exception):
    """Base of all errors of the platform.

    Parameters: `what` happened (with the offending value), `where` (file, asset, feature, key), `fix` (what a person does now).
    """

    exit_code = 1

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        self.what = what
        self.where = where
        self.fix = fix
        super().__init__(what, where, fix)

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"  where: {self.where}")
        if self.fix:
            parts.append(f"  fix:   {self.fix}")
        return "\n".join(parts)


class InputError(TradingError):
    """The input is wrong: fix the input and run again. Nothing was written."""

    exit_code = 2


class TransientError(TradingError):
    """The outside failed for now: retrying the same call is safe."""


class CorruptionError(TradingError):
    """Stored bytes do not match their hash or break an invariant: stop, do not repair by guessing."""


class DeniedError(TradingError):
    """Our own risk said no. `code` is a name of `contracts.checks.CheckCode`."""

    def __init__(self, code: str, what: str, where: str = "", fix: str = "") -> None:
        self.code = code
        super().__init__(what, where, fix)
