"""Preloaded by the fork server of the crash tests: imports the runner and loads its kernels once, so that a life starts at once."""

from __future__ import annotations

import live_runner.runner  # noqa: F401
from live_runner.warm_up import warm_up
from trading_platform.calendar import MarketCalendar
from trading_platform.contracts.instruments import Instrument
from trading_platform.contracts.profile import Profile
from trading_platform.engine.engine import Engine
from trading_platform.features.catalog.registry import feature_set

MarketCalendar()
warm_up(Engine(Profile("warm"), tuple(Instrument(f"us:{letter}", letter) for letter in "ABCDEFGH"), "1Day", feature_set("core"), None, {}))
