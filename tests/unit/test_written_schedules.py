"""Files that deploy/write_schedules.py and deploy/write_pods.py write."""

from __future__ import annotations

from dagster import MAX_RUNTIME_SECONDS_TAG

from deploy import write_pods
from deploy.write_schedules import JOB_FILES, ROOT, files
from irt_assets.definitions import build_defs
from jobs.plans import PLANS
from resources.settings import Settings


def test_committed_files_equal_the_files_written_from_the_schedules() -> None:
    written = dict(files())
    stale = [str(path) for path, text in written.items() if (ROOT / path).read_text("utf-8") != text]
    assert stale == [], "run `python -m deploy.write_schedules`"
    assert {plan.job for plan in PLANS} == set(JOB_FILES)


def test_committed_manifests_equal_the_manifests_written_from_the_shared_parts() -> None:
    written = dict(write_pods.files())
    stale = [str(path) for path, text in written.items() if (ROOT / path).read_text("utf-8") != text]
    assert stale == [], "run `python -m deploy.write_pods`"
    assert write_pods.LAUNCHER in written


def test_time_limit_of_services_and_pods_equals_the_time_limit_of_runs() -> None:
    defs = build_defs(Settings(_env_file=None))
    longest = {job: int(defs.resolve_job_def(job).tags[MAX_RUNTIME_SECONDS_TAG]) for job in JOB_FILES}
    assert {job: one.hours * 3600 for job, one in JOB_FILES.items()} == longest
