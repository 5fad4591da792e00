"""Places of backups: a folder or a bucket, with a folder for each backup, whose name appears once it is complete."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from resources.failures import PermanentFailure, explain
from resources.files.object_store import PART, BucketStore, sync_folder
from resources.settings import OWNER_ALONE, Settings, private_home

MANIFEST = "manifest.json"
"""The file that is written last: a folder without it is not a backup."""
NAME = re.compile(r"irt-\d{8}T\d{6}Z")
MAX_BACKUPS = 30
ABANDONED_AFTER_S = 24 * 3600
"""Age in seconds from which an unfinished backup is deleted: the process that wrote it was killed."""


class FolderPlace:
    """Backups in a folder that only its owner may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()

    @contextmanager
    def create_backup(self, name: str) -> Iterator[Path]:
        """Yield a folder for the files of a backup, which becomes the backup `name` at the end.

        An error leaves nothing behind. Raises PermanentFailure if the place cannot be written.
        """
        try:
            self.folder.mkdir(mode=OWNER_ALONE, parents=True, exist_ok=True)
            for path in self.folder.glob(f"{PART}*"):
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > ABANDONED_AFTER_S:
                        shutil.rmtree(path, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=PART, ignore_cleanup_errors=True) as work:
                yield Path(work)
                self._keep(Path(work), name)
        except OSError as error:
            reason = explain(error) or error.strerror
            raise PermanentFailure(
                f"no backup was written to {self.folder}: {reason}. Choose another folder or bucket with --out"
            ) from error

    def uri(self, name: str) -> str:
        return str(self.folder / name)

    @contextmanager
    def open_backup(self, name: str) -> Iterator[Path]:
        """Yield a folder with the files of a backup, for use within the block."""
        yield self.folder / name

    def names(self) -> list[str]:
        """The names of all backups, oldest first."""
        found = (path.parent.name for path in self.folder.glob(f"*/{MANIFEST}"))
        return sorted(name for name in found if NAME.fullmatch(name))

    def remove(self, name: str) -> None:
        going = self.folder / f"{PART}{name}"
        (self.folder / name).rename(going)
        shutil.rmtree(going)

    def _keep(self, work: Path, name: str) -> None:
        """Make the files in `work` the backup `name`."""
        sync_folder(work)
        work.rename(self.folder / name)
        sync_folder(self.folder)


class BucketPlace(FolderPlace):
    """Backups below a prefix of a bucket, with temporary files in IRT_HOME."""

    def __init__(self, settings: Settings, bucket: str, prefix: str) -> None:
        super().__init__(private_home(settings))
        self._store, self._prefix = BucketStore(bucket), prefix

    def uri(self, name: str) -> str:
        return self._store.uri(f"{self._prefix}/{name}")

    @contextmanager
    def open_backup(self, name: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder, prefix=PART) as work:
            for key, _ in self._store.list(f"{self._prefix}/{name}"):
                with (Path(work) / key.rpartition("/")[2]).open("wb") as file:
                    file.writelines(self._store.stream(key))
            yield Path(work)

    def names(self) -> list[str]:
        paths = [key.split("/")[-2:] for key, _ in self._store.list(self._prefix)]
        return sorted(name for name, file in paths if file == MANIFEST and NAME.fullmatch(name))

    def remove(self, name: str) -> None:
        keys = [key for key, _ in self._store.list(f"{self._prefix}/{name}")]
        for key in sorted(keys, key=lambda key: not key.endswith(f"/{MANIFEST}")):
            self._store.delete(key)

    def _keep(self, work: Path, name: str) -> None:
        """Upload the files. The manifest is last, because it makes them a backup."""
        try:
            for file in sorted(work.iterdir(), key=lambda file: file.name == MANIFEST):
                self._store.put(f"{self._prefix}/{name}/{file.name}", file)
        except BaseException:
            with suppress(Exception):  # the first error must be reported
                self.remove(name)
            raise


def default_place(settings: Settings) -> FolderPlace:
    """`backups` in the bucket S3_BUCKET or, if that is unset, in IRT_HOME."""
    bucket = settings.s3_bucket
    return place_at(settings, str(settings.irt_home / "backups") if bucket is None else f"s3://{bucket}/backups")


def place_at(settings: Settings, address: str) -> FolderPlace:
    """The place for a folder's path or s3://BUCKET/PREFIX. Raises PermanentFailure for any other s3 address."""
    if not address.startswith("s3:"):
        return FolderPlace(Path(address))
    parts = urlsplit(address)
    prefix = parts.path.strip("/")
    if not parts.netloc or not prefix:
        raise PermanentFailure(f"{address} is not s3://BUCKET/PREFIX")
    return BucketPlace(settings, parts.netloc, prefix)


def backup_at(settings: Settings, address: str) -> tuple[FolderPlace, str]:
    """The place and the name of a backup, from its path or s3:// address."""
    if address.startswith("s3:"):
        place, _, name = address.rstrip("/").rpartition("/")
        return place_at(settings, place), name
    path = Path(address).expanduser().absolute()
    return FolderPlace(path.parent), path.name


def keep_newest(place: FolderPlace, but: str) -> list[str]:
    """Delete all backups in a place except the newest ones and `but`. Returns the deleted names."""
    removed = [name for name in place.names()[:-MAX_BACKUPS] if name != but]
    for name in removed:
        place.remove(name)
    return removed
