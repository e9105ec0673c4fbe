"""Operators' commands and the kill switch: three latched levels, released only by a confirmed command (T17, I7).

Commands arrive as files in a folder beside the journal, so they work while Redis, the API or the runner itself is down: a `halt` given to
a stopped runner is the first thing its next start reads.
"""

from __future__ import annotations

import os
import re
import uuid
from pathlib import Path

from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.errors import InputError, TradingError
from trading_platform.contracts.orders import Command

HALT, REDUCE, FLATTEN, RESUME = "halt", "reduce", "flatten", "resume"
STAGE, ROLLBACK, CONFIRM, HANDS_ON, ADOPT, STOP = "swap_stage", "swap_rollback", "swap_confirm", "hands_on", "adopt", "stop"
COMMANDS = (HALT, REDUCE, FLATTEN, RESUME, STAGE, ROLLBACK, CONFIRM, HANDS_ON, ADOPT, STOP)
LEVELS = {HALT: KillLevel.HALT_NEW, REDUCE: KillLevel.REDUCE, FLATTEN: KillLevel.FLATTEN}
OURS, ACCOUNT = SCOPES = ("ours", "account")  # whose orders a flatten cancels
GUARD = "runner"  # who swaps and latches where no person asked
NAME = re.compile(r"^[\w .@-]{1,64}$")


def new_command(name: str, by: str, reason: str, at: int, **arguments: str) -> Command:
    """A command with a fresh id. InputError where nobody signs it or it is unknown."""
    if name not in COMMANDS:
        raise InputError(f"unknown command {name!r}", "live_runner.control", f"use one of {', '.join(COMMANDS)}")
    if not NAME.match(by):
        raise InputError(f"{by!r} is no operator's name", "--by", "give a name of up to 64 letters")
    return Command(str(uuid.uuid4()), name, by, reason, at, tuple(sorted(arguments.items())))


def next_level(level: KillLevel, command: Command) -> KillLevel:
    """The kill level after a command. Levels only rise; `resume` must name the level it releases, otherwise InputError."""
    if command.name in LEVELS:
        return max(level, LEVELS[command.name])
    if command.name == RESUME:
        confirmed = dict(command.arguments).get("confirm", "")
        if level is not KillLevel.NONE and confirmed != level.name:
            raise InputError(
                f"resume confirms {confirmed or 'nothing'!r}, latched is {level.name}", "kill switch", f"repeat with --confirm {level.name}"
            )
        return KillLevel.NONE
    return level


def command_of(body: dict[str, object]) -> Command:
    """The command of its canonical form."""
    pairs = tuple((str(k), str(v)) for k, v in body["arguments"])  # type: ignore[attr-defined]
    return Command(str(body["command_id"]), str(body["name"]), str(body["by"]), str(body["reason"]), int(str(body["at"])), pairs)


class CommandFolder:
    """The folder through which commands reach a runner; files appear whole and are removed after their commit."""

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_suffix(".commands")

    def submit(self, command: Command) -> Path:
        """Leave a command for the runner."""
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / f"{command.at:020d}-{command.command_id}.json"
        temporary = file.with_suffix(".tmp")
        with temporary.open("wb") as handle:
            handle.write(canonical_bytes(command))
            handle.flush()
            os.fsync(handle.fileno())
        temporary.rename(file)
        return file

    def waiting(self) -> list[tuple[Path, Command | None]]:
        """Commands in the order they were given; None where a file is not one."""
        found: list[tuple[Path, Command | None]] = []
        for file in sorted(self.path.glob("*.json")) if self.path.is_dir() else ():
            try:
                found.append((file, command_of(parse(file.read_bytes()))))
            except (TradingError, KeyError, TypeError, ValueError):
                found.append((file, None))  # reported by the runner, which journals it as a break
        return found
