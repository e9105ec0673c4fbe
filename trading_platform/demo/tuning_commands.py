"""`trading-platform tune run | list | show | choose | default | history`: studies, and what a person takes of them. `tracking sync`."""

from __future__ import annotations

import dataclasses
import json
import time

from trading_platform.assets import tuning
from trading_platform.assets.inputs import latest_of_every
from trading_platform.assets.instance import prepare_instance
from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.reading import read_table
from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings
from trading_platform.contracts.errors import InputError, TransientError
from trading_platform.demo.feature_policy_commands import moment, pipeline_named
from trading_platform.demo.screen import Screen
from trading_platform.registry.parameter_choices import ParameterChoice, ParameterChoices

NEXT = "the next walk-forward and bundle train with them; a study's own rows are no test of them"


def run_study(settings: Settings, name: str, key: str) -> int:
    """Bring a study and what it reads up to date, then show it."""
    from trading_platform.assets.bring_current import bring_current
    from trading_platform.assets.graph import build_graph
    from trading_platform.definitions import build_definitions

    pipeline, screen = pipeline_named(name), Screen()
    tuning.plan_of(key)  # a wrong key is refused before anything is computed
    place, graph = Workplace(settings), build_graph()
    overrides = settings.model_dump(mode="json", exclude_defaults=True, exclude={"broker_key", "broker_secret"})
    study = pipeline.asset("study")
    with prepare_instance(settings) as instance:
        instance.add_dynamic_partitions(str(tuning.studies_of(pipeline).name), [key])
        wanted = [*graph.nodes[study].recipe.upstream, study]
        definitions = build_definitions(**overrides)
        bring_current(definitions, graph, place, instance, {study: [key]}, wanted, screen.step)
    return show_study(settings, name, key, as_json=False)


def list_studies(settings: Settings, name: str, as_json: bool) -> int:
    """Every study of a pipeline with its verdict."""
    place, pipeline = Workplace(settings), pipeline_named(name)
    with prepare_instance(settings) as instance:
        found = latest_of_every(instance, place, pipeline.asset("study"))
    rows = [{"study": key, **dict(item.manifest.facts)} for key, item in found.items() if "known_until" in item.manifest.facts]
    if as_json:
        print(json.dumps(rows))
    elif not rows:
        print(f"no study of {pipeline.name}: trading-platform tune run {pipeline.name} lightgbm-40x5-s7")
    else:
        columns = (
            "study",
            "best_trial",
            "best_mean_rank_ic",
            "untuned_mean_rank_ic",
            "gain_t",
            "gain_t_of_noise",
            "complete",
            "pruned",
            "failed",
        )
        Screen().table(f"studies of {pipeline.name}", columns, [tuple(_text(row.get(column)) for column in columns) for row in rows])
    return 0


def show_study(settings: Settings, name: str, key: str, as_json: bool) -> int:
    """The trials of a study, the best first."""
    place, pipeline = Workplace(settings), pipeline_named(name)
    with prepare_instance(settings) as instance:
        found = latest_of_every(instance, place, pipeline.asset("study")).get(key)
    if found is None or "known_until" not in found.manifest.facts:
        raise InputError(f"the study {key} of {pipeline.name} was not run", pipeline.asset("study"), f"tune run {pipeline.name} {key}")
    frame = read_table(place, found.manifest, "trials").sort("mean_rank_ic", descending=True, nulls_last=True)
    if as_json:
        print(json.dumps({"facts": dict(found.manifest.facts), "trials": frame.to_dicts()}))
        return 0
    shown = ["trial", "state", "mean_rank_ic", *sorted(tuning.plan_of(key).space)]
    Screen().table(f"study {key} of {pipeline.name}", shown, [tuple(_text(value) for value in row) for row in frame.select(shown).rows()])
    facts = found.manifest.facts
    print(f"best trial {facts['best_trial']}, {facts['rows']} rows: {tuning.verdict_of(facts)}")
    return 0


def choose_trial(settings: Settings, name: str, key: str, trial: int, who: str, why: str) -> int:
    """Put a trial's parameters in force."""
    place, pipeline = Workplace(settings), pipeline_named(name)
    with prepare_instance(settings) as instance:
        return _told(tuning.choose(instance, place, pipeline, key, trial, who, why, _now()))


def take_default(settings: Settings, name: str, who: str, why: str) -> int:
    """Put the code's own parameters in force again."""
    return _told(tuning.back_to_default(Workplace(settings), pipeline_named(name), who, why, _now()))


def history(settings: Settings, name: str, as_json: bool) -> int:
    """Every decision about a pipeline's parameters, oldest first."""
    pipeline: Pipeline = pipeline_named(name)
    entries = ParameterChoices(settings.parameter_choices_path).of(pipeline.name)
    if as_json:
        print(json.dumps([{**dataclasses.asdict(entry), "hash": entry.hash} for entry in entries]))
    elif not entries:
        print(f"{pipeline.name}: the parameters of the code; nobody decided anything")
    else:
        rows = [(str(e.seq), moment(e.at), e.who, e.action, e.study, str(e.trial), e.why) for e in entries]
        Screen().table(f"parameters of {pipeline.name}", ("entry", "at", "who", "action", "study", "trial", "why"), rows)
    return 0


def sync_tracking(settings: Settings) -> int:
    """Send to MLflow what it refused when it was down, and count what arrived. TransientError while it does not answer."""
    from trading_platform.assets.resources import tracking_session

    session = tracking_session(settings)
    done = session.sync()
    print(f"{done.runs} runs sent ({done.lines} lines), {done.left} waiting")
    for difference in done.differing:
        print(f"not what was logged: {difference}")
    if done.left and session.problems:
        raise TransientError(
            session.problems[0], "MLflow", "start the tracking server, or set TRADING_MLFLOW_URI; nothing is lost meanwhile"
        )
    return 1 if done.differing else 0


def _told(entry: ParameterChoice) -> int:
    print(
        f"{entry.pipeline}: {json.dumps(dict(entry.parameters)) if entry.parameters else 'the parameters of the code'} (entry {entry.seq})"
    )
    print(NEXT)
    return 0


def _now() -> int:
    return time.time_ns()  # noqa: TID251  (a person's decision has the time of day; nothing is computed from it)


def _text(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
