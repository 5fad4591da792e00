"""The real logs of the shared folder come in with the counts that another program finds in them.

Expected numbers are counted here with the csv module from the files themselves, or told by DATASETS.md and
reference_values.json; none is taken from a run of the import.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from irt_assets.intake.bank import LEARNERS, import_bank_file
from irt_assets.intake.load import import_attempts
from irt_assets.intake.report import ImportReport
from resources.failures import PermanentFailure
from resources.postgres.database import Database

pytestmark = pytest.mark.ci

Import = Callable[..., ImportReport]
DAY = date(2026, 10, 1)


@pytest.fixture
def imported(database: Database) -> Import:
    def run(*files: Path, **options: Any) -> ImportReport:
        return import_attempts(database, files, **{"first_month": "2010-01"} | options)

    return run


def rows(path: Path, *, delimiter: str = ",", encoding: str = "utf-8") -> Iterator[dict[str, str]]:
    """With the csv module; of a repeated name the first column counts."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open(encoding=encoding, newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        header = next(reader)
        for row in reader:
            yield dict(reversed(list(zip(header, row, strict=True))))


def query(database: Database, text: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(text).fetchall()


def test_the_statistics_cloze_log_comes_in_whole(database: Database, imported: Import, shared: Path) -> None:
    path = shared / "data" / "lkt_statistics_cloze.csv.gz"
    report = imported(path)
    assert (report.read, report.accepted, report.duplicates, report.rejected) == (58_316, 58_316, 0, {})
    assert (report.new_learners, report.new_items) == (478, 144)
    expected = list(rows(path))
    totals = "SELECT count(*), count(correct), count(*) FILTER (WHERE correct), sum(response_time_ms) FROM response_log"
    assert query(database, totals) == [
        (
            58_316,
            58_316 - 3_194,  # the STUDY rows have no answer
            sum(row["correct"] == "1" for row in expected),
            sum(int(row["response_time_ms"]) for row in expected if row["response_time_ms"]),
        )
    ]
    times = [datetime.fromisoformat(row["answered_at"]) for row in expected]
    assert query(database, "SELECT min(completed_at), max(completed_at) FROM response_log") == [
        (min(times), max(times))
    ]
    topics = Counter(row["topic_id"] for row in expected)
    assert dict(query(database, "SELECT topic_id, count(*) FROM attempt GROUP BY 1")) == topics
    firsts = len({(row["user_id"], row["item_id"]) for row in expected if row["correct"]})
    assert firsts == 20_949
    assert query(database, "SELECT count(DISTINCT (user_id, item_id)) FROM response_log WHERE correct IS NOT NULL") == [
        (firsts,)
    ]
    assert imported(path).duplicates == 58_316


def test_the_mapping_file_of_the_docs_reads_the_cloze_log(
    database: Database, imported: Import, shared: Path, tmp_path: Path
) -> None:
    """The example in docs/how-to/import.md, as it stands there."""
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "import.md").read_text("utf-8")
    example = page.split("<!-- example: cloze -->")[1].split("```")[1].removeprefix("yaml\n")
    mapping = tmp_path / "cloze.yaml"
    mapping.write_text(example)
    path = shared / "data" / "lkt_statistics_cloze.csv.gz"
    report = imported(path, mapping=mapping)
    study = sum(row["outcome"] == "STUDY" for row in rows(path))
    assert report.rejected == {"skipped_by_mapping": study}
    assert report.accepted == report.read - study
    timeouts = sum(row["timeout"] == "1" and row["outcome"] != "STUDY" for row in rows(path))
    assert query(database, "SELECT count(*) FROM response_log WHERE response = 'timeout'") == [(timeouts,)]


def test_a_datashop_export_comes_in_but_for_the_times_in_another_format(
    database: Database, imported: Import, shared: Path
) -> None:
    path = shared / "data" / "synthetic_datashop_tx_export.txt"
    report = imported(path)
    assert (report.read, report.accepted, report.rejected) == (1_754, 1_754 - 23, {"bad_time": 23})
    sound = [row for row in rows(path, delimiter="\t") if "/" not in row["Time"]]
    scores = {"CORRECT": True, "OK": True, "INCORRECT": False, "ERROR": False, "HINT": False, "": None}
    expected = {
        row["Transaction Id"]: (
            row["Anon Student Id"],
            f"{row['Problem Name']}/{row['Step Name']}",
            datetime.fromisoformat(row["Time"]).replace(tzinfo=ZoneInfo(row["Time Zone"])).astimezone(UTC),
            scores[row["Outcome"]],
            None if row["Duration (sec)"] == "." else 1_000 * int(row["Duration (sec)"]),
        )
        for row in sound
    }
    columns = "attempt_id, user_id, item_id, completed_at, correct, response_time_ms"
    assert {row[0]: row[1:] for row in query(database, f"SELECT {columns} FROM response_log")} == expected
    assert report.new_items == len({item for _, item, *_ in expected.values()})
    assert report.new_learners == len({user for user, *_ in expected.values()})


def test_dirty_assistments_rows_are_told_apart(database: Database, imported: Import, shared: Path) -> None:
    """Counted from the file by the rules of the docs, row by row: first reason, then the first of each order_id."""
    path = shared / "data" / "synthetic_assistments_like_dirty.csv"
    with pytest.raises(PermanentFailure, match="not UTF-8; it looks like cp1252"):
        imported(path, at=DAY)
    with pytest.raises(PermanentFailure, match="--at DATE"):
        imported(path, mapping="assistments")
    report = imported(path, mapping="assistments", at=DAY)
    reasons: Counter[str] = Counter()
    kept: dict[str, tuple[str, str, str]] = {}
    duplicates = conflicts = 0
    for row in rows(path, encoding="latin-1"):
        answer = (row["user_id"], row["problem_id"].removesuffix(".0"), row["correct"])
        if not row["user_id"]:
            reasons["missing_user"] += 1
        elif row["correct"] not in ("", "0", "1"):
            reasons["bad_score"] += 1
        elif row["ms_first_response"].startswith("-"):
            reasons["bad_response_time"] += 1
        elif kept.setdefault(row["order_id"], answer) is not answer:
            duplicates += kept[row["order_id"]] == answer
            conflicts += kept[row["order_id"]] != answer
    assert conflicts == 0
    assert report.as_dict() == {
        "read": 2_007,
        "accepted": len(kept),
        "corrected": 0,
        "duplicates": duplicates,
        "rejected": reasons,
        "new_items": len({item for _, item, _ in kept.values()}),
        "new_learners": len({user for user, _, _ in kept.values()}),
    }
    assert duplicates >= 60  # 30 exact duplicates and 40 order_ids with a second skill, a few of them injured too
    stored = query(database, "SELECT attempt_id FROM response_log ORDER BY completed_at")
    assert [int(order) for (order,) in stored] == sorted(map(int, kept))
    assert any("latin-1" in note for note in report.notes)
    assert imported(path, encoding="latin-1", at=DAY).accepted == 0


@pytest.mark.parametrize(
    ("name", "key", "aside"),
    [
        ("sat12_scored_wide.csv", "sat12", []),
        ("lsat6_wide.csv", "lsat6", []),
        ("irtoys_scored_wide.csv", "irtoys_scored", []),
        ("spisa_wide.csv.gz", "spisa", ["gender", "age", "semester", "elite", "spon"]),
        ("verbal_aggression_binary_wide.csv", "verbal_aggression_binary_wide", ["gender", "anger"]),
    ],
)
def test_a_matrix_comes_in_with_its_proportions_correct(
    database: Database, imported: Import, shared: Path, name: str, key: str, aside: list[str]
) -> None:
    counts = json.loads((shared / "data" / "reference_values.json").read_text())["counts"][key]
    report = imported(shared / "data" / name, at=DAY)
    assert report.accepted == report.read == counts["persons"] * counts["items"]
    assert (report.new_learners, report.new_items) == (counts["persons"], counts["items"])
    proportions = query(database, "SELECT item_id, avg(correct::int)::float FROM response_log GROUP BY 1")
    # the reference values have four decimals
    assert dict(proportions) == pytest.approx(counts["pvalues"], abs=6e-5)
    left_out = [note for note in report.notes if "left out" in note]
    assert bool(left_out) == bool(aside)
    assert all(column in left_out[0] for column in aside)
    first = query(database, "SELECT item_id FROM response_log ORDER BY completed_at")[: counts["items"]]
    assert [item for (item,) in first] == list(counts["pvalues"])


@pytest.mark.parametrize("name", ["science_wide.csv", "sat12_raw_choices.csv", "synthetic_datashop_step_rollup.txt"])
def test_what_no_preset_fits_is_refused_with_its_columns(imported: Import, shared: Path, name: str) -> None:
    path = shared / "data" / name
    header = path.read_text().splitlines()[0].strip().replace("\t", ", ").replace(",", ", ").replace(",  ", ", ")
    with pytest.raises(PermanentFailure, match="no preset fits") as caught:
        imported(path, at=DAY)
    assert f"Columns of the file: {header}" in str(caught.value)


def test_the_covariates_of_a_matrix_become_attributes_of_its_learners(
    database: Database, imported: Import, shared: Path, tmp_path: Path
) -> None:
    path = shared / "data" / "spisa_wide.csv.gz"
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text("columns: {user_id: person, gender: gender, semester: semester}")
    imported(path, at=DAY)
    report = import_bank_file(database, LEARNERS, path, mapping=mapping)
    assert (report.accepted, report.new_learners) == (1_075, 0)
    stored = query(database, "SELECT attributes->>'gender', count(*) FROM learner GROUP BY 1")
    assert dict(stored) == Counter(row["gender"] for row in rows(path))


def test_a_matrix_of_scores_comes_in_where_it_is_said_how_many_points_there_are(
    database: Database, imported: Import, shared: Path
) -> None:
    """A questionnaire scored 0 to 2; the other columns are not items, though they hold numbers."""
    path = shared / "data" / "verbal_aggression_poly_wide.csv"
    with pytest.raises(PermanentFailure, match="--max-score"):
        imported(path, at=DAY)
    assert imported(path, at=DAY, max_scores=["S*=2"]).accepted == 316 * 24
    given = Counter(
        (name, int(cell))
        for row in rows(path)
        for name, cell in row.items()
        if name not in ("person", "gender", "anger")
    )
    counted = "SELECT item_id, score, count(*), bool_and(correct), bool_or(correct) FROM response_log GROUP BY 1, 2"
    found = query(database, counted)
    assert {(item, score): n for item, score, n, _, _ in found} == given
    assert all(all_right == some_right == (score == 2) for _, score, _, all_right, some_right in found)
    assert query(database, "SELECT DISTINCT max_score FROM question") == [(2,)]
    assert imported(path, at=DAY).duplicates == 316 * 24, "the record says it from then on"
