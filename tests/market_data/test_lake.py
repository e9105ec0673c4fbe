"""The lake: same content same bytes, old versions stay readable, damage is found, nothing is half-written."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.market_data import lake as lake_module
from trading_platform.market_data.lake import Lake

ASSET, PARTITION = "bars/timeframe=1Day", "year=2012"


def frame(close: float = 2.0) -> pl.DataFrame:
    stamps = [datetime(2012, 1, day, 5, tzinfo=UTC) for day in (3, 4, 3, 4)]
    table = pl.DataFrame({"instrument_id": ["us:B", "us:B", "us:A", "us:A"], "timestamp": stamps, "close": [1.0, close, 3.0, 4.0]})
    return table.with_columns(pl.col("timestamp").cast(pl.Datetime("ns", "UTC")))


def files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


def test_the_same_content_is_the_same_bytes_in_any_row_order(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    first = lake.write_partition(ASSET, PARTITION, frame())
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert lake.write_partition(ASSET, PARTITION, frame().reverse()) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert first.rows == 4 and first.uri == f"{ASSET}/{PARTITION}/part-{first.sha256}.parquet"
    assert first.span == (1325566800000000000, 1325653200000000000)
    read = lake.read(ASSET)
    assert read["instrument_id"].to_list() == ["us:A", "us:A", "us:B", "us:B"]
    assert read.equals(frame().sort("instrument_id", "timestamp"))


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    here = Lake(tmp_path / "here").write_partition(ASSET, PARTITION, frame())
    source = tmp_path / "frame.arrow"
    frame().write_ipc(source)
    script = (
        "import sys, pathlib, polars as pl; from trading_platform.market_data.lake import Lake;"
        f"print(Lake(pathlib.Path(sys.argv[1])).write_partition({ASSET!r}, {PARTITION!r}, pl.read_ipc(sys.argv[2])).data_version)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path / "there"), str(source)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here.data_version


def test_new_content_moves_the_manifest_and_keeps_the_old_part_readable(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    old = lake.write_partition(ASSET, PARTITION, frame(2.0))
    new = lake.write_partition(ASSET, PARTITION, frame(2.5))
    assert new.data_version != old.data_version
    assert lake.manifest(ASSET, PARTITION) == new
    assert len(lake.read_version(old)) == old.size


def test_the_data_version_follows_code_schema_and_names_but_no_path(tmp_path: Path) -> None:
    versions = [
        Lake(tmp_path / "a").write_partition(ASSET, PARTITION, frame()),
        Lake(tmp_path / "b").write_partition(ASSET, PARTITION, frame()),
        Lake(tmp_path / "c").write_partition(ASSET, PARTITION, frame(), code_version="2"),
        Lake(tmp_path / "d").write_partition(ASSET, "year=2013", frame()),
        Lake(tmp_path / "e").write_partition("other", PARTITION, frame()),
    ]
    assert versions[0] == versions[1]
    assert len({manifest.data_version for manifest in versions}) == 4


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damage_is_found_before_a_row_is_returned(tmp_path: Path, damage: str) -> None:
    lake = Lake(tmp_path)
    manifest = lake.write_partition(ASSET, PARTITION, frame())
    part = tmp_path / manifest.uri
    data = bytearray(part.read_bytes())
    data[40] ^= 1
    {"flip": lambda: part.write_bytes(data), "cut": lambda: part.write_bytes(data[:-9]), "gone": part.unlink}[damage]()
    with pytest.raises(CorruptionError, match=manifest.sha256):
        lake.read(ASSET)
    with pytest.raises(CorruptionError):
        lake.verify(ASSET)
    assert lake.write_partition(ASSET, PARTITION, frame()) == manifest  # writing again repairs it
    assert lake.verify(ASSET) == 1


@pytest.mark.parametrize("at", [1, 2])
def test_a_crash_between_write_and_rename_leaves_the_old_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    lake = Lake(tmp_path)
    old = lake.write_partition(ASSET, PARTITION, frame(2.0))
    calls: list[int] = []
    rename = os.replace

    def failing(source: str, target: Path) -> None:
        calls.append(1)
        if len(calls) == at:
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(lake_module.os, "replace", failing)
    with pytest.raises(OSError, match="no space left"):
        lake.write_partition(ASSET, PARTITION, frame(9.0))
    assert lake.manifest(ASSET, PARTITION) == old
    assert lake.read(ASSET).equals(frame(2.0).sort("instrument_id", "timestamp"))
    assert not [name for name in files(tmp_path) if name.startswith(".writing-")]


@pytest.mark.parametrize("at", [1, 2])
def test_a_writer_killed_before_its_rename_leaves_the_old_content_and_no_litter(tmp_path: Path, at: int) -> None:
    lake = Lake(tmp_path)
    old = lake.write_partition(ASSET, PARTITION, frame(2.0))
    source = tmp_path.parent / f"{tmp_path.name}.arrow"
    frame(9.0).write_ipc(source)
    script = (
        "import os, pathlib, signal, sys, polars as pl; from trading_platform.market_data import lake; calls = []; rename = os.replace\n"
        "def dying(source, target):\n"
        "    calls.append(1)\n"
        f"    if len(calls) == {at}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    rename(source, target)\n"
        "lake.os.replace = dying\n"
        f"lake.Lake(pathlib.Path(sys.argv[1])).write_partition({ASSET!r}, {PARTITION!r}, pl.read_ipc(sys.argv[2]))"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path), str(source)], check=False).returncode == -9
    assert lake.manifest(ASSET, PARTITION) == old and lake.verify(ASSET) == 1
    new = lake.write_partition(ASSET, PARTITION, frame(9.0))
    assert lake.manifest(ASSET, PARTITION) == new
    assert not [name for name in files(tmp_path) if name.startswith(".")]


def test_files_of_any_kind_live_under_the_same_rules(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    manifest = lake.write_file("feature-state/abc", "known_at=17", b"\x00state", ".npz", code_version="3", rows=5, span=(1, 17))
    assert lake.read_file("feature-state/abc", "known_at=17") == b"\x00state"
    assert (manifest.rows, manifest.span, manifest.uri.endswith(".npz")) == (5, (1, 17), True)
    assert lake.partitions("feature-state/abc") == ("known_at=17",)
    with pytest.raises(InputError, match="is no table"):
        lake.read("feature-state/abc")


def test_partitions_are_read_in_order_and_missing_ones_named(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    for year in ("year=2013", "year=2012"):
        lake.write_partition(ASSET, year, frame())
    assert lake.partitions(ASSET) == ("year=2012", "year=2013")
    assert lake.read(ASSET, columns=["close"]).shape == (8, 1)
    with pytest.raises(InputError, match="partition 'year=2014' of bars/timeframe=1Day was never written"):
        lake.read(ASSET, ["year=2014"])
    with pytest.raises(InputError, match="has no partitions"):
        lake.read("nothing")
    for name in ("../outside", "/etc", "a//b", "", "a/../b", ".hidden"):
        with pytest.raises(InputError, match="is not the name of"):
            lake.write_partition(name, PARTITION, frame())


def test_a_frame_without_rows_is_content_too(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    manifest = lake.write_partition("bars/timeframe=1Min", "month=2012-01", frame().clear())
    assert (manifest.rows, manifest.span) == (0, None)
    assert lake.manifest("bars/timeframe=1Min", "month=2012-01") == manifest
    assert lake.read("bars/timeframe=1Min").schema == frame().schema
