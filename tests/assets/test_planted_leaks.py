"""Five leaks, planted one by one in the arrays of the materialised pipeline: each is caught by its name, and without them it is clean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from world import World

from trading_platform.assets.inputs import latest
from trading_platform.assets.leaks import leaks_of
from trading_platform.assets.models import TrainingSet, before_stretch, folds_of, training_set
from trading_platform.assets.panels import set_of
from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.reading import Reader, reader
from trading_platform.features.program import Program
from trading_platform.matching.price import attainable_prices
from trading_platform.research.labels import demeaned, forward_return


def opened(world: World) -> tuple[Reader, TrainingSet]:
    out = reader(world.instance, world.place, DAILY.bars, "universe", DAILY.features, DAILY.labels)
    return out, before_stretch(training_set(out, DAILY))


def caught(world: World, plant: Callable[[Reader, TrainingSet], TrainingSet]) -> list[str]:
    out, known = opened(world)
    found = leaks_of(out, DAILY, plant(out, known), folds_of(world.place, DAILY, known))
    return [text.split(":")[0] for text in found]


def label_in_features(out: Reader, known: TrainingSet) -> TrainingSet:
    features = known.features.copy()
    noise = np.nanstd(known.labels.values) * np.random.default_rng(1).standard_normal(known.panel.shape)
    features[:, :, 4] = known.labels.values + noise
    return replace(known, features=features)


def same_bar_fill(out: Reader, known: TrainingSet) -> TrainingSet:
    price = attainable_prices(known.panel) * known.panel.fields["return_factor"]
    values = np.full_like(price, np.nan)
    values[: -DAILY.horizon] = price[DAILY.horizon :] / price[: -DAILY.horizon] - 1.0
    bought = demeaned(replace(known.labels, values=values), known.panel.member)
    kept = np.where(np.isfinite(known.labels.values), bought.values, np.nan)
    return replace(known, labels=replace(known.labels, values=kept))


def full_sample_scaler(out: Reader, known: TrainingSet) -> TrainingSet:
    mean, spread = (each(known.features, axis=(0, 1), dtype=np.float64) for each in (np.nanmean, np.nanstd))
    return replace(known, features=((known.features - mean) / spread).astype(np.float32))


def future_universe(out: Reader, known: TrainingSet) -> TrainingSet:
    """The universe of those that will have done well by the span's end; features and labels follow from it, as they would."""
    wealth = known.panel.fields["close"] * known.panel.fields["return_factor"]
    grown = wealth[-1] / wealth[0]
    panel = replace(known.panel, member=known.panel.member & (grown > np.nanmedian(grown)))
    chosen = set_of(out, DAILY)
    whole = Program(chosen, panel.instrument_ids).step(panel)[..., [chosen.names.index(name) for name in known.names]]
    labels = demeaned(forward_return(panel, DAILY.horizon), panel.member)
    kept = np.where(np.isfinite(known.labels.values), labels.values, np.nan)
    return replace(known, panel=panel, features=np.ascontiguousarray(whole), labels=replace(known.labels, values=kept))


def shifted_timestamp(out: Reader, known: TrainingSet) -> TrainingSet:
    return replace(known, features=np.concatenate([known.features[1:], known.features[-1:]]))


PLANTED = (label_in_features, same_bar_fill, full_sample_scaler, future_universe, shifted_timestamp)


def test_the_pipeline_without_a_leak_is_clean(shared_world: World) -> None:
    assert caught(shared_world, lambda out, known: known) == []
    report = latest(shared_world.instance, shared_world.place, "walk_forward_report")
    assert report is not None and report.manifest.facts["gates"]["leakage"]["passed"] is True


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_each_planted_leak_is_caught_by_its_name(shared_world: World, plant: Callable[[Reader, TrainingSet], TrainingSet]) -> None:
    assert set(caught(shared_world, plant)) == {plant.__name__}
