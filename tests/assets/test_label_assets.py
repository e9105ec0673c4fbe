"""The labels asset under other rules than the default: what it publishes, what it shows, what its check refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import numpy as np
import polars as pl
import pytest
from world import synthetic_bars

from trading_platform.assets.bars import bars_asset
from trading_platform.assets.inputs import latest
from trading_platform.assets.labels import judge_labels, labels_array, labels_asset, labels_recipe, sectors_of
from trading_platform.assets.panels import panel_of
from trading_platform.assets.pipelines import DAILY, Pipeline
from trading_platform.assets.reading import Reader, reader
from trading_platform.assets.resources import Platform
from trading_platform.assets.universe import universe_asset
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.panel import Panel
from trading_platform.research.label_rules import ForwardReturn, LabelRule, TripleBarrier
from trading_platform.research.labels import Labels, make

BARRIER = TripleBarrier(horizon=5, profit=0.8, stop=0.8, volatility_rows=20)


@dataclass
class Shop:
    """Bars and universe of the synthetic market, on which labels of any rule are published."""

    settings: dict[str, str]
    instance: dg.DagsterInstance

    @property
    def place(self) -> Workplace:
        return Workplace(load_settings(**self.settings))

    def publish(self, rule: LabelRule | None = None) -> tuple[Pipeline, dg.ExecuteInProcessResult]:
        """Materialize the labels with their check."""
        pipeline = replace(DAILY, label=rule)
        node = labels_asset(pipeline)
        upstream = [bars_asset(pipeline).definition, universe_asset(pipeline).definition]
        resources = {"platform": Platform(settings=self.settings)}
        everything = [*upstream, node.definition, *node.checks]
        return pipeline, dg.materialize(everything, instance=self.instance, resources=resources, selection=[pipeline.labels])

    def read(self, pipeline: Pipeline) -> tuple[Reader, Panel, Labels]:
        """(reader, panel, published labels)."""
        seen = reader(self.instance, self.place, pipeline.bars, pipeline.asset("universe"), pipeline.labels)
        panel = panel_of(seen, pipeline)
        return seen, panel, labels_array(seen, pipeline, panel)

    def replant(self, change: Callable[[pl.DataFrame], pl.DataFrame]) -> None:
        """Publish the newest labels again, changed."""
        found = latest(self.instance, self.place, "labels_daily")
        assert found is not None
        outputs = []
        for output in found.manifest.outputs:
            frame = change(pl.read_parquet(self.place.lake.root / output.uri))
            made = self.place.lake.write_partition(output.asset, output.partition, frame, "planted", sort_by=())
            outputs.append(replace(output, uri=made.uri, sha256=made.sha256, size=made.size, data_version=made.data_version))
        manifest = replace(found.manifest, outputs=tuple(outputs), data_version="planted" + "0" * 57)
        stored = self.place.lake.write_file("manifests/labels_daily", "all", manifest.to_bytes(), ".json")
        self.instance.report_runless_asset_event(dg.AssetMaterialization("labels_daily", metadata={"manifest": stored.uri}))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    root = tmp_path_factory.mktemp("labels")
    synthetic_bars(root / "data")
    made = Shop({"home": str(root / "home"), "data": str(root / "data"), "profile": "demo"}, dg.DagsterInstance.ephemeral())
    upstream = [bars_asset(DAILY).definition, universe_asset(DAILY).definition]
    assert dg.materialize(upstream, instance=made.instance, resources={"platform": Platform(settings=made.settings)}).success
    return made


def test_the_default_rule_is_the_forward_return_less_the_members_mean(shop: Shop) -> None:
    pipeline, result = shop.publish()
    assert result.success and pipeline.label_rule == ForwardReturn(horizon=5, neutral="market")
    _, panel, labels = shop.read(pipeline)
    fresh = make(panel, pipeline.label_rule)
    for name in ("values", "raw", "t0", "t1", "ends", "exits"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(fresh, name), err_msg=name)
    assert labels.name == "forward_return_5_demeaned" and labels.rule == pipeline.label_rule


def test_a_barrier_rule_comes_back_as_it_was_made_with_weights_and_a_picture(shop: Shop) -> None:
    pipeline, result = shop.publish(BARRIER)
    seen, panel, labels = shop.read(pipeline)
    fresh = make(panel, BARRIER)
    for name in ("values", "raw", "t0", "t1", "ends", "exits"):
        np.testing.assert_array_equal(getattr(labels, name), getattr(fresh, name), err_msg=name)
    assert labels.rule == BARRIER and set(labels.values[np.isfinite(labels.values)]) == {-1.0, 0.0, 1.0}
    table = seen.read("labels_daily", "year=", columns=["label", "uniqueness", "attribution"])
    there = table["label"].is_not_nan()
    assert table.filter(there)["uniqueness"].is_between(0.15, 1.0 + 1e-9).all() and table.filter(~there)["uniqueness"].is_nan().all()
    assert table.filter(there)["attribution"].mean() == pytest.approx(1.0)
    said = result.asset_materializations_for_node("labels_daily")[0].metadata
    assert said["rule"].value == BARRIER.text and "data:image/png;base64," in str(said["overview"].value)
    assert "| 2012 |" in str(said["by_period"].value) and said["labelled"].value == int(np.isfinite(labels.values).sum())
    assert all(item.passed for item in result.get_asset_check_evaluations())


def test_sector_neutral_labels_use_the_sectors_of_the_source(shop: Shop) -> None:
    pipeline, _ = shop.publish(ForwardReturn(horizon=5, neutral="sector"))
    seen, panel, labels = shop.read(pipeline)
    sectors = sectors_of(seen, pipeline, panel)
    assert np.bincount(sectors).tolist() == [9] * 5
    counted = np.where(panel.member & np.isfinite(labels.values), labels.values, 0.0)
    for sector in range(5):
        np.testing.assert_allclose(counted[:, sectors == sector].sum(axis=1), 0.0, atol=1e-12)


def test_another_rule_makes_the_labels_stale_and_says_so(shop: Shop) -> None:
    one, other = labels_recipe(DAILY), labels_recipe(replace(DAILY, label=BARRIER))
    assert one.parameters(shop.place, "all")["rule"] != other.parameters(shop.place, "all")["rule"]
    assert "features" in other.code and "features" not in one.code


def test_features_that_read_the_vwap_change_the_price_of_labels_and_make_them_stale(tmp_path: Path) -> None:
    place = Workplace(load_settings(home=str(tmp_path), profile="demo"))
    said = [labels_recipe(replace(DAILY, feature_set=name)).parameters(place, "all")["price"] for name in ("core", "alpha158")]
    assert said == ["typical", "vwap"]


def test_a_rule_of_another_horizon_than_its_pipelines_is_refused() -> None:
    with pytest.raises(InputError, match="looks 10 rows ahead, the pipeline 5"):
        replace(DAILY, label=TripleBarrier(horizon=10))


DAY = 86_400_000_000_000
DEFECTS = {
    "without_full_horizon": lambda f: f.with_columns(
        pl.when(pl.col("label").is_nan()).then(pl.lit(0.0)).otherwise(pl.col("label")).alias("label")
    ),
    "known_too_early": lambda f: f.with_columns(
        pl.when(pl.col("label").is_nan()).then("known").otherwise(pl.col("t0") + DAY).alias("known")
    ),
    "outlive_their_row": lambda f: f.with_columns((pl.col("t1") - DAY).alias("t1")),
    "known_after_the_horizon": lambda f: f.with_columns(pl.col("known") + 30 * DAY, pl.col("t1") + 30 * DAY),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_labels_that_could_not_be_are_refused_by_name(shop: Shop, defect: str) -> None:
    pipeline, _ = shop.publish(BARRIER)
    assert judge_labels(shop.instance, shop.place, pipeline).passed
    kept = pl.col("label").is_not_nan()
    change = DEFECTS[defect]
    shop.replant(
        lambda f: change(f) if defect == "without_full_horizon" else f.update(change(f.filter(kept)), on=["instrument_id", "timestamp"])
    )
    verdict = judge_labels(shop.instance, shop.place, pipeline)
    assert not verdict.passed and verdict.metadata[defect].value > 0
