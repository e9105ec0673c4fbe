"""Bundles between stores: on folders and on a real S3 server in another process, with connections that break."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trading_platform.contracts.errors import CorruptionError, InputError, TransientError
from trading_platform.contracts.model import ModelConfig
from trading_platform.registry import bundle, model_sync
from trading_platform.registry.object_store import FileStore, ObjectStore, S3Store

ONNX = np.random.default_rng(7).bytes(4_500_000)
LABEL = "alpha_v1.2"
PREFIX = bundle.bundle_prefix("alpha", "1.2")


def make(store: ObjectStore, version: str = "1.2", onnx: bytes = ONNX) -> str:
    feed = {"vendor": "files"}
    config = ModelConfig("alpha", version, "daily", "1Day", "core", "f" * 64, ("a",), "v", "r", 5, "forward return", 1, 2, feed)
    return bundle.write_bundle(store, config, onnx, np.zeros((1, 1), np.float32), np.zeros(1), {"created_at": 1}, "# card")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(params=["file", "s3"])
def remote(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "file":
        return FileStore(tmp_path / "remote")
    import boto3

    url = request.getfixturevalue("server")
    client = boto3.client("s3", endpoint_url=url, aws_access_key_id="t", aws_secret_access_key="t", region_name="us-east-1")
    name = f"b{abs(hash(str(tmp_path)))}"
    client.create_bucket(Bucket=name)
    return S3Store(name, "some/where", client)


class Breaking:
    """A store whose streams break off after so many bytes, so many times."""

    def __init__(self, store: ObjectStore, after: int, times: int) -> None:
        self._store, self._after, self._times = store, after, times
        self.starts: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        if not key.endswith(bundle.MODEL):
            yield from self._store.stream(key, start)
            return
        self.starts.append(start)
        sent = 0
        for piece in self._store.stream(key, start):
            if self._times and sent + len(piece) > self._after:
                self._times -= 1
                raise TransientError("the line broke", key)
            sent += len(piece)
            yield piece


def test_a_bundle_travels_there_and_back_whole(tmp_path: Path, remote: ObjectStore) -> None:
    here, back = FileStore(tmp_path / "here"), FileStore(tmp_path / "back")
    bundle_id = make(here)
    assert model_sync.upload(here, LABEL, remote).bundle_id == bundle_id
    seen: dict[str, int] = {}
    done = model_sync.fetch(remote, LABEL, back, bundle_id, lambda file, n, total: seen.update({file: n}))
    assert (done.copied, done.kept) == (4, 0) and seen[bundle.MODEL] == len(ONNX) and done.moved >= len(ONNX)
    assert bundle.load_bundle(back, LABEL, bundle_id).onnx == ONNX
    again = model_sync.fetch(remote, LABEL, back)
    assert (again.copied, again.kept, again.moved) == (0, 4, 0) and model_sync.upload(here, LABEL, remote).copied == 0
    assert model_sync.condition(back, LABEL) == "whole"


def test_a_fetch_goes_on_where_the_connection_broke(tmp_path: Path, remote: ObjectStore) -> None:
    bundle_id, into = make(remote), FileStore(tmp_path / "into")
    broken = Breaking(remote, after=1_100_000, times=2)
    done = model_sync.fetch(broken, LABEL, into, bundle_id)
    assert broken.starts[0] == 0 and broken.starts == sorted(set(broken.starts)) and len(broken.starts) == 3
    assert bundle.load_bundle(into, LABEL, bundle_id).onnx == ONNX and done.moved == sum(
        entry["size"] for entry in bundle.read_metadata(into, LABEL, None)[1]["files"].values()
    )


def test_a_connection_that_stays_broken_leaves_no_bundle_and_keeps_what_came(tmp_path: Path) -> None:
    remote, into = FileStore(tmp_path / "remote"), FileStore(tmp_path / "into")
    bundle_id = make(remote)
    with pytest.raises(TransientError, match="the line broke"):
        model_sync.fetch(Breaking(remote, after=0, times=9), LABEL, into)
    with pytest.raises(TransientError):
        model_sync.fetch(Breaking(remote, after=1_100_000, times=9), LABEL, into)
    assert bundle.labels(into) == () and any(path.name.endswith(".part") for path in model_sync.leftovers(into))
    later = Breaking(remote, after=0, times=0)
    assert model_sync.fetch(later, LABEL, into, bundle_id).bundle_id == bundle_id and later.starts[0] > 0
    assert list(model_sync.leftovers(into)) == []


def test_a_part_of_something_else_is_thrown_away_and_fetched_anew(tmp_path: Path) -> None:
    remote, into = FileStore(tmp_path / "remote"), FileStore(tmp_path / "into")
    make(remote)
    part = into.root / PREFIX / f".tmp-{bundle.MODEL}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"of another model")
    model_sync.fetch(remote, LABEL, into)
    assert bundle.load_bundle(into, LABEL).onnx == ONNX


@pytest.mark.parametrize("file", [bundle.MODEL, bundle.CONFIG, bundle.GOLDEN, bundle.CARD])
def test_one_edited_byte_is_refused_on_every_way(tmp_path: Path, file: str) -> None:
    there, here = FileStore(tmp_path / "there"), FileStore(tmp_path / "here")
    bundle_id = make(there)
    model_sync.fetch(there, LABEL, here)
    for store in (there, here):
        path = store.root / PREFIX / file
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
    assert "does not match its sha256" in model_sync.condition(here, LABEL)
    with pytest.raises(CorruptionError, match="does not match its sha256"):
        model_sync.upload(here, LABEL, FileStore(tmp_path / "nowhere"))
    with pytest.raises(CorruptionError, match="does not match its sha256"):
        model_sync.fetch(there, LABEL, FileStore(tmp_path / "fresh"), bundle_id)
    with pytest.raises(CorruptionError, match="does not match its sha256"):
        bundle.write_current(here, LABEL)
    assert not (tmp_path / "nowhere").exists() and bundle.labels(FileStore(tmp_path / "fresh")) == ()


def test_an_edited_metadata_is_another_bundle(tmp_path: Path) -> None:
    there, into = FileStore(tmp_path / "there"), FileStore(tmp_path / "into")
    bundle_id = make(there)
    path = there.root / PREFIX / bundle.METADATA
    path.write_bytes(path.read_bytes().replace(b'"created_at":1', b'"created_at":2'))
    with pytest.raises(CorruptionError, match=r"metadata\.json hashes to"):
        model_sync.fetch(there, LABEL, into, bundle_id)


def test_a_label_never_names_two_bundles(tmp_path: Path, remote: ObjectStore) -> None:
    here = FileStore(tmp_path / "here")
    make(here)
    make(remote, onnx=b"another")
    with pytest.raises(InputError, match="there with another content"):
        model_sync.upload(here, LABEL, remote)
    with pytest.raises(InputError, match="here with another content"):
        model_sync.fetch(remote, LABEL, here)
    assert bundle.load_bundle(here, LABEL).onnx == ONNX


def test_the_current_version_lies_under_the_models_name(tmp_path: Path, remote: ObjectStore) -> None:
    make(remote)
    make(remote, "1.3", b"newer")
    for label, onnx in ((LABEL, ONNX), ("alpha_v1.3", b"newer")):
        bundle.write_current(remote, label)
        assert remote.get("trading-models/alpha/model.onnx") == onnx
    assert remote.get("trading-models/alpha/metadata.json") == remote.get(bundle.bundle_prefix("alpha", "1.3") + "metadata.json")
    assert bundle.labels(remote) == (LABEL, "alpha_v1.3")


def test_cleaning_removes_leftovers_and_only_what_nobody_names(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    kept, unused = make(store), make(store, "1.3", b"newer")
    stray = store.root / PREFIX / ".tmp-model.onnx.part"
    stray.write_bytes(b"half")
    (store.root / bundle.bundle_prefix("alpha", "9")).mkdir(parents=True)
    assert set(model_sync.clean(store)) == {f"{PREFIX}.tmp-model.onnx.part", "trading-models/alpha/versions/v9"}
    assert bundle.labels(store) == (LABEL, "alpha_v1.3")
    assert model_sync.clean(store, {kept}) == [bundle.bundle_prefix("alpha", "1.3")] and bundle.find_bundle(store, unused) is None
    assert bundle.load_bundle(store, LABEL, kept).onnx == ONNX
