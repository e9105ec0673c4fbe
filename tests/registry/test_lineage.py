"""An order walked back over real files; each kind of damage breaks the link that names it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trading_platform.contracts import ids
from trading_platform.contracts.canonical import canonical_bytes, sha256_hex
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import DDL, GENESIS, JournalReader, Kind, record_hash
from trading_platform.contracts.journaled_row import panel_body
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.contracts.manifest import SOURCE, InputRecord, Manifest, OutputFile, Provenance, inputs_hash
from trading_platform.contracts.model import ModelConfig
from trading_platform.contracts.panel import Panel
from trading_platform.engine.context import RowContext, row_hash
from trading_platform.market_data.lake import Lake
from trading_platform.registry import ledger
from trading_platform.registry.bundle import bundle_prefix, write_bundle
from trading_platform.registry.lineage import Link, Places, broken, data_version_of, lineage
from trading_platform.registry.object_store import FileStore

SESSION = "demo/paper/2014-10-01/1"
SOURCE_BYTES = b"raw bars"
TECHNICAL: dict[str, dict[str, Any]] = {name: {"passed": True} for name in ledger.TECHNICAL_GATES}


def publish(
    lake: Lake, asset: str, data: bytes, inputs: tuple[InputRecord, ...], above: tuple[Provenance, ...], facts: dict[str, Any]
) -> Manifest:
    """Write one output file and the manifest of its materialization, as the asset graph does."""
    made = lake.write_file(asset, "table", data, ".bin")
    output = OutputFile(asset, "table", made.uri, made.sha256, made.size, 1, made.data_version, made.schema)
    manifest = Manifest(asset, "all", "c1", "", inputs_hash(inputs, {}), {}, inputs, (output,), above, facts=facts)
    manifest = replace(manifest, data_version=data_version_of(manifest))
    stored = lake.write_file(f"manifests/{asset}", "all", manifest.to_bytes(), ".json")
    return replace(manifest, facts={**manifest.facts, "uri": stored.uri})


def provenance(manifest: Manifest) -> Provenance:
    return Provenance(manifest.asset, "all", 1, "run", str(manifest.facts["uri"]), 0.0)


def write_journal(path: Path, records: list[tuple[Kind, str, dict[str, Any]]]) -> None:
    database = sqlite3.connect(path)
    database.executescript(DDL)
    previous = GENESIS
    for seq, (kind, key, body) in enumerate(records, start=1):
        digest = record_hash(previous, seq, SESSION, seq, str(kind), key, body)
        database.execute(
            "INSERT INTO record VALUES (?,?,?,?,?,?,?,?)", (seq, SESSION, seq, str(kind), key, canonical_bytes(body), previous, digest)
        )
        previous = digest
    database.commit()
    database.close()


def journaled_row() -> tuple[dict[str, Any], str]:
    """A ROW record's body and the hash a decision keeps of it."""
    one = np.ones((1, 1))
    day, known_at, at = (np.array([value], np.int64) for value in (0, 77, 70))
    panel = Panel("1Day", ("us:AAPL",), at, known_at, day, {"close": 10.0 * one}, one > 0, one > 0)
    context = RowContext(np.array([10.0]), np.array([0.5]), 1, 2, 3, np.array([0]), np.array([1e6]))
    body = {**panel_body(panel), "context": {name: getattr(context, name) for name in RowContext.__dataclass_fields__}}
    return body, row_hash(panel, context)


def fill_of(lots: int, price: str) -> dict[str, Any]:
    return {"venue_order_id": "venue-1", "instrument_id": "us:AAPL", "side": "buy", "lots": lots, "price": price}


def activity_of(quantity: int, price: str, so_far: int) -> dict[str, Any]:
    told = {"activity_type": "FILL", "order_id": "venue-1", "symbol": "AAPL", "side": "buy"}
    return {**told, "qty": str(quantity), "price": price, "cum_qty": str(so_far)}


class Scene:
    """A traded order with everything behind it, on disk."""

    def __init__(self, root: Path) -> None:
        self.root = root
        lake, store = Lake(root / "lake"), FileStore(root / "bundles")
        raw = InputRecord(SOURCE, "bars.parquet", "", sha256_hex(SOURCE_BYTES))
        bars = publish(lake, "bars_daily", b"bars", (raw,), (), {})
        read = InputRecord("bars_daily", "all", bars.data_version, bars.outputs[0].sha256)
        upstream = (provenance(bars),)
        config = ModelConfig("alpha", "1", "daily", "1Day", "core", "f" * 64, ("a",), "v", "w", 5, "r", 1, 2, {})
        told = {"created_at": 1, "lineage": {"asset": "model_bundle", "inputs_hash": inputs_hash((read,), {})}}
        self.bundle_id = write_bundle(store, config, b"onnx", np.zeros((1, 1), np.float32), np.zeros(1), told, "# card")
        publish(lake, "model_bundle", b"native", (read,), upstream, {"bundle_id": self.bundle_id})
        promotions = root / "promotion.jsonl"
        for stage in ("candidate", "shadow", "paper"):
            arguments: dict[str, Any] = {"name": "alpha", "version": "1", "bundle_id": self.bundle_id, "account": "demo", "mode": "paper"}
            arguments |= {"stage": stage, "slot": "daily", "at": 1, "approvals": (), "reason": "test", "gates": TECHNICAL}
            ledger.promote(promotions, expected_head=LedgerReader(promotions).head(), **arguments)
        self.order = self._journal(root / "journal.sqlite", LedgerReader(promotions).head())
        self.places = Places(root / "journal.sqlite", promotions, store, root / "lake", lambda name: (root / name).read_bytes())
        (root / "bars.parquet").write_bytes(SOURCE_BYTES)

    def _journal(self, path: Path, head: str) -> str:
        hashes, (row, row_digest) = {"engine": "e" * 64, "profile": "p" * 64}, journaled_row()
        decision = ids.decision_id(hashes["engine"], (self.bundle_id,), hashes["profile"], "s" * 64, row_digest, 77)
        order = {"instrument_id": "us:AAPL", "side": "buy", "lots": 5}
        client = ids.client_order_id("demo", SESSION, decision, "us:AAPL", "enter", 1)
        body = {"timeframe": "1Day", "timestamp": 70, "known_at": 77, "bundle_ids": [self.bundle_id], "hashes": hashes, "orders": [order]}
        body |= {"account_state_hash": "s" * 64, "row_hash": row_digest}
        sent = {"symbol": "AAPL", "origin_id": decision, "leg": "enter", "attempt": 1}
        write_journal(
            path,
            [
                (Kind.SWAP, "alpha_v1", {"bundle_id": self.bundle_id, "ledger_head": head, "ledger_seq": 3}),
                (Kind.ROW, "1Day:70", row),
                (Kind.DECISION, decision, {"decision": body, "trace": {}}),
                (Kind.INTENT, client, {**order, **sent}),
                (Kind.ORDER_EVENT, client, {"client_order_id": client, "venue_order_id": "venue-1"}),
                (Kind.FILL, "x1", {"client_order_id": client, **fill_of(2, "10.00")}),
                (Kind.FILL, "x2", {"client_order_id": client, **fill_of(3, "10.01")}),
                (Kind.ACTIVITY, "a1", activity_of(2, "10", 2)),
                (Kind.ACTIVITY, "a2", activity_of(3, "10.01", 5)),
                (Kind.SESSION_CLOSED, "2014-10-01", {}),
            ],
        )
        return client

    def rewrite(self, change: Callable[[Kind, str, dict[str, Any]], dict[str, Any] | None]) -> None:
        """A journal whose chain is sound and whose records say something else: each body as `change` gives it, None leaves it out."""
        with JournalReader(self.places.journal) as reader:
            told = [(record.kind, record.key, change(record.kind, record.key, dict(record.body))) for record in reader.records()]
        self.places.journal.unlink()
        write_journal(self.places.journal, [(kind, key, body) for kind, key, body in told if body is not None])

    def walk(self, rerun: Callable[[str], bool | None] = lambda decision: True) -> list[Link]:
        return lineage(self.order, self.places, rerun)

    def file(self, pattern: str) -> Path:
        return next(iter(sorted(self.root.glob(pattern))))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_every_link_of_a_sound_order_holds(scene: Scene) -> None:
    links = scene.walk()
    assert broken(links) == []
    names = [link.name for link in links]
    for expected in (
        "journal",
        "order",
        "fill 2 at 10.00",
        "fill 3 at 10.01",
        "decision",
        "plan",
        "row",
        "re-run of the decision",
        "promotion",
        "bundle alpha_v1",
    ):
        assert expected in names
    for expected in (
        "bundle model.onnx",
        "bundle's inputs",
        "model_bundle file",
        "bars_daily data version",
        "bars_daily file",
        "bars_daily source",
    ):
        assert expected in names
    assert lineage("venue-1", scene.places, lambda decision: True) == links


def test_a_decision_that_comes_out_differently_breaks_its_link(scene: Scene) -> None:
    assert [link.name for link in broken(scene.walk(lambda decision: False))] == ["re-run of the decision"]


def test_a_decision_of_other_code_is_called_hash_verified_and_never_re_run(scene: Scene) -> None:
    links = scene.walk(lambda decision: None)
    assert broken(links) == []
    names = [link.name for link in links]
    assert "decision hash-verified, not re-executed" in names and "re-run of the decision" not in names


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("bundles/trading-models/alpha/versions/v1/model.onnx", "bundle model.onnx"),
        ("bundles/trading-models/alpha/versions/v1/card.md", "bundle card.md"),
        ("lake/bars_daily/table/part-*.bin", "bars_daily file"),
        ("lake/model_bundle/table/part-*.bin", "model_bundle file"),
        ("lake/manifests/bars_daily/all/part-*.json", "manifest"),
        ("lake/manifests/model_bundle/all/part-*.json", "bundle's manifest"),
        ("bars.parquet", "bars_daily source"),
    ],
)
@pytest.mark.parametrize("damage", ["change", "remove"])
def test_a_damaged_or_missing_file_breaks_the_link_that_names_it(scene: Scene, pattern: str, name: str, damage: str) -> None:
    path = scene.file(pattern)
    if damage == "remove":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    assert name in [link.name for link in broken(scene.walk())]


def test_an_edited_journal_breaks_the_first_link(scene: Scene) -> None:
    database = sqlite3.connect(scene.places.journal)
    database.execute("DROP TRIGGER record_no_update")
    database.execute("UPDATE record SET body = CAST(replace(body, '10.00', '11.00') AS BLOB) WHERE kind = 'fill'")
    database.commit()
    database.close()
    assert [link.name for link in broken(scene.walk())] == ["journal", "fill 2 at 11.00"]


def changed(wanted: Kind, key: str, **values: Any) -> Callable[[Kind, str, dict[str, Any]], dict[str, Any] | None]:
    return lambda kind, name, body: {**body, **values} if (kind, name) == (wanted, key) else body


@pytest.mark.parametrize(
    ("kind", "key", "values", "name"),
    [
        (Kind.ACTIVITY, "a2", {"price": "10.02"}, "fill 3 at 10.01"),
        (Kind.ACTIVITY, "a2", {"qty": "2"}, "fill 3 at 10.01"),
        (Kind.ACTIVITY, "a2", {"cum_qty": "4"}, "fill 3 at 10.01"),
        (Kind.ACTIVITY, "a1", {"side": "sell"}, "fill 2 at 10.00"),
        (Kind.ACTIVITY, "a1", {"symbol": "IBM"}, "fill 2 at 10.00"),
        (Kind.ACTIVITY, "a1", {"order_id": "venue-2"}, "fill 2 at 10.00"),
        (Kind.FILL, "x1", {"side": "sell"}, "fill 2 at 10.00"),
        (Kind.FILL, "x1", {"instrument_id": "us:IBM"}, "fill 2 at 10.00"),
        (Kind.ROW, "1Day:70", {"known_at": 78}, "row"),
        (Kind.ROW, "1Day:70", {"fields": {"close": np.array([10.01])}}, "row"),
        (Kind.ROW, "1Day:70", {"member": np.array([False])}, "row"),
        (Kind.ROW, "1Day:70", {"context": {}}, "row"),
    ],
)
def test_a_record_that_says_something_else_breaks_its_link_though_the_chain_holds(
    scene: Scene, kind: Kind, key: str, values: dict[str, Any], name: str
) -> None:
    scene.rewrite(changed(kind, key, **values))
    assert [link.name for link in broken(scene.walk())] == [name]


def test_one_context_value_changes_the_rows_hash(scene: Scene) -> None:
    def halted(kind: Kind, key: str, body: dict[str, Any]) -> dict[str, Any]:
        return {**body, "context": {**body["context"], "kill_level": 1}} if kind is Kind.ROW else body

    scene.rewrite(halted)
    assert [link.name for link in broken(scene.walk())] == ["row"]


def test_a_fill_waits_for_the_venues_activity_only_until_the_session_is_closed(scene: Scene) -> None:
    scene.rewrite(lambda kind, key, body: None if key == "a2" else body)
    assert [(link.name, link.actual) for link in broken(scene.walk())] == [("fill 3 at 10.01", "the venue's activities hold no such fill")]
    scene.rewrite(lambda kind, key, body: None if kind is Kind.SESSION_CLOSED else body)
    links = scene.walk()
    assert broken(links) == [] and "fill 3 at 10.01, the venue's activity is still to come" in [link.name for link in links]


def test_an_edited_or_shortened_ledger_breaks_the_promotion(scene: Scene) -> None:
    path = scene.places.ledger
    whole = path.read_bytes()
    path.write_bytes(b"".join(whole.splitlines(keepends=True)[:2]))
    assert [link.name for link in broken(scene.walk())] == ["promotion"]
    path.write_bytes(whole.replace(b"test", b"tset", 1))
    assert [link.name for link in broken(scene.walk())] == ["promotion"]


def test_a_bundle_that_is_gone_or_replaced_is_found(scene: Scene) -> None:
    metadata = scene.root / "bundles" / bundle_prefix("alpha", "1") / "metadata.json"
    metadata.write_bytes(metadata.read_bytes() + b" ")
    assert [link.name for link in broken(scene.walk())] == ["bundle"]


def test_an_unknown_order_says_so(scene: Scene) -> None:
    with pytest.raises(InputError, match="no order nobody"):
        lineage("nobody", scene.places, lambda decision: True)


def test_an_order_of_a_command_ends_at_the_command(tmp_path: Path) -> None:
    client = ids.client_order_id("demo", SESSION, "flatten-1", "us:AAPL", "flatten", 1)
    intent = {"origin_id": "flatten-1", "instrument_id": "us:AAPL", "side": "sell", "lots": 5, "leg": "flatten", "attempt": 1}
    write_journal(tmp_path / "j.sqlite", [(Kind.COMMAND, "flatten-1", {"by": "ann"}), (Kind.INTENT, client, intent)])
    places = Places(tmp_path / "j.sqlite", tmp_path / "l.jsonl", FileStore(tmp_path), tmp_path, lambda name: b"")
    links = lineage(client, places, lambda decision: True)
    assert [link.name for link in links] == ["journal", "order", "command"] and broken(links) == []
