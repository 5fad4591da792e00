"""Items, learners, topics and a scale with malicious names, in every file that contains them."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import psycopg
import pypdfium2
import pytest
from dagster import DagsterInstance

from irt_assets.abilities.batch import judge_until, measure_at
from irt_assets.common.partitions import Month, week_bounds, week_of
from irt_assets.common.spreadsheets import FORMULA
from irt_assets.decisions.exports import read_export, write_export
from irt_assets.decisions.origin import initialise
from irt_assets.decisions.origin_sources import OriginWindow
from irt_assets.drift.dif_month import dif_of_month
from irt_assets.drift.information import information_of_month
from irt_assets.drift.month import drift_of_month
from irt_assets.engines.em import EmEngine
from irt_assets.features.daily import write_features
from irt_assets.intake.load import import_attempts
from irt_assets.intake.report import csv_of_refused
from irt_assets.kpis.weekly import write_week
from irt_assets.reports import drift_month, learner_copies
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import rooms
from tests.helpers.databases import template_copy
from tests.helpers.worlds import FAULTS, OF_MONTHS

pytestmark = pytest.mark.ci

NAMES = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1)",
    "＝1＋1",
    "../..",
    "quo\"te's",
    "two\nlines and\ta tab",
    "#let x = 1",
    "$(id) `id` %s %n",
    "*bold* _it_ [a](javascript:alert(1))",
    "\u202egnp.lmth",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt;",
    "\\u{202e} \\0",
    "W" * 600,
)
TOPICS = ("<b>#set page(width: 1pt)</b>", "=1+1", "$x", "\u202eabc", "../../" * 20)
SCALE, LONG = "..", "=<i>s</i>/" * 60
FIRST, SECOND = rooms.MONTHS
END = Month(SECOND).end
WEEK = week_of(END - timedelta(days=9))
PLACES = {"item_id": ("question", "response_log"), "user_id": ("learner", "response_log"), "topic_id": ("question",)}


def rename(connection: psycopg.Connection, column: str, names: tuple[str, ...]) -> None:
    """Give the first items, learners or topics these names."""
    home, *_ = PLACES[column]
    known = connection.execute(f"SELECT DISTINCT {column} FROM {home} ORDER BY 1".encode()).fetchall()
    for table in PLACES[column]:
        connection.execute(
            f"""UPDATE {table} SET {column} = new FROM unnest(%s::text[], %s::text[]) AS n (old, new)
                WHERE {column} = old""".encode(),
            ([old for (old,) in known[: len(names)]], list(names)),
        )


@pytest.fixture(scope="module")
def hostile(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The small world under such names, its first month the origin and its second one judged; a second scale has no
    answers."""
    with template_copy(postgres, migrated_template, tmp_path_factory.mktemp("hostile"), **OF_MONTHS) as settings:
        database, store = Database(settings), rooms.folder_store(settings)
        rooms.load_small_world(database, faults=FAULTS)
        with database.connect() as connection:
            for column, names in (("item_id", NAMES), ("user_id", NAMES), ("topic_id", TOPICS)):
                rename(connection, column, names)
            connection.execute("UPDATE question SET scale_id = %s", (SCALE,))
            connection.execute("INSERT INTO question (item_id, scale_id) VALUES ('unanswered', %s)", (LONG,))
            connection.execute(
                """UPDATE learner SET attributes = attributes || jsonb_build_object('lang', 'en', 'name', user_id)
                   WHERE user_id = ANY(%s)""",
                (list(NAMES),),
            )
        window = OriginWindow(*Month(FIRST).bounds, EmEngine(1), store)
        initialise(database, SCALE, first_month=FIRST, thresholds=rooms.LOWERED, window=window)
        rooms.calibrate(settings, SECOND, SCALE)
        drift_of_month(database, store, SECOND)
        dif_of_month(database, store, SECOND, threads=1)
        information_of_month(database, store, SECOND)
        start, over = week_bounds(WEEK)
        judge_until(database, over)
        with database.connect() as connection:
            write_features(connection, start - timedelta(days=56), over)
            measure_at(connection, over, "nightly", "night")
            write_week(connection, WEEK, over + timedelta(hours=2))
        yield settings


def test_drift_report_contains_hostile_names_only_as_text(
    hostile: Settings, tmp_path: Path, instance: DagsterInstance
) -> None:
    database, store = Database(hostile), rooms.folder_store(hostile)
    made = list(drift_month.make_reports(database, store, instance, SECOND))
    assert [(report.scale_id, report.problem) for report in made] == [(SCALE, ""), (LONG, "")]
    for report in made:
        kept = drift_month.store_files(database, store, report)
        assert [store.get(str(store.key(one.url))) for one in kept] == list(report.files.values())
        drift_month.write_files(report, tmp_path / "made", 1)
    assert {path.parent for path in tmp_path.rglob("*.*")} == {tmp_path / "made"}
    assert len(list((tmp_path / "made").iterdir())) == 12
    look_at(made[0].files["html"].decode(), made[0].files["pdf"], NAMES)


def test_learner_report_has_the_name_as_text(hostile: Settings, tmp_path: Path) -> None:
    with Database(hostile).connect() as connection:
        due = {user for (user,) in connection.execute("SELECT user_id FROM weekly_kpi")} & {*NAMES}
    assert len(due) > len(NAMES) / 2
    copies = learner_copies.write_copies(
        Database(hostile), WEEK, tmp_path / "made", users=due, zone="UTC", n_processes=hostile.irt_threads
    )
    assert copies.failed == {}
    assert sorted(tmp_path.rglob("*.*")) == sorted(copies.files)
    for user in due:
        page, paper = (tmp_path / "made" / name for name in learner_copies.names(WEEK, user))
        look_at(page.read_text("utf-8"), paper.read_bytes(), (user,))


@pytest.mark.parametrize("table", ["parameters", "abilities", "flags"])
def test_an_export_has_no_formula(hostile: Settings, table: str, tmp_path: Path) -> None:
    with Database(hostile).connect() as connection:
        frame = read_export(connection, table, END)  # type: ignore[arg-type]
    named = frame["user_id" if table == "abilities" else "item_id"]
    assert table == "flags" or len({*named} & {*NAMES}) > len(NAMES) / 2
    for kind in ("csv", "xlsx", "parquet"):
        write_export(frame, kind, tmp_path / f"x.{kind}", f"{table}, {NAMES[0]}")  # type: ignore[arg-type]
    assert formulas(tmp_path / "x.csv", frame) == []
    assert list(pd.read_parquet(tmp_path / "x.parquet")[named.name]) == list(named)
    with zipfile.ZipFile(tmp_path / "x.xlsx") as book:
        sheet, texts = (book.read(f"xl/{part}.xml").decode() for part in ("worksheets/sheet1", "sharedStrings"))
    assert "<f>" not in sheet
    assert {*re.findall(r'<c r="B\d+"[^>]* t="(\w+)"', sheet)} == {"s"}
    assert "<script>" not in texts


def test_the_file_of_refused_rows_has_no_formula(hostile: Settings, tmp_path: Path) -> None:
    """The file contains text from strangers, and people open it."""
    log = tmp_path / "log.csv"
    with log.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [["user_id", "item_id", "completed_at", "correct"], *([name, name, name, "1"] for name in NAMES)]
        )
    with csv_of_refused(tmp_path / "rejects.csv") as reject:
        report = import_attempts(Database(hostile), [log], zone="UTC", first_month=FIRST, reject=reject)
    assert report.rejected["bad_time"] == len(NAMES)
    with (tmp_path / "rejects.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert [row[3].removeprefix("'") for row in rows] == list(NAMES)
    assert [cell for row in rows for cell in row if cell.startswith(FORMULA)] == []


def formulas(path: Path, frame: pd.DataFrame) -> list[str]:
    """The cells of the columns of text that a spreadsheet would run."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    texts = [k for k, name in enumerate(header) if not pd.api.types.is_numeric_dtype(frame[name])]
    assert len(rows) == len(frame)
    return [row[k] for row in rows for k in texts if row[k].startswith(FORMULA)]


class ParsedPage(HTMLParser):
    """A page as a browser reads it: its scripts, fetched addresses, event handlers, and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.scripts, self.text = 0, ""
        self.strange: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        for name, value in attrs:
            fetched = name in ("src", "href") and re.match(r"(?!#|http://localhost)", value or "")
            if fetched or name.startswith("on") or tag in ("img", "i", "iframe"):
                self.strange.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text += data


def look_at(page: str, paper: bytes, names: tuple[str, ...]) -> None:
    """Assert that each name is harmless text on the page and on paper."""
    looked = ParsedPage(page)
    assert (looked.scripts <= 1, looked.strange) == (True, [])
    assert "\u202e" not in page
    with closing(pypdfium2.PdfDocument(paper)) as document:
        printed = "".join(document[k].get_textpage().get_text_range() for k in range(len(document)))
        assert all(document[k].get_size() == pytest.approx((595, 842), abs=1) for k in range(len(document)))
    for name in names:
        assert without_spaces(name) in without_spaces(looked.text), name
        assert without_spaces(name) in without_spaces(printed), name
    assert "two lines and a tab" in " ".join(printed.split()) or not any("\n" in name for name in names)
    assert "\u202e" not in printed


def without_spaces(text: str) -> str:
    return re.sub(r"[\s\u200b\u202e\ufffe\x02]", "", text)
