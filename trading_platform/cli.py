"""`trading-platform`: arguments in, one function of a room called, exit code out (0 ok, 1 failed, 2 bad usage or input)."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

from trading_platform.config import Settings, load_settings
from trading_platform.contracts.canonical import sha256_hex
from trading_platform.contracts.errors import TradingError
from trading_platform.contracts.panel import TIMEFRAME_NS
from trading_platform.demo.model_arguments import add_actions as add_model_actions

DEMO_ACCOUNT = "demo"


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="trading-platform", description="From raw bars to a live, gated, explainable model.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--data", type=Path, help="folder of Parquet bars (default: the boxed data)")
        sub.add_argument(
            "--home", type=Path, help="everything the platform writes (default: .trading/boxed, with --data .trading/<its name>-<hash>)"
        )
        sub.set_defaults(run=run)
        return sub

    command("demo", _demo, "materialize everything, promote to paper, trade a session against the simulator, print one order's lineage")
    dev = command("dev", _dev, "the Dagster UI")
    dev.add_argument("--port", type=int, help="loopback port (default 3000)")
    command("doctor", _doctor, "look at this machine and at what is stored").add_argument("--json", action="store_true")
    lineage = command("lineage", _lineage, "walk an order back to the bytes it came from and recompute every hash")
    lineage.add_argument("order_id", help="client order id (tp...) or venue order id")
    lineage.add_argument("--account", default=DEMO_ACCOUNT)
    lineage.add_argument("--mode", default="paper", choices=("paper", "live"))
    lineage.add_argument("--json", action="store_true")
    _feature_actions(command("features", _features, "the catalogue of features, its proofs, and features of any bars file"))
    add_model_actions(command("models", _models, "bundles: where they are, what the ledger says about them, and who decided it"))
    _tune_actions(command("tune", _tune, "hyper-parameter studies, and which trial of them is in force"))
    command("tracking", _tracking, "MLflow: what could not be sent").add_argument("action", choices=("sync",))
    return top


def _feature_actions(features: argparse.ArgumentParser) -> None:
    """The actions of `features`, each with its own words."""
    actions = features.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true")
        for option in ("--data", "--home"):  # also after the action; what stands before it holds where nothing does
            sub.add_argument(option, type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return sub

    def with_set(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument("--set", default="core", dest="feature_set", metavar="NAME", help="feature set (default core)")
        return sub

    listed = action("list", "the feature sets, or the features of one")
    listed.add_argument(
        "--set", default="", dest="feature_set", metavar="NAME", help="feature set (default: all sets, without their features)"
    )
    check = with_set(action("check", "prove a set on bars: causal, chunks, restart, warm-up, finite, scale; exit 1 unless all pass"))
    check.add_argument("--bars", type=Path, metavar="FILE", help="Parquet file of bars (default: the newest bars of the data)")
    check.add_argument("--rows", type=int, default=2000, help="newest rows to prove on (default 2000)")
    check.add_argument("--symbols", type=int, default=40, help="instruments to prove on, evenly spaced (default 40)")
    check.add_argument("--seed", type=int, default=7, help="of the random futures and chunks (default 7)")
    compute = with_set(action("compute", "write the features of a bars file as a Parquet table, with bounded memory"))
    compute.add_argument("--bars", type=Path, required=True, metavar="IN", help="Parquet file of bars")
    compute.add_argument("--out", type=Path, required=True, metavar="OUT", help="Parquet table to write, whole or not at all")
    compute.add_argument("--chunk", type=int, default=1000, metavar="N", help="rows computed at once (default 1000)")
    compute.add_argument("--timeframe", default="", help="of the bars (default: the smallest step between two of them)")
    _policy_actions(action)
    _skew_action(with_set(action("skew", "compare the bars of two feeds: which features differ, would a decision flip (T4, T5)")))


def _policy_actions(action: Callable[[str, str], argparse.ArgumentParser]) -> None:
    """The actions of `features` that change what is in force; each names a person and a reason."""

    def decision(name: str, text: str) -> argparse.ArgumentParser:
        sub = action(name, text)
        sub.add_argument("pipeline", help="daily or intraday")
        sub.add_argument("--who", required=True, help="who decides")
        sub.add_argument("--why", required=True, help="the reason, for whoever reads the history")
        return sub

    use = decision("use", "put a set in force: NAME, NAME@LABEL (that version for ever), NAME!WITHOUT,THESE or NAME:ONLY,THESE")
    which = use.add_mutually_exclusive_group(required=True)
    which.add_argument("reference", nargs="?", help="the set")
    which.add_argument("--safe", action="store_true", help="the known-safe features instead")
    use.add_argument("--without-shadow", action="store_true", help="although no finished shadow run stands for it")
    for name, text in (("disable", "leave features out"), ("enable", "take them back"), ("safe", "name the known-safe features")):
        decision(name, text).add_argument("names", nargs="+", metavar="FEATURE")
    decision("rollback", "back to the features in force before, to the bit or not at all")
    shadow = decision("shadow", "run a set beside the one in force, read by no model")
    run = shadow.add_mutually_exclusive_group(required=True)
    run.add_argument("reference", nargs="?", help="the set")
    run.add_argument("--stop", action="store_true", help="end the run")
    shadow.add_argument("--sessions", type=int, default=30, help="how long (default 30)")
    shadow.add_argument("--after", type=date.fromisoformat, help="session before the first (default: the newest with published features)")
    action("history", "every decision about a pipeline's features").add_argument("pipeline", help="daily or intraday")


def _tune_actions(tune: argparse.ArgumentParser) -> None:
    """The actions of `tune`; those that change what is in force name a person and a reason."""
    actions = tune.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str, plan: bool = False, decision: bool = False) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        for option in ("--data", "--home"):
            sub.add_argument(option, type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.add_argument("pipeline", help="daily or intraday")
        if plan:
            sub.add_argument("plan", help="LEARNER-TRIALSxFOLDS-sSEED, such as lightgbm-40x5-s7")
        if decision:
            sub.add_argument("--who", required=True, help="who decides")
            sub.add_argument("--why", required=True, help="the reason, for whoever reads the history")
        return sub

    action("run", "run a study, or go on with one that was stopped", plan=True)
    action("list", "every study with what it found").add_argument("--json", action="store_true")
    action("show", "the trials of a study, the best first", plan=True).add_argument("--json", action="store_true")
    action("choose", "put a trial's parameters in force", plan=True, decision=True).add_argument("trial", type=int, help="its number")
    action("default", "back to the parameters of the code", decision=True)
    action("history", "every decision about a pipeline's parameters").add_argument("--json", action="store_true")


def _skew_action(skew: argparse.ArgumentParser) -> None:
    feed = "vendor/tape/bar_version/session_hours/adjustment"
    skew.add_argument("--left", type=Path, required=True, metavar="A", help="Parquet file of bars, of the feed a bundle is trained on")
    skew.add_argument("--right", type=Path, required=True, metavar="B", help="the same market from the other feed")
    skew.add_argument("--rank-by", default="", metavar="FEATURE", help="rank the names by this feature to see decisions flip")
    skew.add_argument("--bundle", default="", metavar="LABEL", help="let this bundle rank them")
    skew.add_argument("--timeframe", default="", choices=TIMEFRAME_NS, help="of the bars (default: the smallest step between two)")
    skew.add_argument("--tolerance", type=float, default=0.01, help="relative difference of a feature that counts (default 0.01)")
    skew.add_argument("--left-feed", default="", metavar="FEED", help=f"{feed} (default: the bundle's)")
    skew.add_argument("--right-feed", default="", metavar="FEED", help="such as alpaca/iex/first/regular/raw")
    skew.add_argument("--store", action="store_true", help="keep the report for runners; exit code 1 where it does not pass the gate")


def settings_of(arguments: argparse.Namespace, **more: Any) -> Settings:
    """Settings of a command: --data and --home first, then the environment; without either, a home per data set under .trading."""
    given: dict[str, Any] = dict(more)
    if arguments.data is not None:
        given["data"] = arguments.data
    if arguments.home is not None:
        given["home"] = arguments.home
    settings = load_settings(**given)
    if "home" in settings.model_fields_set:
        return settings
    return load_settings(**given, home=settings.home / home_name(settings.data))


def home_name(data: Path | None) -> str:
    """The folder of a data set's home: `boxed` for the box, else the folder's name and the start of its path's sha256, for names repeat."""
    if data is None:
        return "boxed"
    place = data.resolve()
    return f"{place.name}-{sha256_hex(os.fsencode(place))[:8]}"


def _quiet() -> None:
    """What Dagster calls beta or preview is listed in docs/libraries.md; a person at a terminal can do nothing about it."""
    import dagster as dg

    for category in (dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning):
        warnings.filterwarnings("ignore", category=category)


def _demo(arguments: argparse.Namespace) -> int:
    from trading_platform.assets.dbt_manifest import ensure_manifest

    _quiet()
    ensure_manifest()
    from trading_platform.demo.run import run_demo

    return run_demo(settings_of(arguments, profile="demo", account=DEMO_ACCOUNT))


def _dev(arguments: argparse.Namespace) -> int:
    from trading_platform.demo.dev import serve

    return serve(settings_of(arguments, profile="demo", account=DEMO_ACCOUNT), arguments.port)


def _doctor(arguments: argparse.Namespace) -> int:
    from trading_platform.demo.doctor import examine

    return examine(settings_of(arguments), arguments.json)


def _lineage(arguments: argparse.Namespace) -> int:
    from trading_platform.demo.explain import explain_order

    settings = settings_of(arguments, profile="demo", account=arguments.account, mode=arguments.mode)
    return explain_order(settings, arguments.order_id, arguments.json)


def _features(arguments: argparse.Namespace) -> int:
    from trading_platform.demo import feature_commands as commands

    given = arguments
    if given.action == "list":
        return commands.list_features(given.feature_set, given.json)
    if given.action == "skew":
        return _skew(given)
    settings = settings_of(given)
    if given.action not in ("check", "compute"):
        return _feature_policy(settings, given)
    if given.action == "check":
        return commands.check_features(settings, given.feature_set, given.bars, given.rows, given.symbols, given.seed, given.json)
    return commands.compute_features(settings, given.feature_set, given.bars, given.out, given.chunk, given.timeframe, given.json)


def _feature_policy(settings: Settings, given: argparse.Namespace) -> int:
    from trading_platform.demo import feature_policy_commands as commands

    if given.action == "history":
        return commands.history(settings, given.pipeline, given.json)
    said = {item.name: getattr(given, item.name) for item in fields(commands.Wanted) if getattr(given, item.name, None) is not None}
    return commands.decide(settings, commands.Wanted(**said, as_json=given.json))


def _skew(given: argparse.Namespace) -> int:
    from trading_platform.demo.skew_command import compare_feeds

    return compare_feeds(
        settings_of(given),
        (given.left, given.right),
        given.feature_set,
        by=given.rank_by,
        bundle=given.bundle,
        timeframe=given.timeframe,
        tolerance=given.tolerance,
        feeds=(given.left_feed, given.right_feed),
        keep=given.store,
        as_json=given.json,
    )


def _tune(given: argparse.Namespace) -> int:
    from trading_platform.demo import tuning_commands as commands

    settings = settings_of(given)
    _quiet()
    actions: dict[str, Callable[[], int]] = {
        "run": lambda: commands.run_study(settings, given.pipeline, given.plan),
        "list": lambda: commands.list_studies(settings, given.pipeline, given.json),
        "show": lambda: commands.show_study(settings, given.pipeline, given.plan, given.json),
        "choose": lambda: commands.choose_trial(settings, given.pipeline, given.plan, given.trial, given.who, given.why),
        "default": lambda: commands.take_default(settings, given.pipeline, given.who, given.why),
        "history": lambda: commands.history(settings, given.pipeline, given.json),
    }
    return actions[given.action]()


def _tracking(arguments: argparse.Namespace) -> int:
    from trading_platform.demo.tuning_commands import sync_tracking

    return sync_tracking(settings_of(arguments))


def _models(arguments: argparse.Namespace) -> int:
    from trading_platform.demo.model_arguments import run

    return run(settings_of(arguments), arguments)


def main(argv: list[str] | None = None) -> int:
    """Run one command; errors of ours become one message on standard error."""
    arguments = parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except TradingError as error:
        print(f"trading-platform {arguments.command}: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:  # a disk that is full, a folder that may not be written: no bug of ours, and nothing a trace explains
        fix = "check that the folder can be written and the disk has room, or give another --home"
        print(
            f"trading-platform {arguments.command}: {error.strerror or error}\n  where: {error.filename}\n  fix:   {fix}", file=sys.stderr
        )
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
