"""Publishing: the one way an asset's content gets into the lake and what Dagster is told about it.

A body opens a `Publication`, reads its upstream assets through it (exactly the files its input manifest names, each checked against its
sha256), calls one domain function, hands the results to `table` or `file`, and returns `result`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from trading_platform.assets.inputs import MANIFEST_KEY, Known, Recipe, inputs_now
from trading_platform.assets.reading import Reader
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import content_hash
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.manifest import UNPARTITIONED, Manifest, OutputFile

if TYPE_CHECKING:
    import polars as pl

    from trading_platform.market_data.lake import PartitionManifest

PLOT_BYTES = 80_000  # a plot sits in the event log, as text


class Publication(Reader):
    """One materialization in the making. Inputs are captured when it opens, so a writer that comes later cannot slip in between."""

    def __init__(
        self,
        context: dg.AssetExecutionContext,
        place: Workplace,
        recipe: Recipe,
        partition: str = UNPARTITIONED,
        known: Known | None = None,
    ) -> None:
        super().__init__(place, inputs_now(context.instance, place, recipe, partition, known))
        self.recipe = recipe
        self.partition = partition
        self._run_id = context.run.run_id
        self._outputs: list[OutputFile] = []
        self._frame_schema: dict[str, str] = {}

    def table(self, name: str, frame: pl.DataFrame, lake_asset: str | None = None, sort_by: Sequence[str] | None = None) -> OutputFile:
        """Write a frame under `<asset>/<name>`; the first table's columns become the asset's column schema."""
        written = self.place.lake.write_partition(
            lake_asset or self.recipe.asset, self._scoped(name), frame, self.recipe.code_version, sort_by
        )
        self._frame_schema = self._frame_schema or dict(written.schema)
        return self._keep(written)

    def file(self, name: str, data: bytes, suffix: str, rows: int = 0, span: tuple[int, int] | None = None) -> OutputFile:
        """Write bytes under `<asset>/<name>`."""
        return self._keep(
            self.place.lake.write_file(self.recipe.asset, self._scoped(name), data, suffix, self.recipe.code_version, rows, span)
        )

    def adopt(self, output: OutputFile) -> OutputFile:
        """Count a file that lies in the lake already as an output."""
        self._outputs.append(output)
        return output

    def result(
        self,
        metadata: Mapping[str, Any] | None = None,
        plots: Mapping[str, bytes] | None = None,
        facts: Mapping[str, Any] | None = None,
        check_results: Sequence[dg.AssetCheckResult] = (),
    ) -> dg.MaterializeResult:
        """Store the manifest and say everything about this materialization.

        metadata: more of it, by name. plots: name -> PNG of at most 80 kB. facts: plain values that downstream assets may read.
        """
        manifest = self.manifest(facts or {})
        stored = self.place.lake.write_file(f"manifests/{self.recipe.asset}", self.partition, manifest.to_bytes(), ".json")
        shown = {name: plot(png, name) for name, png in (plots or {}).items()}  # people read from the top: plots, results, housekeeping
        schema = self._frame_schema or next((output.schema for output in self._outputs if output.uri.endswith(".parquet")), {})
        said: dict[str, Any] = {**shown, **(metadata or {}), **_standard(manifest, schema), MANIFEST_KEY: stored.uri}
        version = dg.DataVersion(manifest.data_version)
        return dg.MaterializeResult(asset_key=self.recipe.asset, metadata=said, data_version=version, check_results=list(check_results))

    def nothing(self, why: str) -> dg.MaterializeResult:
        """Zero rows, and the reason in the metadata; assets below see the emptiness as an input and do the same."""
        return self.result({"reason": why}, facts={"empty": why})

    def manifest(self, facts: Mapping[str, Any]) -> Manifest:
        """The manifest of what was written so far."""
        schema = {name: dtype for output in self._outputs for name, dtype in output.schema.items()}
        files = [output.sha256 for output in self._outputs]
        identity = {
            "asset": self.recipe.asset,
            "partition": self.partition,
            "code_version": self.recipe.code_version,
            "schema": schema,
            "files": files,
        }
        return Manifest(
            asset=self.recipe.asset,
            partition=self.partition,
            code_version=self.recipe.code_version,
            data_version=content_hash(identity),
            inputs_hash=self.inputs.hash,
            parameters=self.inputs.parameters,
            inputs=self.inputs.records,
            outputs=tuple(self._outputs),
            provenance=self.inputs.provenance,
            run_id=self._run_id,
            git_commit=self.place.git_commit,
            facts=dict(facts),
        )

    def _scoped(self, name: str) -> str:
        return name if self.partition == UNPARTITIONED else f"{name}/{self.partition}"

    def _keep(self, written: PartitionManifest) -> OutputFile:
        output = OutputFile(
            asset=written.asset,
            partition=written.partition,
            uri=written.uri,
            sha256=written.sha256,
            size=written.size,
            rows=written.rows,
            data_version=written.data_version,
            schema=written.schema,
            span=written.span,
        )
        self._outputs.append(output)
        return output


def plot(png: bytes, name: str) -> dg.MetadataValue:
    """A PNG as metadata that Dagster shows. InputError over 80 kB."""
    if len(png) > PLOT_BYTES:
        raise InputError(f"the plot has {len(png)} bytes", name, f"draw it smaller: at most {PLOT_BYTES} (it sits in the event log)")
    return dg.MetadataValue.md(f"![{name}](data:image/png;base64,{base64.b64encode(png).decode('ascii')})")


def _standard(manifest: Manifest, frame_schema: Mapping[str, str]) -> dict[str, Any]:
    spans = [output.span for output in manifest.outputs if output.span is not None]
    said: dict[str, Any] = {
        "dagster/row_count": sum(output.rows for output in manifest.outputs),
        "data_version": manifest.data_version,
        "inputs_hash": manifest.inputs_hash,
        "inputs": dg.MetadataValue.md(_inputs_table(manifest)),
        "files": len(manifest.outputs),
        "bytes": sum(output.size for output in manifest.outputs),
        "sha256": dg.MetadataValue.json({f"{output.asset}/{output.partition}": output.sha256 for output in manifest.outputs[:64]}),
    }
    if frame_schema:
        said["dagster/column_schema"] = dg.TableSchema(columns=[dg.TableColumn(name, dtype) for name, dtype in frame_schema.items()])
    if spans:
        said["span"] = f"{_moment(min(first for first, _ in spans))} to {_moment(max(last for _, last in spans))}"
    return said


def _inputs_table(manifest: Manifest) -> str:
    rows = [f"| {i.asset} | {i.partition} | {i.rows} | `{i.data_version[:12]}` |" for i in manifest.inputs[:40]]
    more = [f"| and {len(manifest.inputs) - 40} more | | | |"] if len(manifest.inputs) > 40 else []
    return "\n".join(["| input | partition | rows | data version |", "|---|---|---|---|", *rows, *more])


def _moment(value: int) -> str:
    """A span's end as text: session days below 1e6, UTC ns above."""
    import numpy as np

    return (
        str(np.datetime64(value, "D"))
        if abs(value) < 1_000_000
        else f"{np.datetime64(value, 's' if abs(value) < 1e12 else 'ns').astype('datetime64[m]')}Z"
    )
