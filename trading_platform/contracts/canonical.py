"""Canonical bytes: the one way to turn a value into bytes that are hashed, compared or journaled.

orjson with sorted keys, UTF-8, times as int64 ns; NaN and inf are refused (an absent value is an absent key); arrays become
{"dtype", "shape", "data"} with base64 of little-endian bytes, so NaN inside an array is allowed and exact.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np
import orjson

from trading_platform.contracts.errors import CorruptionError, InputError

Json = Any


def _encode_array(array: np.ndarray) -> dict[str, Json]:
    little = np.ascontiguousarray(array)
    if little.dtype.byteorder == ">":
        little = little.astype(little.dtype.newbyteorder("<"))
    if little.dtype.kind not in "biuf":
        raise InputError(f"an array of dtype {array.dtype} has no canonical form", "contracts.canonical", "use bool, int or float arrays")
    return {"data": base64.b64encode(little.tobytes()).decode("ascii"), "dtype": little.dtype.str.lstrip("<|="), "shape": list(array.shape)}


def decode_array(value: Mapping[str, Json]) -> np.ndarray:
    """Return the array of its canonical form (a fresh, writable, native-endian array)."""
    try:
        raw = base64.b64decode(value["data"], validate=True)
        return np.frombuffer(raw, dtype=np.dtype(value["dtype"]).newbyteorder("<")).reshape(value["shape"]).copy()
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptionError(
            f"not the canonical form of an array: {error}", "contracts.canonical", "restore the record from its backup"
        ) from error


def _plain(value: Any, path: str) -> Json:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Enum):
        return _plain(value.value, path)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            raise InputError(f"{value} cannot be written: an absent value is an absent key", path, "leave the key out")
        return float(value) + 0.0  # -0.0 and 0.0 are one number
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        present = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {k: _plain(v, f"{path}.{k}") for k, v in present.items() if v is not None}
    if isinstance(value, Mapping):
        return {_key(k, path): _plain(v, f"{path}.{k}") for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{path}[{i}]") for i, v in enumerate(value)]
    raise InputError(f"a {type(value).__name__} has no canonical form", path, "convert it to plain values first")


def _key(key: Any, path: str) -> str:
    if not isinstance(key, str):
        raise InputError(f"a key must be a string, got {key!r}", path, "use string keys")
    return key


def canonical_bytes(value: Any) -> bytes:
    """Return the canonical JSON of `value`. Raises InputError on NaN, inf and values without a canonical form."""
    return orjson.dumps(_plain(value, "$"), option=orjson.OPT_SORT_KEYS)


def parse(data: bytes) -> Json:
    """Parse canonical JSON; arrays stay in their encoded form (see `decode_array`)."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise CorruptionError(f"not JSON: {error}", "contracts.canonical", "restore the file from its backup") from error


def sha256_hex(data: bytes) -> str:
    """Lower-case hex sha256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def content_hash(value: Any) -> str:
    """sha256 of the canonical bytes of `value`, as 64 hex digits."""
    return sha256_hex(canonical_bytes(value))
