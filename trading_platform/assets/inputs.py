"""What an asset would read now: its recipe, the newest materializations upstream of it, and the input manifest they make (DESIGN 10)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_platform.assets.code_version import code_version
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.contracts.manifest import SOURCE, UNPARTITIONED, InputRecord, Manifest, OutputFile, Provenance, inputs_hash

if TYPE_CHECKING:
    from trading_platform.market_data.sources.protocol import SourceFile

MANIFEST_KEY = "manifest"


class Reads(StrEnum):
    """Which partitions of an upstream asset are read."""

    WHOLE = "whole"
    SAME = "same"
    EVERY = "every"


Parameters = Callable[[Workplace, str], Mapping[str, Any]]
Sources = Callable[[Workplace, str], "Sequence[SourceFile]"]


def _no_parameters(place: Workplace, partition: str) -> Mapping[str, Any]:
    return {}


def _no_sources(place: Workplace, partition: str) -> Sequence[SourceFile]:
    return ()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What an asset's content is a function of, declared once and read by its body, by its spec and by the currency rule.

    upstream: asset -> which of its partitions. code: packages and modules of trading_platform whose sources are the code version.
    parameters, sources: settings and files outside the lake, given workplace and partition.
    """

    asset: str
    code: tuple[str, ...]
    upstream: Mapping[str, Reads] = field(default_factory=dict)
    parameters: Parameters = _no_parameters
    sources: Sources = _no_sources

    @property
    def code_version(self) -> str:
        """Hash of the sources."""
        return code_version(*self.code)

    @property
    def deps(self) -> tuple[str, ...]:
        """Upstream asset names."""
        return tuple(self.upstream)


@dataclass(frozen=True, slots=True)
class Materialization:
    """The newest materialization of an asset partition: its event and its manifest."""

    storage_id: int
    run_id: str
    at: float
    uri: str
    manifest: Manifest


def read_manifest(place: Workplace, uri: str) -> Manifest:
    """The manifest at a content-addressed uri of the lake. CorruptionError where it is gone or its bytes do not fit its name."""
    path = place.lake.root / uri
    if not path.is_file():
        raise CorruptionError(
            "a materialization's manifest is gone", uri, "restore the lake from its backup, or materialize the asset again"
        )
    data = path.read_bytes()
    if sha256_hex(data) not in uri:
        raise CorruptionError(
            "the manifest does not match the hash in its name", uri, "restore it from a backup, or materialize the asset again"
        )
    return Manifest.from_bytes(data, uri)


def _materialization(place: Workplace, record: dg.EventLogRecord) -> Materialization | None:
    event = record.asset_materialization
    if event is None or MANIFEST_KEY not in event.metadata:
        return None
    uri = str(event.metadata[MANIFEST_KEY].value)
    return Materialization(record.storage_id, record.run_id, record.timestamp, uri, read_manifest(place, uri))


def latest(instance: dg.DagsterInstance, place: Workplace, asset: str, partition: str = UNPARTITIONED) -> Materialization | None:
    """The newest materialization of an asset partition, or None."""
    partitions = None if partition == UNPARTITIONED else [partition]
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=partitions)
    records = instance.fetch_materializations(wanted, limit=1).records
    return _materialization(place, records[0]) if records else None


def _newest_records(instance: dg.DagsterInstance, asset: str, only: Collection[str] | None = None) -> dict[str, dg.EventLogRecord]:
    """The newest materialization's event of each partition (of those in `only`), ascending by partition."""
    found = instance.event_log_storage.get_latest_storage_id_by_partition(dg.AssetKey(asset), dg.DagsterEventType.ASSET_MATERIALIZATION)
    newest = {partition: number for partition, number in found.items() if only is None or partition in only}
    if not newest:
        return {}
    wanted = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), storage_ids=list(newest.values()))
    records = {record.storage_id: record for record in instance.fetch_materializations(wanted, limit=len(newest)).records}
    return {partition: records[storage_id] for partition, storage_id in sorted(newest.items())}


def latest_of_every(instance: dg.DagsterInstance, place: Workplace, asset: str) -> dict[str, Materialization]:
    """The newest materialization of each partition of an asset, ascending by partition. CorruptionError where a manifest is damaged."""
    found = {partition: _materialization(place, record) for partition, record in _newest_records(instance, asset).items()}
    return {partition: item for partition, item in found.items() if item is not None}


def _readable(instance: dg.DagsterInstance, place: Workplace, asset: str, partitions: Collection[str]) -> dict[str, Materialization]:
    """The newest materializations of some partitions, without those whose manifest is damaged: they count as never materialized."""
    found = {}
    for partition, record in _newest_records(instance, asset, partitions).items():
        try:
            item = _materialization(place, record)
        except CorruptionError:
            continue
        if item is not None:
            found[partition] = item
    return found


@dataclass(frozen=True, slots=True)
class Inputs:
    """An input manifest before its materialization: records and parameters (hashed), and what was found upstream."""

    records: tuple[InputRecord, ...]
    parameters: Mapping[str, Any]
    provenance: tuple[Provenance, ...]
    upstream: Mapping[tuple[str, str], Materialization]

    @property
    def hash(self) -> str:
        """inputs_hash of DESIGN 10."""
        return inputs_hash(self.records, self.parameters)

    def manifest(self, asset: str, partition: str = UNPARTITIONED) -> Manifest:
        """The upstream manifest read for an asset partition."""
        return self.upstream[asset, partition].manifest

    def outputs(self, asset: str, partition: str = UNPARTITIONED) -> tuple[OutputFile, ...]:
        """The files an upstream asset holds."""
        return self.manifest(asset, partition).outputs

    def facts(self, asset: str, partition: str = UNPARTITIONED) -> Mapping[str, Any]:
        """What the upstream asset said about itself."""
        return self.manifest(asset, partition).facts


Known = Mapping[tuple[str, str], Materialization]


def newest_of(instance: dg.DagsterInstance, place: Workplace, recipe: Recipe, partitions: Collection[str]) -> Known:
    """The newest materializations of some of an asset's partitions and of what those read, in one query per asset.

    An asset that is read with every partition of it is not among them: `inputs_now` asks for it.
    """
    found = {(recipe.asset, name): item for name, item in _readable(instance, place, recipe.asset, partitions).items()}
    for asset, reads in recipe.upstream.items():
        if reads is Reads.WHOLE:
            item = latest(instance, place, asset)
            found |= {} if item is None else {(asset, UNPARTITIONED): item}
        elif reads is Reads.SAME:
            found |= {(asset, name): item for name, item in _readable(instance, place, asset, partitions).items()}
    return found


def inputs_now(
    instance: dg.DagsterInstance, place: Workplace, recipe: Recipe, partition: str = UNPARTITIONED, known: Known | None = None
) -> Inputs:
    """The inputs a materialization would have now. InputError if an upstream asset was never materialized.

    known: what `newest_of` found a moment ago, instead of asking the instance.
    """
    upstream: dict[tuple[str, str], Materialization] = {}
    for asset, reads in recipe.upstream.items():
        if reads is Reads.EVERY:
            upstream |= {(asset, name): found for name, found in latest_of_every(instance, place, asset).items()}
            continue
        name = partition if reads is Reads.SAME else UNPARTITIONED
        found = latest(instance, place, asset, name) if known is None else known.get((asset, name))
        if found is None:
            raise InputError(
                f"{asset} was never materialized", f"asset {recipe.asset}, partition {partition}", f"materialize {asset} first"
            )
        upstream[asset, name] = found
    records = [
        InputRecord(SOURCE, file.name, file.sha256, file.sha256)
        for file in sorted(recipe.sources(place, partition), key=lambda file: file.name)
    ]
    provenance = []
    for (asset, name), item in sorted(upstream.items()):
        records += _records(item.manifest)
        provenance.append(Provenance(asset, name, item.storage_id, item.run_id, item.uri, item.at))
    return Inputs(tuple(records), dict(recipe.parameters(place, partition)), tuple(provenance), upstream)


def _records(manifest: Manifest) -> list[InputRecord]:
    """One record per file of an upstream materialization; one without bytes where it holds none, so that emptiness is an input, too."""
    if not manifest.outputs:
        return [InputRecord(manifest.asset, manifest.partition, manifest.data_version, "")]
    return [InputRecord(o.asset, o.partition, o.data_version, o.sha256, o.rows, o.span) for o in manifest.outputs]
