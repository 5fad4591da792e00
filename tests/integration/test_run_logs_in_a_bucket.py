"""Output of a run's pod, shown by the Dagster UI from a bucket after the pod's disk is lost."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from dagster_aws.s3 import S3ComputeLogManager

from irt_assets.servers.instance import dagster_instance
from resources.dagster_compat import ComputeIOType
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.integration.dagster_page import post, serve_page

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("s3")]

KEY = ["0a1b2c", "compute_logs", "fit"]
SHOWN = f"query {{ capturedLogs(logKey: {json.dumps(KEY)}) {{ stdout stderr }} }}"


def test_page_shows_the_output_of_a_deleted_pod(
    s3: SeaweedFS,
    settings: Settings,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(S3ComputeLogManager, "upload_interval", None)  # no thread uploads part of the output
    with_bucket = settings.model_copy(update={"s3_bucket": BUCKET})
    with dagster_instance(with_bucket, database) as instance:
        manager = instance.compute_log_manager
        assert isinstance(manager, S3ComputeLogManager)
        pod = S3ComputeLogManager(BUCKET, str(tmp_path / "pod"), prefix="run-logs")
        with pod.capture_logs(KEY):
            print("θ of 300 learners", flush=True)
            print("a warning", file=sys.stderr, flush=True)
        with serve_page(with_bucket) as app:
            shown = json.loads(post(app, SHOWN).text)["data"]["capturedLogs"]
            assert shown == {"stdout": "θ of 300 learners\n", "stderr": "a warning\n"}
        manager.upload_to_cloud_storage(KEY, ComputeIOType.STDOUT)
        keys = [one["Key"] for one in s3.owner().list_objects_v2(Bucket=BUCKET)["Contents"]]
        assert set(keys) == {f"run-logs/storage/{'/'.join(KEY)}.{end}" for end in ("out", "err")}
        manager.delete_logs(prefix=KEY[:1])
    assert "Contents" not in s3.owner().list_objects_v2(Bucket=BUCKET)
