"""May an event start anything: the checks of exactly what it announced and of what that was made from. Fails closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import dagster as dg

from trading_platform.assets.evidence import verdict
from trading_platform.contracts.manifest import UNPARTITIONED


class Standing(StrEnum):
    """Whether an event may be acted on: now, later perhaps, or not before its checks pass."""

    PASSED = "passed"
    WAITING = "waiting"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Judgement:
    """An event's standing; why, in one clause, where it has not passed."""

    standing: Standing
    why: str = ""


@dataclass(frozen=True, slots=True)
class Upstream:
    """checks: asset -> its blocking checks. inputs: asset -> the unpartitioned assets that it is made from."""

    checks: Mapping[str, Sequence[str]]
    inputs: Mapping[str, Sequence[str]]

    def judge(self, instance: dg.DagsterInstance, asset: str, record: dg.EventLogRecord) -> Judgement:
        """A materialization passes when each of its blocking checks passed on it and none failed on its newest inputs.

        A check that has not judged it yet is waited for while the event's run goes on; once that is over it counts as failed.
        """
        own = [self._verdict(instance, asset, name, record) for name in self.checks.get(asset, ())]
        failed = [name for name, passed in own if passed is False]
        if failed:
            return Judgement(Standing.BLOCKED, f"{asset}: {', '.join(failed)} failed")
        for upstream in self.inputs.get(asset, ()):
            newest = instance.fetch_materializations(dg.AssetKey(upstream), limit=1).records
            found = [self._verdict(instance, upstream, name, newest[0]) for name in self.checks.get(upstream, ()) if newest]
            failed = [name for name, passed in found if passed is False]
            if failed:
                return Judgement(Standing.BLOCKED, f"{upstream}: {', '.join(failed)} failed")
        unjudged = [name for name, passed in own if passed is None]
        if not unjudged:
            return Judgement(Standing.PASSED)
        run = instance.get_run_by_id(record.run_id) if record.run_id else None
        if run is not None and not run.is_finished:
            return Judgement(Standing.WAITING, f"{asset}: {', '.join(unjudged)} still to come in run {record.run_id[:8]}")
        return Judgement(Standing.BLOCKED, f"{asset}: {', '.join(unjudged)} was not run")

    @staticmethod
    def _verdict(instance: dg.DagsterInstance, asset: str, name: str, record: dg.EventLogRecord) -> tuple[str, bool | None]:
        key = dg.AssetCheckKey(dg.AssetKey(asset), name)
        return name, verdict(instance, key, record.partition_key or UNPARTITIONED, record.storage_id).passed


def upstream_of_graph() -> Upstream:
    """Blocking checks and inputs as the whole graph has them."""
    from trading_platform.assets.graph import build_graph
    from trading_platform.assets.inputs import Reads
    from trading_platform.assets.promotion import blocking_checks

    nodes = build_graph().nodes
    inputs = {
        name: tuple(asset for asset, reads in node.recipe.upstream.items() if reads is Reads.WHOLE and asset in nodes)
        for name, node in nodes.items()
    }
    return Upstream(blocking_checks(list(nodes.values())), inputs)
