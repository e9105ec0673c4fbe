"""Policy over all assets in one place: who owns them, how fresh they have to be, where their code is. No asset repeats it."""

from __future__ import annotations

from datetime import timedelta

import dagster as dg

OWNERS = {
    "bars": "team:market-data",
    "universe": "team:market-data",
    "features": "team:research",
    "labels": "team:research",
    "models": "team:research",
    "walk_forward": "team:research",
    "registry": "team:model-risk",
    "live": "team:trading",
    "warehouse": "team:trading",
}
# Sessions end at 16:00 in New York; what follows them is due by 06:00 of the next weekday, before anyone trades.
FRESHNESS = dg.FreshnessPolicy.cron(deadline_cron="0 6 * * 1-5", lower_bound_delta=timedelta(hours=14), timezone="America/New_York")
FRESH_GROUPS = ("bars", "universe", "features", "live")


def with_policy(definitions: dg.Definitions) -> dg.Definitions:
    """The definitions with owner, freshness and the naming of a team on every asset; an asset of an unknown group is an error."""

    def apply(spec: dg.AssetSpec) -> dg.AssetSpec:
        group = spec.group_name or ""
        spec = spec.replace_attributes(owners=[OWNERS[group]])
        return spec.replace_attributes(freshness_policy=FRESHNESS) if group in FRESH_GROUPS else spec

    return definitions.map_resolved_asset_specs(func=apply)
