"""Hot swap between two rows: request, ledger, bundle, health, transition, journal, Redis, acknowledgement (DESIGN 7, T24, T27).

The journal's last swap is the truth; Redis is told afterwards and corrected at every start. A failure leaves the old bundle in place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from live_runner.control import CONFIRM, GUARD, new_command
from live_runner.fold import ActiveModel, Fold
from live_runner.metrics import Metrics
from live_runner.model_slot import Authority, Candidate, Health, check_age, check_health
from live_runner.recorder import Recorder
from live_runner.shared_state import SharedState
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.errors import TradingError, TransientError
from trading_platform.contracts.journal import Kind
from trading_platform.contracts.model import Model
from trading_platform.contracts.profile import Profile
from trading_platform.engine.engine import Engine


class Swapper:
    """The slot of one pipeline. `confirm_as`: operator in whose name transitions are confirmed at once (profile `demo`), empty for none."""

    def __init__(
        self,
        slot: str,
        authority: Authority,
        fold: Fold,
        recorder: Recorder,
        shared: SharedState,
        profile: Profile,
        calendar: MarketCalendar,
        metrics: Metrics,
        confirm_as: str,
    ) -> None:
        self._slot = slot
        self._authority = authority
        self._fold = fold
        self._recorder = recorder
        self._shared = shared
        self._profile = profile
        self._calendar = calendar
        self._metrics = metrics
        self._confirm_as = confirm_as
        self.confirmed: set[str] = set()  # labels an operator has confirmed since the last swap
        self.waiting = ""  # why a request has not been decided yet
        self._stamp: tuple[int, int, int] | None = None  # of the ledger at the last look
        self._warned: set[tuple[str, int]] = set()  # bundle id and age limit that this process has warned of

    def age(self, model: Model, session: int) -> int:
        """Sessions from the bundle's last training row to `session`."""
        return self._calendar.position(session) - self._calendar.position(model.config.trained_through)

    def ledger_moved(self) -> bool:
        """The ledger is not what it was when the active bundle's authority was last looked at."""
        return bool(self._fold.active.bundle_id) and self._authority.stamp() != self._stamp

    async def check_active(self, session: int) -> bool:
        """Look at the active bundle's authority again (T24); where it is gone, refuse it, say so and roll back. True when it was gone.

        session: the one it would trade next. A store that does not answer proves nothing, and the bundle goes on (I9).
        """
        active = self._fold.active
        if not active.bundle_id:
            return False
        self._stamp = self._authority.stamp()
        try:
            candidate = self._authority.examine(active.label, active.bundle_id, self._fold.ledger_head)
        except TransientError as error:
            await self._recorder.note(Kind.STATE, "authority", {"label": active.label, "not_examined": error.what, "where": error.where})
            return False
        except TradingError as error:
            await self._refuse(active.label, active.bundle_id, error)
            await self.roll_back(GUARD, error.what, session)
            return True
        if candidate.ledger_head != self._fold.ledger_head:
            body = {"label": active.label, "bundle_id": active.bundle_id, "ledger_head": candidate.ledger_head}
            await self._recorder.note(Kind.STATE, "authority", body)
        await self._warn_of_age(candidate.model, session)
        return False

    async def _warn_of_age(self, model: Model, session: int) -> None:
        """Past `max_age` a warning, past the hard limit another: from there the engine opens no new risk (MODEL_AGE, T25)."""
        rules, age = self._profile.models, self.age(model, session)
        hard = age > rules.hard_max_age_sessions
        limit = rules.hard_max_age_sessions if hard else rules.max_age_sessions
        if age <= limit or (model.bundle_id, limit) in self._warned:
            return
        self._warned.add((model.bundle_id, limit))
        body = {"slot": self._slot, "label": model.label, "bundle_id": model.bundle_id, "outcome": "too_old" if hard else "old"}
        reason = f"it is {age} sessions old, the limit is {limit}" + (": it opens no new risk" if hard else "")
        await self._recorder.note(Kind.STATE, "model_age", {**body, "reason": reason, "age_sessions": age})
        await self._shared.call(lambda: self._shared.slots.acknowledge({**body, "reason": reason}), None)

    async def poll(self, next_session: int) -> bool:
        """Look at the slot's request and decide it; True when the model changed. Call it between two rows only.

        next_session: the session of the row that the new bundle would decide first.
        """
        request = await self._shared.call(lambda: self._shared.slots.pending(self._slot), None)
        if request is None:
            return False
        label, bundle_id = request
        try:
            candidate = self._authority.examine(label, bundle_id, self._fold.ledger_head)
            check_age(candidate.model, self.age(candidate.model, next_session), self._profile.models)
            needed = self._profile.models.shadow_rows if self._fold.active.bundle_id else 0
            health = check_health(candidate.model, self._fold.engine.signals, self._profile.models, needed)
        except TransientError as error:
            self.waiting = f"{label}: {error.what}"
            return False
        except TradingError as error:
            await self._refuse(label, bundle_id, error)
            return False
        if candidate.model.bundle_id == self._fold.active.bundle_id:
            await self._tell(candidate.model.label, candidate.model.bundle_id)
            return False
        turnover = self.transition_turnover(candidate.model)
        if not await self._may_move(label, turnover):
            return False
        await self._switch(candidate, health, turnover)
        return True

    def transition_turnover(self, model: Model) -> float:
        """Value of the orders the bundle's first targets would send, as a share of the larger gross, before or after (T27).

        Priced on a copy of the engine, as the engine prices: the newest row, decided once more by the new bundle. 0 before the first row.
        """
        if self._fold.row is None or not self._fold.active.bundle_id:
            return 0.0
        panel, block, context = self._fold.row
        engine = self._fold.engine
        scratch = Engine(engine.profile, engine.instruments, engine.timeframe, engine.signals.feature_set, None, {})
        scratch.load_account(engine.account_bytes())
        scratch.signals.load_state(engine.signals.state_bytes())
        scratch.signals.swap(model)
        alphas = engine.signals.shadow(model)[-1:]
        held = scratch.signals.latched[np.newaxis, :].copy()
        account, lots_per_unit = scratch.account, scratch.grid.lots_per_unit
        # The row was decided already: its orders are on their way, so what they would leave, paid for, stands for what is held.
        on_the_way = account.working_buy - account.working_sell
        marks = np.where(np.isfinite(account.mark), account.mark, account.avg_cost)
        account.cash[0] -= float(np.sum(on_the_way / lots_per_unit * marks))
        account.position[:] += on_the_way
        account.working_buy[:] = account.working_sell[:] = 0
        before = account.position.copy()
        fresh = dataclasses.replace(block, alpha=alphas if len(alphas) else block.alpha, held=held)
        target = scratch.decide(panel, fresh, context).target
        price = np.where(context.quote_mid > 0.0, context.quote_mid, marks) / lots_per_unit
        moved = float(np.sum(np.abs(target - before) * price))
        gross = max(float(np.sum(np.abs(target) * price)), float(np.sum(np.abs(before) * price)))
        return moved / gross if gross > 0.0 else 0.0

    async def _may_move(self, label: str, turnover: float) -> bool:
        if turnover <= self._profile.models.max_transition_turnover or label in self.confirmed:
            return True
        if self._confirm_as:
            reason = f"transition of {turnover:.1%} of gross"
            command = new_command(CONFIRM, self._confirm_as, reason, self._recorder.now(), label=label)
            await self._recorder.note(Kind.COMMAND, command.command_id, command)
            return True
        self.waiting = f"{label}: a transition of {turnover:.1%} of gross needs an operator: live-runner swap confirm {label} --by NAME"
        return False

    async def _switch(self, candidate: Candidate, health: Health, turnover: float) -> None:
        model = candidate.model
        body = {
            "slot": self._slot,
            "label": model.label,
            "bundle_id": model.bundle_id,
            "replaces": self._fold.active.label,
            "ledger_head": candidate.ledger_head,
            "ledger_seq": candidate.entry.seq,
            "capital_share": candidate.entry.capital_share,
            "health": health,
            "transition_turnover": turnover,
            "by": "request",
        }
        await self._change(body)

    async def _change(self, body: Mapping[str, Any]) -> None:
        await self._recorder.note(Kind.SWAP, str(body["label"]) or "none", body)
        self.waiting = ""
        self.confirmed.clear()
        self._metrics.swaps.labels("activated").inc()
        await self._tell(str(body["label"]), str(body["bundle_id"]))

    async def _tell(self, label: str, bundle_id: str) -> None:
        """Write the journal's truth into Redis, empty strings where nothing is active, and acknowledge."""
        outcome = "activated" if label else "deactivated"

        def write() -> None:
            slots = self._shared.slots
            slots.activate(self._slot, label, bundle_id, slots.epoch())
            slots.acknowledge({"slot": self._slot, "label": label, "bundle_id": bundle_id, "outcome": outcome})

        await self._shared.call(write, None)

    async def _refuse(self, label: str, bundle_id: str | None, error: TradingError) -> None:
        why = {"reason": error.what, "where": error.where, "fix": error.fix}
        body = {"slot": self._slot, "label": label, "bundle_id": bundle_id, **why}
        await self._recorder.note(Kind.SWAP_REFUSED, label, body)
        self._metrics.swaps.labels("refused").inc()

        def write() -> None:
            self._shared.slots.refuse(self._slot, label, error.what)
            self._shared.slots.acknowledge({"slot": self._slot, "label": label, "bundle_id": bundle_id or "", "outcome": "refused", **why})

        await self._shared.call(write, None)

    async def restore(self) -> None:
        """Tell Redis what the journal says is active, at the start and when Redis answers again: a crash or a loss leaves no doubt."""
        active = await self._shared.call(lambda: self._shared.slots.active(self._slot), None)
        if self._fold.active.bundle_id != ("" if active is None else active[1]):
            await self._tell(self._fold.active.label, self._fold.active.bundle_id)

    async def roll_back(self, by: str, reason: str, session: int) -> str:
        """Back to the previous bundle, else `fallback_model`, else hold (T23); returns the label now active, empty for none."""
        fallback = await self._shared.call(self._shared.slots.fallback_model, None) if self._shared.configured else None
        choices = [self._fold.previous, ActiveModel(fallback or "")]
        for choice in choices:
            if not choice.label or choice.label == self._fold.active.label or (by == GUARD and choice.label in self._fold.failed):
                continue
            try:
                candidate = self._authority.examine(choice.label, choice.bundle_id or None, self._fold.ledger_head)
                check_age(candidate.model, self.age(candidate.model, session), self._profile.models)
                check_health(candidate.model, self._fold.engine.signals, self._profile.models, 0)
            except TradingError as error:
                await self._refuse(choice.label, choice.bundle_id or None, error)
                continue
            body = {"slot": self._slot, "label": candidate.model.label, "bundle_id": candidate.model.bundle_id, "by": by, "reason": reason}
            await self._change({**body, "replaces": self._fold.active.label, "ledger_head": candidate.ledger_head})
            return candidate.model.label
        await self._change(
            {"slot": self._slot, "label": "", "bundle_id": "", "by": by, "reason": reason, "replaces": self._fold.active.label}
        )
        return ""
