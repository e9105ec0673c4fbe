"""`trading-platform models`: what people decide about models, one ledger entry per decision, with a name and a reason."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
import time
from pathlib import Path
from typing import Any

from trading_platform.assets.instance import prepare_instance
from trading_platform.assets.pipelines import PIPELINES, Pipeline
from trading_platform.assets.workplace import Workplace
from trading_platform.automation.sensors import stage
from trading_platform.config import Settings
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.ledger import LedgerEntry, LedgerReader, standing
from trading_platform.demo.screen import Screen
from trading_platform.registry import approvals, approver_keys, ledger
from trading_platform.registry.promotion_rules import AUTOMATIC


def carry_out(settings: Settings, given: argparse.Namespace) -> int:
    """One action; 0 when done, 1 where `reconcile` found an alias elsewhere."""
    if given.action == "key":
        print(approver_keys.make_key(given.file, _password("password for the new key (empty: none): ")))
        return 0
    if given.action == "history":
        return history(settings, given.json)
    if given.action == "reconcile":
        return reconcile(settings, given.repair, given.json)
    written = _decide(settings, given)
    if given.json:
        print(json.dumps([{"seq": entry.seq, "action": entry.action, "hash": entry.hash} for entry in written]))
    for entry in () if given.json else written:
        print(f"entry {entry.seq}: {_text(entry)}")
    return 0


def _decide(settings: Settings, given: argparse.Namespace) -> list[LedgerEntry]:
    path = settings.ledger_path
    at = time.time_ns()  # noqa: TID251  (a person's decision has the time of day; nothing is computed from it)
    head: dict[str, Any] = {"expected_head": LedgerReader(path).head(), "at": at}
    if given.action == "enrol":
        key = None if given.key is None else approver_keys.read_key(given.key, _password(f"password of {given.key}: "))
        who: dict[str, Any] = {"person": given.who, "key": given.public_key, "by": given.by, "signed_with": key}
        return [approvals.enrol(path, **who, reason=given.why, **head)]
    if given.action == "thresholds":
        from trading_platform.research.thresholds import changed, in_force

        wanted = changed(in_force(LedgerReader(path).entries()), given.set)
        return [approvals.record_thresholds(path, thresholds=wanted, people=(given.who, given.second), reason=given.why, **head)]
    if given.action in ("recipe", "approve", "step-down"):
        return _of_pipeline(settings, given, head)
    account, mode = given.account or settings.account, given.mode or settings.mode
    if given.action == "rollback":
        who = {"account": account, "mode": mode, "slot": given.slot, "approvals": (given.who,), "reason": given.why}
        revoked, before = ledger.roll_back(path, **who, **head)
        _ask_for(settings, account, mode, before)
        return [revoked]
    now = _entry_of(path, given.label, account, mode)
    if given.action == "revoke":
        who = {"bundle_id": now.bundle_id, "account": account, "mode": mode, "approvals": (given.who,), "reason": given.why}
        return [ledger.revoke(path, **who, **head)]
    end: dict[str, Any] = {name: getattr(now, name) for name in ("name", "version", "bundle_id", "account", "mode", "slot", "recipe")}
    return [ledger.promote(path, **end, stage="archived", approvals=(given.who,), reason=given.why, gates={}, **head)]


def _of_pipeline(settings: Settings, given: argparse.Namespace, head: dict[str, Any]) -> list[LedgerEntry]:
    """Decisions about what a pipeline published: Dagster's instance says what that is."""
    path, place, pipeline = settings.ledger_path, Workplace(settings), pipeline_named(given.pipeline)
    with prepare_instance(settings) as instance:
        if given.action == "recipe":
            from trading_platform.assets.recipes import recipe_now

            return [approvals.register_recipe(path, recipe=recipe_now(instance, place, pipeline, given.who), reason=given.why, **head)]
        if given.action == "approve":
            from trading_platform.assets.recipes import live_request

            key = approver_keys.read_key(given.key, _password(f"password of {given.key}: "))
            wanted = live_request(instance, place, pipeline, given.cutoff, given.share, given.loss_budget)
            return [approvals.approve(path, wanted=wanted, who=given.who, reason=given.why, signed_with=key, **head)]
        from trading_platform.assets.operational_evidence import losses_over_budget

        reason = given.now or losses_over_budget(instance, place, pipeline)
    if not reason:
        return []
    account = pipeline.account(settings.account)
    who = (given.who or AUTOMATIC,)
    return list(ledger.step_down(path, account=account, slot=pipeline.slot, at=head["at"], reason=reason, approvals=who))


def pipeline_named(name: str) -> Pipeline:
    """The pipeline of this name."""
    found = next((pipeline for pipeline in PIPELINES if pipeline.name == name), None)
    if found is None:
        raise InputError(f"no pipeline {name!r}", "models", f"use one of {', '.join(pipeline.name for pipeline in PIPELINES)}")
    return found


def _entry_of(path: Path, label: str, account: str, mode: str) -> LedgerEntry:
    """The newest move of the bundle a label names, for an account and mode."""
    entries = LedgerReader(path).entries()
    for bundle_id in dict.fromkeys(e.bundle_id for e in reversed(entries) if e.bundle_id and f"{e.name}_v{e.version}" == label):
        now = standing(entries, bundle_id, account, mode)
        if now is not None:
            return now
    raise InputError(f"{label} has no stage for {account}/{mode}", str(path), "look at `trading-platform models status`")


def _ask_for(settings: Settings, account: str, mode: str, before: LedgerEntry) -> None:
    """Ask the runner for the bundle before. Without Redis it finds out by itself: it looks at the ledger whenever that changes."""
    if not settings.redis_url:
        return
    place = Workplace(settings.model_copy(update={"account": account, "mode": mode}))
    stage(place, before.slot, f"{before.name}_v{before.version}", before.bundle_id)


def history(settings: Settings, as_json: bool) -> int:
    """Every entry of the ledger, oldest first."""
    entries = LedgerReader(settings.ledger_path).entries()
    if as_json:
        kept = ("seq", "at", "action", "name", "version", "bundle_id", "account", "mode", "stage", "capital_share", "approvals", "reason")
        print(json.dumps([{name: getattr(entry, name) for name in kept} for entry in entries]))
        return 0
    rows = [(str(e.seq), _text(e), ", ".join(e.approvals), e.reason) for e in entries]
    Screen().table("promotion ledger", ("entry", "what", "who", "why"), rows)
    return 0


def _text(entry: LedgerEntry) -> str:
    """What an entry says, in a few words."""
    label = f"{entry.name}_v{entry.version}"
    place = f"{entry.account}/{entry.mode}"
    if entry.action == "promote":
        share = f" at {entry.capital_share:.0%}" if entry.stage == "live" else ""
        inherited = "" if entry.inherits is None else f", by the approval of entry {entry.inherits}"
        return f"{label} -> {entry.stage}{share} ({place}){inherited}"
    if entry.action == "approve":
        return f"{label} may go live at {entry.capital_share:.0%}, loss budget {entry.loss_budget:,.2f} ({place})"
    if entry.action == "revoke":
        return f"{label} revoked ({place})"
    if entry.action == "recipe":
        return f"recipe {str(entry.recipe)[:12]} of {entry.name}"
    if entry.action == "thresholds":
        return f"thresholds {(entry.bound or {}).get('thresholds', '')[:12]} in force"
    return f"{(entry.document or {}).get('person')} is an approver"


def reconcile(settings: Settings, repair: bool, as_json: bool) -> int:
    """Say where MLflow's aliases differ from the ledger, put them right on request; 1 while one is elsewhere."""
    from trading_platform.registry import aliases

    mlflow = aliases.client(settings.mlflow_tracking_uri)
    found = aliases.drifts(LedgerReader(settings.ledger_path).entries(), mlflow)
    left = aliases.repair(found, mlflow) if repair else found
    if as_json:
        print(json.dumps({"found": [drift.text for drift in found], "left": [drift.text for drift in left]}))
        return 1 if left else 0
    for drift in found:
        print(f"{'left' if drift in left else 'repaired'}: {drift.text}")
    if not found:
        print("every alias is where the ledger says")
    return 1 if left else 0


def _password(prompt: str) -> str:
    """A key's password, asked for at a terminal; none elsewhere."""
    return getpass.getpass(prompt) if sys.stdin.isatty() else ""
