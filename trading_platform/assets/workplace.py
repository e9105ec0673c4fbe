"""Where assets work: lake, sources, calendar, profile and stores of one set of settings, each opened when it is first needed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from trading_platform.assets.pipelines import Pipeline
from trading_platform.config import Settings, load_profile
from trading_platform.contracts.profile import Profile

if TYPE_CHECKING:
    from trading_platform.calendar import MarketCalendar
    from trading_platform.market_data.lake import Lake
    from trading_platform.market_data.sources.protocol import BarSource, SourceFile
    from trading_platform.registry.object_store import ObjectStore

ROOT = Path(__file__).parent.parent.parent


class Workplace:
    """Rooms and tools of one Settings value. Opening one reads nothing and imports nothing heavy."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def lake(self) -> Lake:
        """The Parquet lake of every asset."""
        from trading_platform.market_data.lake import Lake

        return Lake(self.settings.lake_dir)

    @cached_property
    def calendar(self) -> MarketCalendar:
        """The exchange's sessions."""
        return _calendar()

    @cached_property
    def source(self) -> BarSource:
        """The folder of Parquet bars that the settings name, or the boxed data. Holdout sessions are behind `daily_last` (T34)."""
        from trading_platform.market_data.sources.select import open_source

        return open_source(self.settings.data, self.calendar, self.settings.daily_first, self.settings.daily_last)

    def source_files(self) -> Sequence[SourceFile]:
        """The source's files, hashed as they are now."""
        return self.source.files()

    @cached_property
    def store(self) -> ObjectStore:
        """The object store of the bundles."""
        from trading_platform.registry.object_store import open_store

        return open_store(self.settings.object_store)

    def profile(self, pipeline: Pipeline) -> Profile:
        """The profile's numbers as they hold for a pipeline's strategy class."""
        return load_profile(self.settings.profile, pipeline.strategy_class)

    @cached_property
    def git_commit(self) -> str:
        """Commit of the sources, with `+` where the work tree differs from it; empty where there is no repository."""
        try:
            head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10)
            changed = subprocess.run(
                ["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
            )
        except (OSError, subprocess.SubprocessError):
            return ""
        return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


@cache
def _calendar() -> MarketCalendar:
    """The exchange's table never changes within a process, and takes 0.3 s to build."""
    from trading_platform.calendar import MarketCalendar

    return MarketCalendar()
