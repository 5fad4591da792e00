"""A test that leaves a connection open is named; one of a fixture of its module or of a pool that is closed is not."""

from __future__ import annotations

from pathlib import Path

from resources.embedded_postgres import EmbeddedPostgres
from tests.helpers.planted import pytest_of

PLANTED = """
import psycopg, psycopg_pool
import pytest

URL = {url!r}
open_for_ever = []

@pytest.fixture(scope="module")
def of_the_module():
    with psycopg.connect(URL) as connection:
        yield connection

def test_leaves_a_connection(of_the_module):
    open_for_ever.append(psycopg.connect(URL))

def test_uses_that_of_its_module(of_the_module):
    of_the_module.execute("SELECT 1")

def test_closes_what_it_opens():
    with psycopg.connect(URL), psycopg_pool.ConnectionPool(URL, open=True) as pool, pool.connection():
        pass
"""


def test_a_connection_that_stays_open_is_named(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED.format(url=postgres.start()))
    ran = pytest_of(tmp_path)
    assert "3 passed, 1 error" in ran.stdout, ran.stdout + ran.stderr
    (failed,) = (line for line in ran.stdout.splitlines() if line.startswith("FAILED test_planted.py"))
    assert "::test_leaves_a_connection (teardown): the test leaves behind: connection to the database" in failed
