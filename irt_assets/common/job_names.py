"""Names of jobs and assets that several modules use. This module imports nothing."""

MONTHLY_JOB = "monthly_calibration"
NIGHTLY, NIGHTLY_JOB = "nightly_calibration", "calibrate_night"
KPI_JOB = "compute_weekly_kpis"
LEARNER_REPORT, LEARNER_REPORT_JOB = "weekly_learner_report", "generate_weekly_report"
INVARIANT_REPORT, INVARIANTS_JOB = "invariant_report", "invariants"
INVENTORY = "inventory"
ITEM_ANALYSIS_DAILY, ITEM_ANALYSIS_JOB = "item_analysis_daily", "analyse_items"
JUDGED, JUDGE_JOB = "judged_attempts", "judge_attempts"
LAKE = "lake"
LAKE_EQUALS_LOG = "lake_equals_log"
NEW_ITEMS_MOVE_ON = "new_items_move_on"
PRUNE_JOB = "prune"
ALIASES = {"mirt_calibrate": NIGHTLY_JOB, "compute_daily_kpis": KPI_JOB}
"""The documents' names of two jobs. A run under either name is a run of the job."""


def job_of(name: str) -> str:
    """The job's own name, given any of its names."""
    return ALIASES.get(name, name)


def same_job(name: str) -> tuple[str, ...]:
    """All names of a job, given any of them: its own name first, the documents' name last."""
    job = job_of(name)
    return job, *(alias for alias, target in ALIASES.items() if target == job)


def documents_name(name: str) -> str:
    """The documents' name of the job, or else its own. Schedules, labels of metrics and keys of alerts use this
    name."""
    return same_job(name)[-1]
