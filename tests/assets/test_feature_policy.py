"""Features in force: what each decision leaves, what the assets make of it, and what is no longer promoted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from world import SESSIONS, World

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.currency import currency
from trading_platform.assets.feature_policy import Decisions, in_force, plain_in_force, policy_of
from trading_platform.assets.feature_shadow import shadow_ready
from trading_platform.assets.pipelines import DAILY, INTRADAY, Pipeline
from trading_platform.assets.workplace import Workplace
from trading_platform.config import load_settings
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.session_inputs import SessionInputs
from trading_platform.features.catalog import registry
from trading_platform.features.catalog.listing import Feature, Listing
from trading_platform.features.expression import adj, field, pct_change
from trading_platform.features.program import FeatureSet
from trading_platform.registry.feature_policy import PolicyEntry

CORE = registry.feature_set("core")


def decide(place: Workplace, pipeline: Pipeline = DAILY) -> Decisions:
    return Decisions(place, pipeline, "Ann", "a reason", 1)


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(load_settings(home=tmp_path))


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A catalogue that a test may change."""
    yield monkeypatch
    monkeypatch.undo()
    registry.feature_set.cache_clear()
    registry.listing.cache_clear()


def listing_of(chosen: FeatureSet) -> Listing:
    """The set as a line each of the catalogue."""
    lines = {name: Feature(chosen.features[name], name, name in chosen.level) for name in chosen.names}
    return Listing(chosen.name, chosen.label, "", lines)


def replace_core(catalogue: pytest.MonkeyPatch, label: str, keep_old: bool) -> FeatureSet:
    """The code goes on: core becomes another set."""
    newer = FeatureSet("core", label, {**CORE.features, "rsi_14": pct_change(adj("close"), 14)}, CORE.level_features)
    catalogue.setitem(registry._LISTINGS, "core", lambda: listing_of(newer))
    if keep_old:
        catalogue.setitem(registry._LISTINGS, f"core@{CORE.label}", lambda: listing_of(CORE))
    registry.feature_set.cache_clear()
    registry.listing.cache_clear()
    return newer


def test_without_a_decision_the_code_decides(place: Workplace) -> None:
    assert in_force(place, DAILY).hash == CORE.hash and in_force(place, INTRADAY).name == "intraday_vix"
    assert plain_in_force(place, INTRADAY).name == "intraday" and not policy_of(place).path.exists()


def test_disabled_features_leave_the_set_and_come_back(place: Workplace) -> None:
    entry = decide(place).disable(["rsi_14", "macd"])
    assert set(CORE.names) - set(in_force(place, DAILY).names) == {"rsi_14", "macd"} and in_force(place, DAILY).hash == entry.feature_hash
    assert (entry.who, entry.why, entry.at, entry.action) == ("Ann", "a reason", 1, "disable")
    assert "rsi_14" in in_force(place, INTRADAY).names  # the other pipeline is its own
    decide(place).enable(["macd"])
    assert set(CORE.names) - set(in_force(place, DAILY).names) == {"rsi_14"}
    decide(place, INTRADAY).disable(["vix", "rsi_14"])
    assert "rsi_14" not in plain_in_force(place, INTRADAY).names and "vix" not in in_force(place, INTRADAY).names


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.disable(["nothing"]), "no feature nothing"),
        (lambda d: d.disable(["volatility_20d"]), "without volatility_20d no order has a size"),
        (lambda d: d.enable(["rsi_14"]), "rsi_14 is not disabled"),
        (lambda d: d.use("core:volatility_20d,atr_20_pct", False), "no finished shadow run"),
        (lambda d: d.use("core:price", True), "without atr_20_pct, volatility_20d no order has a size"),
        (lambda d: d.use_safe(), "no safe subset is named"),
        (lambda d: d.safe(["rsi_14"]), "no order has a size"),
        (lambda d: d.rollback(), "nothing else was ever in force"),
        (lambda d: d.unshadow(), "nothing runs in shadow"),
        (lambda d: d.shadow("core", 16_000, 0), "a shadow run of 0 sessions"),
        (lambda d: d.use("core@v9.9", True), "core has no version v9.9"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused_and_leaves_nothing(place: Workplace, change: object, said: str) -> None:
    with pytest.raises(InputError, match=said):
        change(decide(place))  # type: ignore[operator]
    assert policy_of(place).entries() == ()


def test_the_safe_subset_is_used_at_once_and_rolled_back_from(place: Workplace) -> None:
    decide(place).disable(["macd"])
    decide(place).safe(["volatility_20d", "atr_20_pct", "macd"])
    assert len(in_force(place, DAILY).names) == len(CORE.names) - 1  # naming changes nothing
    decide(place).use_safe()
    assert in_force(place, DAILY).names == ("atr_20_pct", "volatility_20d")  # what is disabled stays so
    decide(place).rollback()
    assert set(CORE.names) - set(in_force(place, DAILY).names) == {"macd"}


def test_a_rollback_of_the_first_decision_is_what_the_code_names(place: Workplace) -> None:
    decide(place).disable(["macd"])
    decide(place).rollback()
    assert in_force(place, DAILY).hash == CORE.hash


def test_a_rollback_is_exact_or_refused_with_the_commit(place: Workplace, catalogue: pytest.MonkeyPatch) -> None:
    decide(place).use(f"core@{CORE.label}", True)
    newer = replace_core(catalogue, "v9.0", keep_old=False)
    with pytest.raises(InputError, match=f"core has no version {CORE.label} here"):
        in_force(place, DAILY)
    decide(place).use("core", True)
    assert in_force(place, DAILY).hash == newer.hash
    with pytest.raises(InputError, match=f"core has no version {CORE.label} here"):
        decide(place).rollback()
    replace_core(catalogue, "v9.0", keep_old=True)
    entry = decide(place).rollback()
    assert in_force(place, DAILY).hash == CORE.hash == entry.feature_hash and entry.reference == f"core@{CORE.label}"


def test_a_version_whose_kernels_changed_under_its_label_is_refused(place: Workplace, catalogue: pytest.MonkeyPatch) -> None:
    decide(place).use(f"core@{CORE.label}", True)
    decide(place).disable(["macd"])
    replace_core(catalogue, CORE.label, keep_old=False)
    with pytest.raises(InputError, match=r"was in force as .*, this code computes") as caught:
        in_force(place, DAILY)
    assert policy_of(place).entries()[-1].commit in caught.value.fix and "keep that version in the catalogue" in caught.value.fix


def test_a_set_without_a_label_follows_the_code(place: Workplace, catalogue: pytest.MonkeyPatch) -> None:
    decide(place).disable(["macd"])
    newer = replace_core(catalogue, "v9.0", keep_old=False)
    assert in_force(place, DAILY).features == {name: newer.features[name] for name in newer.names if name != "macd"}


def materialize(world: World, *assets: str) -> None:
    bring_current(world.definitions, world.graph, world.place, world.instance, assets=list(assets))


def refused(world: World, cutoff: str) -> str:
    """Why the promotion of a cutoff failed."""
    job = world.definitions.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey("promotion")]
    result = job.execute_in_process(asset_selection=keys, instance=world.instance, partition_key=cutoff, raise_on_error=False)
    failure = next(event.step_failure_data.error for event in result.all_events if event.is_step_failure)
    return str(failure.cause.message if failure.cause else failure.message)


def test_a_disabled_feature_leaves_the_table_and_stops_the_models_that_read_it(world: World) -> None:
    recipe = world.graph.nodes["features_daily"].recipe
    assert currency(world.instance, world.place, recipe).current
    decide(world.place).disable(["rsi_14"])
    assert "setting feature_hash" in currency(world.instance, world.place, recipe).why
    cutoff = sorted(world.manifest("features_daily").facts["cutoffs"])[0]
    said = refused(world, cutoff)
    assert "the bundle reads the features core (" in said and "in force are core!rsi_14 (" in said
    materialize(world, "features_daily", "session_inputs")
    facts = world.manifest("features_daily").facts
    assert "rsi_14" not in facts["names"] and facts["feature_set"] == "core!rsi_14"
    assert "the bundle reads the features core (" in refused(world, cutoff)
    inputs = SessionInputs.load(world.settings.lake_dir, DAILY.name)  # what a runner starts from: it compiles the name and compares
    assert inputs.feature_set == "core!rsi_14" and registry.feature_set(inputs.feature_set).hash == inputs.feature_hash
    decide(world.place).rollback()
    assert in_force(world.place, DAILY).hash == CORE.hash


def shadow_run(world: World, reference: str, sessions: int) -> PolicyEntry:
    entry = decide(world.place).shadow(reference, 0, sessions)  # after the first of January 1970: every session counts
    materialize(world, "feature_shadow_daily")
    return entry


def test_a_set_in_shadow_is_ready_after_its_sessions_and_only_without_findings(world: World, catalogue: pytest.MonkeyPatch) -> None:
    assert world.manifest("feature_shadow_daily").facts["empty"] == "no set is in shadow"
    newer = replace_core(catalogue, "v9.0", keep_old=True)
    decide(world.place).use(f"core@{CORE.label}", True)
    shadow_run(world, "core", SESSIONS + 1)
    facts = world.manifest("feature_shadow_daily").facts
    assert (facts["sessions"], facts["wanted"], facts["ready"], facts["findings"]) == (SESSIONS, SESSIONS + 1, False, [])
    shadow_run(world, "core", SESSIONS)
    assert shadow_ready(world.instance, world.place, DAILY, newer.hash) and not shadow_ready(world.instance, world.place, DAILY, CORE.hash)
    bad = FeatureSet("bad", "v1.0", {**CORE.features, "raw": pct_change(field("close"), 5)}, CORE.level_features)
    catalogue.setitem(registry._LISTINGS, "bad", lambda: listing_of(bad))
    entry = shadow_run(world, "bad", 30)
    facts = world.manifest("feature_shadow_daily").facts
    assert facts["ready"] is False and facts["sessions"] == 30 and any(text.startswith("scale: raw of ") for text in facts["findings"])
    assert not shadow_ready(world.instance, world.place, DAILY, str(entry.shadow["feature_hash"]))
