"""Where a test may kill the process: before or after the n-th commit, POST or fill push. Nothing happens unless one was asked for."""

from __future__ import annotations

import os
import signal

from trading_platform.contracts.errors import InputError

WHAT = ("commit", "post", "fill")
WHEN = ("before", "after")


class KillPoint:
    """Counts events of each kind and ends the process with SIGKILL at the one asked for (`commit:3:after`; empty = never)."""

    def __init__(self, text: str = "") -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._target: tuple[str, str] | None = None
        self._number = 0
        if text:
            what, _, rest = text.partition(":")
            number, _, when = rest.partition(":")
            if what not in WHAT or when not in WHEN or not number.isdigit() or int(number) < 1:
                raise InputError(f"{text!r} is not a kill point", "--kill-at", "write commit|post|fill:<number from 1>:before|after")
            self._target, self._number = (what, when), int(number)

    def reach(self, what: str, when: str) -> None:
        """Note that this point was reached."""
        count = self._counts[what, when] = self._counts.get((what, when), 0) + 1
        if (what, when) == self._target and count == self._number:
            os.kill(os.getpid(), signal.SIGKILL)
