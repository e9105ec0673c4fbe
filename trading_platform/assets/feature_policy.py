"""The features in force for a pipeline, and the decisions that change them: use, disable, enable, safe, rollback, shadow (FEAT-26, 27).

The features asset's recipe reads what is in force, so a change makes it and every model after it stale. A bundle names the hash of its
features; one of other features than those in force is not promoted, and no runner binds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trading_platform.assets.pipelines import Pipeline
from trading_platform.assets.workplace import Workplace
from trading_platform.contracts.errors import InputError

if TYPE_CHECKING:
    from trading_platform.features.program import FeatureSet
    from trading_platform.registry.feature_policy import FeaturePolicy, PolicyEntry

SHADOW_SESSIONS = 30  # FEAT-26


def policy_of(place: Workplace) -> FeaturePolicy:
    """The policy file of a home."""
    from trading_platform.registry.feature_policy import FeaturePolicy

    return FeaturePolicy(place.settings.feature_policy_path)


def in_force(place: Workplace, pipeline: Pipeline) -> FeatureSet:
    """The set a pipeline wants. InputError where a version was named and the code computes other features under its name."""
    now = policy_of(place).now(pipeline.name)
    if now is None:
        from trading_platform.features.catalog.registry import feature_set

        return feature_set(pipeline.feature_set)
    return _exactly(now) if _pinned(now.reference) else selected(now.reference, now.disabled)


def plain_in_force(place: Workplace, pipeline: Pipeline) -> FeatureSet:
    """The pipeline's set for bars without market-wide fields, without what is disabled."""
    now = policy_of(place).now(pipeline.name)
    return selected(pipeline.plain_set, () if now is None else now.disabled)


def shadow_of(place: Workplace, pipeline: Pipeline) -> Mapping[str, Any]:
    """What runs beside the set in force: {reference, feature_hash, after_session, sessions}, empty for nothing."""
    now = policy_of(place).now(pipeline.name)
    return {} if now is None else now.shadow


def selected(reference: str, disabled: Sequence[str]) -> FeatureSet:
    """The set of a reference without some features; those it does not have anyway are no matter."""
    from trading_platform.features.catalog.registry import feature_set
    from trading_platform.features.catalog.selection import parse

    whole, wanted = feature_set(reference), parse(reference)
    dropped = tuple(sorted({*wanted.without, *(name for name in disabled if name in whole.names)}))
    return feature_set(str(replace(wanted, without=dropped)))


def _pinned(reference: str) -> bool:
    """A reference with a label means that version to the bit; one without follows the code."""
    from trading_platform.features.catalog.selection import parse

    return bool(parse(reference).label)


def _exactly(entry: PolicyEntry) -> FeatureSet:
    """The features of an entry. InputError where this code computes others under their name."""
    chosen = selected(entry.reference, entry.disabled)
    if chosen.hash != entry.feature_hash:
        what = f"{chosen.name} was in force as {entry.feature_hash[:12]}, this code computes {chosen.hash[:12]}"
        fix = f"check out {entry.commit or 'the code that had it'}, or keep that version in the catalogue beside the newer one"
        raise InputError(what, f"feature policy, entry {entry.seq}", f"{fix}; or put other features in force: features use")
    return chosen


class Decisions:
    """Changes of one pipeline's features by one person, each an entry. at: UTC ns, by the caller's clock."""

    def __init__(self, place: Workplace, pipeline: Pipeline, who: str, why: str, at: int) -> None:
        self._place = place
        self._pipeline = pipeline
        self._said = {"who": who, "why": why, "at": at, "commit": place.git_commit, "pipeline": pipeline.name}
        self._policy = policy_of(place)
        self._head = self._policy.head()
        self._now = self._policy.now(pipeline.name)

    def use(self, reference: str, proven: bool) -> PolicyEntry:
        """Put a set in force. proven: its shadow run is over and found nothing (the shadow asset says so), or a person takes it without."""
        chosen = selected(reference, self._disabled)
        if not proven:
            what = f"{chosen.name} ({chosen.hash[:12]}) has no finished shadow run without findings"
            raise InputError(what, f"pipeline {self._pipeline.name}", "run it in shadow first (features shadow), or say --without-shadow")
        return self._write("use", reference, self._disabled)

    def use_safe(self) -> PolicyEntry:
        """Fall back to the known-safe features, at once."""
        from trading_platform.features.catalog.selection import parse

        if self._now is None or not self._now.safe:
            raise InputError("no safe subset is named", f"pipeline {self._pipeline.name}", "name one: features safe PIPELINE FEATURE ...")
        return self._write("use", str(replace(parse(self._reference), only=self._now.safe, without=())), self._disabled)

    def disable(self, names: Sequence[str]) -> PolicyEntry:
        """Leave features out, from the next materialization on."""
        self._known(names)
        return self._write("disable", self._reference, tuple(sorted({*self._disabled, *names})))

    def enable(self, names: Sequence[str]) -> PolicyEntry:
        """Take disabled features back."""
        absent = sorted(set(names) - set(self._disabled))
        if absent:
            raise InputError(f"{', '.join(absent)} is not disabled", f"pipeline {self._pipeline.name}", "see `features history`")
        return self._write("enable", self._reference, tuple(sorted(set(self._disabled) - set(names))))

    def safe(self, names: Sequence[str]) -> PolicyEntry:
        """Name the known-safe features; nothing changes until they are used."""
        self._known(names)
        self._refuse_unsized(names)
        return self._write("safe", self._reference, self._disabled, safe=tuple(sorted(set(names))))

    def rollback(self) -> PolicyEntry:
        """Back to the features in force before the newest ones, to the bit. InputError where this code no longer computes them."""
        from trading_platform.features.catalog.selection import parse

        here = self._now.feature_hash if self._now is not None else ""
        earlier = [entry for entry in self._policy.of(self._pipeline.name) if entry.feature_hash != here]
        if self._now is None or (not earlier and self._first().hash == here):
            raise InputError("nothing else was ever in force", f"pipeline {self._pipeline.name}", "see `features history`")
        if not earlier:  # before the first decision: what the code names
            return self._write("rollback", self._pipeline.feature_set, ())
        label = _exactly(earlier[-1]).label
        reference = str(replace(parse(earlier[-1].reference), label=label))  # that version, whatever the code makes of it later
        return self._write("rollback", reference, earlier[-1].disabled)

    def shadow(self, reference: str, after_session: int, sessions: int = SHADOW_SESSIONS) -> PolicyEntry:
        """Run another set beside the one in force for `sessions` sessions after the day `after_session`."""
        chosen = selected(reference, ())
        if sessions < 1:
            raise InputError(f"a shadow run of {sessions} sessions", f"pipeline {self._pipeline.name}", "use at least 1")
        run = {"reference": reference, "feature_hash": chosen.hash, "after_session": after_session, "sessions": sessions}
        return self._write("shadow", self._reference, self._disabled, shadow=run)

    def unshadow(self) -> PolicyEntry:
        """End the shadow run."""
        if self._now is None or not self._now.shadow:
            raise InputError("nothing runs in shadow", f"pipeline {self._pipeline.name}", "see `features history`")
        return self._write("unshadow", self._reference, self._disabled, shadow={})

    @property
    def _reference(self) -> str:
        return self._pipeline.feature_set if self._now is None else self._now.reference

    @property
    def _disabled(self) -> tuple[str, ...]:
        return () if self._now is None else self._now.disabled

    def _first(self) -> FeatureSet:
        return selected(self._pipeline.feature_set, ())

    def _known(self, names: Sequence[str]) -> None:
        unknown = sorted(set(names) - set(selected(self._reference, ()).names))
        if unknown or not names:
            raise InputError(f"no feature {', '.join(unknown) or 'named'}", f"feature set {self._reference}", "see `features list`")

    def _refuse_unsized(self, names: Sequence[str]) -> None:
        from trading_platform.assets.bundles import SIZING

        needed = sorted(set(SIZING[self._pipeline.timeframe]) - set(names))
        if needed:
            what = f"without {', '.join(needed)} no order has a size"
            raise InputError(what, f"pipeline {self._pipeline.name}", "keep the features that sizing reads")

    def _write(self, action: str, reference: str, disabled: Sequence[str], **more: Any) -> PolicyEntry:
        chosen = selected(reference, disabled)
        self._refuse_unsized(chosen.names)
        kept = {"safe": () if self._now is None else self._now.safe, "shadow": {} if self._now is None else dict(self._now.shadow)}
        state = {"reference": reference, "feature_hash": chosen.hash, "disabled": tuple(disabled), **kept, **more}
        return self._policy.append(self._head, action=action, **self._said, **state)
