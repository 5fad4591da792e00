"""Files that outlive a run: snapshots and reports, in a folder or in a bucket.

A key is a relative path such as `snapshots/2026-09/abc.parquet`. The object under a key is complete or missing. Both
stores have the same methods. What does not belong here: the content of files, and the meaning of boto3's errors (see
`s3_failures`).
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
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple, cast
from urllib.parse import quote, unquote, urlsplit

from resources.failures import PermanentFailure
from resources.files.s3_failures import ObjectMissing, classify_failure
from resources.settings import Settings, refuse_in_a_pod

PART = ".part+"
"""Prefix of the name of a file that is being written. Keys must not contain it."""
MULTIPART_BYTES = 8 * 2**20
PIECE_BYTES = 2**20
CONNECTIONS = 32
"""Largest number of concurrent requests of one process."""
BOTO3_VARIABLES = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"),
    *("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS"),
    *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"),
)
"""Environment variables of boto3 that have the same meaning on every machine."""
MAX_PREFIX_LENGTH = 64
LINK_LIFETIME_S = 3600


class StoredObject(NamedTuple):
    """An object in a store. `version`: a text that changes when the object is written again."""

    key: str
    size: int
    version: str


class _Store(ABC):
    """Methods based on `stream` and `size`, the same for a folder and a bucket."""

    @abstractmethod
    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the content piece by piece. Raises the errors of `get` at the first piece."""

    @abstractmethod
    def size(self, key: str) -> int:
        """The size in bytes. Raises the errors of `get`."""

    def get(self, key: str) -> bytes:
        """The content. Raises ObjectMissing if there is no object under `key`."""
        return b"".join(self.stream(key))

    def sha256(self, key: str) -> str:
        """The sha256 of the content, which is not kept in memory. Raises the errors of `get`."""
        digest = hashlib.sha256()
        for piece in self.stream(key):
            digest.update(piece)
        return digest.hexdigest()

    def exists(self, key: str) -> bool:
        try:
            self.size(key)
        except ObjectMissing:
            return False
        return True


class FolderStore(_Store):
    """Objects in a folder, which is created at the first write. A key that leads out of it raises ValueError."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def put(self, key: str, data: bytes | Path) -> str:
        """Store bytes or the content of a file, replacing an existing object. Returns the permanent URI.

        Raises PermanentFailure if it cannot be written. If the disk is full, the message has the needed and free space.
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
        with self._open(key) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def size(self, key: str) -> int:
        with self._open(key) as file:
            return os.fstat(file.fileno()).st_size

    def version(self, key: str) -> str:
        """A text that changes when the file is written again. Raises the errors of `get`."""
        with self._open(key) as file:
            now = os.fstat(file.fileno())
        return f"{now.st_dev} {now.st_ino} {now.st_size} {now.st_mtime_ns} {now.st_ctime_ns}"

    def delete(self, key: str) -> bool:
        """Delete a file if it exists. Returns whether an old version is kept, which is never the case in a folder."""
        self._path(key).unlink(missing_ok=True)
        return False

    def list(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Yield every key below `folder` with the time at which it was written."""
        return ((key, written) for key, written in self._files(folder) if not _is_unfinished(key))

    def sizes(self, folder: str) -> dict[str, int]:
        """The size in bytes of every key below `folder`."""
        return {key: self.size(key) for key, _ in self.list(folder)}

    def drop_unfinished(self, folder: str, before: datetime, *, dry_run: bool = False) -> tuple[str, ...]:
        """Delete files below `folder` that dead processes left unfinished before `before`. Returns their names."""
        unfinished = tuple(key for key, written in self._files(folder) if _is_unfinished(key) and written < before)
        for key in () if dry_run else unfinished:
            (self.root / key).unlink(missing_ok=True)
        return unfinished

    def uri(self, key: str) -> str:
        return self._path(key).as_uri()

    def key(self, uri: str) -> str | None:
        """The key of a URI, even if the folder has moved and kept its name. Returns None for other stores' URIs."""
        path = Path(unquote(urlsplit(uri).path))
        if path.is_relative_to(self.root):
            return path.relative_to(self.root).as_posix()
        _, parent, key = path.as_posix().rpartition(f"/{self.root.name}/")
        return key if parent and uri.startswith("file:") else None

    def link(self, key: str) -> str:
        """The file's URI, which never expires: anyone who may read the folder can open it."""
        return self.uri(key)

    @contextmanager
    def _open(self, key: str) -> Iterator[BufferedReader]:
        try:
            with self._path(key).open("rb") as file:
                yield file
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise ObjectMissing(f"there is nothing at {self._path(key).as_uri()}") from error

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

    Every method raises TransientFailure if the service does not respond, and PermanentFailure if it refuses.
    """

    def __init__(self, bucket: str) -> None:
        self.bucket = bucket

    def __getstate__(self) -> dict[str, Any]:
        """The state for another machine, with boto3's variables of this one. boto3 finds its files and roles there."""
        variables = {name: value for name in BOTO3_VARIABLES if (value := os.environ.get(name))}
        return {"bucket": self.bucket, "told": variables}

    def __setstate__(self, state: dict[str, Any]) -> None:
        os.environ |= state.pop("told")
        self.__dict__ |= state

    def put(self, key: str, data: bytes | Path) -> str:
        """Store bytes or the content of a file, replacing an existing object. Returns the permanent URI.

        Content of 8 MiB or more is uploaded in parts.
        """
        kind = mimetypes.guess_type(_validate_key(key))[0] or "application/octet-stream"
        arguments = {"ContentType": f"{kind}; charset=utf-8" if kind.startswith("text/") else kind}
        with self._translate_errors(key):
            if isinstance(data, Path):
                self._client.upload_file(str(data), self.bucket, key, ExtraArgs=arguments)
            elif len(data) < MULTIPART_BYTES:
                self._client.put_object(Bucket=self.bucket, Key=key, Body=data, **arguments)
            else:
                self._client.upload_fileobj(io.BytesIO(data), self.bucket, key, ExtraArgs=arguments)
        return self.uri(key)

    def stream(self, key: str) -> Iterator[bytes]:
        with (
            self._translate_errors(key),
            closing(self._client.get_object(Bucket=self.bucket, Key=_validate_key(key))["Body"]) as body,
        ):
            yield from body.iter_chunks(PIECE_BYTES)

    def size(self, key: str) -> int:
        return int(self._head(key)["ContentLength"])

    def version(self, key: str) -> str:
        """A text that changes when the object is written again. Raises the errors of `get`."""
        head = self._head(key)
        return f"{head['ETag']} {head['LastModified']} {head['ContentLength']} {head.get('VersionId')}"

    def delete(self, key: str) -> bool:
        """Delete an object if it exists. Returns whether an old version is kept, because the bucket has versioning."""
        with self._translate_errors(key):
            return bool(self._client.delete_object(Bucket=self.bucket, Key=_validate_key(key)).get("DeleteMarker"))

    def list(self, folder: str) -> Iterator[tuple[str, datetime]]:
        """Yield every key below `folder` with the time at which it was written."""
        return ((entry["Key"], entry["LastModified"]) for entry in self._objects(folder))

    def sizes(self, folder: str) -> dict[str, int]:
        """The size in bytes of every key below `folder`."""
        return {entry["Key"]: entry["Size"] for entry in self._objects(folder)}

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object below `prefix`."""
        for entry in self._objects(prefix):
            yield StoredObject(entry["Key"], entry["Size"], f"{entry['ETag']} {entry['LastModified']}")

    def drop_unfinished(self, folder: str, before: datetime, *, dry_run: bool = False) -> tuple[str, ...]:
        """Abort the uploads in parts below `folder` that started before `before` and were never finished.

        The service keeps and charges for their parts, which listings do not show. Returns their keys.
        """
        with self._translate_errors(folder):
            pages = self._client.get_paginator("list_multipart_uploads")
            unfinished = [
                upload
                for page in pages.paginate(Bucket=self.bucket, Prefix=f"{_validate_key(folder)}/")
                for upload in page.get("Uploads", ())
                if upload["Initiated"] < before
            ]
            for upload in () if dry_run else unfinished:
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=upload["Key"], UploadId=upload["UploadId"])
        return tuple(upload["Key"] for upload in unfinished)

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{_validate_key(key)}"

    def key(self, uri: str) -> str | None:
        """The key of a URI. Returns None for other stores' URIs."""
        start = f"s3://{self.bucket}/"
        return uri.removeprefix(start) if uri.startswith(start) else None

    def link(self, key: str) -> str:
        """A URL with which anyone can read the object, without credentials, until LINK_LIFETIME_S is over."""
        with self._translate_errors(key):
            values = {"Bucket": self.bucket, "Key": _validate_key(key)}
            return str(self._client.generate_presigned_url("get_object", Params=values, ExpiresIn=LINK_LIFETIME_S))

    def _head(self, key: str) -> dict[str, Any]:
        from botocore.exceptions import ClientError  # loaded with the client

        with self._translate_errors(key):
            try:
                return cast(dict[str, Any], self._client.head_object(Bucket=self.bucket, Key=_validate_key(key)))
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_FOUND:
                    self._client.head_bucket(Bucket=self.bucket)  # perhaps the bucket itself does not exist
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

        config = Config(
            retries={"mode": "standard"},
            connect_timeout=10,
            read_timeout=60,
            signature_version="s3v4",  # also for links: some regions use an older signature by default
            max_pool_connections=CONNECTIONS,
        )
        try:
            return boto3.session.Session().client("s3", config=config)
        except ValueError as error:
            raise PermanentFailure(f"{error}. Set AWS_ENDPOINT_URL to a URL like https://s3.example.com.") from error

    @contextmanager
    def _translate_errors(self, key: str) -> Iterator[None]:
        """Raise boto3's errors as ObjectMissing, TransientFailure or PermanentFailure."""
        import boto3.exceptions  # loaded with the client
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (ClientError, BotoCoreError) as error:
            raise classify_failure(self.uri(key), error) from error
        except boto3.exceptions.S3UploadFailedError as error:
            cause = error.__context__
            assert isinstance(cause, ClientError)
            raise classify_failure(self.uri(key), cause) from error


ObjectStore = FolderStore | BucketStore


def object_store(settings: Settings) -> ObjectStore:
    """The bucket S3_BUCKET or, if that is unset, the folder `objects` under IRT_HOME.

    Raises PermanentFailure in a pod without a bucket.
    """
    if settings.s3_bucket is None:
        refuse_in_a_pod("S3_BUCKET", "a folder", "set S3_BUCKET to a bucket (docs/how-to/object-store.md)")
        return FolderStore(settings.irt_home / "objects")
    return BucketStore(settings.s3_bucket)


def key_part(name: str) -> str:
    """Any name as one part of a key: the quoted name or, if it is long or begins with a dot, `hashed_part`."""
    quoted = quote(name, safe="")
    return hashed_part(name) if quoted.startswith(".") or len(quoted) > MAX_PREFIX_LENGTH else quoted


def hashed_part(name: str) -> str:
    """Any name as one part of a key: quoted, cut, and followed by `~` and a hash.

    So no name is a path, and no two names collide, even if the store ignores upper and lower case.
    """
    raw = name.encode("utf-8", "surrogatepass")
    quoted = quote(raw, safe="").replace(".", "%2E").replace("~", "%7E")
    return f"{re.sub('%.?$', '', quoted[:MAX_PREFIX_LENGTH])}~{hashlib.sha256(raw).hexdigest()[:20]}"


def _validate_key(key: str) -> str:
    """Return the key. Raises ValueError if it could have another meaning in a folder than in a bucket."""
    parts = key.split("/")
    if "\\" in key or "\0" in key or any(part in ("", ".", "..") or part.startswith(PART) for part in parts):
        raise ValueError(f"{key!r} is not an object key, a relative path such as snapshots/2026-09/abc.parquet")
    return key


def _is_unfinished(key: str) -> bool:
    return key.rpartition("/")[2].startswith(PART)


def sync_folder(folder: Path) -> None:
    """Write a folder to disk: a rename is not durable before that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
