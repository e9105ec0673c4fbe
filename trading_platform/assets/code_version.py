"""Code versions: the sources an asset's content depends on, as one hash, so that a changed line makes exactly those assets stale."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

from trading_platform.contracts.errors import InputError

PACKAGE = Path(__file__).parent.parent


@cache
def code_version(*parts: str) -> str:
    """First 16 hex digits of sha256 over the sources of packages or modules of trading_platform, such as `market_data` or `calendar`."""
    digest = hashlib.sha256()
    for part in sorted(set(parts)):
        target = PACKAGE / Path(*part.split("."))
        files = sorted(target.rglob("*.py")) if target.is_dir() else [target.with_suffix(".py")]
        if not files or not files[0].is_file():
            raise InputError(f"no package or module {part!r}", "assets.code_version", "name a package or module of trading_platform")
        for file in files:
            digest.update(file.relative_to(PACKAGE).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
