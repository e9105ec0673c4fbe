"""What traded: a session's journal lifted into the lake, judged for parity with the batch world (T35), and reported to the cent (T36)."""

# No postponed annotations here: Dagster reads those of an asset's context as they stand.
from collections.abc import Callable, Sequence
from typing import Any

import dagster as dg

from trading_platform.assets.inputs import Reads, Recipe, latest_of_every, newest_of
from trading_platform.assets.node import Node, of
from trading_platform.assets.publish import Publication
from trading_platform.assets.resources import Platform
from trading_platform.assets.session_accounts import PARTS, SessionAccount, session_accounts
from trading_platform.assets.session_tables import pnl_frame, session_tables
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.journal import JournalReader, Kind

SESSIONS = dg.DynamicPartitionsDefinition(name="sessions")
CENT = 0.005
APART = ("equity_apart", "cash_apart")
# Sessions of one journal are read in one pass: a range of partitions is one run.
ONE_RUN = dg.BackfillPolicy.single_run()
SESSION_CODE = ("assets.session_accounts", "assets.session_tables", "assets.live", "contracts.activities", "contracts.journal")


def journal_of(place: Workplace, session_id: str) -> JournalReader:
    """The journal that holds a session `<account>/<mode>/<date>/<number>`. InputError where the id or the file is not one."""
    parts = session_id.split("/")
    if len(parts) != 4:
        raise InputError(f"{session_id!r} is not a session id", "partition of live_journal", "use <account>/<mode>/<YYYY-MM-DD>/<number>")
    return JournalReader(place.settings.journals_dir / f"{parts[0]}-{parts[1]}.sqlite")


def session_ids(place: Workplace, account: str, mode: str) -> list[str]:
    """Every session a journal has opened, in order; none without a journal."""
    path = place.settings.journals_dir / f"{account}-{mode}.sqlite"
    if not path.is_file():
        return []
    with JournalReader(path) as reader:
        return list(dict.fromkeys(record.session_id for record in reader.records(Kind.SESSION_OPENED)))


def _segment(place: Workplace, session_id: str) -> Sequence[Any]:
    """A session's segment of the chained journal as a source file: its last record's hash says everything before it, too."""
    from trading_platform.market_data.sources.protocol import SourceFile

    with journal_of(place, session_id) as reader:
        count, last = 0, ""
        for record in reader.records(session_id=session_id):
            count, last = count + 1, record.hash
    if not count:
        raise InputError(f"the journal has no session {session_id}", "live_journal", "give the id of a session that was opened")
    return [SourceFile(f"journal/{session_id}", last, count)]


JOURNAL = Recipe("live_journal", SESSION_CODE, {}, sources=_segment)
REPORT = Recipe("session_report", SESSION_CODE, {"live_journal": Reads.SAME}, sources=_segment)


def materialize_sessions(
    context: dg.AssetExecutionContext, platform: Platform, recipe: Recipe, publish: Callable[[Publication], dg.MaterializeResult]
) -> dg.MaterializeResult:
    """Publish every session of the run's partition range, each with a manifest and metadata of its own.

    Dagster has one data version per run of a range, so for more than one session it is the hash over theirs; a session's own is in its
    metadata and its manifest.
    """
    from trading_platform.contracts.canonical import content_hash

    versions = []
    session_ids = context.partition_keys  # a query
    known = newest_of(context.instance, platform.place, recipe, set(session_ids))
    with platform.place.lake.together():
        for session_id in session_ids:
            result = publish(Publication(context, platform.place, recipe, session_id, known))
            assert result.data_version is not None
            versions.append(result.data_version.value)
            if len(session_ids) == 1:
                return result
            context.add_asset_metadata(dict(result.metadata or {}), asset_key=recipe.asset, partition_key=session_id)
    return dg.MaterializeResult(data_version=dg.DataVersion(content_hash(versions)))


def publish_journal(out: Publication) -> dg.MaterializeResult:
    """Lift one session's records into tables."""
    with journal_of(out.place, out.partition) as reader:
        records = list(reader.records(session_id=out.partition))
    opened = next((record for record in records if record.kind is Kind.SESSION_OPENED), None)
    if opened is None:
        raise InputError(f"session {out.partition} was never opened", "live_journal", "give the id of a session that was opened")
    closed = any(record.kind is Kind.SESSION_CLOSED for record in records)
    tables = session_tables(records, out.partition, int(opened.body["session"]))
    for name, table in tables.items():
        if table.height or name == "decisions":  # most sessions have no activity and many no fill: no file says the same, faster
            out.table(name, table, sort_by=())
    counts = {name: table.height for name, table in tables.items()}
    head = {"first_seq": records[0].seq, "last_seq": records[-1].seq, "chain_head": records[-1].hash, "closed": closed}
    return out.result({**counts, **head, "records": len(records)}, facts={**counts, **head, "session": int(opened.body["session"])})


def journal_asset() -> Node:
    """live_journal with its check."""

    @dg.asset(
        **of(JOURNAL),
        group_name="live",
        kinds={"sqlite", "parquet"},
        partitions_def=SESSIONS,
        backfill_policy=ONE_RUN,
        description="A session's journal as tables",
    )
    def live_journal(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        return materialize_sessions(context, platform, JOURNAL, publish_journal)

    @dg.asset_check(asset="live_journal", blocking=True, name="chain", description="every record's hash follows from the one before it")
    def chain(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        return judge_chain(context.instance, platform.place)

    return Node(JOURNAL, live_journal, (chain,))


def judge_chain(instance: dg.DagsterInstance, place: Workplace) -> dg.AssetCheckResult:
    """Recompute the chain of every journal that a lifted session came from."""
    from trading_platform.contracts.errors import CorruptionError

    sessions = latest_of_every(instance, place, "live_journal")
    verified, broken = 0, []
    for one in {tuple(session_id.split("/")[:2]): session_id for session_id in sessions}.values():
        with journal_of(place, one) as reader:
            try:
                verified += reader.verify()
            except CorruptionError as error:
                broken.append(error.what)
    return dg.AssetCheckResult(passed=not broken, metadata={"records": verified, "broken": "; ".join(broken)})


class AccountsOfRun:
    """Accounts of a journal's sessions, folded once per run however many of them are reported."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._found: dict[str, SessionAccount] = {}

    def of(self, session_id: str) -> SessionAccount:
        """One session's account."""
        if session_id not in self._found:
            with journal_of(self._place, session_id) as reader:
                self._found |= session_accounts(reader.records(after=_adoption(reader, session_id)))
        return self._found[session_id]


def _adoption(reader: JournalReader, session_id: str) -> int:
    """Number of the record before the one that adopted the account a session trades: what came before it was another account's."""
    opened = next(record.seq for record in reader.records(Kind.SESSION_OPENED, session_id=session_id))
    adopted = [record.seq for record in reader.records(Kind.ACCOUNT, until=opened) if record.body.get("adopted")]
    return adopted[-1] - 1 if adopted else 0


def publish_report(out: Publication, accounts: AccountsOfRun) -> dg.MaterializeResult:
    """P&L by name and part, exposures, denials, open orders of one session (T36)."""
    account = accounts.of(out.partition)
    table = pnl_frame(account)
    out.table("pnl", table, sort_by=())
    parts = {part: round(sum(values[part] for values in account.pnl.values()), 2) for part in PARTS}
    change = account.equity_after - account.equity_before - account.flows
    imbalance = account.total - change
    metadata = {
        **{f"pnl_{part}": value for part, value in parts.items()},
        "pnl_total": round(account.total, 2),
        "equity_before": round(account.equity_before, 2),
        "equity_after": round(account.equity_after, 2),
        "flows": round(account.flows, 2),
        "gross_exposure": round(account.gross, 2),
        "net_exposure": round(account.net, 2),
        "positions": len(account.positions),
        "fills": len(account.trades),
        "orders": account.orders,
        "orders_working": account.working,
        "denials": dg.MetadataValue.json(account.denials),
        "breaks": "; ".join(account.breaks),
        "by_name": dg.MetadataValue.md(_markdown(account)),
    }
    apart = {"equity_apart": account.equity_after - account.engine_equity, "cash_apart": account.cash - account.venue_cash}
    facts = {"imbalance": imbalance, "fills": len(account.trades), "breaks": account.breaks, **{k: v for k, v in apart.items() if v == v}}
    return out.result(metadata, facts=facts)


def _markdown(account: SessionAccount) -> str:
    ranked = sorted(account.pnl.items(), key=lambda item: sum(item[1].values()))
    shown = ranked if len(ranked) <= 20 else [*ranked[:10], *ranked[-10:]]
    head = f"| name | {' | '.join(PARTS)} | total |\n|---|{'---|' * (len(PARTS) + 1)}"
    rows = [f"| {name} | {' | '.join(f'{parts[part]:.2f}' for part in PARTS)} | {sum(parts.values()):.2f} |" for name, parts in shown]
    return "\n".join([head, *rows])


def report_asset() -> Node:
    """session_report with its check."""

    @dg.asset(
        **of(REPORT),
        group_name="live",
        kinds={"polars", "parquet"},
        partitions_def=SESSIONS,
        backfill_policy=ONE_RUN,
        description="P&L of a session by name and cause",
    )
    def session_report(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        accounts = AccountsOfRun(platform.place)
        return materialize_sessions(context, platform, REPORT, lambda out: publish_report(out, accounts))

    @dg.asset_check(
        asset="session_report",
        blocking=True,
        name="balanced",
        description="parts add up to the equity change, and to the broker's, to the cent",
    )
    def balanced(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
        return judge_reports(context.instance, platform.place)

    return Node(REPORT, session_report, (balanced,))


def judge_reports(instance: dg.DagsterInstance, place: Workplace) -> dg.AssetCheckResult:
    """Sessions reported by this code: parts against equity change, equity and cash against the runner's at the close (T12, T36).

    What older code reported says other things about itself; it is counted, and judged when it is materialized again.
    """
    reports = latest_of_every(instance, place, "session_report")
    current = {session_id: found for session_id, found in reports.items() if found.manifest.code_version == REPORT.code_version}
    facts = {session_id: found.manifest.facts for session_id, found in current.items()}
    unbalanced = [session_id for session_id, said in facts.items() if abs(float(said.get("imbalance", float("inf")))) >= CENT]
    apart = [session_id for session_id, said in facts.items() if not all(abs(float(said.get(key, float("inf")))) < CENT for key in APART)]
    broken = [session_id for session_id, said in facts.items() if said.get("breaks")]
    wrong = {"unbalanced": unbalanced, "not_the_runners_account": apart, "breaks": broken}
    counts = {"sessions": len(facts), "of_older_code": len(reports) - len(current)}
    said = {**counts, **{name: ", ".join(sessions[:5]) for name, sessions in wrong.items()}}
    return dg.AssetCheckResult(passed=not any(wrong.values()), metadata=said)
