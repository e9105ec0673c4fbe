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


def _plain(value: Any) -> Json:
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return value
    if kind is float:
        return _finite(value)
    if kind is tuple or kind is list:
        return [item if type(item) is str else _plain(item) for item in value]
    if kind is dict:
        return {k if type(k) is str else _key(k): _plain(v) for k, v in value.items() if v is not None}
    if kind is np.ndarray:
        return _encode_array(value)
    return _plain_subclass(value)


def _plain_subclass(value: Any) -> Json:
    """What is not exactly a plain type: enums, dataclasses, numpy numbers, and classes derived from plain ones."""
    if isinstance(value, Enum):
        return _plain(value.value)
    if isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return _finite(float(value))
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        present = ((name, getattr(value, name)) for name in value.__dataclass_fields__)
        return {name: _plain(v) for name, v in present if v is not None}
    if isinstance(value, Mapping):
        return {_key(k): _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    raise InputError(f"a {type(value).__name__} has no canonical form", "contracts.canonical", "convert it to plain values first")


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise InputError(f"{value} cannot be written: an absent value is an absent key", "contracts.canonical", "leave the key out")
    return value + 0.0  # -0.0 and 0.0 are one number


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise InputError(f"a key must be a string, got {key!r}", "contracts.canonical", "use string keys")
    return key


def _place(value: Any, path: str) -> str:
    """Where in `value` the part lies that has no canonical form: paths are only made once something is wrong."""
    parts: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        parts = [(f".{key}", part) for key, part in value.items()]
    elif isinstance(value, (list, tuple)):
        parts = [(f"[{number}]", part) for number, part in enumerate(value)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [(f".{name}", getattr(value, name)) for name in value.__dataclass_fields__]
    for step, part in parts:
        try:
            _plain(part)
        except InputError:
            return _place(part, path + step)
    return path


def canonical_bytes(value: Any) -> bytes:
    """Return the canonical JSON of `value`. Raises InputError on NaN, inf and values without a canonical form."""
    try:
        plain = _plain(value)
    except InputError as error:
        raise InputError(error.what, _place(value, "$"), error.fix) from None
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)


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
