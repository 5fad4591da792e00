"""Files that outlive a run: snapshots and reports, in a folder or in a bucket.

A key is a relative path such as `snapshots/2026-09/abc.parquet`; what is under it is there whole or not at
all. Both stores have the same methods. What does not belong here: what is in the files, what boto3's errors mean
(see `s3_failures`).
"""

import errno
import hashlib
import io
import mimetypes
import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit

from resources.failures import PermanentFailure
from resources.files.s3_failures import NothingThere, classified_failure
from resources.settings import Settings, refuse_in_a_pod

PART = ".part+"
"""Prefix of the name of a file that is being written; no key has such a part."""
IN_PARTS_FROM = 8 * 2**20
PIECE = 2**20
CONNECTIONS = 32
"""As many requests as go on at once in one process, at most."""
TOLD_BOTO3 = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"),
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS"),
    *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"),
)
"""Variables of boto3 that mean the same on every machine."""
LONGEST_PREFIX = 64
LINK_LIFETIME = timedelta(hours=1)
LONGEST_LINK = timedelta(days=7)


class StoredObject(NamedTuple):
    """`version`: a text that is another after the object was written again."""

    key: str
    size: int
    version: str


class _Store(ABC):
    """What follows from `stream` and `size`, the same in a folder and in a bucket."""

    @abstractmethod
    def stream(self, key: str) -> Iterator[bytes]:
        """The content, piece by piece; the first piece raises as `get` does."""

    @abstractmethod
    def size(self, key: str) -> int:
        """The size in bytes; raises as `get` does."""

    def get(self, key: str) -> bytes:
        """Raises NothingThere where there is nothing under `key`."""
        return b"".join(self.stream(key))

    def sha256(self, key: str) -> str:
        """The sha256 of the content, which is read but not kept; raises as `get` does."""
        digest = hashlib.sha256()
        for piece in self.stream(key):
            digest.update(piece)
        return digest.hexdigest()

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except NothingThere:
            return False
        return True


class FolderStore(_Store):
    """Objects in a folder. Creating one touches nothing; a key that leads out of it is a ValueError."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put(self, key: str, data: bytes | Path) -> str:
        """Store bytes, or a file's, replacing what was there; returns the permanent URI.

        Raises PermanentFailure where it cannot be written, with the room that is needed and free.
        """
        target = self._path(key)
        needed = data.stat().st_size if isinstance(data, Path) else len(data)
        temporary: Path | None = None
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=target.parent, prefix=PART, delete=False) as file:
                temporary = Path(file.name)
                if isinstance(data, Path):
                    with data.open("rb") as source:
                        shutil.copyfileobj(source, file)
                else:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise self._cannot_write(target, needed, error) from error
        return self.uri(key)

    def stream(self, key: str) -> Iterator[bytes]:
        with self._there(key) as file:
            while piece := file.read(PIECE):
                yield piece

    def size(self, key: str) -> int:
        with self._there(key) as file:
            return os.fstat(file.fileno()).st_size

    def version(self, key: str) -> str:
        """A text that is another after the file was written again; raises as `get` does."""
        with self._there(key) as file:
            now = os.fstat(file.fileno())
        return f"{now.st_dev} {now.st_ino} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}"

    def delete(self, key: str) -> bool:
        """A missing file counts as deleted. Returns whether an old version of it is kept: in a folder never."""
        self._path(key).unlink(missing_ok=True)
        return False

    def list(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Every key below `folder`, and when it was written."""
        return ((key, written) for key, written in self._files(folder) if not _unfinished(key))

    def sizes(self, folder: str) -> dict[str, int]:
        """Every key below `folder`, and the bytes under it."""
        return {key: self.size(key) for key, _ in self.list(folder)}

    def drop_unfinished(self, folder: str, before: datetime, *, dry_run: bool = False) -> tuple[str, ...]:
        """Delete files under `folder` left half written before `before` by a process that is gone; returns their
        names."""
        begun = tuple(key for key, written in self._files(folder) if _unfinished(key) and written < before)
        for key in () if dry_run else begun:
            (self.root / key).unlink(missing_ok=True)
        return begun

    def uri(self, key: str) -> str:
        return self._path(key).as_uri()

    def key(self, uri: str) -> str | None:
        """The key that has this URI, or had it before the folder moved under its name; None for another store's."""
        path = Path(unquote(urlsplit(uri).path))
        if path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        _, moved, key = path.as_posix().rpartition(f"/{self.root.name}/")
        return key if moved and uri.startswith("file:") else None

    def link(self, key: str, lifetime: timedelta = LINK_LIFETIME) -> str:
        """The file's URI, which never expires: anyone who may read the folder can open it. Raises ValueError as a
        bucket's does."""
        _seconds(lifetime)
        return self.uri(key)

    @contextmanager
    def _there(self, key: str) -> Iterator[BufferedReader]:
        try:
            with self._path(key).open("rb") as file:
                yield file
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NothingThere(f"There is nothing at {self._path(key).as_uri()}.") from error

    def _files(self, folder: str) -> Iterator[tuple[str, datetime]]:
        for path in self._path(folder).rglob("*"):
            if path.is_file():
                written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                yield path.relative_to(self.root).as_posix(), written

    def _path(self, key: str) -> Path:
        path = self.root / _validate_key(key)
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


class BucketStore(_Store):
    """Objects in an S3 bucket, never public. boto3 finds the service and the credentials (docs/how-to/object-store.md).

    Every method raises TransientFailure where the service does not answer, and PermanentFailure where it refuses.
    """

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def __getstate__(self) -> dict[str, Any]:
        """For another machine, with what boto3 was told here; what it finds in files or from a role, it finds there."""
        told = {name: value for name in TOLD_BOTO3 if (value := os.environ.get(name))}
        return {"bucket": self.bucket, "told": told}

    def __setstate__(self, state: dict[str, Any]) -> None:
        os.environ |= state.pop("told")
        self.__dict__ |= state

    def put(self, key: str, data: bytes | Path) -> str:
        """Store bytes, or a file's, replacing what was there; returns the permanent URI.

        What is larger than 8 MiB goes in parts, of a file as many at a time as are sent at once.
        """
        kind = mimetypes.guess_type(_validate_key(key))[0] or "application/octet-stream"
        how = {"ContentType": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind}
        with self._translate_errors(key):
            if isinstance(data, Path):
                self._client.upload_file(str(data), self.bucket, key, ExtraArgs=how)
            elif len(data) < IN_PARTS_FROM:
                self._client.put_object(Bucket=self.bucket, Key=key, Body=data, **how)
            else:
                self._client.upload_fileobj(io.BytesIO(data), self.bucket, key, ExtraArgs=how)
        return self.uri(key)

    def stream(self, key: str) -> Iterator[bytes]:
        with (
            self._translate_errors(key),
            closing(self._client.get_object(Bucket=self.bucket, Key=_validate_key(key))["Body"]) as body,
        ):
            yield from body.iter_chunks(PIECE)

    def size(self, key: str) -> int:
        return int(self._head(key)["ContentLength"])

    def version(self, key: str) -> str:
        """A text that is another after the object was written again; raises as `get` does."""
        head = self._head(key)
        return f"{head['ETag']} {head['LastModified']} {head['ContentLength']} {head.get('VersionId')}"

    def delete(self, key: str) -> bool:
        """A missing file counts as deleted. Returns whether an old version of it is kept: if the bucket has
        versioning."""
        with self._translate_errors(key):
            return bool(self._client.delete_object(Bucket=self.bucket, Key=_validate_key(key)).get("DeleteMarker"))

    def list(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Every key below `folder`, and when it was written."""
        return ((one["Key"], one["LastModified"]) for one in self._objects(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """Every key below `folder`, and the bytes under it."""
        return {one["Key"]: one["Size"] for one in self._objects(folder)}

    def described(self, prefix: str) -> Iterator[StoredObject]:
        """Every object below `prefix`."""
        for one in self._objects(prefix):
            yield StoredObject(one["Key"], one["Size"], f"{one['ETag']} {one['LastModified']}")

    def drop_unfinished(self, folder: str, before: datetime, *, dry_run: bool = False) -> tuple[str, ...]:
        """End the uploads in parts below `folder` that were begun before `before` and whose process is gone.

        The service keeps and charges for their parts, which no listing shows. Returns their keys.
        """
        with self._translate_errors(folder):
            pages = self._client.get_paginator("list_multipart_uploads")
            begun = [
                upload
                for page in pages.paginate(Bucket=self.bucket, Prefix=f"{_validate_key(folder)}/")
                for upload in page.get("Uploads", ())
                if upload["Initiated"] < before
            ]
            for upload in () if dry_run else begun:
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return tuple(upload["Key"] for upload in begun)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{_validate_key(key)}"

    def key(self, uri: str) -> str | None:
        """The key that has this URI; None if the URI is not of this store."""
        start = f"s3://{self.bucket}/"
        return uri.removeprefix(start) if uri.startswith(start) else None

    def link(self, key: str, lifetime: timedelta = LINK_LIFETIME) -> str:
        """A URL that lets anyone who has it read the object, without credentials, until `lifetime` is over.

        Raises ValueError for more than seven days, which no service grants.
        """
        with self._translate_errors(key):
            values = {"Bucket": self.bucket, "Key": _validate_key(key)}
            return str(self._client.generate_presigned_url("get_object", Params=values, ExpiresIn=_seconds(lifetime)))

    def _head(self, key: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError  # loaded with the client

        with self._translate_errors(key):
            try:
                return cast(dict[str, Any], self._client.head_object(Bucket=self.bucket, Key=_validate_key(key)))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
                    self._client.head_bucket(Bucket=self.bucket)  # it may be the bucket that is not there
                raise

    def _objects(self, folder: str) -> Iterator[dict[str, Any]]:
        with self._translate_errors(folder):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self.bucket, Prefix=f"{_validate_key(folder)}/"):
                yield from page.get("Contents", ())

    @cached_property
    def _client(self) -> Any:
        # Loaded at first use: this takes a quarter of a second, and most processes need no bucket.
        import boto3
        from botocore.config import Config

        how = Config(
            retries={"mode": "standard"},
            connect_timeout=10,
            read_timeout=60,
            signature_version="s3v4",  # of links, too: some regions' are otherwise of an older kind
            max_pool_connections=CONNECTIONS,
        )
        try:
            return boto3.session.Session().client("s3", config=how)
        except ValueError as error:
            raise PermanentFailure(f"{error}. Set AWS_ENDPOINT_URL to a URL like https://s3.example.com.") from error

    @contextmanager
    def _translate_errors(self, key: str) -> Iterator[None]:
        """boto3's errors as ours: nothing there, not answering, refused."""
        import boto3.exceptions  # loaded with the client
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise classified_failure(self.uri(key), error) from error
        except boto3.exceptions.S3UploadFailedError as error:
            cause = error.__context__
            assert isinstance(cause, ClientError)
            raise classified_failure(self.uri(key), cause) from error


ObjectStore = FolderStore | BucketStore


def object_store(settings: Settings) -> ObjectStore:
    """The bucket S3_BUCKET, or where that is unset the folder `objects` under IRT_HOME.

    Raises PermanentFailure in a pod without a bucket.
    """
    if settings.s3_bucket is None:
        refuse_in_a_pod("S3_BUCKET", "a folder", "set S3_BUCKET to a bucket (docs/how-to/object-store.md)")
        return FolderStore(settings.irt_home / "objects")
    return BucketStore(settings.s3_bucket)


def key_part(name: str) -> str:
    """Any name as one part of a key: itself, quoted; if it is long or begins with a dot, as in `hashed_part`."""
    quoted = quote(name, safe="")
    return hashed_part(name) if quoted.startswith(".") or len(quoted) > LONGEST_PREFIX else quoted


def hashed_part(name: str) -> str:
    """Any name as one part of a key: quoted, cut and followed by `~` and a hash, so that no two collide, where letters'
    case means nothing either, and none is a path."""
    raw = name.encode("utf-8", "surrogatepass")
    quoted = quote(raw, safe="").replace(".", "%2E").replace("~", "%7E")
    return f"{re.sub('%.?$', '', quoted[:LONGEST_PREFIX])}~{hashlib.sha256(raw).hexdigest()[:20]}"


def _validate_key(key: str) -> str:
    """A key that means the same in a folder and in a bucket."""
    parts = key.split("/")
    if "\\" in key or "\0" in key or any(part in ("", ".", "..") or part.startswith(PART) for part in parts):
        raise ValueError(f"{key!r} is not an object key, a relative path such as snapshots/2026-09/abc.parquet")
    return key


def _seconds(lifetime: timedelta) -> int:
    if not timedelta() < lifetime <= LONGEST_LINK:
        raise ValueError(f"a link may live for at most {LONGEST_LINK.days} days, not {lifetime}")
    return int(lifetime.total_seconds())


def _unfinished(key: str) -> bool:
    return key.rpartition("/")[2].startswith(PART)


def sync_folder(folder: Path) -> None:
    """A rename is on the disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
