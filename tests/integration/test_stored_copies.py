"""A process reads a stored file once, and still detects every change of it. The bucket belongs to a real server."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources.files import file_cache
from resources.files.object_store import BucketStore, FolderStore, ObjectMissing, ObjectStore
from tests.helpers.seaweed import BUCKET
from tests.testbed.patience import patient

KEY = "snapshots/2026-09/a.parquet"
CONTENT = bytes(range(256)) * 20_000
"""Content that is read in five pieces."""
READ = f"""
from pathlib import Path
from resources.files.object_store import BucketStore, FolderStore
from resources.files.file_cache import open_hashed
store = {{store}}
{{more}}
file, digest = open_hashed(store, {KEY!r})
print(digest, len(file.read()), flush=True)
"""


@pytest.fixture(params=["folder", pytest.param("bucket", marks=pytest.mark.xdist_group("s3"))])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """A store of a process that has not read anything yet."""
    while file_cache._copies:
        file_cache._copies.popitem()[1].file.close()
    if request.param == "bucket":
        request.getfixturevalue("s3")
    store = FolderStore(tmp_path / "objects") if request.param == "folder" else BucketStore(BUCKET)
    store.put(KEY, CONTENT)
    return store


@pytest.fixture
def pieces(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Keys whose content was requested, in order."""
    keys: list[str] = []
    stream = type(store).stream

    def counted(store: ObjectStore, key: str) -> Iterator[bytes]:
        keys.append(key)
        return stream(store, key)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store), "stream", counted)
    return keys


def content(store: ObjectStore, key: str = KEY) -> bytes:
    file, digest = file_cache.open_hashed(store, key)
    with file:
        found = file.read()
    assert hashlib.sha256(found).hexdigest() == digest
    return found


def another_process(store: ObjectStore, more: str = "", **environment: str) -> subprocess.Popen[str]:
    made = f"FolderStore(Path({str(store.root)!r}))" if isinstance(store, FolderStore) else f"BucketStore({BUCKET!r})"
    return subprocess.Popen(
        [sys.executable, "-c", READ.format(store=made, more=more)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )


def test_a_file_is_read_once(store: ObjectStore, pieces: list[str]) -> None:
    assert [content(store) for _ in range(3)] == [CONTENT] * 3
    assert pieces == [KEY]


def test_server_keeps_no_copies(store: ObjectStore, pieces: list[str]) -> None:
    for _ in range(2):
        file, digest = file_cache.open_hashed(store, KEY, keep=False)
        with file:
            assert hashlib.sha256(file.read()).hexdigest() == digest
    assert pieces == [KEY, KEY]
    assert not file_cache._copies


def test_rewritten_file_is_read_again(store: ObjectStore, pieces: list[str]) -> None:
    assert content(store) == CONTENT
    store.put(KEY, CONTENT[::-1])
    assert content(store) == CONTENT[::-1]
    assert pieces == [KEY, KEY]


def test_deleted_file_is_noticed_even_if_a_copy_exists(store: ObjectStore) -> None:
    content(store)
    store.delete(KEY)
    with pytest.raises(ObjectMissing, match=KEY):
        file_cache.open_hashed(store, KEY)


def test_file_damaged_in_place_is_read_again(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.put(KEY, CONTENT)
    assert content(store) == CONTENT
    known = (tmp_path / KEY).stat()
    with (tmp_path / KEY).open("r+b") as file:
        file.write(b"x")
    os.utime(tmp_path / KEY, ns=(known.st_atime_ns, known.st_mtime_ns))
    assert content(store) == b"x" + CONTENT[1:]


def test_interrupted_download_is_not_kept(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: ObjectStore, __: str) -> Iterator[bytes]:
        yield CONTENT[:1000]
        raise ConnectionResetError

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "stream", broken)
        with pytest.raises(ConnectionResetError):
            file_cache.open_hashed(store, KEY)
    assert content(store) == CONTENT


def test_process_killed_during_a_read_leaves_no_files(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    slow = """
import time
def stream(store, key):
    yield b"x" * 1000
    print("begun", flush=True)
    time.sleep(600)
type(store).stream = stream
"""
    with another_process(store, slow, TMPDIR=str(tmp_path / "temporary")) as process:
        assert process.stdout.readline() == "begun\n"
        process.kill()
    assert list((tmp_path / "temporary").iterdir()) == []
    assert content(store) == CONTENT


def test_two_processes_read_a_file_concurrently(store: ObjectStore) -> None:
    with another_process(store) as one, another_process(store) as other:
        outputs = [process.communicate(timeout=patient(60))[0] for process in (one, other)]
    assert outputs == [f"{hashlib.sha256(CONTENT).hexdigest()} {len(CONTENT)}\n"] * 2


@pytest.mark.parametrize(("limit", "one_copy"), [("KEPT_BYTES", len(CONTENT)), ("KEPT_FILES", 1)])
def test_number_of_copies_is_limited_and_readers_of_a_removed_copy_continue(
    store: ObjectStore, pieces: list[str], monkeypatch: pytest.MonkeyPatch, limit: str, one_copy: int
) -> None:
    monkeypatch.setattr(file_cache, limit, one_copy)
    store.put("snapshots/b", CONTENT[1:])
    file, _ = file_cache.open_hashed(store, KEY)
    assert file.read(10) == CONTENT[:10]
    assert content(store, "snapshots/b") == CONTENT[1:]
    assert file.read() == CONTENT[10:]
    file.close()
    assert content(store) == CONTENT
    assert pieces == [KEY, "snapshots/b", KEY]
