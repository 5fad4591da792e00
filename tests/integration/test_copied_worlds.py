"""Copies of a world do not meet, neither in their databases nor in their folders, and none takes another's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from irt_assets.responses.snapshot import current_snapshot, snapshot_problem
from resources.failures import PermanentFailure
from resources.files.folder_claim import open_store
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.databases import made_once, template_copy
from tests.helpers.rooms import MONTHS, folder_store, rows, run_sql
from tests.helpers.worlds import OF_MONTHS

MONTH = MONTHS[0]


@pytest.fixture
def two(postgres: EmbeddedPostgres, calibrated: Settings, tmp_path: Path) -> Iterator[tuple[Settings, Settings]]:
    """Two copies of the template that `calibrated` is a copy of."""
    with ExitStack() as copies:
        one, other = (
            copies.enter_context(template_copy(postgres, "template_calibrated", tmp_path / name, **OF_MONTHS))
            for name in ("one", "other")
        )
        yield one, other


def count_of_answers(settings: Settings) -> int:
    return int(rows(Database(settings), "SELECT count(*) FROM response_log")[0][0])


def problem(database: Settings, files: Settings) -> str | None:
    """What is wrong with the month's snapshot that a database names, in the folder of these settings."""
    with Database(database).connect() as connection:
        snapshot = current_snapshot(connection, MONTH)
    return snapshot_problem(folder_store(files), snapshot)


def test_what_is_written_to_a_copy_is_in_no_other(two: tuple[Settings, Settings], calibrated: Settings) -> None:
    one, other = two
    before = count_of_answers(other)
    run_sql(Database(one), "DELETE FROM response_log")
    for name, _ in list(folder_store(one).list("snapshots")):
        folder_store(one).delete(name)
    assert count_of_answers(one) == 0
    assert "is missing" in (problem(one, one) or "")
    for untouched in (other, calibrated):
        assert count_of_answers(untouched) == before > 0
        assert problem(untouched, untouched) is None


def test_a_copy_made_after_another_was_changed_is_as_the_template(
    two: tuple[Settings, Settings], postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    one, other = two
    run_sql(Database(one), "DELETE FROM response_log")
    with template_copy(postgres, "template_calibrated", tmp_path / "later", **OF_MONTHS) as later:
        assert count_of_answers(later) == count_of_answers(other) > 0


def test_a_copy_is_refused_the_folder_of_another(two: tuple[Settings, Settings]) -> None:
    """Files of the same names with the same content: nothing but the folders' marks tells them apart."""
    for mine, of_another in (two, two[::-1]):
        open_store(mine, Database(mine))
        with pytest.raises(PermanentFailure, match=f"lie in {mine.irt_home / 'objects'} .* is another folder"):
            open_store(mine.model_copy(update={"irt_home": of_another.irt_home}), Database(mine))


def test_a_template_is_made_once_and_one_from_another_has_its_rows_and_its_files(
    postgres: EmbeddedPostgres, calibrated: Settings, tmp_path: Path
) -> None:
    made = []

    def empty_bank(settings: Settings) -> str:
        made.append(settings)
        run_sql(Database(settings), "DELETE FROM question")
        return "its result"

    for _ in range(2):
        result = made_once(postgres, "template_of_a_template", "template_calibrated", empty_bank, **OF_MONTHS)
        assert result == "its result"
    assert len(made) == 1
    with template_copy(postgres, "template_of_a_template", tmp_path, **OF_MONTHS) as settings:
        assert rows(Database(settings), "SELECT count(*) FROM question") == [(0,)]
        assert problem(settings, settings) is None
    assert rows(Database(calibrated), "SELECT count(*) > 0 FROM question") == [(True,)]
