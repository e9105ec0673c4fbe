"""Promotions: what enters the ledger, and that statistical gates and people bind at live."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pytest
from world import World

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.inputs import latest
from trading_platform.contracts.canonical import sha256_hex
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.registry.ledger import STATISTICAL_GATES, TECHNICAL_GATES


def cutoff_of(world: World) -> str:
    return sorted(world.manifest("features_daily").facts["cutoffs"])[0]


def promote(world: World, **config: object) -> dg.ExecuteInProcessResult:
    """Materialize the promotion with a configuration."""
    job = world.definitions.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        run_config={"ops": {"promotion": {"config": config}}},
        asset_selection=[dg.AssetKey("promotion")],
        instance=world.instance,
        partition_key=cutoff_of(world),
        raise_on_error=False,
    )


def reason(result: dg.ExecuteInProcessResult) -> str:
    failure = next(event.step_failure_data.error for event in result.all_events if event.is_step_failure)
    return str(failure.cause.message if failure.cause else failure.message)


def test_a_bundle_takes_every_stage_to_paper_once(shared_world: World) -> None:
    entries = LedgerReader(shared_world.settings.ledger_path).entries()
    bundle = shared_world.manifest("model_bundle", cutoff_of(shared_world)).facts["bundle_id"]
    assert [(entry.stage, entry.bundle_id) for entry in entries] == [(stage, bundle) for stage in ("candidate", "shadow", "paper")]
    assert LedgerReader(shared_world.settings.ledger_path).authority(str(bundle), "default", "paper") == entries[-1]
    assert sha256_hex(shared_world.place.store.get(f"trading-models/{entries[-1].name}/metadata.json")) == bundle


def test_every_gate_in_the_ledger_names_the_materialization_it_was_judged_on(shared_world: World) -> None:
    entry = LedgerReader(shared_world.settings.ledger_path).entries()[-1]
    report = latest(shared_world.instance, shared_world.place, "walk_forward_report")
    bundle = latest(shared_world.instance, shared_world.place, "model_bundle", cutoff_of(shared_world))
    assert report is not None and bundle is not None
    judged = {name: gate["storage_id"] for name, gate in entry.gates.items()}
    assert set(TECHNICAL_GATES) | set(STATISTICAL_GATES) <= set(judged)
    assert judged["dsr"] == judged["leakage"] == report.storage_id
    assert judged["parity"] == judged["golden"] == bundle.storage_id


def test_promoting_again_writes_nothing_into_the_ledger(world: World) -> None:
    before = world.settings.ledger_path.read_bytes()
    assert promote(world).success
    assert world.settings.ledger_path.read_bytes() == before


@pytest.mark.parametrize("file", ["model.onnx", "metadata.json"])
def test_a_bundle_edited_after_its_checks_is_not_promoted(world: World, file: str) -> None:
    """The verdict on its integrity is from before the edit, and does not help it."""
    from trading_platform.contracts.model import parse_label
    from trading_platform.registry.bundle import bundle_prefix

    label = str(world.manifest("model_bundle", cutoff_of(world)).facts["label"])
    path = world.place.store.root / bundle_prefix(*parse_label(label)) / file  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    before = world.settings.ledger_path.read_bytes()
    result = promote(world)
    assert not result.success and file in reason(result)
    assert world.settings.ledger_path.read_bytes() == before


def test_an_honest_weak_model_never_reaches_live(world: World) -> None:
    before = world.settings.ledger_path.read_bytes()
    result = promote(world, stage="live", approvals=["Ada", "Grace"], reason="looks good", capital_share=0.05)
    assert not result.success and "dsr" in reason(result)
    assert world.settings.ledger_path.read_bytes() == before


def test_live_needs_two_signed_approvals_even_with_every_gate_passed(world: World) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from trading_platform.assets.pipelines import DAILY
    from trading_platform.assets.promotion import Case, PromotionConfig, write_ledger
    from trading_platform.assets.recipes import live_request, recipe_now
    from trading_platform.contracts.errors import InputError
    from trading_platform.registry import approvals
    from trading_platform.registry.approver_keys import public_key
    from trading_platform.registry.ledger import required_gates
    from trading_platform.registry.promotion_rules import evidence_since
    from trading_platform.research.thresholds import Thresholds

    path = world.settings.ledger_path

    def head() -> str:
        return LedgerReader(path).head()

    keys = {name: Ed25519PrivateKey.generate() for name in ("Ada", "Grace")}
    for name, key in keys.items():
        approvals.enrol(path, expected_head=head(), person=name, key=public_key(key), at=1, reason="joins")
    recipe = recipe_now(world.instance, world.place, DAILY, author="Ada")
    approvals.register_recipe(path, expected_head=head(), recipe=recipe, at=1, reason="first")
    approvals.record_thresholds(path, expected_head=head(), thresholds=Thresholds(), at=1, people=("Ada", "Zoe"), reason="first")
    wanted = live_request(world.instance, world.place, DAILY, cutoff_of(world), 0.05, 500.0)
    on_paper = evidence_since(LedgerReader(path).entries(), wanted)
    assert on_paper is not None and on_paper.recipe == recipe.hash == wanted.recipe
    gates = {name: {"passed": True, "storage_id": 1} for name in required_gates("live")}
    gates["operational_evidence"] |= {"since": on_paper.seq}
    case = Case(f"{wanted.name}_v{wanted.version}", wanted.bundle_id, recipe.hash, wanted.bound or {}, gates, 1)
    config = PromotionConfig(stage="live", approvals=["Ada", "Grace"], reason="both", capital_share=0.05, loss_budget=500.0)
    for name in ("Ada", "Grace"):
        with pytest.raises(InputError, match="2 different people"):
            write_ledger(world.place, DAILY, config, case)
        approvals.approve(path, expected_head=head(), wanted=wanted, who=name, reason="good", at=1, signed_with=keys[name])
    write_ledger(world.place, DAILY, config, case)
    assert LedgerReader(path).entries()[-1].stage == "live" and LedgerReader(path).entries()[-1].approvals == ("Ada", "Grace")


def test_a_refit_is_compared_with_the_bundle_of_its_recipe_that_is_in_force(world: World) -> None:
    """The incumbent here is the same model under another version: equal on every count. Without its files it compares as nothing."""
    from trading_platform.assets.pipelines import DAILY
    from trading_platform.assets.recipes import recipe_now
    from trading_platform.registry import ledger
    from trading_platform.registry.bundle import bundle_prefix, load_bundle, write_bundle

    path, store = world.settings.ledger_path, world.place.store
    model = load_bundle(store, str(world.manifest("model_bundle", cutoff_of(world)).facts["label"]))
    config = replace(model.config, version="1")
    incumbent = write_bundle(store, config, model.onnx, model.golden_input, model.golden_output, {}, "card")
    said = {"name": config.name, "version": "1", "bundle_id": incumbent, "account": "default", "mode": "paper", "slot": "daily", "at": 1}
    said |= {"approvals": ("automatic",), "reason": "test", "recipe": recipe_now(world.instance, world.place, DAILY).hash}
    for stage in ("candidate", "shadow", "paper"):
        gates = {name: {"passed": True} for name in TECHNICAL_GATES}
        ledger.promote(path, expected_head=LedgerReader(path).head(), stage=stage, gates=gates, **said)

    def refit() -> str:
        result = promote(world)
        assert result.success
        (event,) = result.asset_materializations_for_node("promotion")
        return str(event.metadata["refit"].value)

    assert refit() == "inside the envelope over 20 sessions"
    (store.root / bundle_prefix(config.name, "1") / "model.onnx").write_bytes(b"edited")  # type: ignore[attr-defined]
    assert "the incumbent cannot be read: model.onnx does not match its sha256" in refit()


def test_an_unexplained_difference_in_traded_sessions_stops_promotions(world: World) -> None:
    world.instance.add_dynamic_partitions("sessions", ["default/paper/2014-12-31/1"])
    world.instance.report_runless_asset_event(dg.AssetMaterialization("live_parity", partition="default/paper/2014-12-31/1"))
    result = promote(world)
    assert not result.success and "live_parity[default/paper/2014-12-31/1]:unexplained was not run" in reason(result)


def test_a_session_whose_difference_nobody_could_explain_stops_promotions(world: World) -> None:
    session = "default/paper/2014-12-31/1"
    world.instance.add_dynamic_partitions("sessions", [session])
    before = world.manifest("features_daily")
    world.publish("live_parity", session, replace(before, asset="live_parity", partition=session), (), {"unexplained": 1})
    world.judge("live_parity", session)
    result = promote(world)
    assert not result.success and f"live_parity[{session}]:unexplained failed" in reason(result)
    world.publish("live_parity", session, replace(before, asset="live_parity", partition=session), (), {"unexplained": 0})
    world.judge("live_parity", session)
    assert promote(world).success


def test_the_second_cutoff_gives_another_bundle_under_another_version(world: World) -> None:
    later = sorted(world.manifest("features_daily").facts["cutoffs"])
    if len(later) < 2:
        pytest.skip("the stretch of this world is one cutoff long")
    bring_current(world.definitions, world.graph, world.place, world.instance, partitions={"model_bundle": later}, assets=["model_bundle"])
    labels = {str(world.manifest("model_bundle", cutoff).facts["label"]) for cutoff in later}
    assert len(labels) == len(later)


def test_making_report_and_bundle_again_gives_the_same_bundle(world: World) -> None:
    """A forced second run meets its own version: same substance, same id, no complaint."""
    before = world.manifest("model_bundle", cutoff_of(world)).facts["bundle_id"]
    job = world.definitions.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(asset_selection=[dg.AssetKey("walk_forward_report")], instance=world.instance).success
    again = job.execute_in_process(asset_selection=[dg.AssetKey("model_bundle")], instance=world.instance, partition_key=cutoff_of(world))
    assert again.success
    assert world.manifest("model_bundle", cutoff_of(world)).facts["bundle_id"] == before
