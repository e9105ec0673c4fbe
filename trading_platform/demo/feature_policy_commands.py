"""`trading-platform features use | disable | enable | safe | rollback | shadow | history`: what is in force, decided by a named person."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

import numpy as np

from trading_platform.assets.feature_policy import SHADOW_SESSIONS, Decisions, in_force, policy_of, selected
from trading_platform.assets.pipelines import PIPELINES, Pipeline
from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings
from trading_platform.contracts.errors import InputError
from trading_platform.demo.screen import Screen
from trading_platform.registry.feature_policy import PolicyEntry

NEXT = "the next materialization of the features and of every model after them follows it; bundles of other features are not promoted"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a person typed. names: features; reference: of a set; after: the session after which a shadow run begins, None: the newest."""

    action: str
    pipeline: str
    who: str
    why: str
    reference: str = ""
    names: tuple[str, ...] = ()
    safe: bool = False
    without_shadow: bool = False
    stop: bool = False
    after: date | None = None
    sessions: int = SHADOW_SESSIONS
    as_json: bool = False


def decide(settings: Settings, wanted: Wanted) -> int:
    """Make the change and say what is in force now."""
    place = Workplace(settings)
    pipeline = pipeline_named(wanted.pipeline)
    at = time.time_ns()  # noqa: TID251  (a person's decision has the time of day; nothing is computed from it)
    decisions = Decisions(place, pipeline, wanted.who, wanted.why, at)
    actions: dict[str, Callable[[], PolicyEntry]] = {
        "use": lambda: decisions.use_safe() if wanted.safe else decisions.use(wanted.reference, proven(place, pipeline, wanted)),
        "disable": lambda: decisions.disable(wanted.names),
        "enable": lambda: decisions.enable(wanted.names),
        "safe": lambda: decisions.safe(wanted.names),
        "rollback": decisions.rollback,
        "shadow": lambda: (
            decisions.unshadow() if wanted.stop else decisions.shadow(wanted.reference, begin(place, pipeline, wanted), wanted.sessions)
        ),
    }
    entry = actions[wanted.action]()
    if wanted.as_json:
        print(json.dumps(plain(entry)))
        return 0
    chosen = in_force(place, pipeline)
    held = f"{chosen.name} {chosen.label} {chosen.hash[:12]}, {len(chosen.names)} features"
    print(f"{pipeline.name}: {held} (entry {entry.seq}, {entry.action})")
    if entry.shadow:
        run = entry.shadow
        print(f"in shadow: {run['reference']} {run['feature_hash'][:12]} for {run['sessions']} sessions after {day(run['after_session'])}")
    if entry.action not in ("safe", "shadow", "unshadow"):
        print(NEXT)
    return 0


def pipeline_named(name: str) -> Pipeline:
    """A pipeline by name. InputError for another one."""
    for pipeline in PIPELINES:
        if pipeline.name == name:
            return pipeline
    raise InputError(f"no pipeline {name!r}", "features", f"use one of {', '.join(pipeline.name for pipeline in PIPELINES)}")


def proven(place: Workplace, pipeline: Pipeline, wanted: Wanted) -> bool:
    """Whether the set may be put in force: its shadow run is over and found nothing, or the person does without."""
    from trading_platform.assets.feature_shadow import shadow_ready
    from trading_platform.assets.instance import prepare_instance

    if wanted.without_shadow:
        return True
    with prepare_instance(place.settings) as instance:
        return shadow_ready(instance, place, pipeline, selected(wanted.reference, ()).hash)


def begin(place: Workplace, pipeline: Pipeline, wanted: Wanted) -> int:
    """The session (days since 1970) after which a shadow run counts: the one named, or the newest with published features."""
    from trading_platform.assets.inputs import latest
    from trading_platform.assets.instance import prepare_instance

    if wanted.after is not None:
        return (wanted.after - date(1970, 1, 1)).days
    with prepare_instance(place.settings) as instance:
        found = latest(instance, place, pipeline.features)
    if found is None or "last_session" not in found.manifest.facts:
        raise InputError(
            f"{pipeline.features} holds no rows yet", f"pipeline {pipeline.name}", "materialize it, or name a session: --after DATE"
        )
    return int(np.datetime64(str(found.manifest.facts["last_session"]), "D").astype(np.int64))


def history(settings: Settings, name: str, as_json: bool) -> int:
    """Every decision about a pipeline's features, oldest first."""
    place, pipeline = Workplace(settings), pipeline_named(name)
    entries = policy_of(place).of(pipeline.name)
    if as_json:
        print(json.dumps([plain(entry) for entry in entries]))
        return 0
    if not entries:
        print(f"{pipeline.name}: {pipeline.feature_set}, as the code names it; nobody decided anything")
        return 0
    rows = [(str(e.seq), moment(e.at), e.who, e.action, e.reference, e.feature_hash[:12], ", ".join(e.disabled), e.why) for e in entries]
    Screen().table(f"features of {pipeline.name}", ("entry", "at", "who", "action", "set", "hash", "disabled", "why"), rows)
    return 0


def plain(entry: PolicyEntry) -> dict[str, object]:
    """An entry as JSON says it."""
    names = ("seq", "at", "who", "why", "commit", "pipeline", "action", "reference", "feature_hash", "disabled", "safe", "shadow", "hash")
    return {name: dict(value) if name == "shadow" else value for name in names for value in [getattr(entry, name)]}


def moment(at: int) -> str:
    """UTC, to the minute."""
    return f"{np.datetime64(at, 'ns').astype('datetime64[m]')}Z"


def day(session: int) -> str:
    """ISO date of a session."""
    return str(np.datetime64(session, "D"))
