"""`trading-platform models`: what lies in the object store, and what the ledger says about it."""

from __future__ import annotations

import json

from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings
from trading_platform.contracts.canonical import parse, sha256_hex
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.demo.screen import Screen

METADATA = "/metadata.json"


def list_models(settings: Settings, action: str, as_json: bool) -> int:
    """`list`: every bundle. `status`: every bundle with its newest ledger entry."""
    store = Workplace(settings).store
    newest = {entry.bundle_id: entry for entry in LedgerReader(settings.ledger_path).entries()}
    rows = []
    for key in sorted(key for key in store.list("trading-models/") if key.endswith(METADATA) and "/versions/" in key):
        content = store.get(key)
        bundle_id, metadata = sha256_hex(content), parse(content)
        entry = newest.get(bundle_id)
        row = {"bundle": key.removesuffix(METADATA), "bundle_id": bundle_id, "size_mb": metadata.get("file_size_mb")}
        if action == "status":
            row |= {
                "stage": entry.stage if entry else "none",
                "account": f"{entry.account}/{entry.mode}" if entry else "",
                "entry": entry.seq if entry else 0,
            }
        rows.append(row)
    if as_json:
        print(json.dumps(rows))
    elif rows:
        Screen().table("bundles", tuple(rows[0]), [tuple(str(value) for value in row.values()) for row in rows])
    else:
        print("no bundles: run `make demo`, or materialize model_bundle")
    return 0
