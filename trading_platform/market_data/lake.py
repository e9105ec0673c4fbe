"""The lake: every asset's files as Parquet (zstd) under content-addressed names, with one manifest per asset partition (DESIGN 10).

    <root>/<asset>/<partition>/part-<sha256>.parquet     written once, never changed
    <root>/<asset>/<partition>/manifest.json             names the current part

Bars live under `bars/timeframe=1Min/month=2024-01` (one file per closed month, measured best) and `bars/timeframe=1Day/year=2014`: a
month of daily bars is a few thousand rows, and 120 tiny files cost more in footers than in data.
Writing the same content twice changes nothing; a reader sees the old part or the new one, never half of one.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import polars as pl

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError

MANIFEST = "manifest.json"
UNFINISHED = ".writing-"
SORT_KEYS = ("instrument_id", "timestamp")
SPAN_COLUMNS = ("timestamp", "known_at", "session")
ROW_GROUP = 131_072
WRITERS = 8  # they wait for the disk, not for a core
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=~:+-]*(/[A-Za-z0-9][A-Za-z0-9._=~:+-]*)*")


@dataclass(frozen=True, slots=True)
class PartitionManifest:
    """What one partition of one asset holds now.

    data_version: sha256 over asset, partition, code_version, schema and the files' sha256: no time, run or path, so the same code and bytes
    give the same version. span: first and last timestamp (or known_at, or session day) as int64, None without such a column or rows.
    uri: the part, relative to the lake's root.
    """

    asset: str
    partition: str
    code_version: str
    schema: dict[str, str]
    data_version: str
    sha256: str
    size: int
    rows: int
    span: tuple[int, int] | None
    uri: str


def data_version(asset: str, partition: str, code_version: str, schema: dict[str, str], files: Sequence[str]) -> str:
    """The data version of DESIGN 10 over the sha256 of every output file."""
    return content_hash({"asset": asset, "partition": partition, "code_version": code_version, "schema": schema, "files": list(files)})


class Lake:
    """The files under one root folder. One writer per partition at a time; any number of readers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._writers: ThreadPoolExecutor | None = None
        self._writing: list[Future[None]] = []

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is written inside is on disk when this is left: many small files wait for the disk side by side, not one after another.

        Inside, a partition may be written once and what was written may not be read. A failed write is raised on leaving.
        """
        with ThreadPoolExecutor(WRITERS, "lake") as self._writers:
            try:
                yield
            finally:
                self._writers = None
                writing, self._writing = self._writing, []
                for one in writing:
                    one.result()

    def write_partition(
        self, asset: str, partition: str, frame: pl.DataFrame, code_version: str = "1", sort_by: Sequence[str] | None = None
    ) -> PartitionManifest:
        """Write a frame as the current content of a partition and return its manifest.

        Rows are sorted by `sort_by`, by default by (instrument_id, timestamp) as far as the frame has them; bytes depend on the content
        alone. A failure leaves the previous content in place.
        """
        keys = [key for key in SORT_KEYS if key in frame.columns] if sort_by is None else list(sort_by)
        ordered = (frame.sort(keys, maintain_order=True) if keys else frame).rechunk()
        buffer = io.BytesIO()
        ordered.write_parquet(buffer, compression="zstd", compression_level=3, statistics=True, row_group_size=ROW_GROUP)
        schema = {name: str(dtype) for name, dtype in ordered.schema.items()}
        return self._store(asset, partition, buffer.getvalue(), ".parquet", code_version, schema, ordered.height, _span(ordered))

    def write_file(
        self,
        asset: str,
        partition: str,
        data: bytes,
        suffix: str,
        code_version: str = "1",
        rows: int = 0,
        span: tuple[int, int] | None = None,
    ) -> PartitionManifest:
        """Write any bytes (an .npz, .png, .json) as the current content of a partition, under the same rules as frames."""
        if not re.fullmatch(r"\.[a-z0-9.]+", suffix):
            raise InputError(f"suffix {suffix!r}", f"lake asset {asset}", "use a suffix such as .npz")
        return self._store(asset, partition, data, suffix, code_version, {"bytes": suffix}, rows, span)

    def manifest(self, asset: str, partition: str) -> PartitionManifest:
        """The manifest of a partition. InputError if it was never written, CorruptionError if it is unreadable."""
        path = self._folder(asset, partition) / MANIFEST
        if not path.is_file():
            raise InputError(
                f"partition {partition!r} of {asset} was never written", str(path.relative_to(self.root)), "materialize the asset first"
            )
        try:
            record = parse(path.read_bytes())
            span = record.get("span")
            return PartitionManifest(**{**record, "span": tuple(span) if span is not None else None})
        except (TypeError, AttributeError) as error:
            raise CorruptionError(
                f"not a manifest: {error}", str(path.relative_to(self.root)), "materialize the partition again"
            ) from error

    def partitions(self, asset: str) -> tuple[str, ...]:
        """Names of the written partitions, ascending; none for an unknown asset."""
        folder = self._folder(asset)
        if not folder.is_dir():
            return ()
        return tuple(sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob(MANIFEST)))

    def read(self, asset: str, partitions: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """Current rows of some or all partitions, in the order given (all: ascending), every part checked against its sha256.

        InputError if there is nothing to read; CorruptionError if bytes do not match their manifest.
        """
        names = self.partitions(asset) if partitions is None else tuple(partitions)
        if not names:
            raise InputError(f"asset {asset} has no partitions", "lake", "materialize the asset first")
        manifests = [self.manifest(asset, name) for name in names]
        wrong = [manifest.uri for manifest in manifests if not manifest.uri.endswith(".parquet")]
        if wrong:
            raise InputError(f"{wrong[0]} is no table", f"lake asset {asset}", "read it with read_file")
        wanted = list(columns) if columns is not None else None
        frames = [pl.read_parquet(io.BytesIO(self.read_version(manifest)), columns=wanted) for manifest in manifests]
        return pl.concat(frames) if len(frames) > 1 else frames[0]

    def read_file(self, asset: str, partition: str) -> bytes:
        """Current bytes of a partition, checked against their sha256."""
        return self.read_version(self.manifest(asset, partition))

    def read_version(self, manifest: PartitionManifest) -> bytes:
        """The bytes a manifest names, current or not, checked: how lineage reads exactly what a model saw."""
        path = self.root / PurePosixPath(manifest.uri)
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            raise CorruptionError(
                "the file of a manifest is gone", manifest.uri, "restore it from a backup, or materialize again"
            ) from error
        found = sha256_hex(data)
        if found != manifest.sha256:
            raise CorruptionError(
                f"sha256 is {found[:12]}..., the manifest says {manifest.sha256[:12]}...",
                manifest.uri,
                "restore it from a backup, or materialize again",
            )
        return data

    def verify(self, asset: str) -> int:
        """Re-hash every current part of an asset and return how many there are; CorruptionError at the first that differs."""
        names = self.partitions(asset)
        for name in names:
            self.read_version(self.manifest(asset, name))
        return len(names)

    def _store(
        self,
        asset: str,
        partition: str,
        data: bytes,
        suffix: str,
        code_version: str,
        schema: dict[str, str],
        rows: int,
        span: tuple[int, int] | None,
    ) -> PartitionManifest:
        folder = self._folder(asset, partition)
        sha = sha256_hex(data)
        part = folder / f"part-{sha}{suffix}"
        version = data_version(asset, partition, code_version, schema, [sha])
        uri = part.relative_to(self.root).as_posix()
        manifest = PartitionManifest(asset, partition, code_version, schema, version, sha, len(data), rows, span, uri)
        if self._writers is None:
            _put(part, data, canonical_bytes(asdict(manifest)))
        else:
            self._writing.append(self._writers.submit(_put, part, data, canonical_bytes(asdict(manifest))))
        return manifest

    def _folder(self, asset: str, partition: str | None = None) -> Path:
        for what, name in (("asset", asset), ("partition", partition)):
            if name is not None and not _NAME.fullmatch(name):
                raise InputError(f"{name!r} is not the name of an {what}", "lake", "use letters, digits, . _ = - and / between parts")
        return self.root / PurePosixPath(asset) / PurePosixPath(partition or ".")


def _put(part: Path, data: bytes, record: bytes) -> None:
    """A part and then the manifest that names it, as far as they are not there already."""
    folder = part.parent
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{UNFINISHED}*"):  # of a writer that was killed; a partition has one writer at a time
        leftover.unlink(missing_ok=True)
    if not (part.is_file() and part.read_bytes() == data):
        write_atomically(part, data)
    path = folder / MANIFEST
    if not (path.is_file() and path.read_bytes() == record):
        write_atomically(path, record)


def _span(frame: pl.DataFrame) -> tuple[int, int] | None:
    column = next((name for name in SPAN_COLUMNS if name in frame.columns), None)
    if column is None or frame.height == 0:
        return None
    values = frame[column].to_physical().cast(pl.Int64).drop_nulls().to_numpy().astype(np.int64)
    return (int(values.min()), int(values.max())) if len(values) else None


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file by whole content or not at all: temporary file beside it, fsync, rename, fsync of the folder."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=UNFINISHED)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
