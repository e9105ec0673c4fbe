"""What the runner does when a person, or a guard, gives a command: journal it, latch, act, copy to Redis (T17, I7)."""

from __future__ import annotations

from pathlib import Path

from live_runner.control import (
    ACCOUNT,
    CONFIRM,
    FLATTEN,
    HANDS_ON,
    LEVELS,
    RESUME,
    ROLLBACK,
    STAGE,
    STOP,
    CommandFolder,
    new_command,
    next_level,
)
from live_runner.desk import Desk
from live_runner.fold import Fold
from live_runner.recorder import Recorder
from live_runner.shared_state import SharedState
from live_runner.swap import Swapper
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.checks import KillLevel
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import Kind
from trading_platform.contracts.orders import Command, Leg

GUARD = "guard"


class Operator:
    """Carries out commands of the folder beside the journal. `stop` is set once someone asked the process to end."""

    def __init__(
        self,
        journal: Path,
        slot: str,
        fold: Fold,
        recorder: Recorder,
        desk: Desk,
        swapper: Swapper,
        shared: SharedState,
        calendar: MarketCalendar,
    ) -> None:
        self._folder = CommandFolder(journal)
        self._slot = slot
        self._fold = fold
        self._recorder = recorder
        self._desk = desk
        self._swapper = swapper
        self._shared = shared
        self._calendar = calendar
        self.stop = False

    async def read(self) -> None:
        """Carry out every waiting command; a file goes only after its record is on disk."""
        for file, command in self._folder.waiting():
            if command is None:
                await self._recorder.note(Kind.BREAK, "command", {"what": f"{file.name} is no command"})
            elif command.command_id not in self._fold.commands:
                await self.carry_out(command)
            file.unlink()

    async def carry_out(self, command: Command) -> None:
        """One command. A refused one is journaled with the reason and does nothing."""
        try:
            level = next_level(self._fold.level, command)
        except InputError as error:
            body = {name: getattr(command, name) for name in Command.__dataclass_fields__}
            await self._recorder.note(Kind.COMMAND, command.command_id, {**body, "refused": error.what})
            return
        entries = [self._recorder.entry(Kind.COMMAND, command.command_id, command)]
        if command.name in LEVELS or command.name == RESUME:
            body = {"level": level.name, "by": command.by, "reason": command.reason, "command_id": command.command_id}
            entries.append(self._recorder.entry(Kind.LATCH, level.name, body))
        await self._recorder.record(*entries)
        await self._shared.write_kill_level(self._fold.level)
        await self._enforce(command)

    async def _enforce(self, command: Command) -> None:
        arguments = dict(command.arguments)
        if command.name in LEVELS:
            await self._desk.withdraw()
        if command.name == FLATTEN and arguments.get("scope") == ACCOUNT:
            await self._desk.cancel_foreign()
        elif command.name == RESUME:
            await self._desk.cancel([order for order in self._fold.book.open_orders() if order.intent.leg is Leg.FLATTEN])
            await self._desk.protect()
        elif command.name == STAGE:
            label, bundle_id = arguments.get("label", ""), arguments.get("bundle_id") or None
            await self._shared.call(lambda: self._shared.slots.stage(self._slot, label, bundle_id), None)
        elif command.name == ROLLBACK:
            await self._swapper.roll_back(command.by, command.reason, self._next_session())
        elif command.name == CONFIRM:
            self._swapper.confirmed.add(arguments.get("label", ""))
        elif command.name == STOP:
            self.stop = True
        elif command.name == HANDS_ON:
            await self._desk.protect()

    def _next_session(self) -> int:
        now_day = self._desk.now() // 86_400_000_000_000
        return self._calendar.next_session(self._fold.session if self._fold.session >= 0 else now_day)

    async def latch_at_least(self, level: KillLevel, reason: str) -> None:
        """Latch `level` for a guard, at most REDUCE, unless one as high is latched already. A guard never flattens (T17)."""
        wanted = min(level, KillLevel.REDUCE)
        if wanted <= self._fold.level:
            return
        name = {each: name for name, each in LEVELS.items()}[wanted]
        await self.carry_out(new_command(name, GUARD, reason, self._desk.now()))
