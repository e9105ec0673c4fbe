"""The lineage of an order on a screen: each link OK or BROKEN; the decision is decided again by the runner's replay."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import asdict

from trading_platform.assets.pipelines import DAILY, PIPELINES, Pipeline
from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings
from trading_platform.contracts.errors import TransientError
from trading_platform.contracts.journal import JournalReader, Kind
from trading_platform.demo.processes import Child
from trading_platform.demo.screen import Screen
from trading_platform.demo.trade import child_environment
from trading_platform.registry.lineage import Link, Places, broken, lineage

REPLAY_S = 300


def replays_equal(settings: Settings, pipeline: Pipeline, decision_id: str) -> bool | None:
    """Whether the runner's replay of the journal comes to the same bytes for this decision; None where it has other code.

    TransientError when it cannot run.
    """
    command = [
        sys.executable, "-m", "live_runner", "replay", "--home", str(settings.home), "--account", settings.account, "--mode", settings.mode,
        "--pipeline", pipeline.name, "--profile", settings.profile, "--decision", decision_id, "--json",
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=REPLAY_S, env=child_environment(settings), check=False)
    except subprocess.TimeoutExpired as error:
        what = f"the replay took longer than {REPLAY_S} s"
        raise TransientError(what, "live-runner replay", f"run it by hand, without a limit: {shlex.join(command)}") from error
    try:
        answer = json.loads(done.stdout)
    except json.JSONDecodeError:
        said = " ".join(done.stderr.split()[-40:])
        raise TransientError(f"the replay did not run: {said}", "live-runner replay", "run it by hand and read what it says") from None
    if not answer["same_code"]:
        return None
    return answer["decisions"] == 1 and not answer["different"]


def pipeline_of(settings: Settings) -> Pipeline:
    """The pipeline an account trades, by the timeframe of its last decision; daily where it made none."""
    with JournalReader(settings.journal_path) as reader:
        record = reader.last(Kind.DECISION)
    timeframe = DAILY.timeframe if record is None else record.body["decision"]["timeframe"]
    return next(pipeline for pipeline in PIPELINES if pipeline.timeframe == timeframe)


def links_of(settings: Settings, order_id: str, pipeline: Pipeline | None = None) -> list[Link]:
    """Walk an order back; the settings name its account and mode."""
    place = Workplace(settings)
    traded = pipeline or pipeline_of(settings)
    places = Places(settings.journal_path, settings.ledger_path, place.store, settings.lake_dir, place.source.read)
    return lineage(order_id, places, lambda decision_id: replays_equal(settings, traded, decision_id))


def begin_walk(settings: Settings, order_id: str) -> Child:
    """Start the walk in a process of its own: it imports compiled kernels, whose locks do not go with another thread's imports."""
    command = ["trading_platform.cli", "lineage", order_id, "--json", "--home", str(settings.home)]
    command += ["--account", settings.account, "--mode", settings.mode]
    command += [] if settings.data is None else ["--data", str(settings.data)]
    return Child("lineage", command, settings.home / "demo" / "logs" / f"lineage-{settings.account}.log", os.environ)


def finish_walk(walk: Child) -> list[Link]:
    """The links of a walk that was begun. TransientError when it ended without an answer."""
    with walk:
        return [Link(link["name"], link["path"], link["expected"], link["actual"]) for link in walk.wait_for("links", REPLAY_S)]


def explain_order(settings: Settings, order_id: str, as_json: bool) -> int:
    """Walk an order back and show every link; 0 when all hold, 1 on a break."""
    links = links_of(settings, order_id)
    if as_json:
        print(json.dumps({"order": order_id, "links": [{**asdict(link), "ok": link.ok} for link in links]}))
    else:
        show_links(links, settings, Screen())
    return 1 if broken(links) else 0


def show_links(links: list[Link], settings: Settings, screen: Screen) -> None:
    """A line per link and one that counts them."""
    home = f"{settings.home}/"
    rows = []
    for link in links:
        where = f"{link.path.removeprefix(home)}  [dim]{link.actual[:16]}[/dim]"
        if not link.ok:
            where = f"{link.path.removeprefix(home)}  expected {link.expected[:60]}, found {link.actual[:60]}"
        rows.append((link.name, "[green]OK[/green]" if link.ok else "[bold red]BROKEN[/bold red]", where))
    screen.links(rows)
    bad = broken(links)
    screen.say(
        f"{len(links)} links, {len(bad)} broken"
        + (": the order cannot be explained" if bad else ": every file opened, every sha256 recomputed")
    )
