from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from trading_platform.contracts.errors import CorruptionError, InputError
from trading_platform.registry.object_store import FileStore, ObjectStore, S3Store, open_store, write_atomic


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    if request.param == "file":
        yield FileStore(tmp_path)
        return
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto")
    for name, value in (("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    with moto.mock_aws():
        boto3.client("s3").create_bucket(Bucket="models")
        yield S3Store("models", "pre/fix")


def test_objects_come_back_as_they_were_written(store: ObjectStore) -> None:
    store.put("a/b.bin", b"one")
    assert store.get("a/b.bin") == b"one" and store.exists("a/b.bin") and not store.exists("a/c.bin")


def test_an_object_is_written_once_unless_told_otherwise(store: ObjectStore) -> None:
    store.put("a", b"one")
    store.put("a", b"one")
    with pytest.raises(CorruptionError, match="other bytes"):
        store.put("a", b"two")
    assert store.get("a") == b"one"
    store.put("a", b"two", if_absent=False)
    assert store.get("a") == b"two"


def test_listing_is_by_prefix_and_sorted(store: ObjectStore) -> None:
    for key in ("m/2", "m/1", "m/x/3", "n/1"):
        store.put(key, b"")
    assert store.list("m/") == ("m/1", "m/2", "m/x/3")
    assert store.list("m/x") == ("m/x/3",)
    assert store.list("nothing/") == ()


def test_a_missing_object_and_an_escaping_key_are_bad_input(store: ObjectStore) -> None:
    with pytest.raises(InputError, match="no object"):
        store.get("absent")
    for key in ("../outside", "/etc/passwd", "a/../b", "", "a//b", ".tmp-x"):
        with pytest.raises(InputError, match="not an object key"):
            store.put(key, b"")


def test_a_missing_bucket_says_what_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    moto = pytest.importorskip("moto")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with moto.mock_aws(), pytest.raises(InputError, match="NoSuchBucket"):
        open_store("s3://absent/models").put("a", b"")


def test_urls_name_stores(tmp_path: Path) -> None:
    for url in (str(tmp_path), f"file://{tmp_path}"):
        store = open_store(url)
        assert isinstance(store, FileStore) and store.root == tmp_path
    with pytest.raises(InputError, match="ftp"):
        open_store("ftp://host/x")


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        write_atomic(tmp_path / "x", b"data", if_absent=False)
    assert list(tmp_path.iterdir()) == []
