"""Dagster stores names with runs, backfills, cursors and ticks, which must still exist after the code has changed.

`stored_names.json` contains the names of commit a98e52568e. Names may be added. If a name is removed or changed, runs
and ticks that were queued under it are lost.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from irt_assets.definitions import build_defs
from resources.settings import Settings

STORED = json.loads(Path(__file__).with_name("stored_names.json").read_text("utf-8"))
GONE = {
    *("release_decision.decide_on_proposals", "linked_item_parameters.theta_stays_on_the_same_answers"),
    "own_tables",
    *("observe_bank.question_bank", "observe_attempts.attempts", "observe_bank_schedule", "observe_attempts_schedule"),
    "late_answers",
    *("item_response_time, %Y-%m-%d, 0 0 * * *", "calibrate_night.item_response_time"),
    "mirt_calibrate.item_response_time",
    "jobs.launching.stored_logs.StoredComputeLogManager",
    "weekly_learner_report.reports_are_in_the_store",
    "generate_weekly_report.weekly_learner_report_reports_are_in_the_store",
}
"""Names that were removed on purpose. A decision queued in the launchpad fails, and is made in the dashboard or by
`irt release` instead. A month that the removed check held is held by its publication step, and runs were never queued
for the check alone. The sensor `pull` copies items and learners. The job `judge_attempts` maintains the log; if it
changes verdicts, schedules and the sensor `stale_months` request the affected months. Verdicts include the effect of
items' response times. Only the configuration names the class of the compute logs. The invariant
`report_files_are_as_they_were_written` reads the files of reports."""
IN_THE_PACKAGE = Path(__file__).parents[2] / "irt_assets"


def _configured(part: Any) -> set[str]:
    """Return the classes in a configuration of the instance."""
    if not isinstance(part, dict):
        return set()
    below = set().union(*map(_configured, part.values()))
    return below | ({f"{part['module']}.{part['class']}"} if "module" in part else set())


def _partitions(definition: Any) -> str:
    return "" if definition is None else f", {definition.fmt}, {definition.cron_schedule}"


def present_names() -> dict[str, set[str]]:
    repository = build_defs(Settings(_env_file=None)).get_repository_def()
    graph = repository.asset_graph
    jobs = [job for job in repository.get_all_jobs() if not job.name.startswith("__")]
    files = [
        yaml.safe_load((IN_THE_PACKAGE / name).read_text("utf-8"))
        for name in ("workspace.yaml", "dagster.yaml", "dagster-variants.yaml")
    ]
    return {
        "location": {one["grpc_server"]["location_name"] for one in files[0]["load_from"]},
        "classes": set().union(*map(_configured, files[1:])),
        "repository": {repository.name},
        "ops": {f"{job.name}.{op}" for job in jobs for op in job.graph.node_dict},
        "pools": {pool for job in jobs for node in job.graph.node_defs for pool in node.pools},
        "assets": {
            f"{key.to_user_string()}{_partitions(graph.get(key).partitions_def)}" for key in graph.get_all_asset_keys()
        },
        "checks": {f"{key.asset_key.to_user_string()}.{key.name}" for key in graph.asset_check_keys},
        "schedules": {one.name for one in repository.schedule_defs},
        "sensors": {one.name for one in repository.sensor_defs},
    }


def test_names_stored_by_dagster_still_exist() -> None:
    present = present_names()
    assert STORED.keys() == present.keys()
    missing = {name for kind, names in STORED.items() for name in names if name not in present[kind]}
    assert missing == GONE
