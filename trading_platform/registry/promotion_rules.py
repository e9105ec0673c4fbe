"""What a promotion needs: gates that fail closed, stages one by one, four eyes and a ladder of capital at live (T25, T26, T39).

Pure functions over the ledger's entries: they raise InputError with the reason and write nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trading_platform.contracts.canonical import canonical_bytes
from trading_platform.contracts.errors import InputError
from trading_platform.contracts.ids import MODES
from trading_platform.contracts.ledger import MOVES, STAGES, LedgerEntry, in_force, standing
from trading_platform.contracts.model_recipe import ModelRecipe
from trading_platform.contracts.names import SLOTS

TECHNICAL_GATES = ("leakage", "parity", "golden", "latency", "batch_invariance")
STATISTICAL_GATES = (
    "dsr",
    "expectancy",
    "net_sharpe",
    "drawdown_at_fixed_volatility",
    "effective_bets",
    "cost_stress",
    "beats_nulls",
    "plausible_sharpe",
)
OPERATIONAL_EVIDENCE, REFIT_ENVELOPE = "operational_evidence", "refit_envelope"
OPERATIONAL_GATES = (OPERATIONAL_EVIDENCE, "survivorship")
BINDING_KINDS = ("technical", "statistical", "data", "operational")
STAGES_OF_MODE = {"paper": ("candidate", "shadow", "paper", "archived"), "live": ("live", "archived")}
LIVE_APPROVALS = 2  # different people, so that a recipe's author is never its only approver (T39)
LIVE_SHARES = (0.05, 0.25, 0.5, 1.0)  # T26: each step is a promotion of its own
BOUND = ("report", "config", "thresholds")  # what an approval for live rests on, beside bundle and recipe (T39)
AUTOMATIC = "automatic"  # approves the way to paper and every step down, and is nobody at live


@dataclass(frozen=True, slots=True)
class Wanted:
    """A stage asked for. loss_budget: quote currency that may be lost at this share before it steps down; bound: name -> hash."""

    name: str
    version: str
    bundle_id: str
    account: str
    mode: str
    stage: str
    slot: str
    capital_share: float = 1.0
    recipe: str | None = None
    bound: Mapping[str, str] | None = None
    loss_budget: float | None = None

    def subject(self) -> dict[str, Any]:
        """What two people must have approved word for word."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def wanted_of(entry: LedgerEntry) -> Wanted:
    """What an entry asked for."""
    return Wanted(**{name: getattr(entry, name) for name in Wanted.__dataclass_fields__})


def approval_message(wanted: Wanted, person: str, reason: str) -> bytes:
    """The bytes an approver signs."""
    return canonical_bytes({"approves": wanted.subject(), "person": person, "reason": reason})


def required_gates(stage: str) -> tuple[str, ...]:
    """Names of the gates that must be present and passed to enter a stage (DESIGN 7: statistics bind only at live)."""
    if stage in ("shadow", "paper"):
        return TECHNICAL_GATES
    return (*TECHNICAL_GATES, *STATISTICAL_GATES, *OPERATIONAL_GATES) if stage == "live" else ()


def check_gates(required: Sequence[str], stage: str, gates: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """Every required gate passed; at live no other binding gate failed, and each says on which materialization it was judged."""
    binding = {name for name, gate in gates.items() if gate.get("kind") in BINDING_KINDS and name != REFIT_ENVELOPE}
    asked = [*required, *sorted(binding - set(required))] if stage == "live" and OPERATIONAL_EVIDENCE in required else list(required)
    groups = {
        "failed": [name for name in asked if name in gates and gates[name].get("passed") is not True],
        "not judged": [name for name in asked if name not in gates],
        "bound to no materialization": [name for name in asked if stage == "live" and name in gates and "storage_id" not in gates[name]],
    }
    if any(groups.values()):
        said = "; ".join(f"{title}: {', '.join(found)}" for title, found in groups.items() if found)
        raise InputError(
            f"stage {stage} is refused; gates {said}", where, "an absent gate counts as failed: run the report and fix the cause"
        )


def check_named(wanted: Wanted, reason: str, where: str) -> None:
    """Slot, bundle, account, reason and share are given."""
    if wanted.slot not in SLOTS:
        raise InputError(f"unknown slot {wanted.slot!r}", where, f"use one of {', '.join(SLOTS)}")
    if len(wanted.bundle_id) != 64 or not wanted.account or not reason.strip():
        raise InputError("a promotion names a bundle (64 hex digits), an account and a reason", where, "give all three")
    if not 0.0 < wanted.capital_share <= 1.0:
        raise InputError(f"capital share {wanted.capital_share} is not in (0, 1]", where, "live begins at 0.05 (T26)")


def check_stage(entries: Sequence[LedgerEntry], wanted: Wanted, where: str) -> None:
    """The stage exists in the mode and is the next one of this bundle."""
    bundle_id, account, mode, stage = wanted.bundle_id, wanted.account, wanted.mode, wanted.stage
    if mode not in MODES or stage not in STAGES_OF_MODE[mode]:
        allowed = "; ".join(f"{m}: {', '.join(s)}" for m, s in STAGES_OF_MODE.items())
        raise InputError(f"stage {stage!r} does not exist in mode {mode!r}", where, f"use {allowed}")
    now = standing(entries, bundle_id, account, mode)
    if stage == "archived":
        if now is None:
            raise InputError(f"bundle {bundle_id[:12]} has no stage to leave", where, "only a promoted bundle can be archived")
        return
    if stage == "live":
        if not _on_paper(entries, bundle_id):
            raise InputError(f"bundle {bundle_id[:12]} was not on paper", where, "promote it to paper first")
        return
    have = -1 if now is None or now.stage == "archived" else STAGES.index(now.stage)
    if STAGES.index(stage) not in (have, have + 1):
        found = "no stage" if have < 0 else STAGES[have]
        raise InputError(
            f"bundle {bundle_id[:12]} has {found} and cannot become {stage}",
            where,
            f"stages are taken one by one: {' -> '.join(STAGES[:4])}",
        )


def check_return(entries: Sequence[LedgerEntry], wanted: Wanted, people: Sequence[str], where: str) -> None:
    """What a person took back does not return by itself: after a revocation or the archive, a person promotes again."""
    mine = (wanted.bundle_id, wanted.account, wanted.mode)
    moves = [e for e in entries if e.action in MOVES and (e.bundle_id, e.account, e.mode) == mine]
    gone = moves and (moves[-1].action == "revoke" or (moves[-1].stage == "archived" and wanted.stage != "archived"))
    if gone and not {person.casefold() for person in people} - {AUTOMATIC}:
        last = moves[-1]
        what = f"{wanted.name}_v{wanted.version} was taken back by {', '.join(last.approvals) or 'nobody named'}: {last.reason}"
        raise InputError(what, where, "a named person promotes it again, with a reason; nothing automatic does")


def _on_paper(entries: Sequence[LedgerEntry], bundle_id: str) -> bool:
    mine = {(e.account, e.mode) for e in entries if e.bundle_id == bundle_id and e.action == "promote" and e.mode == "paper"}
    found = (standing(entries, bundle_id, account, mode) for account, mode in mine)
    return any(entry is not None and entry.stage == "paper" for entry in found)


def recipe_in(entries: Sequence[LedgerEntry], recipe: str | None, where: str) -> ModelRecipe:
    """The registered recipe with this hash. InputError where nobody registered it."""
    found = [entry for entry in entries if entry.action == "recipe" and entry.recipe == recipe]
    if recipe is None or not found or found[-1].document is None:
        fix = "register it: trading-platform models recipe PIPELINE --who NAME --why REASON"
        raise InputError(f"no registered recipe {str(recipe)[:12]}", where, fix)
    return ModelRecipe.of(found[-1].document, where)


def thresholds_in(entries: Sequence[LedgerEntry]) -> str | None:
    """Hash of the gates' limits that the ledger holds in force, None where nobody recorded any."""
    found = [entry for entry in entries if entry.action == "thresholds"]
    return None if not found or found[-1].bound is None else found[-1].bound["thresholds"]


def key_of(entries: Sequence[LedgerEntry], person: str) -> str | None:
    """The public key of an enrolled approver, the newest one; None for a stranger."""
    found = [e for e in entries if e.action == "enrol" and e.document is not None and e.document["person"].casefold() == person.casefold()]
    return str(found[-1].document["key"]) if found and found[-1].document is not None else None


def approvals_of(entries: Sequence[LedgerEntry], wanted: Wanted) -> tuple[LedgerEntry, ...]:
    """The signed approvals of exactly this, given after the bundle's last move there; one per person."""
    from trading_platform.registry.approver_keys import is_signed

    mine = (wanted.bundle_id, wanted.account, wanted.mode)
    moved = max((e.seq for e in entries if e.action in MOVES and (e.bundle_id, e.account, e.mode) == mine), default=0)
    found: dict[str, LedgerEntry] = {}
    for entry in entries:
        if entry.action != "approve" or entry.seq <= moved:
            continue  # which thing was approved, the signature says
        person = entry.approvals[0]
        key = key_of(entries, person)
        if key is not None and is_signed(key, entry.signature or "", approval_message(wanted, person, entry.reason)):
            found.setdefault(person.casefold(), entry)
    return tuple(found.values())


def incumbent_of(entries: Sequence[LedgerEntry], wanted: Wanted) -> LedgerEntry | None:
    """The newest live entry of the same recipe in the slot, by another bundle; None where there is none."""
    found = [e for e in in_force(entries, wanted.account, wanted.mode, wanted.slot) if e.recipe and e.recipe == wanted.recipe]
    others = [entry for entry in found if entry.bundle_id != wanted.bundle_id]
    return others[-1] if others else None


def evidence_since(entries: Sequence[LedgerEntry], wanted: Wanted) -> LedgerEntry | None:
    """The entry from which operational evidence counts: where the recipe took its present share of live capital, else paper."""

    def same(entry: LedgerEntry) -> bool:
        return entry.action == "promote" and (
            entry.bundle_id == wanted.bundle_id or (wanted.recipe is not None and entry.recipe == wanted.recipe)
        )

    live = [e for e in in_force(entries, wanted.account, "live", wanted.slot) if same(e)]
    if not live:
        return next((entry for entry in entries if same(entry) and entry.stage == "paper"), None)
    start = live[-1]
    for entry in reversed([e for e in entries if same(e) and e.mode == "live" and (e.account, e.slot) == (start.account, start.slot)]):
        if entry.capital_share != start.capital_share:
            break
        start = entry
    return start


def check_live(
    entries: Sequence[LedgerEntry], wanted: Wanted, gates: Mapping[str, Mapping[str, Any]], named: Sequence[str], where: str
) -> tuple[tuple[str, ...], int | None]:
    """(people, number of the entry whose approval is inherited or None) that let a bundle trade money; InputError with what is missing."""
    inherited = incumbent_of(entries, wanted)
    if inherited is not None and inherited.capital_share == wanted.capital_share:
        people = _inherit(entries, wanted, inherited, gates, where)
        if people:
            return people, inherited.inherits or inherited.seq
    check_gates(required_gates("live"), "live", gates, where)
    recipe_in(entries, wanted.recipe, where)
    _check_bound(entries, wanted, where)
    people = tuple(entry.approvals[0] for entry in approvals_of(entries, wanted))
    strangers = [name for name in named if name.casefold() not in {person.casefold() for person in people} | {AUTOMATIC}]
    if strangers or len(people) < LIVE_APPROVALS:
        got = ", ".join(people) or "nobody"
        without = f"; {', '.join(strangers)} did not" if strangers else ""
        raise InputError(
            f"live needs the signed approvals of {LIVE_APPROVALS} different people for exactly this; approved: {got}{without}",
            where,
            "each approves alone: trading-platform models approve LABEL --who NAME --why REASON --key FILE (T39)",
        )
    _check_ladder(entries, wanted, gates, where)
    return people, None


def _inherit(
    entries: Sequence[LedgerEntry], wanted: Wanted, inherited: LedgerEntry, gates: Mapping[str, Mapping[str, Any]], where: str
) -> tuple[str, ...]:
    """The approvers of the incumbent, where this refit lies inside the stored envelope and nothing it was approved under has changed."""
    envelope = gates.get(REFIT_ENVELOPE, {})
    stored, now, then = recipe_in(entries, wanted.recipe, where).envelope, wanted.bound or {}, inherited.bound or {}
    same = all(now.get(name) and now.get(name) == then.get(name) for name in ("config", "thresholds"))
    if envelope.get("passed") is not True or envelope.get("envelope") != stored.hash or not same:
        return ()
    if wanted.loss_budget != inherited.loss_budget or envelope.get("incumbent") != inherited.bundle_id:
        return ()
    check_gates((*TECHNICAL_GATES, REFIT_ENVELOPE), "live", gates, where)
    return inherited.approvals


def _check_bound(entries: Sequence[LedgerEntry], wanted: Wanted, where: str) -> None:
    missing = [name for name in BOUND if not (wanted.bound or {}).get(name)]
    if missing:
        raise InputError(f"the promotion is bound to no {', '.join(missing)}", where, "promote through the promotion asset")
    stored, used = thresholds_in(entries), (wanted.bound or {})["thresholds"]
    if stored != used:
        text = (
            "nobody recorded the gates' thresholds" if stored is None else f"thresholds {used[:12]} were used, {stored[:12]} are in force"
        )
        raise InputError(text, where, "record them with a reason: trading-platform models thresholds --who NAME --why REASON")
    if wanted.loss_budget is None or not wanted.loss_budget > 0.0:
        raise InputError("live without a loss budget", where, "state how much may be lost before the share steps down (T26)")


def _check_ladder(entries: Sequence[LedgerEntry], wanted: Wanted, gates: Mapping[str, Mapping[str, Any]], where: str) -> None:
    """No step of capital left out, and evidence collected at the present one."""
    mine = [e for e in in_force(entries, wanted.account, "live", wanted.slot) if wanted.recipe is not None and e.recipe == wanted.recipe]
    have = mine[-1].capital_share if mine else 0.0
    allowed = next((share for share in LIVE_SHARES if share > have), LIVE_SHARES[-1])
    if wanted.capital_share > allowed:
        raise InputError(
            f"live at {wanted.capital_share:.0%} of the capital after {have:.0%}", where, f"the next step is at most {allowed:.0%} (T26)"
        )
    start, said = evidence_since(entries, wanted), gates[OPERATIONAL_EVIDENCE].get("since")
    if wanted.capital_share > have and (start is None or said != start.seq):
        found = "no entry" if said is None else f"entry {said}"
        raise InputError(
            f"the operational evidence counts from {found}, needed from entry {start.seq if start else 'none'}", where, "collect it again"
        )
