"""A closed session's journal records as tables: what dbt, reports and people read. The journal itself stays the record (I11)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from trading_platform.assets.session_accounts import ACCOUNT, PARTS, SessionAccount
from trading_platform.contracts.canonical import decode_array
from trading_platform.contracts.journal import Kind, Record

if TYPE_CHECKING:
    import polars as pl

TABLES = ("rows", "decisions", "targets", "orders", "fills", "activities", "checks")
SCHEMAS: dict[str, dict[str, str]] = {
    "rows": {"session_id": "str", "session": "day", "timestamp": "time", "known_at": "time", "present": "int", "members": "int"},
    "decisions": {
        "session_id": "str",
        "session": "day",
        "decision_id": "str",
        "timestamp": "time",
        "known_at": "time",
        "bundle_id": "str",
        "coverage": "float",
        "equity": "float",
        "orders": "int",
        "denied": "int",
        "latency_ns": "int",
    },
    "targets": {
        "session_id": "str",
        "session": "day",
        "decision_id": "str",
        "timestamp": "time",
        "instrument_id": "str",
        "alpha": "float",
        "exposure": "float",
        "position": "int",
        "target": "int",
    },
    "orders": {
        "session_id": "str",
        "session": "day",
        "client_order_id": "str",
        "origin_id": "str",
        "instrument_id": "str",
        "symbol": "str",
        "side": "str",
        "leg": "str",
        "order_type": "str",
        "lots": "int",
        "limit_price": "float",
        "stop_price": "float",
        "created_at": "time",
        "status": "str",
        "reason": "str",
        "filled_lots": "int",
    },
    "fills": {
        "session_id": "str",
        "session": "day",
        "execution_id": "str",
        "client_order_id": "str",
        "instrument_id": "str",
        "side": "str",
        "lots": "int",
        "price": "float",
        "at": "time",
    },
    "activities": {
        "session_id": "str",
        "session": "day",
        "activity_id": "str",
        "activity_type": "str",
        "symbol": "str",
        "net_amount": "float",
        "at": "time",
    },
    "checks": {
        "session_id": "str",
        "session": "day",
        "decision_id": "str",
        "instrument_id": "str",
        "code": "str",
        "limit": "float",
        "value": "float",
        "allowed": "bool",
    },
}


def frame(table: str, rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Rows as a frame of a table's schema; an absent value is NULL."""
    import polars as pl

    return _frame(SCHEMAS[table], rows, pl)


def _frame(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], pl: Any) -> pl.DataFrame:
    given = list(rows)
    plain = {"str": pl.String, "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean, "day": pl.Int32, "time": pl.Int64}
    made = pl.DataFrame({name: pl.Series(name, [row.get(name) for row in given], dtype=plain[kind]) for name, kind in columns.items()})
    days = [pl.col(name).cast(pl.Date) for name, kind in columns.items() if kind == "day"]
    times = [pl.col(name).cast(pl.Datetime("ns")).dt.replace_time_zone("UTC") for name, kind in columns.items() if kind == "time"]
    return made.with_columns(*days, *times)


def session_tables(records: Iterable[Record], session_id: str, session: int) -> dict[str, pl.DataFrame]:
    """The tables of one session from its records in order."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    orders: dict[str, dict[str, Any]] = {}
    head = {"session_id": session_id, "session": session}
    for record in records:
        body = record.body
        if record.kind is Kind.ROW:
            counts = {"present": int(decode_array(body["present"]).sum()), "members": int(decode_array(body["member"]).sum())}
            rows["rows"].append({**head, "timestamp": body["timestamp"], "known_at": body["known_at"], **counts})
        elif record.kind is Kind.DECISION:
            _decision(rows, head, body)
        elif record.kind is Kind.INTENT:
            orders[body["client_order_id"]] = _order(head, body)
        elif record.kind is Kind.ORDER_EVENT and body["client_order_id"] in orders:
            orders[body["client_order_id"]] |= {"status": body["status"], "reason": body.get("reason")}
        elif record.kind is Kind.FILL:
            rows["fills"].append({**head, **_kept("fills", body), "price": float(body["price"])})
            _count_fill(orders, body)
        elif record.kind is Kind.ACTIVITY:
            amount = float(body.get("net_amount") or 0.0)
            rows["activities"].append(
                {**head, **_kept("activities", body), "activity_id": str(body["id"]), "net_amount": amount, "at": record.at}
            )
    rows["orders"] = list(orders.values())
    return {name: frame(name, found) for name, found in rows.items()}


def _kept(table: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: body.get(name) for name in SCHEMAS[table] if name not in ("session_id", "session")}


def _decision(rows: dict[str, list[dict[str, Any]]], head: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    decision, trace = body["decision"], body.get("trace", {})
    identity = {**head, "decision_id": decision["decision_id"]}
    rows["decisions"].append(
        {
            **identity,
            **{name: decision[name] for name in ("timestamp", "known_at", "coverage", "equity")},
            "bundle_id": ",".join(decision["bundle_ids"]),
            "orders": len(decision["orders"]),
            "denied": sum(decision["check_counts"].values()),
            "latency_ns": trace.get("latency_ns"),
        }
    )
    arrays = {name: decode_array(decision[name]) for name in ("alpha", "exposure", "position", "target")}
    for column, name in enumerate(decision["instrument_ids"]):
        values = {key: _number(array[column]) for key, array in arrays.items()}
        if any(values.values()):
            rows["targets"].append({**identity, "timestamp": decision["timestamp"], "instrument_id": name, **values})
    rows["checks"] += [{**identity, **outcome} for outcome in decision["checks"]]


def _number(value: Any) -> Any:
    plain = value.item()
    return None if isinstance(plain, float) and np.isnan(plain) else plain


def _order(head: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    prices = {name: float(body[name]) if body.get(name) is not None else None for name in ("limit_price", "stop_price")}
    return {**head, **_kept("orders", body), **prices, "status": "intent", "reason": None, "filled_lots": 0}


def _count_fill(orders: dict[str, dict[str, Any]], body: Mapping[str, Any]) -> None:
    order = orders.get(body["client_order_id"])
    if order is not None:
        order["filled_lots"] += int(body["lots"])
        order["status"] = "filled" if order["filled_lots"] >= order["lots"] else "partially_filled"


PNL_COLUMNS = {
    "session_id": "str",
    "session": "day",
    "instrument_id": "str",
    "lots": "int",
    "mark": "float",
    "equity_before": "float",
    "equity_after": "float",
    **dict.fromkeys(PARTS, "float"),
    "total": "float",
}


def pnl_frame(account: SessionAccount) -> pl.DataFrame:
    """P&L by name: one row per instrument that was held or traded, and always one for the account itself."""
    import polars as pl

    names = sorted({*account.pnl, ACCOUNT})
    before, after = account.equity_before, account.equity_after - account.flows
    rows = []
    for name in names:
        parts = account.pnl.get(name, dict.fromkeys(PARTS, 0.0))
        head = {"session_id": account.session_id, "session": account.session, "instrument_id": name}
        held = {"lots": account.positions.get(name, 0), "mark": account.marks.get(name)}
        rows.append({**head, **held, "equity_before": before, "equity_after": after, **parts, "total": sum(parts.values())})
    return _frame(PNL_COLUMNS, rows, pl)
