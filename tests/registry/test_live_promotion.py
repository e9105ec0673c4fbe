"""The way to live: four eyes with their own keys, a ladder of capital, refits inside their envelope."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from live_ledger import BUNDLE, GATES, LIKE, REFIT, LiveLedger, recipe

from trading_platform.contracts.canonical import canonical_bytes, parse, sha256_hex
from trading_platform.contracts.errors import InputError, TransientError
from trading_platform.contracts.ledger import GENESIS, LedgerReader, in_force
from trading_platform.contracts.model_recipe import Envelope, ModelRecipe, differences
from trading_platform.registry import approvals, ledger
from trading_platform.registry.approver_keys import sign
from trading_platform.registry.promotion_rules import approval_message


@pytest.fixture
def book(tmp_path: Path) -> LiveLedger:
    made = LiveLedger(tmp_path / "promotion.jsonl")
    made.prepare()
    return made


def refused(book: LiveLedger, why: str, **arguments: Any) -> None:
    """The promotion is refused with these words and nothing is written."""
    before = book.path.read_bytes()
    with pytest.raises(InputError, match=why):
        book.promote(**arguments)
    assert book.path.read_bytes() == before


def test_two_people_with_their_own_keys_let_a_bundle_go_live(book: LiveLedger) -> None:
    refused(book, "approved: nobody")
    book.approve("Bob")
    refused(book, "approved: Bob")
    refused(book, "Cid did not", approvals=("Bob", "Cid"))
    book.approve("Cid")
    entry = book.promote()
    assert entry.approvals == ("Bob", "Cid") and entry.capital_share == 0.05 and entry.loss_budget == 1000.0
    assert LedgerReader(book.path).authority(BUNDLE, "demo", "live") == entry
    assert LedgerReader(book.path).authority(BUNDLE, "demo", "paper") is not None


def test_an_approver_approving_twice_is_refused_however_the_name_is_written(book: LiveLedger) -> None:
    book.approve("Bob")
    for name in ("Bob", "bob", " BOB "):
        with pytest.raises(InputError, match="approved exactly this already"):
            book.approve(name, key="Bob")
    refused(book, "2 different people")


def test_the_author_may_be_one_of_two_and_never_the_only_one(book: LiveLedger) -> None:
    book.approve("Ann")
    refused(book, "2 different people")
    book.approve("Bob")
    assert set(book.promote().approvals) == {"Ann", "Bob"}


@pytest.mark.parametrize(
    "who, key, why", [("Dan", "Bob", "no approver"), ("Cid", "Bob", "not the key of Cid"), ("automatic", "Bob", "names a person")]
)
def test_a_stranger_a_wrong_key_and_the_machine_do_not_approve(book: LiveLedger, who: str, key: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        book.approve(who, key=key)


def test_one_person_stays_one_person_even_in_entries_written_by_hand(book: LiveLedger) -> None:
    """Bob, who may write the file, signs a second time with another reason and another spelling."""
    book.approve("Bob")
    wanted = book.wanted()
    signature = sign(book.keys["Bob"], approval_message(wanted, "bob", "once more"))
    said: dict[str, Any] = {"at": 2, "approvals": ("bob",), "reason": "once more", "gates": {}, "signature": signature}
    ledger.append(book.path, book.head, action="approve", **wanted.subject(), **said)
    refused(book, "approved: Bob")


def test_an_approval_without_a_valid_signature_counts_for_nothing(book: LiveLedger) -> None:
    """Somebody who may write the ledger's file, and holds nobody's key, forges a chained entry."""
    honest = book.approve("Bob")
    forged = {**{name: getattr(honest, name) for name in honest.__dataclass_fields__ if name not in ("seq", "prev")}, "approvals": ("Cid",)}
    ledger.append(book.path, book.head, **forged)
    refused(book, "approved: Bob")


@pytest.mark.parametrize(
    "changes",
    [
        {"capital_share": 0.01},
        {"loss_budget": 9999.0},
        {"account": "other"},
        {"bound": {"report": "x" * 64, "config": "p" * 64}},
        {"bound": {"report": "r" * 64, "config": "x" * 64}},
    ],
    ids=["share", "budget", "account", "report", "config"],
)
def test_an_approval_holds_for_exactly_what_was_approved(book: LiveLedger, changes: dict[str, Any]) -> None:
    for who in ("Bob", "Cid"):
        book.approve(who)
    if "bound" in changes:
        changes = {"bound": {**changes["bound"], "thresholds": book.thresholds}}
    refused(book, "approved: nobody", **changes)


def test_an_approval_is_spent_by_a_move(book: LiveLedger) -> None:
    book.live()
    who: dict[str, Any] = {"bundle_id": BUNDLE, "account": "demo", "mode": "live", "at": 4, "approvals": ("Bob",), "reason": "drift"}
    ledger.revoke(book.path, expected_head=book.head, **who)
    assert LedgerReader(book.path).authority(BUNDLE, "demo", "live") is None
    refused(book, "taken back by Bob: drift")
    refused(book, "approved: nobody; Bob did not", approvals=("Bob",))


def test_enrolment_beyond_the_first_two_needs_somebody_who_is_in(tmp_path: Path) -> None:
    book = LiveLedger(tmp_path / "promotion.jsonl")
    book.enrol("Ann")
    with pytest.raises(InputError, match="nobody enrolled vouches for ann"):
        approvals.enrol(book.path, expected_head=book.head, person="ann", key=_other_key(), at=1, reason="a second key of my own")
    with pytest.raises(InputError, match="nobody enrolled vouches for Ann"):  # a new key needs somebody else, too
        said: dict[str, Any] = {"person": "Ann", "key": _other_key(), "by": "Ann", "signed_with": book.keys["Ann"]}
        approvals.enrol(book.path, expected_head=book.head, at=1, reason="rotation", **said)
    with pytest.raises(InputError, match="serves an approver already"):
        approvals.enrol(book.path, expected_head=book.head, person="Ann2", key=_key(book, "Ann"), at=1, reason="twice")
    book.enrol("Bob")
    for how in ({}, {"by": "Bob"}, {"by": "Bob", "signed_with": book.keys["Cid"]}, {"by": "Cid", "signed_with": book.keys["Cid"]}):
        with pytest.raises(InputError, match="nobody enrolled vouches for Cid"):
            book.enrol("Cid", **how)
    assert book.enrol("Cid", by="Ann", signed_with=book.keys["Ann"]).document == {"person": "Cid", "key": _key(book, "Cid")}


def _key(book: LiveLedger, name: str) -> str:
    from trading_platform.registry.approver_keys import public_key

    return public_key(book.keys[name])


def _other_key() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from trading_platform.registry.approver_keys import public_key

    return public_key(Ed25519PrivateKey.generate())


def test_gates_that_name_no_materialization_or_fail_under_any_name_refuse_live(book: LiveLedger) -> None:
    for who in ("Bob", "Cid"):
        book.approve(who)
    sound = book.gates(book.wanted())
    loose = {**sound, "dsr": {"passed": True}}
    refused(book, "bound to no materialization: dsr", gates=loose)
    refused(book, "failed: win_rate", gates={**sound, "win_rate": {"passed": False, "kind": "statistical", "storage_id": 7}})
    refused(book, "failed: win_rate", gates={**sound, "win_rate": {"kind": "statistical", "storage_id": 7}})
    refused(book, "not judged: operational_evidence", gates={name: gate for name, gate in GATES.items() if name != "operational_evidence"})
    refused(book, "counts from entry 1", gates=GATES | {"operational_evidence": {"passed": True, "storage_id": 1, "since": 1}})
    book.promote()


@pytest.mark.parametrize("missing", ["recipe", "report", "config", "loss_budget"])
def test_live_names_what_it_rests_on(book: LiveLedger, missing: str) -> None:
    bound = {key: value for key, value in (book.wanted().bound or {}).items() if key != missing}
    changes: dict[str, Any] = {"recipe": {"recipe": "0" * 64}, "loss_budget": {"loss_budget": None}}.get(missing, {"bound": bound})
    refused(
        book, {"recipe": "no registered recipe", "loss_budget": "without a loss budget"}.get(missing, f"bound to no {missing}"), **changes
    )


def test_thresholds_change_only_by_an_entry_and_the_change_unmakes_approvals(book: LiveLedger) -> None:
    for who in ("Bob", "Cid"):
        book.approve(who)
    looser = {**(book.wanted().bound or {}), "thresholds": "0" * 64}
    refused(book, "thresholds 000000000000 were used", bound=looser)
    old = book.wanted().bound
    approvals.record_thresholds(
        book.path, expected_head=book.head, thresholds={"dsr": 0.5}, at=5, people=("Ann", "Zoe"), reason="too strict"
    )
    refused(book, "were used, .* are in force", bound=old)
    refused(book, "approved: nobody")
    with pytest.raises(InputError, match="are in force"):
        approvals.record_thresholds(
            book.path, expected_head=book.head, thresholds={"dsr": 0.5}, at=5, people=("Ann", "Zoe"), reason="again"
        )


def test_capital_grows_one_step_at_a_time_on_evidence_of_the_present_step(book: LiveLedger) -> None:
    for share in (0.05, 0.25, 0.5, 1.0):
        beyond = min(share + 0.01, 1.0)
        if beyond > share:
            for who in ("Bob", "Cid"):
                book.approve(who, capital_share=beyond)
            refused(book, "of the capital after", capital_share=beyond)
        before = book.gates(book.wanted())
        entry = book.live(share)
        assert entry.capital_share == share
        if share < 1.0:
            for who in ("Bob", "Cid"):
                book.approve(who, capital_share=share + 0.001)
            refused(book, "counts from entry", capital_share=share + 0.001, gates=before)


def test_a_step_down_needs_nobody_and_reaches_every_bundle_in_force(book: LiveLedger) -> None:
    book.live(0.05)
    book.live(0.25)
    book.to_paper(REFIT)
    book.promote(REFIT, capital_share=0.25, gates=book.envelope())
    written = ledger.step_down(book.path, account="demo", slot="daily", at=6, reason="lost 1,000 of 1,000")
    assert [(e.bundle_id, e.capital_share, e.loss_budget, e.approvals) for e in written] == [
        (BUNDLE, 0.05, 200.0, ("automatic",)),
        (REFIT, 0.05, 200.0, ("automatic",)),
    ]
    assert all(entry.capital_share == 0.05 for entry in in_force(book.entries, "demo", "live", "daily"))
    assert [entry.action for entry in ledger.step_down(book.path, account="demo", slot="daily", at=7, reason="again")] == ["revoke"] * 2
    assert in_force(book.entries, "demo", "live", "daily") == ()
    with pytest.raises(InputError, match="nothing is live"):
        ledger.step_down(book.path, account="demo", slot="daily", at=8, reason="again")


def test_a_refit_inside_the_envelope_inherits_and_any_other_needs_people(book: LiveLedger) -> None:
    first = book.live()
    book.to_paper(REFIT)
    outside = dataclasses.replace(LIKE, rank_correlation=0.79)
    for gates, changes in (
        (book.envelope(outside), {}),
        (book.envelope(incumbent="00" * 32), {}),
        (book.envelope() | {"refit_envelope": {**book.envelope()["refit_envelope"], "envelope": Envelope(rank_correlation=0.1).hash}}, {}),
        (book.envelope(), {"loss_budget": 5000.0}),
        (book.envelope(), {"bound": {**(book.wanted().bound or {}), "config": "q" * 64}}),
        (book.envelope(), {"capital_share": 0.25}),
        (book.envelope(), {"recipe": recipe(horizon=1).hash}),
    ):
        refused(book, "not judged: dsr", bundle_id=REFIT, gates=gates, **changes)
    refused(book, "failed: parity", bundle_id=REFIT, gates=book.envelope() | {"parity": {"passed": False, "storage_id": 1}})
    entry = book.promote(REFIT, gates=book.envelope())
    assert entry.inherits == first.seq and entry.approvals == first.approvals and entry.capital_share == 0.05


def test_a_chain_of_refits_names_the_approval_it_began_with(book: LiveLedger) -> None:
    first = book.live()
    previous = BUNDLE
    for number in range(3):
        bundle = f"{number:064x}"
        book.to_paper(bundle)
        assert book.promote(bundle, gates=book.envelope(incumbent=previous)).inherits == first.seq
        previous = bundle


def test_rolling_back_leaves_the_bundle_before_and_refuses_where_there_is_none(book: LiveLedger) -> None:
    arguments: dict[str, Any] = {"account": "demo", "mode": "paper", "slot": "daily", "at": 9, "approvals": ("Bob",), "reason": "bad fills"}
    with pytest.raises(InputError, match="only alpha_vab is in force"):
        ledger.roll_back(book.path, expected_head=book.head, **arguments)
    book.to_paper(REFIT)
    revoked, before = ledger.roll_back(book.path, expected_head=book.head, **arguments)
    assert (revoked.action, revoked.bundle_id, before.bundle_id) == ("revoke", REFIT, BUNDLE)
    assert LedgerReader(book.path).authority(REFIT, "demo", "paper") is None and LedgerReader(book.path).authority(BUNDLE, "demo", "paper")


def test_every_word_in_the_ledger_meets_a_stale_head(book: LiveLedger) -> None:
    stale, before = book.entries[-2].hash, book.path.read_bytes()
    at: dict[str, Any] = {"expected_head": stale, "at": 1}
    calls = [
        lambda: approvals.register_recipe(book.path, recipe=recipe(horizon=1), reason="another", **at),
        lambda: approvals.record_thresholds(book.path, thresholds={"dsr": 0.9}, people=("Ann", "Zoe"), reason="why", **at),
        lambda: approvals.approve(book.path, wanted=book.wanted(), who="Bob", reason="why", signed_with=book.keys["Bob"], **at),
        lambda: ledger.revoke(book.path, bundle_id=BUNDLE, account="demo", mode="paper", approvals=("Bob",), reason="why", **at),
    ]
    for call in calls:
        with pytest.raises(TransientError, match="head is"):
            call()
    assert book.path.read_bytes() == before


def test_words_of_people_leave_authority_alone(book: LiveLedger) -> None:
    """An approval for paper's bundle is newer than its promotion and must not stand for it."""
    on_paper = LedgerReader(book.path).authority(BUNDLE, "demo", "paper")
    book.live()
    live = LedgerReader(book.path).authority(BUNDLE, "demo", "live")
    book.approve("Ann", capital_share=0.25)
    assert LedgerReader(book.path).authority(BUNDLE, "demo", "live") == live and live is not None
    assert LedgerReader(book.path).authority(BUNDLE, "demo", "paper") == on_paper is not None


def test_entries_from_before_the_new_fields_keep_their_hashes(tmp_path: Path) -> None:
    path = tmp_path / "promotion.jsonl"
    old = {"seq": 1, "prev": GENESIS, "action": "promote", "name": "a", "version": "1", "bundle_id": BUNDLE, "account": "demo"}
    old |= {
        "mode": "paper",
        "stage": "candidate",
        "slot": "daily",
        "at": 1,
        "approvals": [],
        "reason": "r",
        "gates": {},
        "capital_share": 1.0,
    }
    path.write_bytes(canonical_bytes({**old, "hash": sha256_hex(canonical_bytes(old))}) + b"\n")
    assert LedgerReader(path).entries()[0].stage == "candidate"


def test_a_recipe_is_its_substance(book: LiveLedger) -> None:
    one = recipe()
    assert one.hash == recipe(author="Zoe", commit="2" * 40).hash
    for changes in ({"horizon": 1}, {"parameters": {"leaves": 31}}, {"max_age": 30}, {"envelope": Envelope(rank_correlation=0.7)}):
        assert recipe(**changes).hash != one.hash and differences(one, recipe(**changes)) == tuple(changes)
    assert ModelRecipe.of(parse(canonical_bytes(one)), "here") == one
    with pytest.raises(InputError, match="is registered"):
        approvals.register_recipe(book.path, expected_head=book.head, recipe=recipe(author="Zoe"), at=1, reason="again")


@pytest.mark.parametrize(
    "changes, why",
    [
        ({"sessions": 19}, "19 sessions"),
        ({"rank_correlation": 0.799}, "rank correlation 0.799"),
        ({"rank_correlation": float("nan")}, "rank correlation nan"),
        ({"turnover": 2.01}, "turnover 2.01"),
        ({"turnover": 0.49}, "turnover 0.49"),
        ({"gross_exposure": 1.26}, "gross exposure 1.26"),
        ({"alpha_scale": float("inf")}, "alpha scale inf"),
        ({"transition_cost_bps": 5.1}, "transition costs 5.1"),
        ({"transition_cost_bps": float("nan")}, "transition costs nan"),
    ],
)
def test_each_edge_of_the_envelope_refuses_by_name(changes: dict[str, float], why: str) -> None:
    assert Envelope().refusals(LIKE) == () and Envelope().gate(LIKE)["passed"] is True
    found = dataclasses.replace(LIKE, **changes)
    assert len(Envelope().refusals(found)) == 1 and Envelope().refusals(found)[0].startswith(why)
    assert Envelope().gate(found)["passed"] is False and canonical_bytes(Envelope().gate(found))
