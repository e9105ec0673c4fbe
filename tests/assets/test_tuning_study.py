"""A study as an asset: asked for by its plan, on the span before every test row, each trial on record, its result chosen by a person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from world import World

from trading_platform.assets import tuning
from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.failures import MaterializationError
from trading_platform.assets.models import before_stretch, folds_of, training_set, windows_of
from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.reading import reader
from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.registry.parameter_choices import ParameterChoices
from trading_platform.research.trials import TrialRegistry

KEY = "lightgbm-6x3-s7"


def run(world: World, key: str = KEY, tracking: bool = False) -> list[bool]:
    from trading_platform.definitions import build_definitions

    world.instance.add_dynamic_partitions("daily_studies", [key])
    definitions = build_definitions(tracking=tracking, **world.overrides)
    steps = bring_current(definitions, world.graph, world.place, world.instance, partitions={"study": [key]}, assets=["study"])
    return [step.ran for step in steps]


def test_a_study_puts_every_trial_on_record_and_is_run_once(world: World) -> None:
    registry, scope = TrialRegistry(world.settings.trials_path), tuning.scope_of(world.place, DAILY)
    before = registry.trials()
    assert {trial.scope for trial in before} == {scope}  # the report's own trial competes in the same scope
    assert run(world) == [True] and run(world) == [False]
    manifest = world.manifest("study", KEY)
    recorded = registry.trials()[len(before) :]
    assert len(recorded) == 6 and {trial.scope for trial in recorded} == {scope} and len({trial.recipe for trial in recorded}) == 6
    assert registry.count(scope).trials == len({(t.recipe, t.span) for t in before}) + 6
    assert all(f"trial {number}" in trial.note for number, trial in enumerate(recorded))
    frame = pl.read_parquet(world.place.lake.root / manifest.outputs[0].uri)
    assert frame["trial"].to_list() == list(range(6)) and frame["rounds"][0] == 150 and "seconds" not in frame.columns
    ended = {"complete": manifest.facts["complete"], "pruned": manifest.facts["pruned"], "failed": manifest.facts["failed"]}
    assert ended == {state: (frame["state"] == state).sum() for state in ended} and ended["complete"] >= 1
    (timed,) = world.settings.studies_dir.glob("*.parquet")
    assert (pl.read_parquet(timed)["seconds"] > 0.0).all()
    event = world.instance.get_latest_materialization_event(dg.AssetKey("study"))
    assert event is not None and event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert {"verdict", "best_trial", "gain_t_of_noise"} <= set(metadata)
    assert all("data:image/png;base64," in str(metadata[name].value) for name in ("history", "importance"))


def test_a_study_ends_before_the_first_test_row_of_the_whole_walk_forward(world: World) -> None:
    run(world)
    seen = reader(world.instance, world.place, *tuning.model_upstream(DAILY))
    known = before_stretch(training_set(seen, DAILY))
    first = tuning.first_fold(DAILY, known).test[0]
    facts = world.manifest("study", KEY).facts
    assert facts["known_until"] < known.labels.t0[first] and facts["span"][1] < known.panel.session[first]
    inner = tuning.inner_folds(DAILY, known, KEY)
    values = np.where(np.arange(known.panel.shape[0])[:, None] >= first, 9.0, known.labels.values)
    spoilt = tuning.inner_folds(DAILY, replace(known, labels=replace(known.labels, values=values)), KEY)
    start = dict(tuning.plan_of(KEY).start)
    assert np.array_equal(inner(start, 0).predictions, spoilt(start, 0).predictions)
    day = np.datetime64(int(known.panel.session[first + 30]), "D")
    longer = tuning.inner_folds(DAILY, known, f"{KEY}-u{day}")
    assert longer.rows[0] == inner.rows[0] and inner.rows[-1] < longer.rows[-1] < first + 30
    assert longer.labels.t1.max() < known.labels.t0[first + 31]
    for wrong, said in (("2007-13-01", "no date"), ("1999-12-31", "leaves nothing"), (str(day + 900), "leaves nothing")):
        with pytest.raises(InputError, match=said):
            tuning.span_of(DAILY, known, f"{KEY}-u{wrong}")


def test_a_person_chooses_a_trial_by_its_number_and_it_is_data_of_the_recipe(world: World) -> None:
    with pytest.raises(InputError, match="was not run"):
        tuning.choose(world.instance, world.place, DAILY, KEY, 0, "ann", "why", 1)
    run(world)
    untuned = windows_of(world.place, DAILY)
    with pytest.raises(InputError, match="trial 99 is not there"):
        tuning.choose(world.instance, world.place, DAILY, KEY, 99, "ann", "why", 1)
    with pytest.raises(InputError, match="a person and a reason"):
        tuning.choose(world.instance, world.place, DAILY, KEY, 1, "ann", " ", 1)
    entry = tuning.choose(world.instance, world.place, DAILY, KEY, 1, "ann", "as good as any", 1)
    chosen = windows_of(world.place, DAILY)  # what predictions, report and bundles are a function of
    assert chosen["parameters"] == {**untuned["parameters"], **entry.parameters} != untuned["parameters"]
    known = before_stretch(training_set(reader(world.instance, world.place, *tuning.model_upstream(DAILY)), DAILY))
    tests = [int(fold.test[0]) for fold in folds_of(world.place, DAILY, known)]
    assert tests and all(known.labels.t0[row] > entry.known_until for row in tests)
    assert entry.data_version == world.manifest("study", KEY).data_version
    run(world, "lightgbm-2x3-s1-u2013-03-28")  # a newer study changes nothing
    assert windows_of(world.place, DAILY) == chosen
    tuning.back_to_default(world.place, DAILY, "bob", "simpler", 2)
    assert windows_of(world.place, DAILY) == untuned
    with pytest.raises(InputError, match="nothing to take back"):
        tuning.back_to_default(world.place, DAILY, "bob", "simpler", 3)
    path = world.settings.parameter_choices_path
    path.write_bytes(path.read_bytes().replace(b'"ann"', b'"eve"'))
    with pytest.raises(CorruptionError, match="entry 1 breaks the chain"):
        ParameterChoices(path).entries()


@pytest.mark.parametrize("key", ["lightgbm-0x3-s7", "lightgbm-6x1-s7", "forest-6x3-s7", "lightgbm-6x3", "lightgbm-6x3-s7 "])
def test_a_key_that_names_no_plan_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="is no plan of a study"):
        tuning.plan_of(key)


def test_a_key_typed_wrong_fails_the_run_and_says_why(world: World) -> None:
    with pytest.raises(MaterializationError, match="no plan of a study"):
        run(world, "lightgbm-many")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_mlflow_holds_the_study_with_its_table_plots_inputs_and_user(world: World) -> None:
    from mlflow.tracking import MlflowClient

    run(world, tracking=True)
    client = MlflowClient(world.settings.mlflow_tracking_uri)
    experiment = client.get_experiment_by_name("trading")
    (found,) = client.search_runs([experiment.experiment_id], "tags.asset = 'study'")
    assert found.info.status == "FINISHED" and found.data.tags["mlflow.user"] and found.data.tags["partition"] == KEY
    assert found.data.tags["data_version"] == world.manifest("study", KEY).data_version
    assert {item.dataset.name for item in found.inputs.dataset_inputs} == set(tuning.model_upstream(DAILY))
    paths = {item.path for item in client.list_artifacts(found.info.run_id)} | {
        item.path for item in client.list_artifacts(found.info.run_id, "plots")
    }
    assert paths == {"trials.parquet", "plots", "plots/history.png", "plots/importance.png"}
    local = Path(client.download_artifacts(found.info.run_id, "trials.parquet", str(world.settings.home)))
    assert pl.read_parquet(local).height == 6
    assert len(client.get_metric_history(found.info.run_id, "mean_rank_ic")) == 6
