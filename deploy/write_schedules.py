"""Write the services and timers of systemd and the CronJobs of all schedules, from `jobs.plans`.

`python -m deploy.write_schedules`, from the root of the repository.

Files without a Dagster schedule (backups, drift reports, single engines, the θ sweep) are written by hand.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from textwrap import indent

from deploy.write_pods import CONFINED, DATABASE, SETTINGS
from irt_assets.common.job_names import (
    ITEM_ANALYSIS_JOB,
    JUDGE_JOB,
    KPI_JOB,
    LEARNER_REPORT_JOB,
    MONTHLY_JOB,
    NIGHTLY_JOB,
    PRUNE_JOB,
)
from jobs.plans import PLANS, Plan

ROOT = Path(__file__).parents[1]
UNITS = Path("deploy/systemd/units")
CRON = Path("deploy/k8s/components/cron")
WEEKDAYS = {"1": ("Mon ", "Monday ")}


@dataclass(frozen=True)
class JobFiles:
    """The units and CronJob of a job.

    Attributes:
        unit: name of service and timer, after `irt-`.
        description: their description.
        hours: maximum duration of a run, equal to the job's.
        note: comment at the top of the service.
        cron_job: name of its CronJob and file, if they differ from its documents' name.
    """

    unit: str
    description: str
    hours: int = 2
    cron_job: tuple[str, str] | None = None
    note: str = ""


ENGINES = """\
# The engine em, then mirt, pymc and brms in this order, if IRT_ENGINES names them. One engine alone:
# irt-calibration-pymc.service (PyMC), irt-calibration-mirt.service (R, mirt), irt-calibration-brms.service (R, Stan).
"""
JOB_FILES = {
    JUDGE_JOB: JobFiles("observe", "judge the answers of past days, and close months", 6),
    ITEM_ANALYSIS_JOB: JobFiles("items", "item analysis of yesterday and today"),
    "aggregate_features_daily": JobFiles("features", "features of yesterday"),
    KPI_JOB: JobFiles("kpis", "KPIs of the week"),
    MONTHLY_JOB: JobFiles("calibration", "calibrate missing months with every enabled engine", 24, note=ENGINES),
    NIGHTLY_JOB: JobFiles("nightly", "nightly calibration", 6, ("calibrate-irt-nightly", "calibrate-irt")),
    LEARNER_REPORT_JOB: JobFiles("weekly-report", "learners' reports of the last complete week", 12),
    "detect_inactivity": JobFiles("inactivity", "KPIs of inactive learners"),
    "inventory": JobFiles("inventory", "list missing, stale and red months"),
    PRUNE_JOB: JobFiles("prune", "delete outdated data"),
    "invariants": JobFiles("invariants", "check all stored data against the invariants"),
}
SERVICE = """\
{note}[Unit]
Description=IRT: {description}
Wants=network-online.target
After=network-online.target postgresql.service irt-daemon.service
OnFailure=irt-failure@%n.service

[Service]
Type=oneshot
{starts}
TimeoutStartSec={hours}h
TimeoutStopSec=90
# Repeat after a kill or lack of memory, as existing results are left alone. Other failures are not repeated.
Restart=on-abnormal
RestartSec=60
OOMPolicy=stop
MemoryHigh=70%
MemoryMax=80%
CPUWeight=50
TasksMax=4096
"""
TIMER = """\
# Instead of or in addition to the daemon: the first to run computes missing results.
[Unit]
Description=IRT: {description}, {when}

[Timer]
{calendar}
Persistent=true
AccuracySec=1min

[Install]
WantedBy=timers.target
"""
CRON_JOB = """\
# {comment}
apiVersion: batch/v1
kind: CronJob
metadata:
  name: {name}
  labels:
    cronjob: {name}
    app.kubernetes.io/name: irt-assets
    app.kubernetes.io/component: cron
spec:
  schedule: "{schedule}"
  timeZone: {zone}
  suspend: {suspend}
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: {late}
  successfulJobsHistoryLimit: 3
  failedJobsHistoryLimit: 3
  jobTemplate:
    metadata:
      labels:
        cronjob: {name}
        app.kubernetes.io/name: irt-assets
        app.kubernetes.io/component: cron
    spec:
      activeDeadlineSeconds: {deadline}
      ttlSecondsAfterFinished: 604800
      backoffLimit: 3 # the database may be unreachable for a minute
      podFailurePolicy:
        rules:
          - action: FailJob # the run has used all its retries and failed
            onExitCodes: {{containerName: irt, operator: In, values: [1, 3]}}
          - action: Ignore # replace a pod that the cluster evicted
            onPodConditions: [{{type: DisruptionTarget, status: "True"}}]
      template:
        metadata:
          labels:
            cronjob: {name}
            app.kubernetes.io/name: irt-assets
            app.kubernetes.io/component: cron
        spec:
          restartPolicy: Never
          enableServiceLinks: false
          automountServiceAccountToken: false
          securityContext:
            runAsNonRoot: true
            runAsUser: 10001
            runAsGroup: 10001
            fsGroup: 10001
            seccompProfile: {{type: RuntimeDefault}}
          containers:
            - name: irt
              image: irt-assets
              imagePullPolicy: IfNotPresent
              args: [irt, job, {job}]
              envFrom:
{settings}              env:
{database}                - name: IRT_RUN_KEY
                  valueFrom: {{fieldRef: {{fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}}}
              resources:
                requests: {{cpu: 100m, memory: 512Mi}}
                limits: {{memory: 1Gi}}
{confined}          volumes:
            - {{name: home, emptyDir: {{sizeLimit: 256Mi}}}}
            - {{name: cache, emptyDir: {{sizeLimit: 1Gi}}}}
            - {{name: tmp, emptyDir: {{sizeLimit: 1Gi}}}}
"""
MISSING_HOUR = """\
# On the second Sunday of March the hour does not exist in New York, and a CronJob skips it. The next hour then
# computes the results; on other days they already exist then."""
OTHER_NAME = "under its other name. Suspended: {name} requests the same job at the same minute."


def files() -> Iterator[tuple[Path, str]]:
    """Paths, relative to the repository, and texts of all files."""
    for unit, group in groupby(PLANS, lambda plan: JOB_FILES[plan.job].unit):
        plans = list(group)
        yield UNITS / f"irt-{unit}.service", _service(plans)
        yield UNITS / f"irt-{unit}.timer", _timer(plans)
    for plan in PLANS:
        job_files = JOB_FILES[plan.job]
        other = plan.documents_name.replace("_", "-")
        name, file = job_files.cron_job or (other, other)
        comment = f"{_capital(job_files.description)}."
        if plan.zone != "UTC":
            comment += f"\n{MISSING_HOUR}"
        yield CRON / f"{file}.yaml", _cron_job(plan, name, comment)
        if job_files.cron_job:
            comment = f"{_capital(job_files.description)} {OTHER_NAME.format(name=name)}"
            yield CRON / f"{other}.yaml", _cron_job(plan, other, comment, suspend=True)


def _service(plans: list[Plan]) -> str:
    starts = [f"ExecStart=/opt/irt/current/bin/irt job {plan.documents_name}" for plan in plans]
    hours = max(JOB_FILES[plan.job].hours for plan in plans) + 1
    note = "".join(JOB_FILES[plan.job].note for plan in plans)
    return SERVICE.format(note=note, description=_description(plans), starts="\n".join(starts), hours=hours)


def _timer(plans: list[Plan]) -> str:
    minute, hour, _, _, weekday = plans[0].cron.split()
    zone = plans[0].zone
    short, long = WEEKDAYS.get(weekday, ("", ""))
    time = f"{'*' if hour == '*' else f'{int(hour):02}'}:{int(minute):02}"
    calendar = [f"OnCalendar={short}*-*-* {time}:00 {zone}"]
    if zone != "UTC":
        later = f"{int(hour) + 1:02}:{int(minute):02}"
        calendar = [
            f"# {time} does not exist on the second Sunday of March: the job then runs at {later}.",
            *calendar,
            f"OnCalendar=Sun *-03-8..14 {later}:00 {zone}",
        ]
    when = f"every hour at minute {minute}" if hour == "*" else f"{long}{time} {zone}"
    return TIMER.format(description=_description(plans), when=when, calendar="\n".join(calendar))


def _cron_job(plan: Plan, name: str, comment: str, *, suspend: bool = False) -> str:
    minute, hour, day, month, weekday = plan.cron.split()
    deadline_s = "3600" if weekday == "*" else "172800 # two days, as the next run is in a week"
    hours = hour if plan.zone == "UTC" else f"{hour},{int(hour) + 1}"
    return CRON_JOB.format(
        comment=comment,
        name=name,
        schedule=" ".join((minute, hours, day, month, weekday)),
        zone="Etc/UTC" if plan.zone == "UTC" else plan.zone,
        suspend=str(suspend).lower(),
        late=deadline_s,
        deadline=max(6, JOB_FILES[plan.job].hours + 2) * 3600,
        job=plan.documents_name,
        settings=indent(SETTINGS, " " * 16),
        database=indent(DATABASE, " " * 16),
        confined=indent(CONFINED, " " * 14),
    )


def _description(plans: list[Plan]) -> str:
    return ", ".join(JOB_FILES[plan.job].description for plan in plans)


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


if __name__ == "__main__":
    for path, text in files():
        (ROOT / path).write_text(text, "utf-8")
