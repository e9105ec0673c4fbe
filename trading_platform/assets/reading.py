"""Reading what a materialization holds: its files by lake name, every byte checked against the manifest."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trading_platform.assets.inputs import Inputs, Reads, Recipe, inputs_now
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.manifest import UNPARTITIONED, Manifest, OutputFile

if TYPE_CHECKING:
    import dagster as dg
    import polars as pl


def file_bytes(place: Workplace, output: OutputFile) -> bytes:
    """The bytes of one file. CorruptionError where they are gone or differ."""
    from trading_platform.market_data.lake import PartitionManifest

    schema = dict(output.schema)
    version = PartitionManifest(
        output.asset, output.partition, "", schema, output.data_version, output.sha256, output.size, output.rows, output.span, output.uri
    )
    return place.lake.read_version(version)


def read_table(place: Workplace, manifest: Manifest, under: str = "", columns: Sequence[str] | None = None) -> pl.DataFrame:
    """Rows of the tables whose lake name begins with `under`, in the order written. InputError if there are none."""
    import polars as pl

    files = [output for output in manifest.outputs if output.partition.startswith(under) and output.uri.endswith(".parquet")]
    if not files:
        raise InputError(
            f"{manifest.asset} holds no table {under!r}", f"partition {manifest.partition}", f"materialize {manifest.asset} with data first"
        )
    wanted = list(columns) if columns is not None else None
    frames = [pl.read_parquet(io.BytesIO(file_bytes(place, output)), columns=wanted) for output in files]
    return pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]


def read_file(place: Workplace, manifest: Manifest, name: str) -> bytes:
    """The bytes of the file with this lake name. InputError if there is none."""
    return file_bytes(place, output_named(manifest, name))


def output_named(manifest: Manifest, name: str) -> OutputFile:
    """The output with this lake name (its partition). InputError if there is none."""
    for output in manifest.outputs:
        if output.partition == name:
            return output
    raise InputError(f"{manifest.asset} holds no file {name!r}", f"partition {manifest.partition}", f"materialize {manifest.asset} first")


class Reader:
    """Upstream assets as they were when this was opened: exactly the files that `inputs` names."""

    def __init__(self, place: Workplace, inputs: Inputs) -> None:
        self.place = place
        self.inputs = inputs

    def read(self, asset: str, under: str = "", columns: Sequence[str] | None = None, partition: str = UNPARTITIONED) -> pl.DataFrame:
        """Rows of an upstream asset; see `read_table`."""
        return read_table(self.place, self.inputs.manifest(asset, partition), under, columns)

    def read_file(self, asset: str, name: str, partition: str = UNPARTITIONED) -> bytes:
        """The bytes of one file of an upstream asset, by its lake name."""
        return read_file(self.place, self.inputs.manifest(asset, partition), name)

    def holds(self, asset: str, partition: str = UNPARTITIONED) -> bool:
        """Whether an upstream asset holds any rows."""
        return any(output.rows for output in self.inputs.outputs(asset, partition))

    def facts(self, asset: str, partition: str = UNPARTITIONED) -> Mapping[str, Any]:
        """What an upstream asset said about itself."""
        return self.inputs.facts(asset, partition)


def reader(instance: dg.DagsterInstance, place: Workplace, *assets: str) -> Reader:
    """A reader of the newest materializations of some unpartitioned assets, for checks. InputError if one was never materialized."""
    return Reader(place, inputs_now(instance, place, Recipe("a check", (), dict.fromkeys(assets, Reads.WHOLE))))
