"""What a step prints is found by a process on another disk, while it goes on and after it has ended."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from jobs.launching import stored_logs
from jobs.launching.stored_logs import StoredComputeLogManager
from resources.dagster_compat import ComputeIOType, ConfigurableClassData
from resources.failures import TransientFailure
from resources.files.object_store import FolderStore
from tests.testbed.stack_harness import wait_for

RUN = "0a1b2c"
KEY = [RUN, "compute_logs", "fit"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoredComputeLogManager:
    monkeypatch.setattr(stored_logs, "UPLOAD_INTERVAL_S", 0.05)
    return StoredComputeLogManager(str(tmp_path / "pod"))


@pytest.fixture
def elsewhere(tmp_path: Path) -> StoredComputeLogManager:
    return StoredComputeLogManager(str(tmp_path / "webserver"))


def printed(manager: StoredComputeLogManager) -> tuple[bytes | None, bytes | None]:
    data = manager.get_log_data(KEY)
    return data.stdout, data.stderr


def test_output_is_read_elsewhere_after_the_pod_is_gone(
    here: StoredComputeLogManager, elsewhere: StoredComputeLogManager, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with here.capture_logs(KEY):
        print("θ of 300 learners", flush=True)
        print("a warning", file=sys.stderr, flush=True)
    assert not [*(tmp_path / "pod").rglob("*.err")], "what is stored is not kept twice"
    assert printed(elsewhere) == ("θ of 300 learners\n".encode(), b"a warning\n")
    assert elsewhere.is_capture_complete(KEY)
    assert elsewhere.get_log_keys_for_log_key_prefix(KEY[:2], ComputeIOType.STDERR) == [KEY]
    assert elsewhere.get_log_metadata(KEY).stderr_download_url == f"/logs/{RUN}/compute_logs/fit/err"


def test_output_so_far_is_there_when_the_pod_is_killed(
    here: StoredComputeLogManager,
    elsewhere: StoredComputeLogManager,
    capfd: pytest.CaptureFixture[str],
) -> None:
    with here.capture_logs(KEY):
        print("half of it", flush=True)
        wait_for("a copy", lambda: printed(elsewhere)[0] == b"half of it\n", 20)
        assert not elsewhere.is_capture_complete(KEY)
        print("the rest", flush=True)
        wait_for("a newer copy", lambda: printed(elsewhere)[0] == b"half of it\nthe rest\n", 20)
    assert {key for key, _ in here._store.list(stored_logs.FOLDER)} == {
        f"run-logs/{RUN}/compute_logs/fit.{end}" for end in ("out", "err")
    }


def test_a_copy_that_comes_after_the_end_of_its_step_is_not_made(
    here: StoredComputeLogManager, elsewhere: StoredComputeLogManager, capfd: pytest.CaptureFixture[str]
) -> None:
    """The thread that makes copies may have begun one when the step ends; the page read its empty file then."""
    with here.capture_logs(KEY):
        print("all of it", flush=True)
    here.upload_to_cloud_storage(KEY, ComputeIOType.STDOUT, partial=True)
    assert not here._store.exists(stored_logs._key(KEY, ComputeIOType.STDOUT, partial=True))
    assert printed(here)[0] == printed(elsewhere)[0] == b"all of it\n"


def test_a_store_that_does_not_answer_costs_the_output_and_nothing_else(
    here: StoredComputeLogManager,
    elsewhere: StoredComputeLogManager,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def away(*_: object) -> str:
        raise TransientFailure("s3://bank: no answer")

    with monkeypatch.context() as outage:
        outage.setattr(FolderStore, "put", away)
        with here.capture_logs(KEY):
            print("lost", flush=True)
    assert "the output of 0a1b2c/compute_logs/fit is not stored: s3://bank: no answer" in caplog.text
    assert printed(elsewhere) == (None, None)


def test_pruning_a_run_takes_its_output_and_no_other_run_s(
    here: StoredComputeLogManager, elsewhere: StoredComputeLogManager, capfd: pytest.CaptureFixture[str]
) -> None:
    other = [f"{RUN}3", "compute_logs", "fit"]
    for key in (KEY, other):
        with here.open_log_stream(key, ComputeIOType.STDERR) as stream:
            assert stream is not None
            stream.write("x")
    elsewhere.delete_logs(prefix=[RUN])
    assert printed(elsewhere) == (None, None)
    assert elsewhere.get_log_keys_for_log_key_prefix(other[:2], ComputeIOType.STDERR) == [other]
    elsewhere.delete_logs(log_key=other)
    assert not [*here._store.list(stored_logs.FOLDER)]


def test_the_instance_makes_it_of_its_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRT_DAGSTER_COMPUTE_LOGS", str(tmp_path))
    stated = ConfigurableClassData(
        "jobs.launching.stored_logs", "StoredComputeLogManager", "base_dir: {env: IRT_DAGSTER_COMPUTE_LOGS}"
    )
    manager = stated.rehydrate(as_type=StoredComputeLogManager)
    assert Path(manager.local_manager.get_captured_local_path(KEY, "err")).is_relative_to(tmp_path)
