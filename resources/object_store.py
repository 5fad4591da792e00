"""Files that outlive a run: snapshots and reports, in a folder or in a bucket.

A key is a relative path such as `snapshots/2026-09/abc.parquet`; what is under it is there whole or not at
all. Both stores have the same methods. What does not belong here: what is in the files.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from resources.failures import PermanentFailure, TransientFailure
from resources.settings import Settings


class FolderStore:
    """Objects in a folder. Creating one touches nothing; a key that leads out of it is a ValueError."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put(self, key: str, data: bytes | Path) -> str:
        """Store bytes, or a file's, in the place of what was there; the permanent URI.

        Raises PermanentFailure where it cannot be written, with the room that is needed and free.
        """
        target = self._path(key)
        needed = data.stat().st_size if isinstance(data, Path) else len(data)
        temporary: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=".part-", delete=False) as file:
                temporary = Path(file.name)
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise self._cannot_write(target, needed, error) from error
        return self.uri(key)

    def get(self, key: str) -> bytes:
        """Raises PermanentFailure where there is nothing under `key`."""
        try:
            return self._path(key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NothingThere(f"There is nothing at {self.uri(key)}.") from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def size(self, key: str) -> int:
        """In bytes; raises as `get` does."""
        if not self.exists(key):
            raise NothingThere(f"There is nothing at {self.uri(key)}.")
        return self._path(key).stat().st_size

    def delete(self, key: str) -> None:
        """What is not there is deleted already."""
        self._path(key).unlink(missing_ok=True)

    def list(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Every key below `folder`, and when it was written; half-written files of crashed processes too."""
        for path in self._path(folder).rglob("*"):
            if path.is_file():
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield path.relative_to(self.root).as_posix(), written

    def uri(self, key: str) -> str:
        return self._path(key).as_uri()

    def _path(self, key: str) -> Path:
        path = self.root / _checked(key)
        if not path.resolve().is_relative_to(self.root.resolve()):
            raise ValueError(f"object key {key!r} leads out of {self.root}")
        return path

    def _cannot_write(self, target: Path, needed: int, error: OSError) -> PermanentFailure:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self.root).free
            return PermanentFailure(
                f"The disk is full: {target} needs {needed:,} bytes, {free:,} are free. "
                "Make room, or set IRT_HOME to a larger disk or S3_BUCKET to a bucket."
            )
        return PermanentFailure(
            f"Cannot write {target} ({needed:,} bytes): {error.strerror}. "
            "Set IRT_HOME to a folder you may write to, or S3_BUCKET to a bucket."
        )


class BucketStore:
    """Objects in an S3 bucket. boto3 finds the service and the credentials (AWS_… variables, profiles, roles)."""

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def put(self, key: str, data: bytes | Path) -> str:
        """Store bytes, or a file's, in the place of what was there; the permanent URI.

        This and every other method raise TransientFailure where the service does not answer, and
        PermanentFailure where it refuses.
        """
        with self._explained(key), data.open("rb") if isinstance(data, Path) else io.BytesIO(data) as file:
            self._client.upload_fileobj(file, self.bucket, _checked(key))
        return self.uri(key)

    def get(self, key: str) -> bytes:
        """Raises PermanentFailure where there is nothing under `key`."""
        with self._explained(key):
            return cast(bytes, self._client.get_object(Bucket=self.bucket, Key=_checked(key))["Body"].read())

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NothingThere:
            return False
        return True

    def size(self, key: str) -> int:
        """In bytes; raises as `get` does."""
        with self._explained(key):
            return int(self._client.head_object(Bucket=self.bucket, Key=_checked(key))["ContentLength"])

    def delete(self, key: str) -> None:
        """What is not there is deleted already."""
        with self._explained(key):
            self._client.delete_object(Bucket=self.bucket, Key=_checked(key))

    def list(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Every key below `folder`, and when it was written."""
        with self._explained(folder):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=f"{_checked(folder)}/"):
                for one in page.get("Contents", ()):
                    yield one["Key"], one["LastModified"]

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{_checked(key)}"

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3", config=Config(retries={"mode": "standard"}, connect_timeout=10, read_timeout=60)
        )

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        """boto3's errors as ours: nothing there, not answering, refused."""
        from botocore import exceptions

        try:
            yield
        except exceptions.ClientError as error:
            status = error.response["ResponseMetadata"].get("HTTPStatusCode", 0)
            code = error.response["Error"]["Code"]
            if code in ("404", "NoSuchKey", "NotFound"):
                raise NothingThere(f"There is nothing at {self.uri(key)}.") from error
            if status >= 500 or status == 429 or code in ("SlowDown", "RequestTimeout"):
                raise TransientFailure(f"{self.uri(key)}: {error}") from error
            raise PermanentFailure(f"{self.uri(key)}: {error}. Check S3_BUCKET and the rights of its user.") from error
        except exceptions.SSLError as error:
            raise PermanentFailure(f"{self.uri(key)}: no trusted connection ({error}). Set AWS_CA_BUNDLE.") from error
        except (exceptions.ConnectionError, exceptions.HTTPClientError) as error:
            raise TransientFailure(f"{self.uri(key)}: {error}") from error
        except exceptions.BotoCoreError as error:
            raise PermanentFailure(f"{self.uri(key)}: {error}. Set AWS_ACCESS_KEY_ID and its companions.") from error


ObjectStore = FolderStore | BucketStore


def object_store(settings: Settings) -> ObjectStore:
    """The bucket S3_BUCKET, or where that is unset the folder `objects` under IRT_HOME."""
    if settings.s3_bucket is None:
        return FolderStore(settings.irt_home / "objects")
    return BucketStore(settings.s3_bucket)


class NothingThere(PermanentFailure):
    """There is no object under a key."""


def _checked(key: str) -> str:
    """A key that means the same in a folder and in a bucket."""
    if "\\" in key or "\0" in key or any(part in ("", ".", "..") for part in key.split("/")):
        raise ValueError(f"{key!r} is no object key: wanted a relative path like snapshots/2026-09/abc.parquet")
    return key


def _sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
