"""A second demo runs only the jobs that the first demo did not finish."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.demo import running
from resources.settings import Settings
from tests.helpers.dagster_private import create_run_for_test

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dg.op
def step(context: dg.OpExecutionContext) -> None:
    if context.partition_key == "failed":
        raise RuntimeError("on purpose")


@dg.job(partitions_def=dg.StaticPartitionsDefinition(["made", "failed", "new"]))
def work() -> None:
    step()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        for key in ("made", "failed"):
            work.execute_in_process(partition_key=key, instance=instance, run_config=QUIET, raise_on_error=False)
        yield instance


@pytest.mark.parametrize(("again", "expected"), [(False, ["failed", "new"]), (True, ["made", "failed", "new"])])
def test_successful_partition_is_run_again_only_if_requested(
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    again: bool,
    expected: list[str],
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(running, "run_job", lambda _instance, _settings, _name, first, _last: ran.append(first) or True)
    lines: list[str] = []
    jobs = running.Jobs(instance, Settings(irt_home=tmp_path, _env_file=None), lines.append, again)
    for key in ("made", "failed", "new"):
        jobs.run("work", key)
    assert ran == expected
    assert lines[0] == ("  work made: 0 s" if again else "  work made: already made")


def test_other_jobs_and_ranges_of_partitions_run_although_a_partition_succeeded(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, str, str]] = []
    monkeypatch.setattr(running, "run_job", lambda _instance, _settings, *arguments: ran.append(arguments) or True)
    jobs = running.Jobs(instance, Settings(irt_home=tmp_path, _env_file=None), lambda _line: None, again=False)
    jobs.run("other", "made")
    jobs.run("work", "made", "new")
    assert ran == [("other", "made", ""), ("work", "made", "new")]


def test_night_is_not_run_again_if_a_job_of_the_old_name_succeeded(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    tags = {"dagster/partition": "2026-07-16"}
    create_run_for_test(instance, job_name="mirt_calibrate", tags=tags, status=dg.DagsterRunStatus.SUCCESS)
    lines: list[str] = []
    jobs = running.Jobs(instance, Settings(irt_home=tmp_path, _env_file=None), lines.append, again=False)
    jobs.run("calibrate_night", "2026-07-16")
    assert lines == ["  calibrate_night 2026-07-16: already made"]
