"""The files of an inbox: a folder, or a prefix of a bucket, into which other systems write.

What belongs here: which files there are, their bytes on this disk, and where a file goes that was taken. What does not:
what is in them and which were taken (see `irt_assets.responses.importing.inbox`).
"""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from resources.failures import PermanentFailure
from resources.files.object_store import BucketStore, bucket_store
from resources.files.s3_failures import NothingThere
from resources.settings import Settings

FOLDERS = ("questions", "learners", "attempts")
"""In the order in which they are taken: answers then find their items."""
DELETE = "delete"
IGNORED = re.compile(r"(^|/)[._]|(\.part|\.tmp|~)$|[\0\ud800-\udfff]")
"""Names of files that are still being written, or that are none of ours; and names that are not text."""


@dataclass(frozen=True)
class InboxFile:
    """`name`: below the inbox; `version`: another one once the file was written again."""

    name: str
    size: int
    version: str


class FolderInbox:
    """`at_once`: a file that is there is whole. What cannot be read or written is a PermanentFailure."""

    at_once = False

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def list(self) -> Iterator[InboxFile]:
        """Every file of the folders, also those to ignore."""
        try:
            there = {path.name for path in self.root.iterdir()}.intersection(FOLDERS)
            walks = (os.walk(self.root / folder, onerror=_raise) for folder in there)
            for folder, _, names in chain.from_iterable(walks):
                for path in (Path(folder, name) for name in names):
                    with suppress(FileNotFoundError):  # it has vanished, or is a link to nowhere
                        now, readable = path.stat(), os.access(path, os.R_OK)
                        version = f"{now.st_mtime_ns} {now.st_ctime_ns} {readable}"
                        yield InboxFile(path.relative_to(self.root).as_posix(), now.st_size, version)
        except OSError as error:
            raise PermanentFailure(f"IRT_INBOX: {error.filename} cannot be read: {error.strerror}.") from error

    @contextmanager
    def on_disk(self, name: str) -> Iterator[Path]:
        """The file on this disk. Raises NothingThere where it has vanished."""
        path = self.root / name
        try:
            path.open("rb").close()
        except FileNotFoundError as error:
            raise NothingThere(f"there is nothing at {path}") from error
        except OSError as error:
            raise PermanentFailure(f"{path} cannot be opened: {error.strerror}") from error
        yield path

    def finish(self, name: str, done: str, mark: str) -> None:
        """Delete a file, or move it to `done` with `mark` before its name."""
        path, target = self.root / name, Path(done, name)
        try:
            if done == DELETE:
                path.unlink(missing_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target.with_name(f"{mark}-{target.name}"))
        except OSError as error:
            raise PermanentFailure(f"IRT_INBOX_DONE={done}: {error}. The file was taken.") from error


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
            try:
                yield path
            except PermanentFailure as error:
                why = str(error).replace(str(path), f"{self.address}/{name}")
                raise PermanentFailure(why) from error

    def finish(self, name: str, done: str, mark: str) -> None:
        if done != DELETE:
            bucket, prefix = _bucket_and_prefix(done)
            folder, _, last = name.rpartition("/")
            self._store.copy(f"{self._prefix}{name}", bucket, f"{prefix}/{folder}/{mark}-{last}".lstrip("/"))
        self._store.delete(f"{self._prefix}{name}")


Inbox = FolderInbox | BucketInbox


def inbox_of(settings: Settings) -> Inbox | None:
    """The inbox that IRT_INBOX names; None where it is unset."""
    if settings.irt_inbox is None:
        return None
    if not settings.irt_inbox.startswith("s3://"):
        return FolderInbox(Path(settings.irt_inbox))
    bucket, prefix = _bucket_and_prefix(settings.irt_inbox)
    return BucketInbox(bucket_store(bucket, settings), prefix)


def _bucket_and_prefix(url: str) -> tuple[str, str]:
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    return bucket, prefix.strip("/")


def _raise(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
