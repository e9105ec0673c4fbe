"""Lineage: an order walked back to the files it came from, every file opened and every sha256 computed again (I10).

order -> intent -> decision -> row -> bundle -> promotion -> manifests -> source files. Nothing is believed because it is written down: each
step is a `Link` with what was expected and what was found. Works offline from journal, ledger, object store and lake alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from trading_platform.contracts import ids
from trading_platform.contracts.canonical import canonical_bytes, content_hash, decode_array, parse, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError, TradingError
from trading_platform.contracts.instruments import lots_of
from trading_platform.contracts.journal import JournalReader, Kind, Record
from trading_platform.contracts.journaled_row import panel_of
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.contracts.manifest import SOURCE, Manifest
from trading_platform.registry.bundle import METADATA, bundle_prefix, find_bundle
from trading_platform.registry.object_store import ObjectStore

Rerun = Callable[[str], bool | None]
NOT_RE_EXECUTED = "decision hash-verified, not re-executed"
OpenSource = Callable[[str], bytes]


@dataclass(frozen=True, slots=True)
class Link:
    """One step. name: what it is; path: where it lies; expected, actual: hashes or short texts that must be equal; ok: whether they are."""

    name: str
    path: str
    expected: str
    actual: str

    @property
    def ok(self) -> bool:
        """OK or BROKEN."""
        return bool(self.expected) and self.expected == self.actual


@dataclass(frozen=True, slots=True)
class Places:
    """Where the evidence lies. open_source: bytes of a source file by the name its manifest gives it."""

    journal: Path
    ledger: Path
    store: ObjectStore
    lake: Path
    open_source: OpenSource


def lineage(order_id: str, places: Places, rerun: Rerun) -> list[Link]:
    """The links of one order, in walking order. order_id: our client id or the venue's.

    rerun: decides the journaled row again and says whether the decision's bytes are equal, None where other code or packages than those
    that decided would have to do it: then the chain's hashes stand alone (T39) and the link says so. A missing or damaged piece is a
    broken link, and
    the walk goes on where it can. Raises InputError when the journal knows no such order.
    """
    with JournalReader(places.journal) as reader:
        intent = _intent(reader, order_id)
        links = [_chain(reader, places.journal), _client_id(intent, places.journal)]
        decision = next(reader.records(Kind.DECISION, key=str(intent.body["origin_id"])), None)
        if decision is None:
            return [*links, *_command(reader, intent)]
        links += [*_fills(reader, intent), *_decision(reader, intent, decision, rerun, places.journal)]
        body = decision.body["decision"]
        for bundle_id in body["bundle_ids"]:
            swap = _swap(reader, bundle_id, decision.seq)
            links += [*_promotion(places.ledger, bundle_id, swap, decision), *_bundle(places, bundle_id)]
        if not body["bundle_ids"]:
            links.append(Link("bundle", str(places.journal), "a bundle", "the decision names none"))
    return links


def broken(links: list[Link]) -> list[Link]:
    """The links that do not hold."""
    return [link for link in links if not link.ok]


def _intent(reader: JournalReader, order_id: str) -> Record:
    found = next(reader.records(Kind.INTENT, key=order_id), None)
    if found is None:
        named = (r.key for r in reader.records(Kind.ORDER_EVENT) if r.body.get("venue_order_id") == order_id)
        client_id = next(named, None)
        found = None if client_id is None else next(reader.records(Kind.INTENT, key=client_id), None)
    if found is None:
        raise InputError(
            f"no order {order_id}", str(reader.path), "give the client order id or the venue's order id of an order in this journal"
        )
    return found


def _attempt(name: str, path: str, expected: str, actual: Callable[[], str]) -> Link:
    """A link whose actual side may fail to be read: the failure's text is then what was found."""
    try:
        return Link(name, path, expected, actual())
    except (TradingError, OSError) as error:
        return Link(name, path, expected, error.what if isinstance(error, TradingError) else f"{type(error).__name__}")


def _chain(reader: JournalReader, path: Path) -> Link:
    count, head = reader.head()
    return _attempt("journal", str(path), f"{count} records, head {head[:12]}", lambda: f"{reader.verify()} records, head {head[:12]}")


def _client_id(intent: Record, path: Path) -> Link:
    """The order's id computed again from what it is a function of (T15)."""
    body = intent.body
    account = intent.session_id.split("/")[0]
    own = ids.client_order_id(account, intent.session_id, body["origin_id"], body["instrument_id"], body["leg"], body["attempt"])
    return Link("order", f"{path}#{intent.seq}", intent.key, own)


def _command(reader: JournalReader, intent: Record) -> Iterator[Link]:
    """An order without a decision belongs to an operator's or a guard's command."""
    origin = str(intent.body["origin_id"])
    command = next(reader.records(Kind.COMMAND, key=origin), None)
    where = str(reader.path) if command is None else f"{reader.path}#{command.seq}"
    yield Link("command", where, origin, "not in the journal" if command is None else command.key)


def _fills(reader: JournalReader, intent: Record) -> Iterator[Link]:
    """Each fill against the venue's own activity of that execution, found by the order's cumulative quantity (T12)."""
    fills = [record for record in reader.records(Kind.FILL) if record.body.get("client_order_id") == intent.key]
    told = {
        (str(record.body["order_id"]), lots_of(str(record.body["cum_qty"]))): record
        for record in (reader.records(Kind.ACTIVITY) if fills else ())
        if record.body["activity_type"] == "FILL"
    }
    so_far = 0
    for fill in fills:
        so_far += int(fill.body["lots"])
        name, where = f"fill {fill.body['lots']} at {fill.body['price']}", f"{reader.path}#{fill.seq}"
        claimed = _execution(fill.body["instrument_id"], fill.body["side"], fill.body["lots"], fill.body["price"])
        activity = told.get((str(fill.body["venue_order_id"]), so_far))
        if activity is not None:
            body = activity.body
            same = body["symbol"] == intent.body["symbol"] and body["side"] == intent.body["side"]
            said = _execution(intent.body["instrument_id"], body["side"], body["qty"], body["price"])
            yield Link(name, where, claimed, said if same else f"the venue filled {body['side']} {body['symbol']}")
        elif next(reader.records(Kind.SESSION_CLOSED, after=fill.seq), None) is None:
            ordered = _execution(intent.body["instrument_id"], intent.body["side"], fill.body["lots"], fill.body["price"])
            yield Link(f"{name}, the venue's activity is still to come", where, claimed, ordered)
        else:
            yield Link(name, where, claimed, "the venue's activities hold no such fill")


def _execution(instrument_id: str, side: str, quantity: object, price: str) -> str:
    return f"{side} {lots_of(str(quantity))} {instrument_id} at {Decimal(price).normalize():f}"


def _decision(reader: JournalReader, intent: Record, decision: Record, rerun: Rerun, path: Path) -> Iterator[Link]:
    body = decision.body["decision"]
    hashes = body["hashes"]
    parts = (
        hashes["engine"],
        tuple(body["bundle_ids"]),
        hashes["profile"],
        body["account_state_hash"],
        body["row_hash"],
        int(body["known_at"]),
    )
    yield Link("decision", f"{path}#{decision.seq}", decision.key, ids.decision_id(*parts))
    if intent.body["leg"] in ("enter", "reduce"):
        wanted = [str(intent.body[name]) for name in ("instrument_id", "side", "lots")]
        planned = [[str(order[name]) for name in ("instrument_id", "side", "lots")] for order in body["orders"]]
        shown = " ".join(wanted)
        yield Link("plan", f"{path}#{decision.seq}", shown, shown if wanted in planned else "not in the decision's plan")
    row = next(
        reader.records(Kind.ROW, key=f"{body['timeframe']}:{body['timestamp']}", session_id=decision.session_id, until=decision.seq), None
    )
    where = str(path) if row is None else f"{path}#{row.seq}"
    yield _attempt("row", where, body["row_hash"], lambda: "not in the journal" if row is None else _row_hash(row))
    content = sha256_hex(canonical_bytes(body))
    yield _again(rerun, decision, f"{path}#{decision.seq}", content)


def _row_hash(row: Record) -> str:
    """The hash of everything the decision read from outside, computed again from the journaled bars and their context."""
    from trading_platform.engine.context import RowContext, row_hash

    try:
        given: dict[str, Any] = {
            name: decode_array(value) if isinstance(value, dict) else value for name, value in row.body["context"].items()
        }
        return row_hash(panel_of(row.body), RowContext(**given))
    except (KeyError, TypeError) as error:
        raise CorruptionError(
            f"not a row as this version writes it: {error}", f"record {row.seq}", "use the version that wrote it"
        ) from error


def _again(rerun: Rerun, decision: Record, where: str, content: str) -> Link:
    try:
        equal = rerun(decision.key)
    except (TradingError, OSError) as error:
        return Link("re-run of the decision", where, content, error.what if isinstance(error, TradingError) else type(error).__name__)
    if equal is None:
        return Link(NOT_RE_EXECUTED, where, content, content)
    return Link("re-run of the decision", where, content, content if equal else "other bytes")


def _swap(reader: JournalReader, bundle_id: str, before: int) -> Record | None:
    """The activation of a bundle that was in force at a record."""
    newest = None
    for record in reader.records(Kind.SWAP, until=before):
        if record.body.get("bundle_id") == bundle_id:
            newest = record
    return newest


def _promotion(path: Path, bundle_id: str, swap: Record | None, decision: Record) -> Iterator[Link]:
    """The ledger's entry the activation named: still in an unbroken chain, for this bundle, account and mode."""
    account, mode = decision.session_id.split("/")[:2]
    wanted = f"{bundle_id[:12]} for {account}/{mode}"
    if swap is None:
        yield Link("promotion", str(path), wanted, "the journal holds no activation of this bundle")
        return

    def found() -> str:
        entries = LedgerReader(path).entries()
        pinned = str(swap.body.get("ledger_head", ""))
        if pinned not in {entry.hash for entry in entries}:
            return "the ledger no longer holds the head that was pinned"
        seq = int(swap.body.get("ledger_seq", 0))
        entry = entries[seq - 1] if 1 <= seq <= len(entries) else None
        if entry is None or entry.action != "promote" or entry.stage not in ("paper", "live"):
            return f"entry {seq} is no promotion"
        return f"{entry.bundle_id[:12]} for {entry.account}/{entry.mode}"

    yield _attempt("promotion", f"{path}#{swap.body.get('ledger_seq', '?')}", wanted, found)


def _bundle(places: Places, bundle_id: str) -> Iterator[Link]:
    label = find_bundle(places.store, bundle_id)
    if label is None:
        yield Link("bundle", bundle_id[:12], bundle_id, "not in the object store")
        return
    name, _, version = label.rpartition("_v")
    prefix = bundle_prefix(name, version)
    content = places.store.get(prefix + METADATA)
    yield Link(f"bundle {label}", prefix + METADATA, bundle_id, sha256_hex(content))
    metadata = parse(content)
    for file, promised in sorted(metadata["files"].items()):
        yield _attempt(f"bundle {file}", prefix + file, promised["sha256"], lambda key=prefix + file: sha256_hex(places.store.get(key)))  # type: ignore[misc]
    yield from _made_of(places, bundle_id, metadata.get("lineage", {}))


def _made_of(places: Places, bundle_id: str, lineage_of_bundle: Mapping[str, Any]) -> Iterator[Link]:
    """The manifest of the bundle's own materialization, then all manifests and files behind it, each once."""
    asset = str(lineage_of_bundle.get("asset", ""))
    own = _manifest_of_bundle(places.lake, asset, bundle_id) if asset else None
    if own is None:
        yield Link("bundle's manifest", f"manifests/{asset}", bundle_id[:12], "no manifest in the lake names this bundle")
        return
    uri, manifest = own
    yield Link("bundle's inputs", uri, str(lineage_of_bundle.get("inputs_hash", "")), manifest.inputs_hash)
    waiting, seen = [uri], set[str]()
    while waiting:
        here = waiting.pop(0)
        if here in seen:
            continue
        seen.add(here)
        read: list[Manifest] = []
        yield _attempt("manifest", here, _hash_in(here), lambda uri=here, kept=read: _read_manifest(places.lake, uri, kept))  # type: ignore[misc]
        for found in read:
            yield from _files(places, here, found)
            waiting += [record.manifest for record in found.provenance]


def _hash_in(uri: str) -> str:
    """The sha256 that a content-addressed name promises."""
    return Path(uri).stem.rpartition("-")[2]


def _read_manifest(lake: Path, uri: str, kept: list[Manifest]) -> str:
    data = (lake / uri).read_bytes()
    kept.append(Manifest.from_bytes(data, uri))
    return sha256_hex(data)


def _manifest_of_bundle(lake: Path, asset: str, bundle_id: str) -> tuple[str, Manifest] | None:
    for path in sorted((lake / "manifests" / asset).rglob("part-*.json")):
        try:
            manifest = Manifest.from_bytes(path.read_bytes(), path.name)
        except CorruptionError:  # a damaged one cannot be this bundle's; if it was, the walk ends in a broken link
            continue
        if manifest.facts.get("bundle_id") == bundle_id:
            return path.relative_to(lake).as_posix(), manifest
    return None


def data_version_of(manifest: Manifest) -> str:
    """The data version of a manifest's outputs, computed again (DESIGN 10)."""
    schema = {name: dtype for output in manifest.outputs for name, dtype in output.schema.items()}
    files = [output.sha256 for output in manifest.outputs]
    identity = {
        "asset": manifest.asset,
        "partition": manifest.partition,
        "code_version": manifest.code_version,
        "schema": schema,
        "files": files,
    }
    return content_hash(identity)


def _files(places: Places, uri: str, manifest: Manifest) -> Iterator[Link]:
    title = manifest.asset if manifest.partition == "all" else f"{manifest.asset} {manifest.partition}"
    yield Link(f"{title} data version", uri, manifest.data_version, data_version_of(manifest))
    for output in manifest.outputs:
        path = places.lake / output.uri
        yield _attempt(f"{title} file", output.uri, output.sha256, lambda path=path: sha256_hex(path.read_bytes()))  # type: ignore[misc]
    for record in manifest.inputs:
        if record.asset == SOURCE:
            name = record.partition
            yield _attempt(f"{title} source", name, record.sha256, lambda name=name: sha256_hex(places.open_source(name)))  # type: ignore[misc]
