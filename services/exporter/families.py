"""Every metric: its name, meaning and labels. Rules and dashboards may use only these."""

from dataclasses import dataclass

from resources.serving import metrics


@dataclass(frozen=True)
class Family:
    name: str
    meaning: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """A value of a metric, with the values of its labels."""

    family: Family
    value: float
    labels: tuple[str, ...] = ()


LAST_SUCCESS = Family("irt_schedule_last_success_timestamp_seconds", "End of the job's last successful run.", ("job",))
OVERDUE = Family(
    "irt_job_overdue", "1: the newest output that the job should have written by now is missing.", ("job",)
)
RUNS = Family("irt_runs", "Runs that Dagster keeps.", ("status",))
MONTH_STATE = Family(
    "irt_month_state",
    "1: the month is in this state, as in `irt status`; while a run makes it, in the state of before. For the last 13 "
    "months.",
    ("scale", "month", "state"),
)
CHANGED = Family(
    "irt_closed_month_changed_answers",
    "Answers that have changed since the month closed, as counted in the last night; only months with such answers.",
    ("scale", "month", "kind"),
)
PUBLISHED = Family(
    "irt_month_published_items", "Items that the month's publication step published first.", ("scale", "month")
)
SLOPE = Family("irt_linking_slope", "Slope of the newest month's link to the bank's scale.", ("scale",))
INTERCEPT = Family("irt_linking_intercept", "Intercept of the newest month's link to the bank's scale.", ("scale",))
VIOLATIONS = Family(
    "irt_invariant_violations", "Subjects for which the invariant is violated.", ("invariant", "severity")
)
INVARIANTS_LAST = Family("irt_invariants_last_run_timestamp_seconds", "When the invariants were last evaluated.")
NIGHTLY_LAST = Family("irt_nightly_last_run_timestamp_seconds", "When the last nightly calibration stored its results.")
BACKUP_LAST = Family(
    "irt_backup_last_success_timestamp_seconds", "When the last backup was made; absent if there is none."
)
UNDELIVERED = Family("irt_alerts_undelivered", "Messages that have not reached a configured channel yet.", ("channel",))
HEARTBEAT_AGE = Family(
    "irt_daemon_heartbeat_age_seconds",
    "Age of the oldest heartbeat among the daemon's parts, or how far ahead one is; +Inf if one never sent any.",
)
INTAKE_LAST = Family("irt_intake_last_arrival_timestamp_seconds", "When the source last brought answers.", ("source",))
INTAKE_ROWS = Family(
    "irt_intake_rows_last_day",
    "Rows that the source brought in the last 24 hours, by result: stored, duplicate or refused.",
    ("source", "result"),
)
INTAKE_SILENT = Family(
    "irt_intake_silent",
    "1: the source has brought nothing for longer than its usual pauses; 0: it has brought rows.",
    ("source",),
)
UP = Family("irt_exporter_up", "1: all metrics could be read from the database; 0: some could not.")
BUILD_INFO = Family(*metrics.BUILD_INFO, ("version",))

FAMILIES = tuple(one for one in list(vars().values()) if isinstance(one, Family))
