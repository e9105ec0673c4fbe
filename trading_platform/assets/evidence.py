"""Evidence of checks, bound to what they judged. Dagster's blocking checks stop one run; a promotion asks again, and fails closed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecord, AssetCheckExecutionRecordStatus

from trading_platform.assets.inputs import Materialization
from trading_platform.contracts.manifest import UNPARTITIONED

HISTORY = 200
NOTHING_TO_JUDGE = {"verdict": "nothing to judge"}  # metadata of a check that is green because its asset has no content


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check said about exactly one materialization. passed None: it never judged this one."""

    asset: str
    partition: str
    check: str
    storage_id: int
    passed: bool | None

    @property
    def text(self) -> str:
        """One clause for a message."""
        said = "was not run" if self.passed is None else "passed" if self.passed else "failed"
        return f"{self.asset}{'' if self.partition == UNPARTITIONED else f'[{self.partition}]'}:{self.check} {said}"


def verdict(instance: dg.DagsterInstance, key: dg.AssetCheckKey, partition: str, storage_id: int) -> Verdict:
    """The newest evaluation of a check whose target was the materialization with this storage id; any other one says nothing."""
    asset = key.asset_key.to_user_string()
    for record in instance.event_log_storage.get_asset_check_execution_history(key, limit=HISTORY):
        if _target(record) == storage_id and record.status in (
            AssetCheckExecutionRecordStatus.SUCCEEDED,
            AssetCheckExecutionRecordStatus.FAILED,
        ):
            return Verdict(asset, partition, key.name, storage_id, record.status is AssetCheckExecutionRecordStatus.SUCCEEDED)
    return Verdict(asset, partition, key.name, storage_id, None)


def _target(record: AssetCheckExecutionRecord) -> int | None:
    event = record.event.dagster_event if record.event is not None else None
    judged = None if event is None else event.asset_check_evaluation_data.target_materialization_data
    return None if judged is None else judged.storage_id


def verdicts(
    instance: dg.DagsterInstance, used: Mapping[tuple[str, str], Materialization], checks: Mapping[str, Sequence[str]]
) -> list[Verdict]:
    """Every blocking check (asset -> names) on every materialization used."""
    found = []
    for (asset, partition), item in sorted(used.items()):
        for name in checks.get(asset, ()):
            found.append(verdict(instance, dg.AssetCheckKey(dg.AssetKey(asset), name), partition, item.storage_id))
    return found
