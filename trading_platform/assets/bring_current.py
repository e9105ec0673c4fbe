"""Bringing assets up to date: upstream first, one run each, skipping what is current by our own rule (DESIGN 10).

Because a run of unchanged code on unchanged bytes gives the same data version, a change dies out where it stops to matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dagster as dg

from trading_platform.assets.currency import Currency, currency
from trading_platform.assets.graph import Graph
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import TradingError
from trading_platform.contracts.manifest import UNPARTITIONED

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


class MaterializationError(TradingError):
    """A materialization failed, or a blocking check did; assets below it were left as they were."""


@dataclass(frozen=True, slots=True)
class Step:
    """What happened to one asset partition: `ran` or was current; why it ran; how long the run took on the instance's clock."""

    asset: str
    partition: str
    ran: bool
    why: str = ""
    run_id: str = ""
    seconds: float = 0.0


Progress = Callable[[Step], None]


def bring_current(
    definitions: dg.Definitions,
    graph: Graph,
    place: Workplace,
    instance: dg.DagsterInstance,
    partitions: Mapping[str, Sequence[str]] | None = None,
    assets: Sequence[str] | None = None,
    progress: Progress = lambda step: None,
) -> list[Step]:
    """Materialize what is not current; return one Step per asset partition, in order.

    assets: names, by default every unpartitioned asset and those in `partitions`. partitions: asset -> its keys to consider.
    Raises MaterializationError at the first failed run or blocking check.
    """
    keys = partitions or {}
    wanted = [name for name in graph.nodes if (name in assets if assets is not None else name in keys or not _partitioned(graph, name))]
    steps: list[Step] = []
    for name in wanted:
        for partition in keys.get(name, ()) if _partitioned(graph, name) else (UNPARTITIONED,):
            found = currency(instance, place, graph.nodes[name].recipe, partition)
            step = Step(name, partition, False) if found.current else _materialize(definitions, graph, instance, name, partition, found)
            steps.append(step)
            progress(step)
    return steps


def _partitioned(graph: Graph, name: str) -> bool:
    return graph.nodes[name].definition.partitions_def is not None


def _materialize(definitions: dg.Definitions, graph: Graph, instance: dg.DagsterInstance, name: str, partition: str, found: Currency) -> Step:
    job = definitions.resolve_implicit_global_asset_job_def()
    key = None if partition == UNPARTITIONED else partition
    result = job.execute_in_process(asset_selection=[graph.nodes[name].key], instance=instance, partition_key=key, raise_on_error=False)
    if not result.success:
        where = f"asset {name}, partition {partition}, run {result.run_id}"
        raise MaterializationError(_failure(result), where, "look at the run in the Dagster UI: make dev")
    stats = instance.get_run_record_by_id(result.run_id)
    seconds = 0.0 if stats is None or stats.start_time is None or stats.end_time is None else stats.end_time - stats.start_time
    return Step(name, partition, True, found.why, result.run_id, seconds)


def _failure(result: dg.ExecuteInProcessResult) -> str:
    checks = [check.check_name for check in result.get_asset_check_evaluations() if not check.passed and check.blocking]
    if checks:
        return f"blocking checks failed: {', '.join(checks)}"
    for event in result.all_events:
        if event.is_step_failure:
            error = event.step_failure_data.error
            cause = error.cause if error is not None and error.cause is not None else error
            return "the run failed" if cause is None else cause.message.strip()
    return "the run failed"
