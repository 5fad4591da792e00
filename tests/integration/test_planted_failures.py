"""Tests that the run names a test that fails, crashes or leaves something behind, and still runs the others."""

from __future__ import annotations

from pathlib import Path

import pytest

from resources.postgres.embedded_postgres import EmbeddedPostgres
from tests.helpers.planted import pytest_of
from tests.helpers.sentences import missing_sentences

PLANTED = """
import os, subprocess, threading
import pytest

forever = threading.Event()

def test_fails():
    assert "a" == "b"

def test_kills_its_worker():
    os.kill(os.getpid(), 9)

def test_leaves_a_thread():
    threading.Thread(target=forever.wait, args=(60,), name="poller", daemon=True).start()

def test_leaves_a_process():
    subprocess.Popen(["sleep", "60"])

class Unspeakable(Exception):
    def __str__(self):
        raise SystemError("AST constructor recursion depth mismatch")

    __repr__ = __str__

def test_fails_at_its_report():
    raise Unspeakable

def test_is_sound():
    forever.set()
"""

CONNECTIONS = """
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


@pytest.mark.ci
def test_tests_that_fail_die_or_leave_resources_behind_are_named_and_affect_no_further_tests(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED)
    ran = pytest_of(tmp_path, "-n", "1", "--dist=worksteal")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    failed = [line for line in ran.stdout.splitlines() if line.startswith("FAILED test_planted.py")]
    for test, message in {
        "test_fails": "assert",
        "test_kills_its_worker": "crashed while running",
        "test_leaves_a_thread": "the test leaves behind: thread poller",
        "test_leaves_a_process": "(sleep 60)",
        "test_fails_at_its_report": "",
    }.items():
        assert any(f"::{test} " in line and message in line for line in failed), (test, ran.stdout)
    assert not any("test_is_sound" in line for line in failed)
    by_the_worker = (tmp_path / "build/failed.tsv").read_text()
    assert not missing_sentences(
        by_the_worker, "::test_fails\tcall\tAssertionError", "::test_fails_at_its_report\tcall\tUnspeakable"
    )
    rows = [line.split("\t") for line in (tmp_path / "build/durations.tsv").read_text().splitlines()]
    (sound,) = (row for row in rows if row[2:4] == ["test_is_sound", "call"])
    assert sound[6] == "passed"
    assert all(float(value) >= 0 for value in sound[4:6])


def test_test_that_leaves_a_connection_open_is_the_only_test_named(postgres: EmbeddedPostgres, tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(CONNECTIONS.format(url=postgres.start()))
    ran = pytest_of(tmp_path)
    assert "3 passed, 1 error" in ran.stdout, ran.stdout + ran.stderr
    (failed,) = (line for line in ran.stdout.splitlines() if line.startswith("FAILED test_planted.py"))
    assert "::test_leaves_a_connection (teardown): the test leaves behind: connection to the database" in failed
