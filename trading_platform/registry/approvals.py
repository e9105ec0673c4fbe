"""Words of people in the promotion ledger: recipes, thresholds, approvers and their signed approvals (T25, T39).

Each function appends one entry by compare-and-swap on the head, or raises InputError with the reason and writes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trading_platform.contracts.canonical import canonical_bytes, content_hash, parse
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.ids import MODES
from trading_platform.contracts.ledger import LedgerEntry, LedgerReader
from trading_platform.contracts.model_recipe import ModelRecipe
from trading_platform.registry import promotion_rules as rules
from trading_platform.registry.ledger import append
from trading_platform.registry.promotion_rules import AUTOMATIC, Wanted

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PEOPLE = 2  # who must agree to other thresholds
ON_TRUST = 2  # the first approvers are enrolled by whoever may write the ledger; each later one needs an enrolled person's signature
_NO_MOVE: dict[str, Any] = dict.fromkeys(("name", "version", "bundle_id", "account", "mode", "stage", "slot"), "")


def _person(name: str, reason: str, where: str) -> str:
    person = name.strip()
    if not person or person.casefold() == AUTOMATIC or not reason.strip():
        raise InputError("a decision names a person and a reason", where, "give --who and --why")
    return person


def register_recipe(path: Path, *, expected_head: str, recipe: ModelRecipe, at: int, reason: str) -> LedgerEntry:
    """Put a recipe into the ledger under its hash, by its author. InputError where it stands there already."""
    path, where = Path(path), str(path)
    author = _person(recipe.author, reason, where)
    if any(entry.action == "recipe" and entry.recipe == recipe.hash for entry in LedgerReader(path).entries()):
        raise InputError(f"the recipe {recipe.hash[:12]} is registered", where, "nothing is left to do")
    said: dict[str, Any] = {**_NO_MOVE, "name": recipe.name, "slot": recipe.slot, "at": at, "approvals": (author,), "reason": reason}
    return append(path, expected_head, action="recipe", **said, recipe=recipe.hash, document=recipe.document())


def record_thresholds(path: Path, *, expected_head: str, thresholds: Any, at: int, people: Sequence[str], reason: str) -> LedgerEntry:
    """Put the gates' limits in force (a plain mapping or a dataclass of them): a gate that one person can move is no gate.

    InputError for fewer than two different people, without a reason, or where these limits are in force already.
    """
    path, where = Path(path), str(path)
    named, digest = tuple(_person(person, reason, where) for person in people), content_hash(thresholds)
    if len({person.casefold() for person in named}) < PEOPLE:
        raise InputError(f"thresholds need {PEOPLE} different people, got {', '.join(named) or 'nobody'}", where, "let another one agree")
    if rules.thresholds_in(LedgerReader(path).entries()) == digest:
        raise InputError(f"the thresholds {digest[:12]} are in force", where, "nothing is left to do")
    plain: Mapping[str, Any] = parse(canonical_bytes(thresholds))
    said: dict[str, Any] = {**_NO_MOVE, "at": at, "approvals": named, "reason": reason}
    return append(path, expected_head, action="thresholds", **said, bound={"thresholds": digest}, document=plain)


def enrol_message(person: str, key: str) -> bytes:
    """The bytes that an enrolled person signs to let another one in."""
    return canonical_bytes({"enrols": person, "key": key})


def enrol(
    path: Path,
    *,
    expected_head: str,
    person: str,
    key: str,
    at: int,
    reason: str,
    by: str = "",
    signed_with: Ed25519PrivateKey | None = None,
) -> LedgerEntry:
    """Make a person an approver by a public key (base64), or give an approver a new key.

    The first two are taken on trust; from then on somebody else who is enrolled (`by`) signs for it. One key serves one person.
    """
    from trading_platform.registry.approver_keys import check_public_key, is_signed, sign

    path, where = Path(path), str(path)
    name, entries = _person(person, reason, where), LedgerReader(path).entries()
    enrolled = [entry.document for entry in entries if entry.action == "enrol" and entry.document is not None]
    people = {str(document["person"]).casefold() for document in enrolled}
    if any(document["key"] == key for document in enrolled):
        raise InputError("this key serves an approver already", where, "each approver makes a key: trading-platform models key FILE")
    said: dict[str, Any] = {**_NO_MOVE, "at": at, "approvals": (by.strip() or name,), "reason": reason}
    signature = None
    if len(people) >= ON_TRUST or name.casefold() in people:
        voucher = rules.key_of(entries, by.strip()) if by.strip() else None
        signature = None if signed_with is None else sign(signed_with, enrol_message(name, key))
        vouched = voucher is not None and signature is not None and is_signed(voucher, signature, enrol_message(name, key))
        if not vouched or by.strip().casefold() == name.casefold():
            raise InputError(f"nobody enrolled vouches for {name}", where, "another approver signs: --by NAME --key FILE")
    document = {"person": name, "key": check_public_key(key)}
    return append(path, expected_head, action="enrol", **said, document=document, signature=signature)


def approve(
    path: Path, *, expected_head: str, wanted: Wanted, who: str, reason: str, at: int, signed_with: Ed25519PrivateKey
) -> LedgerEntry:
    """One person's word for one stage of one bundle, signed. Two of these, of different people, let it go live.

    InputError for a stranger, a key that is not this person's, and somebody who approved exactly this before.
    """
    from trading_platform.registry.approver_keys import is_signed, sign

    path, where = Path(path), str(path)
    person, entries = _person(who, reason, where), LedgerReader(path).entries()
    if wanted.stage != "live" or wanted.mode not in MODES:
        raise InputError(
            f"nobody approves {wanted.stage} in mode {wanted.mode}", where, "approvals are for live; the way to paper is automatic"
        )
    rules.check_stage(entries, wanted, where)
    rules.check_named(wanted, reason, where)
    known, message = rules.key_of(entries, person), rules.approval_message(wanted, person, reason)
    if known is None:
        raise InputError(f"{person} is no approver", where, "enrol them: trading-platform models enrol NAME PUBLIC_KEY")
    signature = sign(signed_with, message)
    if not is_signed(known, signature, message):
        raise InputError(f"this is not the key of {person}", where, "sign with your own key: --key FILE")
    if person.casefold() in {entry.approvals[0].casefold() for entry in rules.approvals_of(entries, wanted)}:
        raise InputError(f"{person} approved exactly this already", where, "let a second person approve (T39)")
    said: dict[str, Any] = {**wanted.subject(), "at": at, "approvals": (person,), "reason": reason}
    return append(path, expected_head, action="approve", **said, signature=signature)
