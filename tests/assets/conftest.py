"""The small world, materialised once per test process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from feature_runs import FeatureRuns, Frames, Run, daily_frames, minute_frames
from world import World, open_world, synthetic_bars

from trading_platform.assets.bring_current import bring_current
from trading_platform.assets.bundles import cutoffs_of
from trading_platform.assets.dbt_manifest import ensure_manifest
from trading_platform.assets.pipelines import DAILY, Pipeline
from trading_platform.calendar import MarketCalendar


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of this folder share one world: they stay on one worker."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("assets"))


@pytest.fixture(scope="session")
def materialised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(home, data) with the daily pipeline up to the promotions, and the empty intraday one."""
    ensure_manifest()
    root = tmp_path_factory.mktemp("world")
    synthetic_bars(root / "data")
    world = open_world(root / "home", root / "data")
    with world.instance:
        marts = {"bars_daily_rollup", "session_orders", "session_pnl"}
        unpartitioned = [name for name, node in world.graph.nodes.items() if node.definition.partitions_def is None and name not in marts]
        bring_current(world.definitions, world.graph, world.place, world.instance, assets=unpartitioned)
        cutoffs = cutoffs_of(world.place, world.instance, DAILY)
        partitions = {"model_bundle": cutoffs[:1], "promotion": cutoffs[:1]}
        bring_current(world.definitions, world.graph, world.place, world.instance, partitions=partitions, assets=list(partitions))
    return root / "home", root / "data"


@pytest.fixture
def world(materialised: tuple[Path, Path], tmp_path: Path) -> Iterator[World]:
    """A copy of the materialised world that a test may damage."""
    home, data = materialised
    shutil.copytree(home, tmp_path / "home")
    found = open_world(tmp_path / "home", data)
    with found.instance:
        yield found


@pytest.fixture(scope="session")
def shared_world(materialised: tuple[Path, Path]) -> Iterator[World]:
    """The materialised world itself, for tests that only look."""
    found = open_world(*materialised)
    with found.instance:
        yield found


@pytest.fixture(scope="session")
def calendar() -> MarketCalendar:
    return MarketCalendar()


@pytest.fixture(scope="session")
def daily(calendar: MarketCalendar) -> Frames:
    return daily_frames(calendar)


@pytest.fixture(scope="session")
def minutes(calendar: MarketCalendar) -> Frames:
    return minute_frames(calendar)


@pytest.fixture
def runs(tmp_path: Path, calendar: MarketCalendar) -> FeatureRuns:
    return FeatureRuns(tmp_path / "home", DAILY, calendar)


@pytest.fixture
def rebuilt(tmp_path: Path, calendar: MarketCalendar) -> Iterator[Callable[..., Run]]:
    """A full rebuild in a home that holds nothing."""
    homes = (tmp_path / f"rebuilt-{number}" for number in range(100))

    def rebuild(frames: Frames, pipeline: Pipeline = DAILY, **options: object) -> Run:
        return FeatureRuns(next(homes), pipeline, calendar, int(options.pop("stretch_rows", 70))).run(frames, full=True, **options)  # type: ignore[arg-type,call-overload]

    yield rebuild
