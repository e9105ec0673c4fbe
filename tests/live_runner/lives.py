"""Process lives of a runner for crash tests: a child ends by SIGKILL at its kill point, or plays to the end."""

from __future__ import annotations

import asyncio
import faulthandler
import multiprocessing
from typing import Any

from live_runner.journal import Entry
from live_runner.recorder import Recorder
from live_runner.runner import Runner
from live_runner.settings import RunnerSettings
from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.journal import Kind, Record

LIFE_S = 40.0
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["warm", "lives"])


class LateRecorder(Recorder):
    """The planted mutant: intents reach the disk together with the next acknowledgement, that is, behind their POST."""

    _held: tuple[Entry, ...] = ()

    async def record(self, *entries: Entry, decided: bool = False) -> tuple[Record, ...]:
        if not any(entry.kind is Kind.INTENT for entry in entries):
            if self._held and any(entry.kind is Kind.ORDER_EVENT for entry in entries):
                held, self._held = self._held, ()
                await self._journal.commit(held)
            return await super().record(*entries, decided=decided)
        records = tuple(Record(0, e.session_id, e.at, e.kind, e.key, parse(canonical_bytes(e.body)), "", "") for e in entries)
        for record in records:
            self._fold.apply(record, decided)
        self._held = (*self._held, *entries)
        return records


class LateRunner(Runner):
    """A runner with the mutant inside."""

    def _build(self) -> None:
        super()._build()
        self.recorder.__class__ = LateRecorder


def _live(settings: RunnerSettings, mutant: bool) -> None:
    faulthandler.dump_traceback_later(LIFE_S - 5.0)
    asyncio.run((LateRunner if mutant else Runner)(settings).run())


def live(settings: RunnerSettings, mutant: bool = False) -> int:
    """Run one life in a process of its own; returns its exit code, -9 for a kill."""
    child: Any = _CONTEXT.Process(target=_live, args=(settings, mutant))
    child.start()
    child.join(LIFE_S)
    if child.is_alive():
        child.kill()
        child.join()
        raise TimeoutError(f"a life with kill point {settings.kill_at!r} did not end")
    return int(child.exitcode)
