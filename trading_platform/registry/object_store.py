"""Object store: bytes under keys, on a folder or on S3. Every object is written whole or not at all.

Keys are relative POSIX paths (`trading-models/alpha/versions/v1/model.onnx`). What the bytes mean is the caller's business.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlparse

from trading_platform.contracts.errors import CorruptionError, InputError, TransientError

PIECE = 1 << 20


class ObjectStore(Protocol):
    """Five verbs; all raise TransientError when the store does not answer."""

    def get(self, key: str) -> bytes:
        """The object's bytes. Raises InputError when there is none."""

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        """The object's bytes from an offset on, in pieces; nothing beyond its end. Raises InputError when there is none."""

    def put(self, key: str, data: bytes, if_absent: bool = True) -> None:
        """Write the object. With if_absent, equal bytes already there are fine and other bytes raise CorruptionError."""

    def exists(self, key: str) -> bool:
        """Whether an object lies under the key."""

    def list(self, prefix: str) -> tuple[str, ...]:
        """All keys that start with the prefix, ascending."""


def check_key(key: str) -> str:
    """Return the key if it is a clean relative path, else raise InputError (no `..`, no absolute path, no hidden temporary name)."""
    path = PurePosixPath(key)
    if not key or path.is_absolute() or ".." in path.parts or str(path) != key or path.name.startswith(".tmp-"):
        raise InputError(
            f"{key!r} is not an object key",
            "registry.object_store",
            "use a relative path such as trading-models/alpha/versions/v1/model.onnx",
        )
    return key


def write_atomic(path: Path, data: bytes, if_absent: bool) -> bool:
    """Write through a temporary file, fsync, then link or rename; fsync the folder. False if if_absent and something was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        if if_absent:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
        else:
            os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return True
    finally:
        Path(temporary).unlink(missing_ok=True)


def _conflict(key: str, where: str) -> CorruptionError:
    return CorruptionError(f"{key} exists with other bytes", where, "objects are written once: give the new content a new key or version")


class FileStore:
    """Objects as files below one folder (the embedded default)."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def get(self, key: str) -> bytes:
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError) as error:
            raise InputError(f"no object {key}", str(self.root), "list the store, or materialize what should have written it") from error
        except OSError as error:
            raise TransientError(f"cannot read {key}: {error.strerror}", str(self.root), "check the disk and its permissions") from error

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        try:
            with open(self._path(key), "rb") as file:
                file.seek(start)
                while piece := file.read(PIECE):
                    yield piece
        except (FileNotFoundError, IsADirectoryError) as error:
            raise InputError(f"no object {key}", str(self.root), "list the store, or materialize what should have written it") from error
        except OSError as error:
            raise TransientError(f"cannot read {key}: {error.strerror}", str(self.root), "check the disk and its permissions") from error

    def put(self, key: str, data: bytes, if_absent: bool = True) -> None:
        path = self._path(key)
        try:
            written = write_atomic(path, data, if_absent)
        except OSError as error:
            raise TransientError(f"cannot write {key}: {error.strerror}", str(self.root), "check free space and permissions") from error
        if not written and path.read_bytes() != data:
            raise _conflict(key, str(self.root))

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def list(self, prefix: str) -> tuple[str, ...]:
        start = self.root / prefix
        folder = start if start.is_dir() else start.parent
        found = (p.relative_to(self.root).as_posix() for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".tmp-"))
        return tuple(sorted(key for key in found if key.startswith(prefix)))


class S3Store:
    """Objects in an S3 bucket below an optional prefix; any S3-compatible endpoint (AWS_ENDPOINT_URL), credentials from boto3's chain."""

    def __init__(self, bucket: str, prefix: str = "", client: Any = None) -> None:
        if client is None:
            import boto3

            client = boto3.client("s3")
        self._client = client
        self.bucket = bucket
        self.prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""

    @property
    def _where(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"

    def _call(self, verb: str, **arguments: Any) -> Any:
        """Run one request; None for a missing object, False for a failed precondition."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self._client, verb)(Bucket=self.bucket, **arguments)
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in ("404", "NoSuchKey", "NotFound"):
                return None
            if code in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                return False
            if code in ("NoSuchBucket", "AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
                raise InputError(f"S3 refused {verb}: {code}", self._where, "check the bucket's name and the credentials") from error
            raise TransientError(f"S3 {verb} failed: {code}", self._where, "try again") from error
        except BotoCoreError as error:
            raise TransientError(
                f"S3 does not answer: {type(error).__name__}", self._where, "check the endpoint and the network"
            ) from error

    def get(self, key: str) -> bytes:
        answer = self._call("get_object", Key=self.prefix + check_key(key))
        if answer is None:
            raise InputError(f"no object {key}", self._where, "list the store, or materialize what should have written it")
        return bytes(answer["Body"].read())

    def stream(self, key: str, start: int = 0) -> Iterator[bytes]:
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError

        if start and start >= self._size(key):
            return  # S3 refuses a range that begins at the end
        answer = self._call("get_object", Key=self.prefix + check_key(key), **({"Range": f"bytes={start}-"} if start else {}))
        if answer is None:
            raise InputError(f"no object {key}", self._where, "list the store, or materialize what should have written it")
        try:
            yield from answer["Body"].iter_chunks(PIECE)
        except (BotoCoreError, HTTPError, OSError) as error:
            raise TransientError(f"S3 broke off: {type(error).__name__}", self._where, "try again: what has come is kept") from error

    def _size(self, key: str) -> int:
        answer = self._call("head_object", Key=self.prefix + check_key(key))
        if answer is None:
            raise InputError(f"no object {key}", self._where, "list the store, or materialize what should have written it")
        return int(answer["ContentLength"])

    def put(self, key: str, data: bytes, if_absent: bool = True) -> None:
        condition = {"IfNoneMatch": "*"} if if_absent else {}
        answer = self._call("put_object", Key=self.prefix + check_key(key), Body=data, **condition)
        if answer is False and self.get(key) != data:
            raise _conflict(key, self._where)

    def exists(self, key: str) -> bool:
        return self._call("head_object", Key=self.prefix + check_key(key)) is not None

    def list(self, prefix: str) -> tuple[str, ...]:
        keys: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = self._call("list_objects_v2", Prefix=self.prefix + prefix, **token)
            keys.extend(item["Key"][len(self.prefix) :] for item in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return tuple(sorted(keys))
            token = {"ContinuationToken": page["NextContinuationToken"]}


def open_store(url: str) -> ObjectStore:
    """The store behind `s3://bucket/prefix`, `file:///folder` or a plain folder path. Raises InputError for other schemes."""
    parsed = urlparse(url)
    if parsed.scheme == "s3":
        if not parsed.netloc:
            raise InputError(f"{url!r} names no bucket", "registry.object_store", "write s3://bucket/prefix")
        return S3Store(parsed.netloc, parsed.path)
    if parsed.scheme == "file":
        return FileStore(Path(parsed.path))
    if parsed.scheme == "":
        return FileStore(Path(url))
    raise InputError(f"unknown store {url!r}", "registry.object_store", "use s3://bucket/prefix, file:///folder or a folder path")
