"""A folder and a bucket keep the same promises. The bucket is that of a real server, moto's, over HTTP."""

from __future__ import annotations

import errno
import importlib.util
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import boto3
import pytest

from resources.failures import PermanentFailure, TransientFailure
from resources.object_store import BucketStore, FolderStore, NothingThere, ObjectStore, object_store
from resources.settings import Settings

KEY = "snapshots/2026-09/ü b%20c.parquet"


@pytest.fixture(scope="session")
def s3_server(require: Callable[[bool, str], None]) -> Iterator[str]:
    require(importlib.util.find_spec("flask") is not None, "moto's server (moto[server])")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="bank")
    return s3_server


@pytest.fixture(params=["folder", "bucket"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path / "objects")
    request.getfixturevalue("s3")
    return BucketStore("bank")


def test_what_is_put_is_got(either: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(3_000_000))
    for data, content in ((b"", b""), (b"one", b"one"), (file, file.read_bytes())):
        either.put(KEY, data)
        assert either.exists(KEY)
        assert either.size(KEY) == len(content)
        assert either.get(KEY) == content


def test_what_is_deleted_is_gone_and_may_be_deleted_again(either: ObjectStore) -> None:
    either.put(KEY, b"x")
    either.delete(KEY)
    either.delete(KEY)
    assert not either.exists(KEY)
    for look in (either.get, either.size):
        with pytest.raises(NothingThere, match=r"There is nothing at .*2026-09"):
            look(KEY)


@pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "a/.", "a/", "a\\..\\b", "a\0b", ".."])
def test_keys_stay_inside(either: ObjectStore, key: str) -> None:
    for use in (either.get, either.exists, either.size, either.delete, either.uri, lambda key: either.put(key, b"")):
        with pytest.raises(ValueError, match="no object key"):
            use(key)


def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    folder = object_store(Settings(irt_home=tmp_path, _env_file=None))
    assert isinstance(folder, FolderStore)
    assert folder.root == tmp_path / "objects"
    assert list(tmp_path.iterdir()) == []
    bucket = object_store(Settings(s3_bucket="bank", _env_file=None))
    assert isinstance(bucket, BucketStore)
    assert bucket.uri("a/b") == "s3://bank/a/b"


# -- the folder --------------------------------------------------------------------------------------


def test_a_files_uri_leads_to_it(tmp_path: Path) -> None:
    uri = FolderStore(tmp_path / "objects").put(KEY, b"x")
    assert Path(unquote(urlsplit(uri).path)).read_bytes() == b"x"


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


def test_a_source_that_is_not_there_is_not_a_store_that_is_full(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FolderStore(tmp_path / "objects").put("a", tmp_path / "none")


# -- the bucket --------------------------------------------------------------------------------------


def test_a_missing_bucket_is_permanent_and_named(s3: str) -> None:
    with pytest.raises(PermanentFailure, match=r"s3://none/a.*S3_BUCKET"):
        BucketStore("none").put("a", b"x")


def test_a_service_that_does_not_answer_is_transient(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransientFailure, match="s3://bank/a"):
        BucketStore("bank").get("a")


def test_missing_credentials_are_permanent_and_the_way_out_is_named(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(PermanentFailure, match="AWS_ACCESS_KEY_ID"):
        BucketStore("bank").get("a")
