"""The words of `trading-platform models`: its actions and their arguments. What they do lies in models.py and model_decisions.py."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from trading_platform.config import Settings

PIPELINE_NAMES = ("daily", "intraday")
MOVES = ("list", "status", "fetch", "sync", "upload-s3", "clean")


def add_actions(models: argparse.ArgumentParser) -> None:
    """Every action, each with its own words."""
    actions = models.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true")
        for option in ("--data", "--home"):  # also after the action; what stands before it holds where nothing does
            sub.add_argument(option, type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return sub

    action("list", "every bundle of the object store")
    action("status", "every bundle: stage, share of the capital, age, and whether its files are whole")
    action("history", "every entry of the promotion ledger, who and why")
    _transfers(action)
    _decisions(action)


def _transfers(action: Callable[[str, str], argparse.ArgumentParser]) -> None:
    fetch = action("fetch", "bring a bundle here: every sha256 checked, broken downloads go on where they broke")
    fetch.add_argument("label", metavar="LABEL", help="such as alpha_lightgbm_v1.2")
    fetch.add_argument("--from", dest="url", required=True, metavar="URL", help="s3://bucket/prefix, or a folder")
    fetch.add_argument("--bundle", default=None, metavar="ID", help="refuse any other bundle id")
    sync = action("sync", "bring every bundle of a store here")
    sync.add_argument("--from", dest="url", required=True, metavar="URL", help="s3://bucket/prefix, or a folder")
    upload = action("upload-s3", "copy bundles to another store, after checking every sha256")
    which = upload.add_mutually_exclusive_group(required=True)
    which.add_argument("label", nargs="?", metavar="LABEL", help="such as alpha_lightgbm_v1.2")
    which.add_argument("--all", action="store_true", help="every bundle")
    upload.add_argument("--to", dest="url", required=True, metavar="URL", help="s3://bucket/prefix, or a folder")
    upload.add_argument("--current", action="store_true", help="also write it beside its versions, as the one meant by the model's name")
    clean = action("clean", "remove parts of broken downloads and folders that are no bundle")
    clean.add_argument("--unused", action="store_true", help="also bundles that neither the ledger nor a journal names")


def _decisions(action: Callable[[str, str], argparse.ArgumentParser]) -> None:

    def decision(name: str, text: str, what: str = "label") -> argparse.ArgumentParser:
        sub = action(name, text)
        if what == "label":
            sub.add_argument("label", metavar="LABEL", help="such as alpha_lightgbm_v1.2")
        elif what == "pipeline":
            sub.add_argument("pipeline", choices=PIPELINE_NAMES)
        sub.add_argument("--who", required=True, help="who decides")
        sub.add_argument("--why", required=True, help="the reason, for whoever reads the ledger")
        return sub

    def of_account(sub: argparse.ArgumentParser) -> argparse.ArgumentParser:
        sub.add_argument("--account", default="", help="whose (default: the settings' account)")
        sub.add_argument("--mode", default="", choices=("paper", "live"), help="default: the settings' mode")
        return sub

    key = action("key", "make an approver's private key and print the public one")
    key.add_argument("file", type=Path)
    enrol = decision("enrol", "make --who an approver by a public key; after the first two, another approver signs (--by, --key)", "")
    enrol.add_argument("public_key")
    enrol.add_argument("--by", default="", help="the approver who vouches")
    enrol.add_argument("--key", type=Path, help="private key of --by")
    decision("recipe", "register a pipeline's recipe as it stands, --who being its author (T25)", "pipeline")
    limits = decision("thresholds", "put the gates' thresholds in force: those of now with what --set changes", "")
    limits.add_argument("--second", required=True, metavar="NAME", help="the second person, who agrees")
    limits.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="such as dsr=0.97 (docs/gates.md lists them)")
    approve = decision("approve", "sign for a bundle to go live at a share of the capital (two different people, T39)", "pipeline")
    approve.add_argument("--cutoff", required=True, metavar="DATE", help="training cutoff of the bundle")
    approve.add_argument("--share", type=float, default=0.05, help="of the sleeve's capital: 0.05, 0.25, 0.5, 1 (default 0.05)")
    approve.add_argument("--loss-budget", type=float, required=True, help="what may be lost at this share before it steps down")
    approve.add_argument("--key", type=Path, required=True, help="your private key")
    of_account(decision("revoke", "take a bundle's stage away: a runner that holds it rolls back"))
    of_account(decision("archive", "end a bundle's use; its history stays"))
    rollback = of_account(decision("rollback", "revoke a slot's newest bundle and ask the runner for the one before", ""))
    rollback.add_argument("--slot", required=True)
    step = action("step-down", "one step down the ladder of live capital, where losses reached the budget, or --now")
    step.add_argument("pipeline", choices=PIPELINE_NAMES)
    step.add_argument("--now", default="", metavar="WHY", help="whatever was lost, for this reason")
    step.add_argument("--who", default="", help="who decides (default: automatic)")
    reconcile = action("reconcile", "compare MLflow's aliases with the ledger; exit code 1 where one is elsewhere")
    reconcile.add_argument("--repair", action="store_true", help="put them where the ledger says")


def run(settings: Settings, given: argparse.Namespace) -> int:
    """Carry out the action."""
    if given.action in MOVES:
        return _move(settings, given)
    from trading_platform.demo import model_decisions as decisions

    return decisions.carry_out(settings, given)


def _move(settings: Settings, given: argparse.Namespace) -> int:
    from trading_platform.demo import models

    if given.action in ("list", "status"):
        return models.list_models(settings, given.action, given.json)
    if given.action == "fetch":
        return models.fetch_models(settings, given.url, [given.label], given.bundle, given.json)
    if given.action == "sync":
        return models.fetch_models(settings, given.url, None, None, given.json)
    if given.action == "upload-s3":
        return models.upload_models(settings, given.url, None if given.all else [given.label], given.current, given.json)
    return models.clean_models(settings, given.unused, given.json)
