"""`trading-platform models`: what lies in the object store, what the ledger says about it, and bundles on their way between stores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings, load_profile
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.ledger import MOVES, LedgerEntry, LedgerReader
from trading_platform.contracts.profile import ModelRules
from trading_platform.demo.screen import Screen
from trading_platform.registry import model_sync
from trading_platform.registry.bundle import labels, read_metadata, stored_config, write_current
from trading_platform.registry.object_store import FileStore, open_store


def list_models(settings: Settings, action: str, as_json: bool) -> int:
    """`list`: every bundle. `status`: every bundle with its newest move in the ledger, its age and the state of its files."""
    store = Workplace(settings).store
    newest = {entry.bundle_id: entry for entry in LedgerReader(settings.ledger_path).entries() if entry.action in MOVES}
    rows, damaged = [], 0
    for label in labels(store):
        bundle_id, metadata = read_metadata(store, label, None)
        row: dict[str, Any] = {"bundle": label, "bundle_id": bundle_id, "size_mb": metadata.get("file_size_mb")}
        if action == "status":
            files = model_sync.condition(store, label)
            damaged += files != "whole"
            row |= _standing(newest.get(bundle_id)) | _age(settings, store, label, metadata, files) | {"files": files}
        rows.append(row)
    _show("bundles", rows, as_json, "no bundles: run `make demo`, or materialize model_bundle")
    return 1 if damaged else 0


def _standing(entry: LedgerEntry | None) -> dict[str, Any]:
    if entry is None:
        return {"stage": "none", "share": "", "account": "", "entry": 0}
    stage = entry.stage if entry.action == "promote" else "revoked"
    return {"stage": stage, "share": f"{entry.capital_share:.0%}", "account": f"{entry.account}/{entry.mode}", "entry": entry.seq}


def _age(settings: Settings, store: Any, label: str, metadata: Any, files: str) -> dict[str, Any]:
    """Sessions from the newest training bar to the newest session the settings may read, and what the runner does at that age (T25)."""
    if files != "whole":
        return {"trained_through": "", "age": ""}
    through = int(stored_config(store, label, metadata).trained_through)
    calendar, last = Workplace(settings).calendar, int(np.datetime64(settings.daily_last, "D").astype(np.int64))
    age = max(calendar.position(calendar.next_session(last)) - calendar.position(through), 0)
    return {"trained_through": str(np.datetime64(through, "D")), "age": f"{age}{freshness(age, load_profile(settings.profile).models)}"}


def freshness(age: int, rules: ModelRules) -> str:
    """What a runner does with a bundle of this age: nothing to say, a warning, or no new risk."""
    if age > rules.hard_max_age_sessions:
        return " (no new risk)"
    return " (old)" if age > rules.max_age_sessions else ""


def fetch_models(settings: Settings, url: str, wanted: Sequence[str] | None, bundle_id: str | None, as_json: bool) -> int:
    """Bring bundles of another store (all of them for None) into this platform's folder."""
    remote, into = open_store(url), _folder(settings)
    chosen = list(labels(remote)) if wanted is None else list(wanted)
    if not chosen:
        raise InputError("there are no bundles", url, "name a store that `models upload-s3` wrote to")
    with _progress(as_json) as shown:
        done = [model_sync.fetch(remote, label, into, bundle_id, shown(label)) for label in chosen]
    return _said(done, as_json, "fetched")


def upload_models(settings: Settings, url: str, wanted: Sequence[str] | None, current: bool, as_json: bool) -> int:
    """Copy bundles (all for None) to another store."""
    local, remote = Workplace(settings).store, open_store(url)
    with _progress(as_json) as shown:
        chosen = labels(local) if wanted is None else wanted
        done = [model_sync.upload(local, label, remote, progress=shown(label)) for label in chosen]
    for transfer in done if current else ():
        write_current(remote, transfer.label)
    return _said(done, as_json, "uploaded")


def clean_models(settings: Settings, unused: bool, as_json: bool) -> int:
    """Clear leftovers; with `unused` also bundles that neither the ledger nor any journal names."""
    removed = model_sync.clean(_folder(settings), used_bundles(settings) if unused else None)
    _show("removed", [{"path": path} for path in removed], as_json, "nothing to remove")
    return 0


def used_bundles(settings: Settings) -> set[str]:
    """Ids of all bundles that the ledger or a journal of this home names: an order may walk back to them (T39)."""
    found = {entry.bundle_id for entry in LedgerReader(settings.ledger_path).entries() if entry.bundle_id}
    for path in sorted(settings.journals_dir.glob("*.sqlite")):
        with JournalReader(path) as reader:
            swaps = reader.records(Kind.SWAP, Kind.SWAP_REFUSED)
            found |= {str(record.body["bundle_id"]) for record in swaps if record.body.get("bundle_id")}
            for record in reader.records(Kind.DECISION):
                found |= {str(bundle_id) for bundle_id in record.body["decision"]["bundle_ids"]}
    return found


def _folder(settings: Settings) -> FileStore:
    store = Workplace(settings).store
    if not isinstance(store, FileStore):
        raise InputError("the object store is no folder of this machine", settings.object_store, "unset TRADING_OBJECT_STORE_URL")
    return store


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[str], model_sync.Progress]]:
    """Per file of each bundle: size, speed and time left, on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Screen().console
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as progress:
        bars: dict[tuple[str, str], Any] = {}

        def of(label: str) -> model_sync.Progress:
            def shown(file: str, done: int, total: int) -> None:
                if (label, file) not in bars:
                    bars[label, file] = progress.add_task(f"{label} {file}", total=total)
                progress.update(bars[label, file], completed=done)

            return shown

        yield of


def _said(done: Sequence[model_sync.Transfer], as_json: bool, verb: str) -> int:
    rows = [{name: getattr(one, name) for name in ("label", "bundle_id", "copied", "kept", "moved")} for one in done]
    _show(verb, rows, as_json, f"nothing {verb}")
    return 0


def _show(title: str, rows: Sequence[dict[str, Any]], as_json: bool, empty: str) -> None:
    if as_json:
        print(json.dumps(list(rows)))
    elif rows:
        Screen().table(title, tuple(rows[0]), [tuple(str(value) for value in row.values()) for row in rows])
    else:
        print(empty)
