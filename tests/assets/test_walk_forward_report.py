"""The report as an asset: a page and plots, the same bytes for the same inputs, and a failed backtest that counts as a trial."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import numpy as np
import polars as pl
import pytest
from world import World

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.failures import MaterializationError
from trading_platform.assets.inputs import latest
from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.canonical import sha256_hex
from trading_platform.contracts.errors import InputError
from trading_platform.research import evaluate
from trading_platform.research.trials import TrialRegistry

REPORT = "walk_forward_report"
PLOTS = {
    "equity_curve",
    "monthly_returns",
    "ic_over_time",
    "ic_decay",
    "quantile_returns",
    "age_curve",
    "exposures",
    "stress",
    "feature_importance",
}


def again(world: World) -> None:
    """Materialize the report whether it is current or not."""
    job = world.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection={dg.AssetKey(REPORT)})
    done = job.execute_in_process(instance=world.instance, raise_on_error=False)
    assert done.success


def test_the_report_is_a_page_and_its_plots(shared_world: World) -> None:
    event = shared_world.instance.get_latest_materialization_event(dg.AssetKey(REPORT))
    assert event is not None and event.asset_materialization is not None
    metadata = event.asset_materialization.metadata
    assert set(metadata) >= PLOTS | {"report", "report_sha256", "power", "gates", "trials"}
    assert all("data:image/png;base64," in str(metadata[name].value) for name in PLOTS)
    output = next(o for o in shared_world.manifest(REPORT).outputs if o.partition == "page")
    page = (shared_world.place.lake.root / output.uri).read_bytes()
    assert str(metadata["report"].value).endswith(output.uri) and metadata["report_sha256"].value == sha256_hex(page)
    text = page.decode()
    assert shared_world.manifest("alpha_lightgbm").data_version in text and "What moves it" in text
    assert str(shared_world.place.lake.root) not in text and event.run_id not in text


def test_the_same_inputs_give_the_same_page_and_add_no_trial(world: World) -> None:
    before = world.manifest(REPORT)
    registry = TrialRegistry(world.settings.trials_path)
    scope = registry.trials()[-1].scope
    count = registry.count(scope)
    again(world)
    after = world.manifest(REPORT)
    assert after.run_id != before.run_id
    assert after.facts["report_sha256"] == before.facts["report_sha256"] and after.data_version == before.data_version
    assert registry.count(scope) == count


def test_another_profile_is_another_page(world: World) -> None:
    before = world.manifest(REPORT)
    profile = world.place.profile(DAILY)
    dear = replace(profile, costs=replace(profile.costs, half_spread_bps=25.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Workplace, "profile", lambda self, pipeline: dear)
        steps = bring_current(world.definitions, world.graph, world.place, world.instance, assets=[REPORT])
    after = world.manifest(REPORT)
    assert [step.ran for step in steps] == [True]
    assert after.facts["report_sha256"] != before.facts["report_sha256"]
    assert after.facts["metrics"]["annual_return"] < before.facts["metrics"]["annual_return"]


def test_a_backtest_that_fails_is_a_trial(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = TrialRegistry(world.settings.trials_path)
    before = registry.trials()

    def refused(*given: object, **named: object) -> None:
        raise InputError("the signal is undefined everywhere", "planted", "check the features")

    monkeypatch.setattr(evaluate, "net_result", refused)
    found = latest(world.instance, world.place, REPORT)
    _make_stale(world)
    with pytest.raises((MaterializationError, InputError)):
        bring_current(world.definitions, world.graph, world.place, world.instance, assets=[REPORT])
    newest = registry.trials()[len(before) :]
    assert [trial.state for trial in newest] == ["started", "failed"]
    assert "the signal is undefined everywhere" in newest[-1].note
    assert latest(world.instance, world.place, REPORT) == found


def _make_stale(world: World) -> None:
    """Publish the predictions again, one of them changed, so that the report is not current."""

    def change(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(
            pl.when(pl.int_range(pl.len()) == 0).then(pl.col("alpha") + 1e-6).otherwise(pl.col("alpha")).alias("alpha")
        )

    world.replant("alpha_lightgbm", "predictions", change)


def test_the_page_tells_the_reports_own_numbers(shared_world: World) -> None:
    facts = shared_world.manifest(REPORT).facts
    output = next(o for o in shared_world.manifest(REPORT).outputs if o.partition == "page")
    text = (shared_world.place.lake.root / output.uri).read_text()
    assert f"{facts['metrics']['annual_return']:.2%}" in text
    assert f"{facts['metrics']['annual_sharpe']:.2f}" in text and np.isfinite(facts["metrics"]["max_drawdown"])
