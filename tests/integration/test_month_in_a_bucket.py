"""Complete months with files in a bucket: from answers to a green month, its verdicts and its report."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from dagster_aws.s3 import S3ComputeLogManager

from irt_assets.drift.assets import DRIFT_JOB
from irt_assets.gates.month_classification import State
from irt_assets.gates.month_status import month_states
from irt_assets.invariants.history import evaluate_all
from irt_assets.invariants.reports import report_files_are_as_they_were_written
from irt_assets.invariants.snapshots import no_test_answer_was_scored, snapshots_match_their_hash
from irt_assets.reports.assets import DRIFT_REPORT_JOB
from irt_assets.runs.in_process_runs import run_job, run_month
from irt_assets.servers.instance import dagster_instance
from jobs.retention.prune import prune
from resources.files.object_store import object_store
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.sentences import missing_sentences

pytestmark = [pytest.mark.ci, pytest.mark.xdist_group("s3")]

JUNE, JULY = rooms.MONTHS
ON_FILES = [snapshots_match_their_hash, no_test_answer_was_scored, report_files_are_as_they_were_written]


@pytest.fixture(autouse=True)
def no_partial_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster uploads output at the end of a step; its thread that does so earlier dies if the bucket is missing."""
    monkeypatch.setattr(S3ComputeLogManager, "upload_interval", None)


def test_months_are_green_and_have_reports_with_every_file_in_the_bucket(s3: SeaweedFS, world: Settings) -> None:
    settings = world.model_copy(update={"s3_bucket": BUCKET})
    database, store = Database(settings), object_store(settings)
    with dagster_instance(settings, database) as instance:
        for month in rooms.MONTHS:
            outcome = run_month(instance, settings, month)
            assert outcome.success, outcome.why
        for job in (DRIFT_JOB, DRIFT_REPORT_JOB):
            assert run_job(instance, settings, job, JULY)
        states = month_states(database, instance, rooms.MONTHS)
        assert [state.state for state in states] == [State.GREEN, State.GREEN]
        assert all(pruned.names == () for pruned in prune(database, store, instance, dry_run=True))
    keys = sorted(key for folder in ("snapshots", "reports") for key, _ in store.list(folder))
    assert [key.split("/")[:3] for key in keys] == [
        *[["reports", "drift", JULY]] * 3,
        ["snapshots", "scored_responses", JUNE],
        ["snapshots", "scored_responses", JULY],
    ]
    urls = {url for (url,) in rooms.rows(database, "SELECT url FROM report_file")}
    assert urls == {f"s3://{BUCKET}/{key}" for key in keys[:3]}
    assert not (settings.irt_home / "objects").exists()

    def violated() -> dict[str, list[str]]:
        report = evaluate_all(database, store, states, datetime.now(UTC), {}, ON_FILES)
        return {v.invariant.name: [found.subject for found in v.violations] for v in report.verdicts if not v.passed}

    assert violated() == {}
    report, _, _, snapshot, _ = keys
    s3.owner().put_object(Bucket=BUCKET, Key=snapshot, Body=b"something else")
    s3.owner().delete_object(Bucket=BUCKET, Key=report)
    assert violated() == {
        "snapshots_match_their_hash": [snapshot],
        "report_files_are_as_they_were_written": [report],
    }


def test_month_with_a_missing_bucket_fails_with_the_setting(s3: SeaweedFS, world: Settings) -> None:
    settings = world.model_copy(update={"s3_bucket": "none"})
    with dagster_instance(settings, Database(settings)) as instance:
        outcome = run_month(instance, settings, JUNE)
    assert not outcome.success
    assert not missing_sentences(outcome.why, "s3://none/snapshots/scored_responses/2026-06", "S3_BUCKET")
