"""What one runner is told at its start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from trading_platform.contracts.errors import InputError
from trading_platform.contracts.profile import Profile

ALPACA = "alpaca.markets"


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """One runner, as plain values. URLs without a trailing slash; broker_url empty = Alpaca's own addresses of the mode.

    feature_cache_url: Redis of the feature cache, empty for redis_url; feature_stream: FEAT-28. speed: of a simulator that runs at its own
    pace, virtual seconds per second; 0 for real time and for lock-step. confirm_as: operator in whose name model transitions are confirmed
    at once, on paper only. adopt_as: operator who lets a new venue account replace the journaled one. kill_at: where a crash test ends the
    process.
    """

    account: str
    mode: str
    pipeline: str
    lake: Path
    journal: Path
    ledger: Path
    object_store: str
    profile: Profile
    key: str
    secret: str = field(repr=False)
    redis_url: str = ""
    feature_cache_url: str = ""
    feature_stream: bool = False
    broker_url: str = ""
    feed: str = "iex"
    lockstep: bool = False
    speed: float = 0.0
    metrics_port: int = 0
    confirm_as: str = ""
    adopt_as: str = ""
    kill_at: str = ""

    def __post_init__(self) -> None:
        if self.mode == "live" and self.confirm_as:
            raise InputError(
                "a live runner confirms no transition by itself (T27)",
                "--confirm-transitions-as",
                "leave it out; an operator confirms each one: live-runner swap confirm LABEL --by NAME",
            )

    def live_feed(self, published: Mapping[str, str]) -> Mapping[str, str]:
        """T5 identity of the bars that come in: Alpaca's own, or `published` from a venue that plays the platform's (a simulator)."""
        host = urlsplit(self.broker_url).hostname or ""
        if self.broker_url and not (host == ALPACA or host.endswith(f".{ALPACA}")):
            return published
        return {"vendor": "alpaca", "tape": self.feed, "bar_version": "first", "session_hours": "regular", "adjustment": "raw"}

    @property
    def websocket_url(self) -> str:
        """The broker's address for websockets, empty for Alpaca's own."""
        return self.broker_url.replace("http", "ws", 1)
