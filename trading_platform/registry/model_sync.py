"""Bundles between object stores: fetch with resume and sha256, upload, what is where, and clearing leftovers (SPEC REGY-02..09).

A bundle arrives complete or not at all: files lie beside their destination as `.tmp-<file>.part` until their sha256 is right, and
metadata.json comes last. What a broken connection has brought is kept, and the next attempt goes on from there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trading_platform.contracts.canonical import sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError, TradingError, TransientError
from trading_platform.contracts.model import parse_label
from trading_platform.registry.bundle import METADATA, ROOT, bundle_prefix, labels, load_bundle, read_metadata
from trading_platform.registry.object_store import PIECE, FileStore, ObjectStore, write_atomic

ATTEMPTS = 3
Progress = Callable[[str, int, int], None]  # file, bytes there, bytes in all


def silent(file: str, done: int, total: int) -> None:
    """No progress."""


@dataclass(frozen=True, slots=True)
class Transfer:
    """What a transfer did: files copied and files that were there already, bytes moved."""

    label: str
    bundle_id: str
    copied: int
    kept: int
    moved: int


def fetch(remote: ObjectStore, label: str, into: FileStore, bundle_id: str | None = None, progress: Progress = silent) -> Transfer:
    """Bring a bundle into a folder, every sha256 checked; what is there and right is not moved again.

    bundle_id: the one expected, None to take what the label names. InputError where the remote has no such bundle or the folder holds
    another one under this label, CorruptionError where the remote's bytes do not match its metadata, TransientError after three attempts.
    """
    found, metadata = read_metadata(remote, label, bundle_id)
    prefix = bundle_prefix(*parse_label(label))
    if into.exists(prefix + METADATA) and sha256_hex(into.get(prefix + METADATA)) != found:
        raise InputError(f"{label} is here with another content", str(into.root), "a version never changes: look which one is right")
    copied = kept = moved = 0
    for file, promised in metadata["files"].items():
        target = into.root / (prefix + file)
        if target.is_file() and target.stat().st_size == promised["size"] and _sha256(target) == promised["sha256"]:
            progress(file, promised["size"], promised["size"])
            kept += 1
            continue
        moved += _bring(remote, prefix + file, target, promised, progress)
        copied += 1
    write_atomic(into.root / (prefix + METADATA), remote.get(prefix + METADATA), if_absent=False)
    return Transfer(label, found, copied, kept, moved)


def _bring(remote: ObjectStore, key: str, target: Path, promised: dict[str, Any], progress: Progress) -> int:
    """One file through its part; returns the bytes moved. A part that turns out wrong is thrown away once, then the remote is wrong."""
    part = target.with_name(f".tmp-{target.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    moved, resumed = 0, part.exists() and part.stat().st_size > 0
    for attempt in range(1, ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _append(remote, key, part, before, promised["size"], progress)
        except TransientError:
            if attempt == ATTEMPTS:
                raise
            continue
        finally:
            moved += part.stat().st_size - before
        if part.stat().st_size == promised["size"] and _sha256(part) == promised["sha256"]:
            with open(part, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(part, target)
            return moved
        part.unlink()
        if not resumed:
            break
        resumed = False
    raise CorruptionError(f"{target.name} does not match its sha256 in metadata.json", key, "upload the bundle again from its source")


def _append(remote: ObjectStore, key: str, part: Path, start: int, size: int, progress: Progress) -> None:
    """Stream what is missing of a file onto its part."""
    done = start
    with open(part, "ab") as file:
        for piece in remote.stream(key, start):
            file.write(piece)
            done += len(piece)
            progress(part.name.removeprefix(".tmp-").removesuffix(".part"), done, size)
            if done > size:  # not the file that metadata.json names
                return


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
    return digest.hexdigest()


def upload(local: ObjectStore, label: str, remote: ObjectStore, bundle_id: str | None = None, progress: Progress = silent) -> Transfer:
    """Copy a bundle to another store after checking every sha256 here; metadata.json last. InputError where another one has the label."""
    model = load_bundle(local, label, bundle_id)
    prefix = bundle_prefix(model.config.name, model.config.version)
    if remote.exists(prefix + METADATA):
        there = sha256_hex(remote.get(prefix + METADATA))
        if there != model.bundle_id:
            raise InputError(f"{label} is there with another content", prefix, "a version never changes: give the new model a new version")
        return Transfer(label, there, 0, len(model.metadata["files"]) + 1, 0)
    moved = 0
    for file, promised in model.metadata["files"].items():
        remote.put(prefix + file, local.get(prefix + file), if_absent=False)
        moved += promised["size"]
        progress(file, promised["size"], promised["size"])
    remote.put(prefix + METADATA, local.get(prefix + METADATA))
    return Transfer(label, model.bundle_id, len(model.metadata["files"]) + 1, 0, moved)


def condition(store: ObjectStore, label: str) -> str:
    """`whole`, or what is wrong with a stored bundle."""
    try:
        load_bundle(store, label)
    except TradingError as error:
        return error.what
    return "whole"


def leftovers(store: FileStore) -> Iterator[Path]:
    """Parts of broken downloads, and folders of versions without metadata.json: nothing that is a bundle."""
    root = store.root / ROOT
    yield from sorted(root.rglob(".tmp-*"))
    for folder in sorted(root.glob("*/versions/*")):
        if folder.is_dir() and not (folder / METADATA).is_file():
            yield folder


def clean(store: FileStore, used: Collection[str] | None = None) -> list[str]:
    """Remove leftovers, and with `used` (bundle ids) every bundle that is not among them; returns what was removed.

    used must hold every bundle that a ledger or a journal names: what an order walks back to is never garbage (T39).
    """
    removed = []
    for path in list(leftovers(store)):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        removed.append(path.relative_to(store.root).as_posix())
    for label in labels(store) if used is not None else ():
        prefix = bundle_prefix(*parse_label(label))
        if sha256_hex(store.get(prefix + METADATA)) not in (used or ()):
            (store.root / (prefix + METADATA)).unlink()  # first: a bundle without it is none
            shutil.rmtree(store.root / prefix)
            removed.append(prefix)
    return removed
