"""A node of the graph: a Dagster definition together with the recipe that says what its content is a function of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from trading_platform.assets.inputs import Recipe


@dataclass(frozen=True, slots=True)
class Node:
    """One asset. checks: definitions of the checks that judge it; `technical` names those a promotion demands (they block)."""

    recipe: Recipe
    definition: dg.AssetsDefinition
    checks: Sequence[dg.AssetChecksDefinition] = ()

    @property
    def key(self) -> dg.AssetKey:
        """The asset's key."""
        return dg.AssetKey(self.recipe.asset)


def of(recipe: Recipe) -> dict[str, Any]:
    """The arguments of `@dg.asset` that the recipe already knows."""
    return {"name": recipe.asset, "deps": list(recipe.deps), "code_version": recipe.code_version}
