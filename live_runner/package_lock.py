"""Which versions of other people's code a decision was made with (T37, T39)."""

from __future__ import annotations

import importlib.metadata

from trading_platform.contracts.canonical import content_hash

LOCKED = ("numpy", "numba", "llvmlite", "onnxruntime", "orjson", "alpaca-py", "redis", "websockets", "exchange-calendars")


def package_lock() -> str:
    """Hash of the versions installed here of everything that a decision's bits may depend on."""
    return content_hash({name: importlib.metadata.version(name) for name in LOCKED})
