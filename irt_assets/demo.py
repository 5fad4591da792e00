"""The demo: months of a company's life in minutes, with planted faults, and whether they were found.

`simulated` plants faults, runs every month and holds what was found against the truth. `own_log` does the
same with a user's log, as one window that becomes its own origin. What does not belong here: printing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from dagster import DagsterInstance

from irt_assets.calibration.fits import latest_staged
from irt_assets.calibration.gates import gather
from irt_assets.calibration.green import MonthState, State, month_states
from irt_assets.calibration.origin import initialise
from irt_assets.partitions import month_bounds, month_of
from irt_assets.psychometrics.models import Flag
from irt_assets.psychometrics.scenario import demo_scenario
from irt_assets.psychometrics.simulate import simulate
from irt_assets.responses.importing import import_attempts, import_learners, import_questions
from irt_assets.responses.scales import read_scales
from irt_assets.responses.simulated import SimulatedFiles, write
from irt_assets.runs import run_month
from resources.database import Database
from resources.failures import PermanentFailure
from resources.object_store import ObjectStore
from resources.schema import upgrade
from resources.settings import Settings, get_settings, write_env_file

Say = Callable[[str], None]
NOT_TESTED_YET = {"drift", "leak", "dif"}


@dataclass(frozen=True)
class Finding:
    """A planted fault and what the platform says of it; `as_expected` is None where nothing tests it yet."""

    fault: str
    planted: str
    found: str
    as_expected: bool | None


def prepare(folder: Path, settings: Settings, say: Say) -> tuple[SimulatedFiles, dict[str, Any], Settings]:
    """Simulate (or take what an earlier demo simulated) and write the settings that fit it."""
    files = SimulatedFiles(
        *(
            folder / name
            for name in (
                "questions.jsonl",
                "learners.jsonl",
                "attempts.parquet",
                "late_attempts.parquet",
                "truth.json",
            )
        )
    )
    if not files.truth.exists():
        say("simulating four months and the running one …")
        files = write(*simulate(demo_scenario(datetime.now(UTC))), folder)
    truth = json.loads(files.truth.read_text("utf-8"))
    write_env_file(settings, irt_first_month=truth["months"][0], irt_schedules="stopped")
    get_settings.cache_clear()
    return files, truth, get_settings()


def load(database: Database, files: SimulatedFiles, settings: Settings, say: Say) -> None:
    """Migrate, import everything and freeze the anchors. Safe to repeat."""
    upgrade(database)
    _refuse_foreign_data(database, files)
    rejects = settings.irt_home / "rejects"
    say("importing questions, learners and answers …")
    import_questions(database, files.questions, reject_dir=rejects)
    import_learners(database, files.learners, reject_dir=rejects)
    report = import_attempts(database, [files.attempts], first_month=settings.irt_first_month, reject_dir=rejects)
    say(f"  {report.accepted:,} answers imported, {report.duplicates:,} were there already")
    with database.connect() as connection:
        new = [s.scale_id for s in read_scales(connection).values() if not s.initialised]
    for scale_id in new:
        origin = initialise(database, scale_id, first_month=settings.irt_first_month)
        say(f"  scale {scale_id}: {origin.anchors} anchors frozen and published")


def run_months(instance: DagsterInstance, settings: Settings, months: list[str], say: Say) -> None:
    """Materialise every month, oldest first."""
    for month in months:
        outcome = run_month(instance, settings, month)
        say(f"  {month}: " + ("materialised" if outcome.success else f"held – {outcome.error}"))


def compare(
    database: Database, store: ObjectStore, instance: DagsterInstance, truth: dict[str, Any], months: list[str]
) -> tuple[list[MonthState], list[Finding]]:
    """The state of every month, and planted against found."""
    states = month_states(database, instance, months)
    with database.connect() as connection:
        findings = [_finding(connection, store, fault, states, months) for fault in truth["faults"]]
        findings.append(_false_alarms(connection, store, truth, months))
    bad = {m for f in truth["faults"] if f["kind"] == "anchors_moved" for m in f["months"]}
    for state in states:
        expected = State.RED if state.month in bad else State.GREEN
        findings.append(
            Finding(
                f"state of {state.month}",
                f"{expected}",
                f"{state.state}",
                state.state is expected,
            )
        )
    return states, findings


def _finding(
    connection: psycopg.Connection,
    store: ObjectStore,
    fault: dict[str, Any],
    states: list[MonthState],
    months: list[str],
) -> Finding:
    kind, items = fault["kind"], fault["item_ids"]
    planted = f"{', '.join(items[:3])}{f' and {len(items) - 3} more' if len(items) > 3 else ''}"
    active = [m for m in fault["months"] if m in months]
    planted += f" in {active[0]}" if len(active) == 1 else f" from {active[0]}"
    if kind in NOT_TESTED_YET:
        return Finding(kind, planted, "not tested yet", None)
    scale = next(iter(read_scales(connection).values()))
    if kind == "anchors_moved":
        staged = latest_staged(connection, active[0], scale.scale_id, scale.engine)
        dropped = set(((staged.spec if staged else {}).get("linking_constants") or {}).get("anchors_dropped", ()))
        state = next(s.state for s in states if s.month == active[0])
        return Finding(
            "anchors moved",
            planted,
            f"{len(dropped & set(items))} of {len(items)} named, {len(dropped - set(items))} others; month is {state}",
            state is State.RED,
        )
    wanted = Flag.NEGATIVE_DISCRIMINATION if kind == "wrong_key" else Flag.ALL_CORRECT
    found = []
    for month in active:
        calibration = gather(connection, store, month, scale).calibration
        if calibration is None:
            continue
        flags = dict(zip(calibration.item_ids, calibration.flags, strict=True))
        if all(wanted in flags.get(item, ()) for item in items):
            found.append(month)
    return Finding(kind, planted, f"{wanted.value} in {len(found)} of {len(active)} months", len(found) == len(active))


def _false_alarms(
    connection: psycopg.Connection, store: ObjectStore, truth: dict[str, Any], months: list[str]
) -> Finding:
    planted = {item for fault in truth["faults"] for item in fault["item_ids"]}
    flagged: set[str] = set()
    for scale in read_scales(connection).values():
        for month in months:
            calibration = gather(connection, store, month, scale).calibration
            if calibration is not None:
                flagged |= {i for i, f in zip(calibration.item_ids, calibration.flags, strict=True) if f}
    wrong = sorted(flagged - planted)
    return Finding("sound items", "none flagged", ", ".join(wrong[:5]) or "none flagged", not wrong)


def _refuse_foreign_data(database: Database, files: SimulatedFiles) -> None:
    bank = {json.loads(line)["item_id"] for line in files.questions.read_text("utf-8").splitlines()}
    with database.connect() as connection:
        present = {row[0] for row in connection.execute("SELECT item_id FROM question")}
    if present - bank:
        raise PermanentFailure(
            "this database holds another item bank: the demo will not mix simulated answers into it. "
            "Set IRT_HOME to an empty folder (and unset DATABASE_URL), then run the demo again"
        )


@dataclass(frozen=True)
class OwnLog:
    """What became of a user's log."""

    imported: dict[str, Any]
    window: tuple[datetime, datetime]
    thresholds: dict[str, Any]
    options: list[Any]
    published: int
    left_out: dict[str, str]


def log_window(database: Database) -> tuple[datetime, datetime]:
    """From the first answer's month to just after the last answer."""
    with database.connect() as connection:
        row = connection.execute("SELECT min(completed_at), max(completed_at) FROM attempt").fetchone()
    if row is None or row[0] is None:
        raise PermanentFailure("no answer of the log was accepted: see the reject file for the reasons")
    return month_bounds(month_of(row[0]))[0], row[1] + timedelta(microseconds=1)
