"""Bringing assets up to date: upstream first, one run each, skipping what is current by our own rule (DESIGN 10).

Because a run of unchanged code on unchanged bytes gives the same data version, a change dies out where it stops to matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import dagster as dg

from trading_platform.assets.currency import Currency, currency
from trading_platform.assets.failures import failure_of
from trading_platform.assets.graph import Graph
from trading_platform.assets.inputs import newest_of
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.manifest import UNPARTITIONED

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}  # the events are in the instance; a person sees Steps
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"


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
    for group in _groups(graph, wanted):
        for batch in _batches(graph, instance, place, group, keys, steps, progress):
            found = _materialize(definitions, graph, instance, batch)
            steps += found
            for step in found:
                progress(step)
    return steps


def _groups(graph: Graph, wanted: Sequence[str]) -> list[list[str]]:
    """Wanted assets in the graph's order; neighbours that share one body (the marts) go together."""
    groups: list[list[str]] = []
    for name in wanted:
        if groups and graph.nodes[groups[-1][0]].definition is graph.nodes[name].definition:
            groups[-1].append(name)
        else:
            groups.append([name])
    return groups


def _batches(
    graph: Graph,
    instance: dg.DagsterInstance,
    place: Workplace,
    group: Sequence[str],
    keys: Mapping[str, Sequence[str]],
    steps: list[Step],
    progress: Progress,
) -> list[list[Step]]:
    """What has to run for a group, one list per run: its assets together, or runs of neighbouring partitions where a range is one run."""
    name = group[0]
    partitions = list(keys.get(name, ())) if _partitioned(graph, name) else [UNPARTITIONED]
    stale: list[Step] = []
    for one in group:
        recipe = graph.nodes[one].recipe
        known = newest_of(instance, place, recipe, set(partitions)) if len(partitions) > 1 else None
        for partition in partitions:
            found: Currency = currency(instance, place, recipe, partition, known)
            step = Step(one, partition, not found.current, found.why)
            if found.current:
                steps.append(step)
                progress(step)
            else:
                stale.append(step)
    if not _partitioned(graph, name):
        return [stale] if stale else []
    policy = graph.nodes[name].definition.backfill_policy
    if policy is None or policy.max_partitions_per_run == 1:
        return [[step] for step in stale]
    return _neighbours(stale, list(instance.get_dynamic_partitions(str(graph.nodes[name].definition.partitions_def.name))))


def _neighbours(stale: Sequence[Step], order: Sequence[str]) -> list[list[Step]]:
    place = {partition: number for number, partition in enumerate(order)}
    batches: list[list[Step]] = []
    for step in sorted(stale, key=lambda one: place[one.partition]):
        if batches and place[step.partition] == place[batches[-1][-1].partition] + 1:
            batches[-1].append(step)
        else:
            batches.append([step])
    return batches


def _partitioned(graph: Graph, name: str) -> bool:
    return graph.nodes[name].definition.partitions_def is not None


def _materialize(definitions: dg.Definitions, graph: Graph, instance: dg.DagsterInstance, batch: Sequence[Step]) -> list[Step]:
    job = definitions.resolve_implicit_global_asset_job_def()
    first, last = batch[0].partition, batch[-1].partition
    selection = [graph.nodes[name].key for name in dict.fromkeys(step.asset for step in batch)]
    key = None if first == UNPARTITIONED or len(batch) > 1 else first
    tags = {RANGE_START: first, RANGE_END: last} if key is None and first != UNPARTITIONED else {}
    result = job.execute_in_process(
        run_config=QUIET, asset_selection=selection, instance=instance, partition_key=key, tags=tags, raise_on_error=False
    )
    if not result.success:
        raise failure_of(result, f"asset {batch[0].asset}, partition {first}, run {result.run_id}")
    stats = instance.get_run_record_by_id(result.run_id)
    seconds = 0.0 if stats is None or stats.start_time is None or stats.end_time is None else stats.end_time - stats.start_time
    return [replace(step, run_id=result.run_id, seconds=seconds) for step in batch]
