"""The whole demo on real bars, twice; what was traded, what was re-used, and what breaks a lineage.

40 names and the last 6 folds; `make test-long`: all of both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from trading_platform.assets.instance import prepare_instance
from trading_platform.config import load_settings
from trading_platform.contracts import names
from trading_platform.contracts.canonical import decode_array
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.contracts.ledger import LedgerReader

LONG = bool(os.environ.get(names.ENV_TEST_LONG))
DATA = Path(os.environ.get(names.ENV_TEST_DATA, "../shared/data/open"))
UPSTREAM = (
    "bars_daily",
    "universe",
    "features_daily",
    "labels_daily",
    "alpha_lightgbm",
    "walk_forward_report",
    "model_bundle",
    "promotion",
)
pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason=f"no real bars at {DATA}; set {names.ENV_TEST_DATA}"),
    pytest.mark.timeout(1200 if LONG else 600),
    pytest.mark.xdist_group("demo"),
]


class Home:
    """One home after `runs` demos on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs: list[subprocess.CompletedProcess[str]] = []

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        limits = {} if LONG else {"TRADING_MAX_SYMBOLS": "40", "TRADING_MAX_FOLDS": "6"}
        kept = {k: v for k, v in os.environ.items() if not k.startswith("TRADING_") or k == names.ENV_CACHE}
        command = [sys.executable, "-m", "trading_platform.cli", *words, "--home", str(self.folder), "--data", str(DATA.absolute())]
        return subprocess.run(command, capture_output=True, text=True, timeout=1000 if LONG else 500, env=kept | limits, check=False)

    def demo(self) -> None:
        self.runs.append(self.command("demo"))

    def materializations(self) -> Counter[str]:
        """How often each asset partition upstream of the trading was materialized."""
        import dagster as dg

        counts: Counter[str] = Counter()
        settings = load_settings(home=self.folder, profile="demo", account="demo")
        with prepare_instance(settings) as instance:
            for asset in UPSTREAM:
                records = instance.fetch_materializations(dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset)), limit=1000).records
                counts[asset] = len(records)
        return counts

    def journal(self, pipeline: str = "") -> JournalReader:
        return JournalReader(self.folder / "journals" / f"demo{pipeline}-paper.sqlite")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Counter[str]]]:
    made = Home(tmp_path_factory.mktemp("demo"))
    made.demo()
    assert made.runs[0].returncode == 0, made.runs[0].stdout[-3000:] + made.runs[0].stderr[-3000:]
    before = made.materializations()
    made.demo()
    yield made, before


def test_both_runs_end_well_and_say_so(home: tuple[Home, Counter[str]]) -> None:
    for run in home[0].runs:
        assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
        assert "0 broken" in run.stdout and "BROKEN" not in run.stdout and "Traceback" not in run.stderr
        assert "materialized live_journal: 120 of 120 sessions" in run.stdout, "those lifted while others traded count, too"


def test_the_runners_own_commands_work_on_what_the_demo_left(home: tuple[Home, Counter[str]]) -> None:
    def command(*words: str) -> subprocess.CompletedProcess[str]:
        named = ["--home", str(home[0].folder), "--account", "demo-intraday", "--pipeline", "intraday", "--profile", "demo", "--json"]
        line = [sys.executable, "-m", "live_runner", *words, *named]
        return subprocess.run(line, capture_output=True, text=True, timeout=100, check=False)

    status = command("status")
    assert status.returncode == 0, status.stderr
    said = json.loads(status.stdout)
    assert (said["state"], said["running"], said["kill_level"], said["last_refusal"]) == ("STOPPED", False, "NONE", None)
    replay = command("replay")
    assert replay.returncode == 0, replay.stderr
    assert json.loads(replay.stdout) | {"records": 0} == {
        "decisions": 390, "different": [], "records": 0, "same_code": True, "changed": [], "verdict": "re-executed"
    }  # fmt: skip


def test_the_second_run_materializes_nothing_that_is_current(home: tuple[Home, Counter[str]]) -> None:
    made, before = home
    assert made.materializations() == before
    assert before["bars_daily"] == 1 and before["model_bundle"] == 2 and before["promotion"] == 2


def test_every_row_is_decided_once_and_the_swap_falls_between_two_rows(home: tuple[Home, Counter[str]]) -> None:
    with home[0].journal() as reader:
        assert reader.verify() > 0
        decisions = list(reader.records(Kind.DECISION))
        swaps = [record.body["label"] for record in reader.records(Kind.SWAP) if record.body.get("label")]
    for number in ("1", "2"):
        run = [record for record in decisions if record.session_id.rsplit("/", 1)[1] == number]
        timestamps = [record.body["decision"]["timestamp"] for record in run]
        bundles = [record.body["decision"]["bundle_ids"] for record in run]
        assert len(run) == 120 and len(set(timestamps)) == 120 and timestamps == sorted(timestamps)
        assert all(len(ids) == 1 for ids in bundles)
        assert bundles[:60] == [bundles[0]] * 60 and bundles[60:] == [bundles[60]] * 60 and bundles[0] != bundles[60]
    assert len(set(swaps)) == 2
    with home[0].journal("-intraday") as reader:
        minutes = [r.body["decision"]["timestamp"] for r in reader.records(Kind.DECISION) if r.session_id.endswith("/1")]
        rows = [r.body for r in reader.records(Kind.ROW) if r.session_id.endswith("/1")]
    assert len(minutes) == len(set(minutes)) == 390
    said = [decode_array(body["fields"]["vix"])[decode_array(body["present"])] for body in rows]
    assert all(np.isfinite(values).all() and len(set(values)) == 1 for values in said), "one VIX for every name in every minute"
    assert len({float(values[0]) for values in said}) > 20 and "us:VIX" not in rows[0]["instrument_ids"]


def test_the_second_account_begins_with_the_cash_of_the_first(home: tuple[Home, Counter[str]]) -> None:
    with home[0].journal() as reader:
        closed = [r.body["equity"] for r in reader.records(Kind.SESSION_CLOSED) if r.session_id.endswith("/1")]
        adopted = [r.body for r in reader.records(Kind.ACCOUNT) if r.body.get("adopted")]
    assert len(adopted) == 2 and adopted[0]["venue_account"] != adopted[1]["venue_account"]
    assert adopted[1]["cash"] == pytest.approx(closed[-1], abs=0.02)  # holdings are settled at the last marks, each to the cent


def test_only_bundles_of_the_ledger_were_swapped_in(home: tuple[Home, Counter[str]]) -> None:
    ledger = LedgerReader(home[0].folder / "ledger" / "promotion.jsonl")
    with home[0].journal() as reader:
        bundles = {record.body["bundle_id"] for record in reader.records(Kind.SWAP) if record.body.get("bundle_id")}
    assert bundles and all(ledger.authority(bundle, "demo", "paper") for bundle in bundles)
    assert not any(ledger.authority(bundle, "demo", "live") for bundle in bundles)


def test_a_changed_byte_anywhere_breaks_the_lineage_and_its_exit_code(home: tuple[Home, Counter[str]]) -> None:
    made = home[0]
    with made.journal() as reader:
        order = next(r.body["client_order_id"] for r in reader.records(Kind.FILL) if r.body["client_order_id"])
    whole = made.command("lineage", order, "--json")
    assert whole.returncode == 0, whole.stderr
    links = json.loads(whole.stdout)["links"]
    assert all(link["ok"] for link in links) and {"order", "decision", "re-run of the decision", "promotion"} <= {
        link["name"] for link in links
    }
    for uri in (
        next(link["path"] for link in links if link["path"].endswith("model.onnx")),
        next(link["path"] for link in links if "bars/" in link["path"]),
    ):
        path = next(root / uri for root in (made.folder / "bundles", made.folder / "lake") if (root / uri).is_file())
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        broken = made.command("lineage", order, "--json")
        path.write_bytes(sound)
        assert broken.returncode == 1
        assert [link["path"] for link in json.loads(broken.stdout)["links"] if not link["ok"]].count(uri) >= 1


def test_no_key_of_the_broker_reaches_a_log_or_a_journal(home: tuple[Home, Counter[str]]) -> None:
    for path in home[0].folder.rglob("*"):
        if path.is_file() and path.suffix in (".log", ".sqlite", ".json", ".jsonl"):
            assert b"DEMO-SECRET" not in path.read_bytes(), path
