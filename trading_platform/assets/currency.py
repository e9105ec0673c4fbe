"""The currency rule (DESIGN 10): an asset is current when its inputs and its code are those of its last materialization."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from trading_platform.assets.inputs import Inputs, Known, Recipe, inputs_now, latest
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.manifest import UNPARTITIONED, Manifest


@dataclass(frozen=True, slots=True)
class Currency:
    """Whether an asset partition is current; where it is not, `why` in one sentence."""

    current: bool
    why: str = ""


def currency(
    instance: dg.DagsterInstance, place: Workplace, recipe: Recipe, partition: str = UNPARTITIONED, known: Known | None = None
) -> Currency:
    """Compare an asset partition's last materialization with what it would be made of now.

    An upstream asset that was never materialized, a manifest or a file that is gone, makes it not current; nothing is raised for these.
    known: see `inputs_now`.
    """
    try:
        last = latest(instance, place, recipe.asset, partition) if known is None else known.get((recipe.asset, partition))
    except CorruptionError as error:
        return Currency(False, error.what)
    if last is None:
        return Currency(False, "never materialized")
    try:
        now = inputs_now(instance, place, recipe, partition, known)
    except (InputError, CorruptionError) as error:
        return Currency(False, error.what)
    return _compare(place, recipe, last.manifest, now)


def _compare(place: Workplace, recipe: Recipe, last: Manifest, now: Inputs) -> Currency:
    if last.code_version != recipe.code_version:
        return Currency(False, f"its code changed ({', '.join(recipe.code)})")
    if last.inputs_hash != now.hash:
        return Currency(False, f"its inputs changed: {_difference(last, now)}")
    for output in last.outputs:
        path = place.lake.root / output.uri
        if not path.is_file() or path.stat().st_size != output.size:
            return Currency(False, f"{output.uri} is gone or has another size")
    return Currency(True)


def _difference(last: Manifest, now: Inputs) -> str:
    before = {(record.asset, record.partition): record.data_version for record in last.inputs}
    after = {(record.asset, record.partition): record.data_version for record in now.records}
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    names = [f"{asset} {partition}" for asset, partition in changed]
    names += sorted(
        f"setting {key}" for key in last.parameters.keys() | now.parameters.keys() if last.parameters.get(key) != now.parameters.get(key)
    )
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
