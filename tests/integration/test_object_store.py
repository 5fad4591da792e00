"""A folder and a bucket keep the same promises. The bucket is that of a real server, SeaweedFS, over HTTP."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from resources.failures import PermanentFailure
from resources.files.object_store import PART, BucketStore, FolderStore, NothingThere, ObjectStore, object_store
from resources.settings import Settings
from tests.helpers.seaweed import BUCKET
from tests.testbed.patience import patient
from tests.testbed.stack_harness import wait_for

KEY = "snapshots/2026-09/ü b%20c.parquet"
PAGE = 1000
"""As many keys as a service lists at once."""
PARTS_AT_ONCE_MIB = 80
"""boto3 sends ten parts of 8 MiB at once."""


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "objects")
    request.getfixturevalue("s3")
    return BucketStore(BUCKET)


def sparse(path: Path, mebibytes: int) -> Path:
    """A file of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(mebibytes * 2**20)
    return path


def time_of_files(folder: Path) -> datetime:
    """What the system gives to a file that is written now: a test's own clock may be ahead of it."""
    (folder / "now").touch()
    return datetime.fromtimestamp((folder / "now").stat().st_mtime, UTC)


@contextmanager
def in_another_process(store: ObjectStore, code: str) -> Iterator[subprocess.Popen[bytes]]:
    """`code`, which knows the same store as `store`. Its process and its pipe are gone afterwards, whatever failed."""
    made = f"FolderStore(Path({str(store.root)!r}))" if isinstance(store, FolderStore) else f"BucketStore({BUCKET!r})"
    begin = f"""from pathlib import Path
from resources.files.object_store import BucketStore, FolderStore
store = {made}
"""
    with subprocess.Popen([sys.executable, "-c", begin + code], stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_is_put_is_got(either: ObjectStore, tmp_path: Path) -> None:
    """A file of 20 MB and bytes of 9 MB go to a bucket in parts."""
    file = tmp_path / "file"
    file.write_bytes(os.urandom(20_000_000))
    large = os.urandom(9_000_000)
    for data, content in ((b"", b""), (b"one", b"one"), (large, large), (file, file.read_bytes())):
        assert either.put(KEY, data) == either.uri(KEY)
        assert (either.exists(KEY), either.size(KEY), either.get(KEY)) == (True, len(content), content)
        assert either.sha256(KEY) == hashlib.sha256(content).hexdigest()


def test_what_is_deleted_is_gone_and_may_be_deleted_again(either: ObjectStore) -> None:
    either.put(KEY, b"x")
    either.delete(KEY)
    either.delete(KEY)
    assert not either.exists(KEY)
    for look in (either.get, either.size, either.sha256):
        with pytest.raises(NothingThere, match=r"There is nothing at .*2026-09"):
            look(KEY)


def test_a_source_that_is_not_there_is_not_a_store_that_is_full(either: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        either.put("a", tmp_path / "none")


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.", "a/", "a\\..\\b", "a\0b", "..", f"a/{PART}b"]
)
def test_keys_stay_inside(either: ObjectStore, key: str) -> None:
    uses = [either.get, either.exists, either.size, either.sha256, either.delete, either.uri, either.link]
    for use in (*uses, lambda key: either.put(key, b"")):
        with pytest.raises(ValueError, match="not an object key"):
            use(key)


def test_every_key_is_listed_as_it_was_given(either: ObjectStore, tmp_path: Path) -> None:
    names = [
        "한국어 보고서",
        "a+b",
        "a%2Fb",
        "a&b=c?d#e",
        "l'été",
        "A",
        "a",
        "x" * 200,
        "user@example.com",
        "100%",
        "~",
    ]
    keys = {f"reports/2026-11-16/{name}.html" for name in names}
    for key in keys:
        either.put(key, key.encode())
    either.put("reports-of-others/a", b"")
    before = time_of_files(tmp_path) - timedelta(minutes=1)
    listed = {key for key, written in either.list("reports") if before < written}
    assert listed == {either.get(key).decode() for key in keys} == {either.key(either.uri(key)) for key in keys} == keys
    assert [either.key(uri) for uri in ("file:///elsewhere/a", "s3://elsewhere/a")] == [None, None]


def test_a_folder_without_anything_lists_nothing(either: ObjectStore) -> None:
    assert list(either.list("reports/2026-11-16")) == []
    assert either.drop_unfinished("reports", datetime.now(UTC)) == ()


def test_more_than_a_page_of_keys_is_listed(either: ObjectStore) -> None:
    keys = {f"reports/{n:05d}" for n in range(PAGE + 50)}
    either.put("reports/first", b"")  # makes what the threads share
    either.delete("reports/first")
    with ThreadPoolExecutor(8) as several:
        list(several.map(lambda key: either.put(key, b"x"), keys))
    assert {key for key, _ in either.list("reports")} == keys


def test_a_link_is_refused_a_life_that_no_service_grants(either: ObjectStore) -> None:
    for lifetime in (timedelta(days=8), timedelta(0)):
        with pytest.raises(ValueError, match="at most 7 days"):
            either.link(KEY, lifetime)


NEVER_DONE = """import os, time
from s3transfer.tasks import CompleteMultipartUploadTask
def never(*_, **__):
    time.sleep(3600)
os.fsync = CompleteMultipartUploadTask._main = never
"""
"""What is begun, in a folder or in a bucket, does not end before its process does."""


def test_a_process_killed_while_it_writes_leaves_the_old_object_and_what_it_began_is_dropped(
    either: ObjectStore, tmp_path: Path
) -> None:
    either.put("reports/old", b"old")
    large = sparse(tmp_path / "large", 200)
    now, hour = time_of_files(tmp_path), timedelta(hours=1)
    with in_another_process(either, f"{NEVER_DONE}store.put('reports/old', Path({str(large)!r}))"):
        wait_for("it to write", lambda: either.drop_unfinished("reports", now + hour, dry_run=True), 30, 0.005)
    assert [(key, either.get(key)) for key, _ in either.list("reports")] == [("reports/old", b"old")]
    assert either.drop_unfinished("reports", now - hour) == ()
    assert either.drop_unfinished("reports-of-others", now + hour) == ()
    (dropped,) = either.drop_unfinished("reports", now + hour)
    assert dropped.startswith("reports/")
    assert (either.drop_unfinished("reports", now + hour), either.get("reports/old")) == ((), b"old")


def test_a_file_of_200_mb_passes_without_being_held_in_memory(either: ObjectStore, tmp_path: Path) -> None:
    """Of 200 MiB each way no more stays in memory at once than is on its way: measured 30 MiB."""
    large = sparse(tmp_path / "large", 200)
    code = f"""from resource import RUSAGE_SELF, getrusage
store.put('small', b'')
before = getrusage(RUSAGE_SELF).ru_maxrss
store.put('large', Path({str(large)!r}))
store.sha256('large')
print((getrusage(RUSAGE_SELF).ru_maxrss - before) // 1024)"""
    with in_another_process(either, code) as process:
        grown, _ = process.communicate(timeout=patient(60))
    assert (process.returncode, int(grown) < PARTS_AT_ONCE_MIB) == (0, True)


def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    folder = object_store(Settings(irt_home=tmp_path, _env_file=None))
    assert (type(folder), folder.root) == (FolderStore, tmp_path / "objects")
    assert list(tmp_path.iterdir()) == []
    bucket = object_store(Settings(s3_bucket="bank", _env_file=None))
    assert bucket.uri("a/b") == "s3://bank/a/b"


# -- the folder --------------------------------------------------------------------------------------


def test_a_files_uri_leads_to_it_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    """It is its owner's alone: reports tell of learners, and a folder has no signed links."""
    file = Path(unquote(urlsplit(FolderStore(tmp_path / "objects").put(KEY, b"x")).path))
    assert (file.read_bytes(), file.stat().st_mode & 0o077) == (b"x", 0)


def test_a_link_that_leads_out_is_not_followed(tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "objects")
    store.put("a", b"x")
    (store.root / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="leads out of"):
        store.put("out/escaped", b"x")


def test_a_root_behind_a_link_works(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "objects").symlink_to(tmp_path / "disk")
    FolderStore(tmp_path / "objects").put("a/b", b"x")
    assert (tmp_path / "disk" / "a" / "b").read_bytes() == b"x"


def test_a_full_disk_is_told_with_what_is_needed_and_leaves_the_old_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FolderStore(tmp_path / "objects")
    store.put(KEY, b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(PermanentFailure, match=r"disk is full: .*parquet needs 1,000 bytes, [\d,]+ are free"):
        store.put(KEY, b"x" * 1000)
    assert store.get(KEY) == b"old"
    assert len(list((store.root / KEY).parent.iterdir())) == 1


def test_a_disk_that_is_really_full_is_told(tmp_path: Path, require: Callable[[bool, str], None]) -> None:
    """Whatever a full disk raises, and wherever: here it is one of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True, text=True)
    require(mounted.returncode == 0, f"a small disk that can be mounted ({mounted.stderr.strip()})")
    try:
        store = FolderStore(disk / "objects")
        store.put("small", b"x")
        with pytest.raises(PermanentFailure, match="disk is full"):
            store.put("large", b"x" * 200_000)
        assert [path.name for path in store.root.iterdir()] == ["small"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "objects").write_text("")
    with pytest.raises(PermanentFailure, match=r"Cannot write .*IRT_HOME.*S3_BUCKET"):
        FolderStore(tmp_path / "objects").put("a/b", b"x")
