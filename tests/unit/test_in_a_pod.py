"""Settings in a pod: its disk is lost with it, so the places of the database and the files are required."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from resources.failures import PermanentFailure
from resources.files.object_store import BucketStore, FolderStore, object_store
from resources.postgres.database import Database
from resources.settings import KUBERNETES, Settings
from tests.helpers.typed import command_line


@pytest.fixture(autouse=True)
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KUBERNETES, "10.96.0.1")


def test_pod_without_a_database_url_is_refused_with_the_settings_to_set(tmp_path: Path) -> None:
    with pytest.raises(PermanentFailure, match=r"^DATABASE_URL is not set.*PGHOST, PGUSER, PGPASSWORD and PGDATABASE"):
        _ = Database(Settings(irt_home=tmp_path / "irt")).url
    assert not (tmp_path / "irt").exists(), "nothing is begun"


def test_pod_uses_the_database_of_the_settings(tmp_path: Path) -> None:
    named = Settings(irt_home=tmp_path, database_url=SecretStr("postgresql://db.example/assess"))
    assert Database(named).url == "postgresql://db.example/assess"


def test_pod_stores_files_only_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PermanentFailure, match=r"^S3_BUCKET is not set.*a folder in a pod would be lost"):
        object_store(Settings(irt_home=tmp_path))
    assert isinstance(object_store(Settings(irt_home=tmp_path, s3_bucket="bank")), BucketStore)
    monkeypatch.delenv(KUBERNETES)
    assert isinstance(object_store(Settings(irt_home=tmp_path)), FolderStore)


@pytest.mark.parametrize(
    "words",
    [
        "status",
        "job invariants",
        "runs list",
        "calibrate --month 2026-01",
        "nightly",
        "run daemon",
        "run webserver",
        "run code-server",
        "serve",
        "db start",
        "db upgrade",
        "health --config",
        "health --schema",
        "health --probe daemon",
        "invariants fresh",
    ],
)
def test_every_command_that_requires_a_database_ends_with_the_same_error(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("S3_BUCKET", "bank")
    ended = command_line(monkeypatch, capsys)(*words.split())
    assert ended.code == 2
    assert ended.err.startswith("error: DATABASE_URL is not set"), ended.err
    assert not list(tmp_path.rglob("PG_VERSION"))


def test_doctor_reports_missing_settings_of_the_database_and_the_object_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {one["subject"]: one for one in command_line(monkeypatch, capsys)("doctor", "--json").json}
    assert {found[name]["state"] for name in ("database", "object store")} == {"error"}
    assert found["database"]["detail"].startswith("DATABASE_URL is not set")
    assert found["object store"]["detail"].startswith("S3_BUCKET is not set")
