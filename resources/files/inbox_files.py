"""The files of an inbox: a folder, or a prefix of a bucket, into which other systems write.

What belongs here: which files there are, and their bytes on this disk. What does not: what is in them and which were
taken (see `irt_assets.intake.inbox`).
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
from resources.files.s3_failures import NothingThere
from resources.settings import Settings

FOLDERS = ("questions", "learners", "attempts")
"""In the order in which they are taken: answers then find their items."""
IGNORED = re.compile(r"(^|/)[._]|(\.part|\.tmp|~)$|[\0\ud800-\udfff]")
"""Names of files that are still being written, or that are none of ours; and names that are not text."""


@dataclass(frozen=True)
class InboxFile:
    """`name`: below the inbox; `version`: another one once the file was written again."""

    name: str
    size: int
    version: str


class FolderInbox:
    """`at_once`: a file that is there is whole. What cannot be read or written is a PermanentFailure.

    Whoever may write into the inbox is not trusted with the files of this process: of a path below it no part may be a
    link, and what is opened is a regular file.
    """

    at_once = False

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def list(self) -> Iterator[InboxFile]:
        """Every file of the folders, also those to ignore, links, and folders that cannot be read."""
        try:
            there = {entry.name: entry for entry in os.scandir(self.root) if entry.name in FOLDERS}
            for name, entry in there.items():
                if not entry.is_dir(follow_symlinks=False):
                    raise PermanentFailure(f"IRT_INBOX: {entry.path} has to be a folder, and not a link to one.")
                os.scandir(entry.path).close()
                yield from self._below(name)
        except OSError as error:
            raise PermanentFailure(f"IRT_INBOX: {error.filename} cannot be read: {error.strerror}.") from error

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
        """The file on this disk. Raises NothingThere where it has vanished."""
        with self._opened(name) as file, _named(f"/proc/self/fd/{file}", f"{self.root}/{name}") as path:
            yield path

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        """Its descriptor. Raises NothingThere, or PermanentFailure unless it is a regular file below the inbox."""
        path = self.root / name
        try:
            with self._folder(name) as (folder, last):
                kind = os.stat(last, dir_fd=folder, follow_symlinks=False).st_mode
                if not stat.S_ISREG(kind):
                    raise PermanentFailure(f"{path} is {_kind(kind)}: only regular files are taken.")
                file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
        except FileNotFoundError as error:
            raise NothingThere(f"there is nothing at {path}") from error
        except OSError as error:
            raise PermanentFailure(f"{path} cannot be opened: {error.strerror}") from error
        try:
            yield file
        finally:
            os.close(file)

    @contextmanager
    def _folder(self, name: str) -> Iterator[tuple[int, str]]:
        """The descriptor of the folder that holds a file, reached without a link, and the file's name in it."""
        *folders, last = name.split("/")
        if {"", ".", ".."}.intersection([*folders, last]):
            raise PermanentFailure(f"{name} is not a name of a file in the inbox.")
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
def _named(path: str, name: str) -> Iterator[Path]:
    """`path` as a file that messages call `name`."""
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
    """As a folder."""

    at_once = True

    def __init__(self, store: BucketStore, prefix: str) -> None:
        self._store, self._prefix = store, f"{prefix}/" if prefix else ""
        self.address = f"s3://{store.bucket}/{prefix}".rstrip("/")

    def list(self) -> Iterator[InboxFile]:
        for folder in FOLDERS:
            for one in self._store.described(f"{self._prefix}{folder}"):
                if not one.key.endswith("/"):  # a folder, as consoles make it
                    yield InboxFile(one.key.removeprefix(self._prefix), one.size, one.version)

    @contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "object")
            try:
                with path.open("wb") as file:
                    file.writelines(self._store.stream(f"{self._prefix}{name}"))
            except ValueError as error:
                raise PermanentFailure(str(error)) from error
            with _named(str(path), f"{self.address}/{name}"):
                yield path


Inbox = FolderInbox | BucketInbox


def inbox_of(settings: Settings) -> Inbox | None:
    """The inbox that IRT_INBOX names; None where it is unset."""
    if settings.irt_inbox is None:
        return None
    if not settings.irt_inbox.startswith("s3://"):
        return FolderInbox(Path(settings.irt_inbox))
    bucket, prefix = _bucket_and_prefix(settings.irt_inbox)
    return BucketInbox(BucketStore(bucket), prefix)


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")
