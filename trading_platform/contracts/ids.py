"""Identifiers that are pure functions of what the journal already holds (T15), so a retry or a restart makes the same id."""

from __future__ import annotations

import base64
import hashlib
import uuid

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.errors import InputError

DECISION_NAMESPACE = uuid.UUID("6f0f3a52-6f5b-5a0e-9c4e-4b1d3f6f7a21")
MODES = ("paper", "live")


def session_id(account: str, mode: str, session_date: str, number: int) -> str:
    """Id of one market day traded by one account: `<account>/<mode>/<YYYY-MM-DD>/<number>`; number counts repetitions of a date from 1."""
    if mode not in MODES:
        raise InputError(f"mode {mode!r} is not one of {MODES}", "contracts.ids.session_id", "use paper or live")
    if number < 1 or not account:
        raise InputError(
            f"account {account!r}, number {number}: both must be given, numbers start at 1", "contracts.ids.session_id", "name the account"
        )
    return f"{account}/{mode}/{session_date}/{number}"


def decision_id(
    engine_hash: str, bundle_ids: tuple[str, ...], profile_hash: str, account_state_hash: str, row_hash: str, known_at: int
) -> str:
    """uuid5 of everything a decision is a function of (DESIGN section 6)."""
    material = canonical_bytes([engine_hash, list(bundle_ids), profile_hash, account_state_hash, row_hash, known_at])
    return str(uuid.uuid5(DECISION_NAMESPACE, hashlib.sha256(material).hexdigest()))


def client_order_id(account: str, session: str, decision: str, instrument_id: str, leg: str, attempt: int) -> str:
    """'tp' + the first 32 base32 characters of sha256 over the order's identity (T15).

    `decision` is a decision id, or the command's id for orders without a decision. `leg` is entry, exit, protect, ...; `attempt` is read
    from the journal and grows with each cancel-and-new and each definitive rejection; a retry of the same POST keeps it.
    """
    if attempt < 1:
        raise InputError(f"attempt {attempt} is below 1", "contracts.ids.client_order_id", "attempts count from 1")
    material = "|".join((account, session, decision, instrument_id, leg, str(attempt))).encode()
    return "tp" + base64.b32encode(hashlib.sha256(material).digest()).decode("ascii")[:32].lower()
