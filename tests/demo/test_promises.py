"""The demo's verdict: exit 0 only where every row was decided once by its own bundle and an order could be explained."""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from live_runner.cli import _parser as runner_parser
from live_runner.journal import Entry, Journal
from trading_platform.assets.bring_current import Step
from trading_platform.assets.pipelines import DAILY
from trading_platform.cli import DEMO_ACCOUNT, parser, settings_of
from trading_platform.config import Settings
from trading_platform.contracts.journal import Kind
from trading_platform.demo import run
from trading_platform.demo.run import Demo, show, verdict
from trading_platform.demo.screen import Screen
from trading_platform.demo.summary import Summary, summarise
from trading_platform.demo.trade import Request, child_environment, planned_rows
from trading_platform.registry.lineage import NOT_RE_EXECUTED, Link

README = Path(__file__).parents[2] / "README.md"
PLANNED = {"alpha_v1": 2, "alpha_v2": 1}
BUNDLES = {"alpha_v1": "1" * 64, "alpha_v2": "2" * 64}
GOOD = [Link("order", "journal", "a", "a")]
SESSION = "demo/paper/2014-01-02/1"


def note(kind: Kind, key: str, body: Any) -> Entry:
    return Entry(SESSION, 1, kind, key, body)


def swap(label: str) -> Entry:
    return note(Kind.SWAP, label, {"label": label, "bundle_id": BUNDLES[label]})


def row(timestamp: int) -> Entry:
    return note(Kind.ROW, f"1Day:{timestamp}", {})


def decision(timestamp: int, label: str, name: str = "") -> Entry:
    bundles = [BUNDLES[label]] if label else []
    body = {"timeframe": "1Day", "timestamp": timestamp, "bundle_ids": bundles, "equity": 100.0 + timestamp, "check_counts": {"CASH": 1}}
    return note(Kind.DECISION, name or f"d{timestamp}", {"decision": body, "trace": {"latency_ns": 1_000_000}})


def order(of: str, name: str, leg: str = "enter") -> list[Entry]:
    return [note(Kind.INTENT, name, {"origin_id": of, "leg": leg}), note(Kind.FILL, f"f-{name}", {"client_order_id": name})]


def promised() -> list[Entry]:
    """Two bundles, three rows, each decided once; an entry filled in the second row, an exit in the third."""
    opened, closed = note(Kind.SESSION_OPENED, SESSION, {}), note(Kind.SESSION_CLOSED, SESSION, {"equity": 107.0})
    first = [opened, swap("alpha_v1"), row(1), decision(1, "alpha_v1"), row(2), decision(2, "alpha_v1"), *order("d2", "tpa")]
    return [*first, swap("alpha_v2"), row(3), decision(3, "alpha_v2"), *order("d3", "tpb", "exit"), closed]


@pytest.fixture
def summary_of(tmp_path: Path) -> Callable[[Iterable[Entry]], Summary]:
    def make(entries: Iterable[Entry]) -> Summary:
        path = tmp_path / "journal.sqlite"
        journal = Journal(path)
        journal.commit_blocking([note(Kind.SWAP_REFUSED, "alpha_v1", {"reason": "of an earlier run"})])
        journal.commit_blocking(list(entries))
        journal.close()
        return summarise(path, 1, PLANNED)

    return make


def test_a_run_that_did_what_was_planned_lacks_nothing(summary_of: Callable[..., Summary]) -> None:
    summary = summary_of(promised())
    assert summary.shortcomings == () and verdict({DAILY: summary}, {DAILY: GOOD}) == []
    parts = {part.label: (part.rows, part.decisions, part.orders, part.fills) for part in (*summary.parts, summary.whole)}
    assert parts == {"alpha_v1": (2, 2, 1, 1), "alpha_v2": (1, 1, 1, 1), "all": (3, 3, 2, 2)}
    assert summary.order_id == "tpa" and [part.pnl for part in summary.parts] == [2.0, 4.0]


def without(*dropped: Entry) -> list[Entry]:
    return [entry for entry in promised() if entry not in dropped]


@pytest.mark.parametrize(
    ("entries", "lacks"),
    [
        (without(row(2), decision(2, "alpha_v1"), *order("d2", "tpa")) + order("d1", "tpa"), "alpha_v1 decided 1 rows, its part is 2"),
        (without(decision(3, "alpha_v2")), "1 rows have no decision"),
        (without(decision(3, "alpha_v2")), "alpha_v2 decided 0 rows, its part is 1"),
        ([row(1), decision(1, "")], "alpha_v2 decided 0 rows"),
        ([row(1), decision(1, "")], r"\(none\) decided 1 rows it was not asked for"),
        ([*promised(), row(2)], "1 rows or decisions are there twice"),
        ([*promised(), decision(2, "alpha_v2", "again")], "1 rows or decisions are there twice"),
        ([*promised(), note(Kind.SWAP_REFUSED, "alpha_v2", {"reason": "it is too old"})], "alpha_v2 was refused: it is too old"),
        ([*promised(), note(Kind.BREAK, "cash", {"what": "a cent is missing"})], "break: a cent is missing"),
        (without(*order("d2", "tpa")), "no entry was filled"),
        (without(order("d2", "tpa")[1]), "no entry was filled"),
    ],
)
def test_what_did_not_happen_is_said_and_fails_the_demo(summary_of: Callable[..., Summary], entries: list[Entry], lacks: str) -> None:
    summary = summary_of(entries)
    assert any(re.search(lacks, text) for text in summary.shortcomings), summary.shortcomings
    assert verdict({DAILY: summary}, {DAILY: GOOD} if summary.order_id else {})


def test_a_bundle_that_an_older_version_left_active_may_be_refused(summary_of: Callable[..., Summary]) -> None:
    summary = summary_of([note(Kind.SWAP_REFUSED, "old_v9", {"reason": "its features are gone"}), *promised()])
    assert summary.refused == (("old_v9", "its features are gone"),) and summary.shortcomings == ()


def test_an_order_that_was_not_walked_or_does_not_hold_and_a_demo_without_trading_fail(summary_of: Callable[..., Summary]) -> None:
    summary = summary_of(promised())
    bad = Link("bars", "bars.parquet", "a", "b")
    assert verdict({DAILY: summary}, {}) == verdict({DAILY: summary}, {DAILY: []}) == ["daily: the order tpa was not explained"]
    assert verdict({DAILY: summary}, {DAILY: [*GOOD, bad]}) == ["daily: 1 links of the order tpa are broken"]
    (said,) = verdict({DAILY: summary}, {DAILY: [*GOOD, Link(NOT_RE_EXECUTED, "journal", "a", "a")]})
    assert "was not decided again" in said
    assert verdict({}, {}) == ["nothing was traded: no pipeline has bars to trade"]


def test_the_screen_shows_decisions_and_says_what_to_type(
    summary_of: Callable[..., Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=tmp_path / "home", account="demo", profile="demo")

    def shown(summary: Summary) -> tuple[int, str]:
        console = Console(file=io.StringIO(), width=140, highlight=False)
        code = show(settings, {DAILY: summary}, {DAILY: GOOD}, Screen(console))
        return code, console.file.getvalue()  # type: ignore[attr-defined]

    whole = summary_of(promised())
    code, text = shown(whole)
    assert code == 0 and "decisions" in text and "kill level: NONE" in text and "not as promised" not in text
    assert "live-runner status --home home --account demo --pipeline daily --profile demo" in text
    code, text = shown(dataclasses.replace(whole, planned={"alpha_v1": 2, "alpha_v2": 1, "alpha_v3": 1}))
    assert code == 1 and "daily: alpha_v3 decided 0 rows, its part is 1" in text


def test_a_bundle_decides_from_its_own_row_to_that_of_the_next() -> None:
    assert planned_rows([Request(60, "b", "2"), Request(0, "a", "1")], 120) == {"a": 60, "b": 60}
    assert planned_rows([Request(-3, "a", "1")], 390) == {"a": 390}


def test_the_demos_children_find_the_bundles_and_no_other_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {"OBJECT_STORE_URL": "s3://somewhere", "BROKER_URL": "https://a.real.broker", "ACCOUNT": "mine"}.items():
        monkeypatch.setenv(f"TRADING_{name}", value)
    monkeypatch.setenv("APCA_API_SECRET_KEY", "a real one")
    given = child_environment(Settings(home=tmp_path))
    assert given["TRADING_OBJECT_STORE_URL"] == "s3://somewhere" and given["APCA_API_SECRET_KEY"] == "DEMO-SECRET"
    assert {name for name in given if name.startswith("TRADING_")} <= {"TRADING_OBJECT_STORE_URL", "TRADING_CACHE"}
    monkeypatch.delenv("TRADING_OBJECT_STORE_URL")
    assert child_environment(Settings(home=tmp_path, object_store_url="elsewhere"))["TRADING_OBJECT_STORE_URL"] == "elsewhere"


def test_sessions_lifted_while_others_trade_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=140, highlight=False)
    demo = Demo.__new__(Demo)
    demo.settings, demo.screen, demo._lifted_ahead = Settings(), Screen(console), {"a", "of another pipeline"}
    demo.instance = SimpleNamespace(add_dynamic_partitions=lambda name, keys: None)  # type: ignore[assignment]
    demo.definitions = demo.graph = demo.place = None  # type: ignore[assignment]

    def bring(*given: Any) -> list[Step]:
        return [Step(given[5][0], key, key != "a") for key in ("a", "b", "c")]

    monkeypatch.setattr(run, "bring_current", bring)
    demo.lift(["a", "b", "c"])
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.strip().removeprefix("materialized ") for line in lines][:2] == [
        "live_journal: 3 of 3 sessions",
        "live_parity: 2 of 3 sessions",
    ]


def test_the_readme_names_the_account_that_the_demo_trades(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = [line.partition("#")[0].split() for line in README.read_text().splitlines() if line.startswith(".venv/bin/live-runner")]
    monkeypatch.chdir(tmp_path)
    demo = settings_of(parser().parse_args(["demo"]), account=DEMO_ACCOUNT, profile="demo")
    assert {words[1] for words in lines} == {"status", "replay", "halt", "resume"}
    for words in lines:
        options = runner_parser(with_simulator=False).parse_args(words[1:])
        assert (options.home.absolute(), options.account, options.profile) == (demo.home, demo.account, demo.profile)
