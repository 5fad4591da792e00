"""The files of an inbox: a folder, or a prefix of a bucket, into which other systems write.

This module lists the files and provides them on this disk; `irt_assets.intake.inbox` reads their content and records
which have been imported.
"""

import os
import re
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from resources.failures import PermanentFailure
from resources.files.object_store import BucketStore
from resources.files.s3_failures import ObjectMissing
from resources.settings import Settings

FOLDERS = ("questions", "learners", "attempts")
"""Folders in the order of their import: items and learners come before their answers."""
IGNORED = re.compile(r"(^|/)[._]|(\.part|\.tmp|~)$|[\0\ud800-\udfff]")
"""Names of files that are still being written or do not concern us, and names that are not text."""


@dataclass(frozen=True)
class InboxFile:
    """A file of the inbox.

    Attributes:
        name: path below the inbox.
        size: size in bytes.
        version: a text that changes when the file is written again.
    """

    name: str
    size: int
    version: str


class FolderInbox:
    """An inbox in a folder. A file that cannot be read raises PermanentFailure.

    Writers to the inbox must not get access to other files of this process: no part of a path below it may be a link,
    and only regular files are opened.

    Attributes:
        at_once: whether a file is complete as soon as it is listed.
    """

    at_once = False

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def list(self) -> Iterator[InboxFile]:
        """All files of the folders, including ignored files, links, and folders that cannot be read."""
        try:
            folders = {entry.name: entry for entry in os.scandir(self.root) if entry.name in FOLDERS}
            for name, entry in folders.items():
                if not entry.is_dir(follow_symlinks=False):
                    raise PermanentFailure(f"IRT_INBOX: {entry.path} must be a folder, not a link to one")
                os.scandir(entry.path).close()
                yield from self._below(name)
        except OSError as error:
            raise PermanentFailure(f"IRT_INBOX: {error.filename} cannot be read: {error.strerror}") from error

    def _below(self, top: str) -> Iterator[InboxFile]:
        folders = [top]
        while folders:
            folder = folders.pop()
            try:
                entries = list(os.scandir(self.root / folder))
            except FileNotFoundError:
                continue
            except OSError as error:
                yield InboxFile(folder, 0, f"unreadable: {error.strerror}")
                continue
            for entry in entries:
                name = f"{folder}/{entry.name}"
                with suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                        continue
                    now = entry.stat(follow_symlinks=False)
                    yield InboxFile(name, now.st_size, _version(now, os.access(entry.path, os.R_OK)))

    @contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        """A path of the file on this disk. Raises ObjectMissing if it has vanished."""
        with self._opened(name) as file, _rename_in_failures(f"/proc/self/fd/{file}", f"{self.root}/{name}") as path:
            yield path

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        """Descriptor of the opened file.

        Raises ObjectMissing if it does not exist, and PermanentFailure if it is not a regular file below the inbox.
        """
        path = self.root / name
        try:
            with self._folder(name) as (folder, last):
                kind = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
                if not stat.S_ISREG(kind):
                    raise PermanentFailure(f"{path} is {_kind(kind)}: only regular files are accepted")
                file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except FileNotFoundError as error:
            raise ObjectMissing(f"there is nothing at {path}") from error
        except OSError as error:
            raise PermanentFailure(f"{path} cannot be opened: {error.strerror}") from error
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def _folder(self, name: str) -> Iterator[tuple[int, str]]:
        """Descriptor of the folder that contains a file, opened without following links, and the file's name in it."""
        *folders, last = name.split("/")
        if {"", ".", ".."}.intersection([*folders, last]):
            raise PermanentFailure(f"{name} is not a name of a file in the inbox")
        folder = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for part in folders:
                below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder, last
        finally:
            os.close(folder)


@contextmanager
def _rename_in_failures(path: str, name: str) -> Iterator[Path]:
    """Yield `path`, and replace it by `name` in messages of PermanentFailure."""
    try:
        yield Path(path)
    except PermanentFailure as error:
        raise type(error)(str(error).replace(path, name)) from error


def _version(now: os.stat_result, readable: bool) -> str:
    return f"{now.st_mtime_ns} {now.st_ctime_ns} {readable}"


def _kind(mode: int) -> str:
    kinds = {stat.S_ISLNK: "a link", stat.S_ISDIR: "a folder that cannot be read", stat.S_ISFIFO: "a named pipe"}
    return next((kind for test, kind in kinds.items() if test(mode)), "a device or a socket")


class BucketInbox:
    """An inbox in a bucket, with the same methods as `FolderInbox`."""

    at_once = True

    def __init__(self, store: BucketStore, prefix: str) -> None:
        self._store, self._prefix = store, f"{prefix}/" if prefix else ""
        self.address = f"s3://{store.bucket}/{prefix}".rstrip("/")

    def list(self) -> Iterator[InboxFile]:
        for folder in FOLDERS:
            for stored in self._store.objects(f"{self._prefix}{folder}"):
                if not stored.key.endswith("/"):  # consoles create such keys for folders
                    yield InboxFile(stored.key.removeprefix(self._prefix), stored.size, stored.version)

    @contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "object")
            try:
                with path.open("wb") as file:
                    file.writelines(self._store.stream(f"{self._prefix}{name}"))
            except ValueError as error:
                raise PermanentFailure(str(error)) from error
            with _rename_in_failures(str(path), f"{self.address}/{name}"):
                yield path


Inbox = FolderInbox | BucketInbox


def inbox_of(settings: Settings) -> Inbox | None:
    """The inbox that IRT_INBOX names. Returns None if it is unset."""
    if settings.irt_inbox is None:
        return None
    if not settings.irt_inbox.startswith("s3://"):
        return FolderInbox(Path(settings.irt_inbox))
    bucket, prefix = _bucket_and_prefix(settings.irt_inbox)
    return BucketInbox(BucketStore(bucket), prefix)


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")
