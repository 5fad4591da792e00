"""What a run's pod printed, shown by the page from a bucket, whatever disk it was printed on."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from irt_assets.servers.instance import dagster_instance
from jobs.launching import stored_logs
from resources.postgres.database import Database
from resources.settings import Settings, get_settings
from tests.helpers.asgi import ask
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.integration.dagster_page import post, served

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("s3")]

KEY = ["0a1b2c", "compute_logs", "fit"]
SHOWN = f"query {{ capturedLogs(logKey: {json.dumps(KEY)}) {{ stdout stderr }} }}"


def test_the_page_shows_what_a_pod_printed_that_is_gone(
    s3: SeaweedFS,
    settings: Settings,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(stored_logs, "UPLOAD_INTERVAL_S", 1)  # Dagster's thread of a capture ends at the next
    monkeypatch.setenv("S3_BUCKET", BUCKET)
    get_settings.cache_clear()
    with_bucket = settings.model_copy(update={"s3_bucket": BUCKET})
    with dagster_instance(with_bucket, database) as instance:
        assert isinstance(instance.compute_log_manager, stored_logs.StoredComputeLogManager)
        with stored_logs.StoredComputeLogManager(str(tmp_path / "pod")).capture_logs(KEY):
            print("θ of 300 learners", flush=True)
            print("a warning", file=sys.stderr, flush=True)
        with served(with_bucket) as app:
            shown = json.loads(post(app, SHOWN).text)["data"]["capturedLogs"]
            assert shown == {"stdout": "θ of 300 learners\n", "stderr": "a warning\n"}
            assert ask(app, "GET", f"/logs/{'/'.join(KEY)}/err").text == "a warning\n"
    assert {one["Key"] for one in s3.owner().list_objects_v2(Bucket=BUCKET)["Contents"]} == {
        f"run-logs/{'/'.join(KEY)}.{end}" for end in ("out", "err")
    }
