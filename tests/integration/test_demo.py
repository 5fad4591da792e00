"""`irt demo` as a newcomer runs it: a separate process, an empty home, the embedded server.

In CI a bare machine runs the whole demo (tests/bare); here the long tier checks all results.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from irt_assets.demo.findings import compare
from irt_assets.gates.month_classification import MonthState, State
from irt_assets.ledger.decisions import DecisionSubject, record_release_decisions
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers.rooms import SCALE, add_items, run_sql
from tests.helpers.sentences import missing_sentences
from tests.testbed.patience import patient

DEMO_S = 900
"""Several times its duration on an idle machine."""
pytestmark = [pytest.mark.timeout(patient(DEMO_S + 60)), pytest.mark.xdist_group("demo")]


def run_demo(home: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("IRT_", "DATABASE_URL"))}
    return subprocess.run(
        [sys.executable, "-m", "irt_assets.cli", "demo", "--no-serve", *map(str, words)],
        env=environment | {"IRT_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=patient(DEMO_S),
        check=False,
    )


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    home = tmp_path_factory.mktemp("demo")
    return home, run_demo(home)


def server(home: Path) -> EmbeddedPostgres:
    return EmbeddedPostgres(home / "postgres")


@contextmanager
def connected(home: Path) -> Iterator[psycopg.Connection]:
    """Yield a connection to the demo's database, whose server runs meanwhile."""
    postgres = server(home)
    try:
        with psycopg.connect(postgres.start()) as connection:
            yield connection
    finally:
        postgres.stop()


@pytest.mark.long
def test_demo_succeeds_with_every_month_as_planted(
    demonstrated: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    _, done = demonstrated
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert sum("green" in line and "as expected" in line for line in lines if line.startswith("state of")) == 7
    assert sum("red" in line and "as expected" in line for line in lines if line.startswith("state of")) == 1
    for fault in ("drift", "leak", "wrong_key", "all_correct", "anchors moved", "dif", "sound items"):
        assert any(line.startswith(fault) and "as expected" in line for line in lines), done.stdout
    assert sum(line.startswith("drift") and "as expected" in line for line in lines) == 2  # one of them is scored
    assert "NOT as expected" not in done.stdout


@pytest.mark.long
def test_the_demo_writes_the_weeks_report_of_a_learner_in_each_language(
    demonstrated: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    home, _ = demonstrated
    pages = sorted((home / "reports").rglob("*.html"))
    assert {re.findall('<html lang="(..)">', page.read_text("utf-8"))[0] for page in pages} == {"en", "ko"}
    assert all(page.with_suffix(".pdf").read_bytes().startswith(b"%PDF") for page in pages)


@pytest.mark.long
def test_second_demo_computes_no_step_again(demonstrated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, first = demonstrated
    second = run_demo(home)
    assert (second.returncode, first.returncode) == (0, 0), second.stderr
    assert first.stdout[first.stdout.index("planted") :] == second.stdout[second.stdout.index("planted") :]
    before_the_tables = second.stdout[: second.stdout.index("\nmonth")]
    jobs = [line for line in before_the_tables.splitlines() if line.startswith("  ") and ": " in line]
    assert len(jobs) > 15
    assert [line for line in jobs if "already" not in line and "://" not in line] == []


@pytest.mark.long
def test_demo_prints_no_json_logs_tracebacks_or_warnings(
    demonstrated: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """This includes the traceback of the month planted bad, and output to a file."""
    _, done = demonstrated
    assert done.stderr == ""
    for strange in ("Traceback", '{"', "Warning", "findfont"):
        assert strange not in done.stdout


@pytest.mark.long
def test_the_demo_leaves_no_server_behind(demonstrated: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    home, _ = demonstrated
    assert server(home).status().state == "stopped"


@pytest.mark.long
def test_month_planted_bad_publishes_no_items(
    demonstrated: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    with connected(demonstrated[0]) as connection:
        months = connection.execute(
            "SELECT month, count(*) FROM item_parameter_publication WHERE rule = 'first' GROUP BY 1 ORDER BY 1"
        ).fetchall()
        held = connection.execute("SELECT scale_id FROM publication_step WHERE state = 'held'").fetchall()
    assert len(months) == 1, "the first month publishes every sound item, later ones only propose"
    assert held == [("default",)]


@pytest.mark.long
def test_documents_query_of_features_shows_times_on_the_demo(
    demonstrated: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    """Topics without a right answer have no median."""
    with connected(demonstrated[0]) as connection:
        found = connection.execute(
            """SELECT user_id, topic_id, date, attempts, correct, rt_median
               FROM features_topic_daily
               WHERE date >= CURRENT_DATE - INTERVAL '7 days'
               ORDER BY date DESC
               LIMIT 20"""
        ).fetchall()
    assert len(found) == 20
    assert [row for row in found if (row[4] > 0) != (row[5] is not None)] == []


def test_demo_accepts_the_state_of_a_month_after_a_persons_decision(database: Database) -> None:
    """After the lesson on the red month, the month is green and its anchors agree."""
    month = "2026-08"
    fault = {"kind": "anchors_moved", "item_ids": ["a", "b"], "months": [month]}
    truth, states = {"faults": [fault]}, [MonthState(month, SCALE, State.GREEN, "")]
    add_items(database, {"a": None, "b": None})
    undecided = compare(database, truth, [month], states)
    with database.connect() as connection:
        dropped = [DecisionSubject(month, SCALE, item, "fit") for item in ("a", "b")]
        record_release_decisions(connection, dropped, "drop_anchor", "Mina Park", "texts changed", None)
    decided = compare(database, truth, [month], states)
    assert not any(found.as_expected for found in undecided if found.planted != "none flagged")
    assert all(found.as_expected for found in decided)
    assert {found.found for found in decided} == {
        "Mina Park dropped two anchors; month is green",
        "none flagged",
        "green: Mina Park dropped two anchors",
    }


@pytest.mark.ci
def test_demo_is_refused_if_the_database_contains_foreign_data(world: Settings) -> None:
    run_sql(Database(world), "INSERT INTO question (item_id) VALUES ('somebody else''s')")
    environment = os.environ | {"DATABASE_URL": world.database_url.get_secret_value(), "IRT_HOME": str(world.irt_home)}
    done = subprocess.run(
        [sys.executable, "-m", "irt_assets.cli", "demo", "--no-serve"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=patient(DEMO_S),
        check=False,
    )
    assert done.returncode == 2
    assert "holds other data" in done.stderr


@pytest.mark.ci
def test_demo_with_a_real_log_uses_the_log_as_origin(shared: Path, tmp_path: Path) -> None:
    """The cloze log has 146 first answers per item and two groups of learners without common items."""
    done = run_demo(tmp_path, "--data", shared / "data" / "lkt_statistics_cloze.csv.gz", "--model", "rasch")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not missing_sentences(
        done.stdout,
        "58,316 answers imported",
        "irt calibrate --month MONTH --scale default-1 --set min_responses=N",
        "SE(b) ≈ 0.20  ← chosen here",
        "default-1",
        "default-2",
        "478 learners measured",
    )
    assert "irt report drift --month 2016-01 --out reports" in done.stdout[done.stdout.index("what to do next") :]


@pytest.mark.ci
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("sat12_raw_choices.csv", "--key", "sat12_key.csv", "--missing", "8", "--model", "3pl"),
            ("19,131 answers imported", "600 learners measured"),
        ),
        (("verbal_aggression_poly_wide.csv", "--max-score", "2"), ("24 items calibrated and published",)),
    ],
)
def test_demo_takes_choices_points_and_rules_in_one_command(
    shared: Path, tmp_path: Path, words: tuple[str, ...], said: tuple[str, ...]
) -> None:
    """600 persons are fewer than a 3PL needs by default, so the command used to have no way on."""
    files = [shared / "data" / word if word.endswith(".csv") else word for word in words]
    rules = ("--at", "2026-09-01", "--set", "min_responses_3pl=500", "--set", "min_responses=250")
    done = run_demo(tmp_path, "--data", *files, *rules)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not missing_sentences(done.stdout, *said, "SE(b) ≈ 0.14  ← chosen here")
