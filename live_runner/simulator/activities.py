"""Account activities: everything that ever moved cash or shares, each once, with an id that sorts; and the paging over them (T12)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from live_runner.simulator.wire import Ids, Json, activity_prefix, day_text, unprocessable

MAX_PAGE = 100
TYPES = ("FILL", "CSD", "DIV", "SPLIT", "CIL")


@dataclass(frozen=True, slots=True)
class Activity:
    """One activity and when it happened (UTC ns, session day)."""

    at: int
    session: int
    body: Json


@dataclass(slots=True)
class ActivityLog:
    """Append-only. Ids are `<New York time to the millisecond>::<uuid>`."""

    ids: Ids
    account_id: str
    _all: list[Activity] = field(default_factory=list)

    def add(self, kind: str, at: int, session: int, **fields: str) -> Json:
        """Record one activity; `fields` are its own keys, decimal strings."""
        identifier = f"{activity_prefix(at)}::{self.ids.next('activity')}"
        body: Json = {"id": identifier, "account_id": self.account_id, "activity_type": kind, **fields}
        if kind != "FILL":
            body |= {"date": day_text(session), "status": "executed", "description": body.get("description", "")}
        self._all.append(Activity(at, session, body))
        return body

    def page(
        self,
        kinds: Sequence[str],
        after: int | None = None,
        until: int | None = None,
        session: int | None = None,
        descending: bool = True,
        page_size: int = MAX_PAGE,
        page_token: str | None = None,
    ) -> list[Json]:
        """One page: activities of these kinds (all if none given), `after` and `until` (UTC ns) exclusive, behind the item `page_token`.

        RefusedError 422 for an unknown kind, size or token.
        """
        unknown = [kind for kind in kinds if kind not in TYPES]
        if unknown:
            raise unprocessable(f"invalid activity type: {unknown[0]}")
        if not 1 <= page_size <= MAX_PAGE:
            raise unprocessable(f"page_size must be between 1 and {MAX_PAGE}")
        chosen = [
            a.body
            for a in self._all
            if (not kinds or a.body["activity_type"] in kinds)
            and (after is None or a.at > after)
            and (until is None or a.at < until)
            and session in (None, a.session)
        ]
        if descending:
            chosen.reverse()
        if page_token is not None:
            places = [i for i, body in enumerate(chosen) if body["id"] == page_token]
            if not places:
                raise unprocessable(f"invalid page_token: {page_token}")
            chosen = chosen[places[0] + 1 :]
        return chosen[:page_size]
