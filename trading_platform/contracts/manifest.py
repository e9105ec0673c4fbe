"""The manifest of one materialization: which bytes went in, which came out (DESIGN section 10). Lineage walks from manifest to manifest.

Stored content-addressed in the lake, `manifests/<asset>/...`; the materialization's metadata names it. `inputs_hash` and `data_version`
hold no time, run or path, so the same code on the same bytes gives the same values; `provenance` tells where and when, and is in neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse
from trading_platform.contracts.errors import CorruptionError

UNPARTITIONED = "all"
SOURCE = "source"


@dataclass(frozen=True, slots=True)
class InputRecord:
    """One file that was read. asset `source` means a file outside the lake, its name in `partition`. span: first and last time as int64."""

    asset: str
    partition: str
    data_version: str
    sha256: str
    rows: int = 0
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class OutputFile:
    """One file that was written: `uri` is relative to the lake's root, schema column -> dtype (or {"bytes": suffix})."""

    asset: str
    partition: str
    uri: str
    sha256: str
    size: int
    rows: int
    data_version: str
    schema: Mapping[str, str]
    span: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where an upstream asset's files came from: its materialization's event, its run and its own manifest's uri (relative to the lake)."""

    asset: str
    partition: str
    storage_id: int
    run_id: str
    manifest: str
    at: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything about one materialization of one asset partition (`all` where the asset has none).

    parameters: the settings the content depends on. run_id and git_commit belong to the provenance side: they are in no hash.
    """

    asset: str
    partition: str
    code_version: str
    data_version: str
    inputs_hash: str
    parameters: Mapping[str, Any]
    inputs: tuple[InputRecord, ...]
    outputs: tuple[OutputFile, ...]
    provenance: tuple[Provenance, ...] = ()
    run_id: str = ""
    git_commit: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Canonical JSON, the content of the stored file."""
        return canonical_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "manifest") -> Manifest:
        """Read a stored manifest. CorruptionError where it is not one, or where inputs_hash does not fit its inputs."""
        stored = parse(data)
        try:
            found = cls(
                **{
                    **stored,
                    "inputs": tuple(InputRecord(**_spanned(item)) for item in stored["inputs"]),
                    "outputs": tuple(OutputFile(**_spanned(item)) for item in stored["outputs"]),
                    "provenance": tuple(Provenance(**item) for item in stored["provenance"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise CorruptionError(f"not a manifest: {error}", where, "materialize the asset again") from error
        if inputs_hash(found.inputs, found.parameters) != found.inputs_hash:
            raise CorruptionError("inputs_hash does not fit the inputs listed", where, "materialize the asset again")
        return found


def _spanned(item: Mapping[str, Any]) -> dict[str, Any]:
    span = item.get("span")
    return {**item, "span": None if span is None else (int(span[0]), int(span[1]))}


def inputs_hash(inputs: tuple[InputRecord, ...], parameters: Mapping[str, Any]) -> str:
    """Hash of everything a materialization is a function of beside its code: equal hashes and code versions mean nothing to do."""
    ordered = sorted(inputs, key=lambda record: (record.asset, record.partition, record.sha256))
    return content_hash({"inputs": ordered, "parameters": parameters})
