"""The bytes of a program's state: one .npz whose bytes are a pure function of the state (no clock, no pickle)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trading_platform.contracts.canonical import canonical_bytes, parse
from trading_platform.contracts.errors import CorruptionError

FORMAT = 2
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest date a zip can hold: archives of one state are one string of bytes
_HEADER = "header.json"
_FIX = "fetch the state again from the feature asset, or replay the bars from the start"


@dataclass(frozen=True, slots=True)
class ProgramState:
    """feature_hash: the version that made it. instrument_ids: the S columns. timeframe, last_timestamp, session: of the newest row seen
    (timestamp 0: none); session_start: timestamp of that session's first row.

    rows_seen, last_session: (S,) int64, present bars so far and the day number of the newest one's session. arrays: node key -> (rows, S)
    float64.
    """

    feature_hash: str
    instrument_ids: tuple[str, ...]
    timeframe: str
    last_timestamp: int
    session: int
    session_start: int
    rows_seen: NDArray[np.int64]
    last_session: NDArray[np.int64]
    arrays: Mapping[str, NDArray[Any]]


def encode(state: ProgramState) -> bytes:
    """Return the .npz of `state`; equal states give equal bytes."""
    header = {
        "format": FORMAT,
        "feature_hash": state.feature_hash,
        "instrument_ids": list(state.instrument_ids),
        "timeframe": state.timeframe,
        "last_timestamp": state.last_timestamp,
        "session": state.session,
        "session_start": state.session_start,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(_HEADER, _EPOCH), canonical_bytes(header))
        for name, array in sorted({"rows_seen": state.rows_seen, "last_session": state.last_session, **state.arrays}.items()):
            content = io.BytesIO()
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            np.lib.format.write_array(content, np.ascontiguousarray(little), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _EPOCH), content.getvalue())
    return buffer.getvalue()


def decode(data: bytes) -> ProgramState:
    """Return the state of an .npz made by `encode`. Raises CorruptionError if it is damaged or of another format."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            header = parse(archive.read(_HEADER))
            names = [name for name in archive.namelist() if name != _HEADER]
            arrays = {name[: -len(".npy")]: np.lib.format.read_array(io.BytesIO(archive.read(name)), allow_pickle=False) for name in names}
        if header["format"] != FORMAT:
            raise CorruptionError(f"feature state of format {header['format']}, expected {FORMAT}", "features.state", _FIX)
        rows_seen, last_session = arrays.pop("rows_seen"), arrays.pop("last_session")
        ids = tuple(str(x) for x in header["instrument_ids"])
        named = str(header["feature_hash"]), ids, str(header["timeframe"])
        newest = int(header["last_timestamp"]), int(header["session"]), int(header["session_start"])
        state = ProgramState(*named, *newest, rows_seen, last_session, arrays)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, OSError, NotImplementedError) as error:
        raise CorruptionError(f"not a feature state: {error}", "features.state", _FIX) from error
    for name, array in {"rows_seen": rows_seen, "last_session": last_session, **arrays}.items():
        if array.shape[-1:] != (len(ids),) or array.ndim != (1 if name in ("rows_seen", "last_session") else 2):
            raise CorruptionError(f"state array {name} has shape {array.shape} for {len(ids)} instruments", "features.state", _FIX)
    return state
