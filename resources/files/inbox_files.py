"""The files of an inbox: a folder, or a prefix of a bucket, into which other systems write.

What belongs here: which files there are, their bytes on this disk, and where a file goes that was taken. What does not:
what is in them and which were taken (see `irt_assets.responses.importing.inbox`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NoReturn

from resources.failures import PermanentFailure
from resources.files.object_store import BucketStore, bucket_store
from resources.files.s3_failures import NothingThere
from resources.settings import Settings

FOLDERS = ("questions", "learners", "attempts")
"""In the order in which they are taken: answers then find their items."""
DELETE = "delete"
IGNORED = re.compile(r"(^|/)[._]|(\.part|\.tmp|~)$")
"""Names of files that are still being written, or that are none of ours."""


@dataclass(frozen=True)
class InboxFile:
    """`name`: below the inbox; `version`: another one once the file was written again."""

    name: str
    size: int
    version: str


class Inbox(ABC):
    """`address`: of the inbox, as people know it; `at_once`: a file that is there is whole."""

    address: str
    at_once: bool

    @abstractmethod
    def list(self) -> Iterator[InboxFile]:
        """Every file of the folders, also those to ignore. Raises PermanentFailure where the inbox cannot be read."""

    @abstractmethod
    def on_disk(self, name: str) -> AbstractContextManager[Path]:
        """The file on this disk, while the context lasts. Raises NothingThere where it has vanished, PermanentFailure
        where it cannot be opened."""

    @abstractmethod
    def finish(self, name: str, done: str, mark: str) -> None:
        """Delete a file, or move it to `done` under its name with `mark` before it. Raises PermanentFailure."""

    def path(self, name: str) -> str:
        return f"{self.address}/{name}"


class FolderInbox(Inbox):
    at_once = False

    def __init__(self, root: Path) -> None:
        self._root, self.address = root, str(root)

    def list(self) -> Iterator[InboxFile]:
        try:
            there = [one.name for one in os.scandir(self._root) if one.name in FOLDERS]
        except OSError as error:
            self._unreadable(error)
        for folder, _, names in chain.from_iterable(
            os.walk(self._root / name, onerror=self._unreadable) for name in there
        ):
            for name in names:
                path = Path(folder, name)
                try:
                    now = path.stat()
                except FileNotFoundError:  # it has vanished, or is a link to nowhere
                    continue
                readable = "" if os.access(path, os.R_OK) else " unreadable"
                version = f"{now.st_mtime_ns} {now.st_ctime_ns}{readable}"
                yield InboxFile(path.relative_to(self._root).as_posix(), now.st_size, version)

    @contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        path = self._root / name
        try:
            path.open("rb").close()
        except FileNotFoundError as error:
            raise NothingThere(f"there is nothing at {path}") from error
        except OSError as error:
            raise PermanentFailure(f"{path} cannot be opened: {error.strerror}") from error
        yield path

    def finish(self, name: str, done: str, mark: str) -> None:
        path, target = self._root / name, Path(done, name)
        try:
            if done == DELETE:
                path.unlink(missing_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target.with_name(f"{mark}-{target.name}"))
        except OSError as error:
            raise PermanentFailure(f"IRT_INBOX_DONE={done}: {error}. The file was taken.") from error

    def _unreadable(self, error: OSError) -> NoReturn:
        raise PermanentFailure(f"IRT_INBOX: {error.filename} cannot be read: {error.strerror}.") from error


class BucketInbox(Inbox):
    at_once = True

    def __init__(self, store: BucketStore, prefix: str) -> None:
        self._store, self._prefix = store, prefix
        self.address = f"s3://{store.bucket}/{prefix}".rstrip("/")

    def list(self) -> Iterator[InboxFile]:
        found = (self._store.described(self._key(folder)) for folder in FOLDERS)
        for key, size, version in chain.from_iterable(found):
            if not key.endswith("/"):  # a folder, as consoles make it
                yield InboxFile(key.removeprefix(f"{self._prefix}/" if self._prefix else ""), size, version)

    @contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name.rpartition("/")[2])
            try:
                with path.open("wb") as file:
                    file.writelines(self._store.stream(self._key(name)))
            except ValueError as error:
                raise PermanentFailure(f"{self.path(name)} has a name that is no path: {error}") from error
            yield path

    def finish(self, name: str, done: str, mark: str) -> None:
        if done != DELETE:
            bucket, prefix = bucket_and_prefix(done)
            folder, _, last = name.rpartition("/")
            key = "/".join(filter(None, (prefix, folder, f"{mark}-{last}")))
            self._store.copy(self._key(name), bucket, key)
        self._store.delete(self._key(name))

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix else name


def bucket_and_prefix(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def inbox_of(settings: Settings) -> Inbox | None:
    """The inbox that IRT_INBOX names; None where it is unset."""
    if settings.irt_inbox is None:
        return None
    if settings.irt_inbox.startswith("s3://"):
        bucket, prefix = bucket_and_prefix(settings.irt_inbox)
        return BucketInbox(bucket_store(bucket, settings), prefix)
    return FolderInbox(Path(settings.irt_inbox))
