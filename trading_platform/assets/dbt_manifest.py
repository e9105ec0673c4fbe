"""dbt's manifest: kept newer than the project by `ensure_manifest`, and read here into what the graph needs, without importing dbt."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import orjson

from trading_platform.contracts.canonical import content_hash, sha256_hex
from trading_platform.contracts.errors import CorruptionError, InputError

PROJECT = Path(__file__).parent.parent.parent / "dbt"
MANIFEST = PROJECT / "target" / "manifest.json"
SOURCES = ("*.yml", "models/**/*", "macros/**/*", "tests/**/*")
PARSE_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class MartTest:
    """One dbt test of a model. error: its severity. description: what passes, or what a failing row is."""

    error: bool
    description: str


@dataclass(frozen=True, slots=True)
class Mart:
    """One model. tests: dbt test name -> the test. needs: the vars its SQL reads."""

    name: str
    description: str
    tests: dict[str, MartTest]
    needs: tuple[str, ...]


def source_files() -> list[Path]:
    """Every file of the project that the manifest is made from."""
    return sorted({path for pattern in SOURCES for path in PROJECT.glob(pattern) if path.is_file()})


def sources_hash() -> str:
    """Content hash of the project's files."""
    return content_hash([[path.relative_to(PROJECT).as_posix(), sha256_hex(path.read_bytes())] for path in source_files()])


def manifest_is_current() -> bool:
    """Whether the manifest exists and no file of the project is newer."""
    if not MANIFEST.is_file():
        return False
    made = MANIFEST.stat().st_mtime_ns
    return all(path.stat().st_mtime_ns <= made for path in source_files())


def ensure_manifest() -> bool:
    """Run `dbt parse` where the manifest is absent or older than the project; True where it ran. Needs no network.

    InputError with dbt's own words where the project does not parse. Call it before `trading_platform.definitions` is imported.
    """
    if manifest_is_current():
        return False
    MANIFEST.parent.mkdir(exist_ok=True)
    with open(MANIFEST.parent / ".parsing", "w") as lock, tempfile.TemporaryDirectory(prefix="dbt-") as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes that begin together parse once
        if manifest_is_current():
            return False
        _parse(Path(folder))
    return True


def _parse(folder: Path) -> None:
    """Parse in a folder of its own and put the manifest where readers look, whole."""
    places = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target-path", str(folder), "--log-path", str(folder)]
    command = [str(dbt_executable()), "parse", "--no-use-colors", *places]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PARSE_TIMEOUT_S, env=quiet_environment(), check=False)
    if done.returncode != 0:
        raise InputError(f"dbt parse failed:\n{done.stdout[-2000:]}{done.stderr[-1000:]}", "dbt/", "correct the model that dbt names")
    beside = MANIFEST.with_suffix(".new")
    beside.write_bytes((folder / MANIFEST.name).read_bytes())
    os.replace(beside, MANIFEST)


def dbt_executable() -> Path:
    """dbt beside the running Python. InputError where it is not installed."""
    path = Path(sys.executable).parent / "dbt"
    if not path.is_file():
        raise InputError("dbt is not installed", str(path), "install the project's dependencies: make demo does")
    return path


def quiet_environment() -> dict[str, str]:
    """The environment for dbt: nothing is reported to anyone."""
    return {**os.environ, "DO_NOT_TRACK": "1", "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}


def read_marts() -> tuple[Mart, ...]:
    """The models of the manifest, by name; none where the project was never parsed. CorruptionError where it is no manifest."""
    if not MANIFEST.is_file():
        return ()
    try:
        manifest = orjson.loads(MANIFEST.read_bytes())
        models = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
        tests = [node for node in manifest["nodes"].values() if node["resource_type"] == "test"]
        return tuple(_mart(key, models[key], tests) for key in sorted(models))
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise CorruptionError(f"not a dbt manifest: {error!r}", "dbt/target/manifest.json", "delete it and run dbt parse") from error


def _test(test: dict) -> MartTest:
    """A generic test is described by its name and column, a test of ours by the comment its SQL begins with."""
    sql, generic = str(test["raw_code"]), test.get("test_metadata")
    if generic:
        said = f"{test['column_name']} is {str(generic['name']).replace('_', ' ')}"
    else:
        said = f"fails on: {sql.partition(chr(10))[0].removeprefix('--').strip()}" if sql.startswith("--") else ""
    return MartTest(str(test["config"]["severity"]).lower() == "error", str(test.get("description") or said))


def _mart(key: str, model: dict[str, object], tests: list[dict]) -> Mart:
    mine = {test["name"]: _test(test) for test in tests if key in test["depends_on"]["nodes"]}
    sql = str(model["raw_code"])
    needs = tuple(name for name in ("minute_bars", "orders", "fills", "pnl") if f"var('{name}')" in sql)
    return Mart(str(model["name"]), str(model["description"]), dict(sorted(mine.items())), needs)
