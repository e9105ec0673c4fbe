"""alpha_lightgbm: what it publishes of its folds, and that its learner is part of its recipe."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from world import World

from trading_platform.assets.models import FoldFiles, alpha_recipe, windows_of
from trading_platform.assets.pipelines import DAILY
from trading_platform.assets.reading import read_table
from trading_platform.contracts.canonical import content_hash, sha256_hex
from trading_platform.contracts.errors import InputError
from trading_platform.research.models.folds import DIGEST


def test_the_published_folds_are_a_chain_to_the_kept_models(shared_world: World) -> None:
    manifest = shared_world.manifest("alpha_lightgbm")
    folds = read_table(shared_world.place, manifest, "folds")
    before = ""
    for row in folds.sort("fold").iter_rows(named=True):
        before = content_hash([before, row["trained"], row["model"], row["tested"], row["predicted"]])
        assert row["link"] == before and row["trained_from"] < row["trained_to"] < row["speaks_from"] <= row["speaks_to"]
        kept = FoldFiles(shared_world.place.lake.root / "fold-cache").get(row["trained"])
        assert kept is not None and sha256_hex(kept[DIGEST:]) == row["model"]
    assert manifest.facts["chain"] == before and folds.height == manifest.facts["folds"] == 3


def test_shapley_and_gain_shares_stand_side_by_side(shared_world: World) -> None:
    shares = read_table(shared_world.place, shared_world.manifest("alpha_lightgbm"), "importance")
    assert shares["feature"].to_list() == shared_world.manifest("alpha_lightgbm").facts["names"]
    for name in ("gain_share", "shapley_share"):
        assert shares[name].sum() == pytest.approx(1.0) and (shares[name].to_numpy() >= 0.0).all()
    assert not np.allclose(shares["gain_share"].to_numpy(), shares["shapley_share"].to_numpy())


def test_another_learner_is_another_recipe(shared_world: World) -> None:
    told = {
        name: windows_of(shared_world.place, replace(DAILY, learner=name)) for name in ("lightgbm_regression", "random_forest", "ridge")
    }
    assert len({content_hash(dict(one)) for one in told.values()}) == 3
    assert told["ridge"]["parameters"] == {"penalty": 0.1} and told["random_forest"]["parameters"]["boosting"] == "rf"
    published = shared_world.manifest("alpha_lightgbm").parameters
    assert published == dict(alpha_recipe(DAILY).parameters(shared_world.place, "")) and published["learner"] == "lightgbm_regression"
    with pytest.raises(InputError, match="no learner 'lightgbm'"):
        windows_of(shared_world.place, replace(DAILY, learner="lightgbm"))
