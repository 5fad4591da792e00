"""What Dagster's daemon does besides launching runs, done in this process: for installations that use timers instead.

Sensors are evaluated as the daemon evaluates them and what they ask for is run here; what follows a month by itself is
made where it is older than what it reads. What does not belong here: what a sensor decides (see `jobs`), and one job by
itself (see `runs`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from irt_assets.definitions import build_defs
from irt_assets.runs.in_process_runs import Outcome, execute, why_it_ended
from resources.dagster_compat import RUN_KEY_TAG, SENSOR_NAME_TAG
from resources.settings import Settings

LOG = logging.getLogger("irt.run")
SENSORS = (
    "ledger",
    "late_answers",
    "theta_sweep",
    "alerts_of_runs",
    "alerts_of_checks",
    "ready_months",
    "alert_delivery",
)
"""In the order of evaluation: sensors that open alerts follow those that launch runs, and delivery comes last."""
DAEMONS_OWN = ("killed_runs", "automation", "alerts_of_schedules")
"""Sensors that are useful only with a daemon."""
NOT_A_CAUSE = "linked_item_parameters"
"""A held month is fitted and linked like any other: see `jobs.automation`."""
MOST_ROUNDS = 5
"""At most this many rounds, as a run may cause another: drift, then its report."""
CURSOR = "irt without a daemon: {}"


@dataclass(frozen=True)
class Asked:
    """A run to launch: of a job, or of `assets` if `job` is None."""

    partition: str | None
    job: str | None = None
    assets: tuple[dg.AssetKey, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        made = self.job or ", ".join(key.to_user_string() for key in self.assets)
        return f"{made} {self.partition}" if self.partition else made


def follow_up(instance: dg.DagsterInstance, settings: Settings) -> Iterator[Outcome]:
    """Run what sensors and automation ask for, until they ask for nothing more."""
    for _ in range(MOST_ROUNDS):
        defs = build_defs(settings)
        asked = [*_automation_requests(instance, defs), *_sensor_requests(instance, defs, SENSORS)]
        if not asked:
            return
        for one in asked:
            yield _run(instance, settings, one)


def evaluate(instance: dg.DagsterInstance, settings: Settings, sensor: str) -> Iterator[Outcome]:
    """One tick of one of `SENSORS`, and the runs that it asks for."""
    for one in _sensor_requests(instance, build_defs(settings), (sensor,)):
        yield _run(instance, settings, one)


def _run(instance: dg.DagsterInstance, settings: Settings, one: Asked) -> Outcome:
    result = execute(instance, settings, job=one.job, partition=one.partition, assets=one.assets, tags=one.tags)
    return Outcome(one.name, result.success, "" if result.success else why_it_ended(result.all_events))


def _sensor_requests(instance: dg.DagsterInstance, defs: dg.Definitions, names: Sequence[str]) -> Iterator[Asked]:
    """The runs that each sensor requests and has not had yet; cursors are stored as the daemon stores them."""
    cursors = instance.daemon_cursor_storage
    assert cursors is not None
    sensors = {sensor.name: sensor for sensor in defs.sensors or () if isinstance(sensor, dg.SensorDefinition)}
    for name in names:
        key = CURSOR.format(name)
        context = dg.build_sensor_context(
            instance,
            cursor=cursors.get_cursor_values({key}).get(key),
            definitions=defs,
            resources=defs.resources,
            sensor_name=name,
        )
        with context:
            tick = sensors[name].evaluate_tick(context)
        if tick.skip_message:
            LOG.info("%s: %s", name, tick.skip_message)
        for request in tick.run_requests or ():
            tags = {**request.tags, SENSOR_NAME_TAG: name, RUN_KEY_TAG: request.run_key or ""}
            if not instance.get_runs_count(dg.RunsFilter(tags={SENSOR_NAME_TAG: name, RUN_KEY_TAG: tags[RUN_KEY_TAG]})):
                yield Asked(request.partition_key, request.job_name, tuple(request.asset_selection or ()), tags)
        if tick.cursor:
            cursors.set_cursor_values({key: tick.cursor})


def _automation_requests(instance: dg.DagsterInstance, defs: dg.Definitions) -> Iterator[Asked]:
    """The automatic assets of each month that are missing or older than what they read.

    Those that read one another come in later rounds. The daemon remembers what it has asked for and so asks once; here
    what failed is asked for again, by the next command.
    """
    graph = defs.resolve_asset_graph()
    follow = [key for key in graph.toposorted_asset_keys if graph.get(key).automation_condition is not None]
    read = {key: graph.get(key).parent_keys for key in follow}
    stored, kind = instance.event_log_storage, dg.DagsterEventType.ASSET_MATERIALIZATION
    concerned = {*follow, *(parent for key in follow for parent in read[key])}
    made = {key: stored.get_latest_storage_id_by_partition(key, kind) for key in concerned}  # clocks are set back
    due: dict[str, list[dg.AssetKey]] = {}
    for key in follow:
        causes = [parent for parent in read[key] if parent.to_user_string() != NOT_A_CAUSE]
        for month in set.intersection(*(set(made[parent]) for parent in read[key])):
            waits = any(parent in due.get(month, ()) for parent in read[key])
            if not waits and max(made[cause][month] for cause in causes) > made[key].get(month, -1):
                due.setdefault(month, []).append(key)
    for month in sorted(due):
        yield Asked(month, assets=tuple(due[month]))
