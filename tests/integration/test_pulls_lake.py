"""`irt pull` from a folder of Parquet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from irt_assets.intake.pulling.nightly import Comparison
from resources.failures import TransientFailure
from resources.postgres.database import Database
from resources.settings import Settings
from tests.helpers.pulled import Company, pull, source
from tests.helpers.rooms import rows

NOW = datetime.now(UTC).replace(microsecond=0)
LOG = "SELECT attempt_id, correct FROM response_log ORDER BY attempt_id::int"


def table(*numbers: int, score: int = 1, ago: timedelta = timedelta(days=2)) -> pa.Table:
    when = pa.array([NOW - ago + timedelta(milliseconds=n) for n in numbers], pa.timestamp("us", "UTC"))
    return pa.table(
        {
            "id": pa.array(numbers, pa.int64()),
            "learner": pa.array([f"u{n}" for n in numbers], pa.string()),
            "question": pa.array(["q1"] * len(numbers), pa.string()),
            "answered": when,
            "score": pa.array([score] * len(numbers), pa.int32()),
            "written": when,
        }
    )


@pytest.fixture
def company(database: Database, tmp_path: Path) -> Company:
    return Company(database.url, tmp_path / "sources.yaml")


def test_a_folder_of_parquet_is_a_source_like_any_other(
    company: Company, settings: Settings, database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "it's: a lake"
    (folder / "day=1").mkdir(parents=True)
    lms = company.write_file(settings, address=f"parquet:{folder}", table=None, revision="cursor")
    with pytest.raises(TransientFailure, match="the folder cannot be read"):
        pull(database, lms)
    pq.write_table(table(1, 2), folder / "day=1/a.parquet")
    assert pull(database, lms).accepted == 2
    pq.write_table(table(2, 3, score=0, ago=timedelta(hours=1)), folder / "b.parquet")
    report = pull(database, lms)
    assert (report.accepted, report.corrected, pull(database, lms).read) == (1, 1, 0)
    assert rows(database, LOG) == [("1", True), ("2", False), ("3", False)]
    pq.write_table(table(1, 9, score=1), folder / "day=1/a.parquet")
    [found] = Comparison(database, source(lms)).run(NOW, confirm=(NOW - timedelta(days=2)).date())
    assert (found.missing, found.vanished) == (1, 0)  # 2 is in the folder, with its newer row


def test_zoned_times_in_nanoseconds_in_parquet_are_read(
    company: Company, settings: Settings, database: Database, tmp_path: Path
) -> None:
    """As pandas writes them. The last one that fits is infinity to DuckDB."""
    day_ago = round((datetime.now(UTC) - timedelta(days=1)).timestamp()) * 10**9
    answered, written = (pa.array(at, pa.timestamp("ns", "UTC")) for at in ([day_ago, 2**63 - 1], [day_ago] * 2))
    columns = {"id": [1, 2], "learner": ["u", "u"], "question": ["q", "q"], "score": [1, 1]}
    folder = tmp_path / "nanoseconds"
    folder.mkdir()
    pq.write_table(pa.table(columns | {"answered": answered, "written": written}), folder / "part.parquet")
    report = pull(database, company.write_file(settings, address=f"parquet:{folder}", table=None))
    assert (report.accepted, set(report.rejected)) == (1, {"bad_time"})


def test_times_beyond_all_calendars_in_parquet_are_faults_of_their_rows(
    company: Company, settings: Settings, database: Database, tmp_path: Path
) -> None:
    lms = company.write_file(settings, address=f"parquet:{tmp_path / 'lake'}", table=None)
    (tmp_path / "lake").mkdir()
    far = pa.array([2**62, -(2**61)], pa.int64()).cast(pa.timestamp("us", "UTC"))
    sound = table(1, 2, 3, 4)
    answered = pa.concat_arrays([sound["answered"].combine_chunks()[:2], far])
    pq.write_table(sound.set_column(3, "answered", answered), tmp_path / "lake/a.parquet")
    report = pull(database, lms)
    assert (report.accepted, dict(report.rejected)) == (2, {"bad_time": 2})
