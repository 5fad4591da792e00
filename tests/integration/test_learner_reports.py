"""A week's learner reports: their learners, and the files after a repeated, killed, refused or partly failed run."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import date, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import dagster as dg
import psutil
import pypdfium2
import pytest
import requests

from irt_assets.abilities.batch import judge_until, measure_at
from irt_assets.blocks import html
from irt_assets.definitions import build_defs
from irt_assets.features.daily import write_features
from irt_assets.kpis.weekly import write_week as write_kpis
from irt_assets.reports import learner_copies, learner_page, learner_week
from irt_assets.reports.learner_facts import load_facts
from irt_assets.reports.learner_processes import Pages, processes
from irt_assets.reports.learner_week import WeekOutcome, key, write_week
from irt_assets.scales import scale as scales
from irt_psychometrics.scoring import Movement
from jobs.watching.alerts import check_alert
from resources.dagster_schema import rows_of
from resources.failures import PermanentFailure, TransientFailure
from resources.files.object_store import BucketStore, FolderStore, ObjectStore
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from tests.helpers import kpi_reference
from tests.helpers.databases import made_once, template_copy
from tests.helpers.kpi_worlds import END, WEEK, load, random_world
from tests.helpers.rooms import call, rows, run_sql
from tests.helpers.seaweed import BUCKET, SeaweedFS
from tests.helpers.sentences import missing_sentences
from tests.helpers.worlds import OF_MONTHS
from tests.integration.graph import Graph, checks, metadata
from tests.testbed.patience import patient

pytestmark = pytest.mark.timeout(300)
FOLDER = f"reports/{WEEK}"
EIGHT_WEEKS = timedelta(days=56)
WORLD = random_world(11)
ANSWERED = {
    a["user_id"]
    for a in WORLD.attempts
    if a["mode"] == "live" and a["correct"] is not None and END - EIGHT_WEEKS <= a["completed_at"] < END
}
TEST_ACCOUNTS = {user for user, values in WORLD.learners.items() if values["is_test"]}
EXPECTED = sorted(ANSWERED - TEST_ACCOUNTS)
KOREAN = {a["user_id"] for a in WORLD.attempts if int(a["user_id"][1:]) % 2 == 0}


def with_kpis_and_abilities(settings: Settings) -> None:
    """The random world with its features, KPIs and abilities, every second learner Korean."""
    database = Database(settings)
    load(database, WORLD)
    run_sql(
        database,
        """UPDATE learner SET attributes = '{"lang": "ko"}' WHERE right(user_id, 1)::int IN (0, 2, 4, 6, 8)""",
    )
    judge_until(database, END)
    with database.connect() as connection:
        write_features(connection, END - timedelta(days=63), END)
        write_kpis(connection, WEEK, END + timedelta(hours=2))
        for days, kind in ((40, "monthly"), (7, "nightly"), (0, "nightly")):
            measure_at(connection, END - timedelta(days=days), kind, f"{days} days before")  # type: ignore[arg-type]
    run_sql(database, "UPDATE weekly_kpi SET updated_at = %s", (END + timedelta(hours=2),))


@pytest.fixture
def settings(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Settings]:
    made_once(postgres, "template_reports", migrated_template, with_kpis_and_abilities)
    with template_copy(postgres, "template_reports", tmp_path, **OF_MONTHS) as own:
        yield own


class InlineExecutor(ThreadPoolExecutor):
    """Write reports in this process and with fake PDFs, for tests that read no pages."""

    def submit(self, _: object, facts: Any) -> Future[Pages]:  # type: ignore[override]
        return super().submit(self.made, facts)

    def made(self, facts: Any) -> Pages:
        try:
            page = html.page(learner_page.document(facts)).encode()
        except Exception as error:  # noqa: BLE001 - as `render_report` does
            return Pages(None, None, f"{type(error).__name__}: {error}")
        return Pages(page, b"%PDF " + page)


class WithoutPdf(InlineExecutor):
    def made(self, facts: Any) -> Pages:
        return replace(super().made(facts), pdf=None, problem="PDFs cannot be made: pip install typst")


def write(database: Database, store: ObjectStore, week: str = WEEK, **others: Any) -> WeekOutcome:
    usual = {
        "zone": "UTC",
        "now": END + timedelta(hours=4),
        "n_processes": 2,
        "say": logging.info,
        "pool": InlineExecutor,
    }
    return write_week(database, store, week, **(usual | others))


def artifacts(database: Database) -> list[tuple[Any, ...]]:
    return rows(database, "SELECT user_id, format, url, sha256 FROM report_file ORDER BY 1, 2")


def files(store: FolderStore) -> dict[str, float]:
    return {name: (store.root / name).stat().st_mtime_ns for name, _ in store.list(FOLDER)}


def read(store: FolderStore, user: str) -> str:
    return store.get(key(WEEK, user, "html")).decode()


def forget(database: Database, user: str) -> None:
    """Mark a report as made from different inputs."""
    run_sql(database, "UPDATE report_file SET inputs_hash = 'another' WHERE user_id = %s", (user,))


def test_every_learner_of_eight_weeks_has_both_files_and_rows_except_test_accounts(
    database: Database, store: FolderStore
) -> None:
    written = write(database, store)
    assert TEST_ACCOUNTS & ANSWERED
    assert (written.learners, written.made, written.kept, written.failed) == (len(EXPECTED), len(EXPECTED), 0, {})
    found = artifacts(database)
    assert [(user, kind) for user, kind, _, _ in found] == [(u, kind) for u in EXPECTED for kind in ("html", "pdf")]
    for user, kind, url, digest in found:
        content = store.get(key(WEEK, user, kind))
        assert (url, digest) == (store.uri(key(WEEK, user, kind)), sha256(content).hexdigest())
        assert content.startswith(b"%PDF" if kind == "pdf" else b"<!DOCTYPE html>")
    assert len(files(store)) == len(found)
    assert written.samples == [
        key(WEEK, next(u for u in EXPECTED if (u in KOREAN) is ko), "pdf") for ko in (False, True)
    ]


def test_every_pdf_is_a_single_page_with_the_words_of_its_html(database: Database, store: FolderStore) -> None:
    write(database, store, pool=processes)
    for user in EXPECTED:
        document = pypdfium2.PdfDocument(store.get(key(WEEK, user, "pdf")))
        assert len(document) == 1, user
        text = re.sub(r"\s", "", document[0].get_textpage().get_text_range())
        assert not missing_sentences(text, "주간학습리포트" if user in KOREAN else "Weeklyreport", user)
        document.close()


def test_second_run_writes_no_report_and_a_changed_number_rewrites_a_single_report(
    database: Database, store: FolderStore
) -> None:
    write(database, store)
    before, rows_before = files(store), artifacts(database)
    again = write(database, store)
    assert (again.made, again.kept) == (0, len(EXPECTED))
    assert (files(store), artifacts(database)) == (before, rows_before)
    changed = EXPECTED[3]
    risk = "UPDATE weekly_kpi SET kpis = jsonb_set(kpis, '{S}', '0.123') WHERE user_id = %s AND week_start = %s"
    run_sql(database, risk, (changed, WEEK))
    assert write(database, store).made == 1
    after = files(store)
    assert {name for name in after if after[name] != before[name]} == {
        key(WEEK, changed, kind) for kind in ("html", "pdf")
    }
    assert [row[:3] for row in artifacts(database)] == [row[:3] for row in rows_before]


def test_lost_report_is_rewritten_and_report_of_an_excluded_learner_is_deleted(
    database: Database, store: FolderStore
) -> None:
    write(database, store)
    lost, excluded = EXPECTED[0], EXPECTED[1]
    store.delete(key(WEEK, lost, "pdf"))
    store.put("reports/2026-11-02/u01.pdf", b"of another week")
    run_sql(
        database,
        "INSERT INTO learner VALUES (%s, '{}', true) ON CONFLICT (user_id) DO UPDATE SET is_test = true",
        (excluded,),
    )
    run_sql(database, "DELETE FROM features_topic_daily WHERE user_id = %s", (excluded,))
    written = write(database, store)
    assert (written.made, written.removed) == (1, 2)
    assert excluded not in {row[0] for row in artifacts(database)}
    assert (
        len(files(store)),
        all(store.exists(name) for name in (key(WEEK, lost, "pdf"), "reports/2026-11-02/u01.pdf")),
    ) == (2 * (len(EXPECTED) - 1), True)


def test_learner_with_broken_data_is_named_and_remaining_reports_are_written(
    database: Database, store: FolderStore
) -> None:
    write(database, store)
    broken = {EXPECTED[0]: '{"I_t": 7}', EXPECTED[2]: '"nonsense"', EXPECTED[4]: None}
    statement = "UPDATE weekly_kpi SET kpis = coalesce(%s::jsonb, kpis || '{\"P\": 2}') WHERE user_id = %s"
    for user, kpis in broken.items():
        run_sql(database, statement, (kpis, user))
    written = write(database, store)
    assert (set(written.failed), "P = 2, expected 0 to 1" in written.failed[EXPECTED[4]]) == (set(broken), True)
    assert all(user in written.summary for user in broken)
    assert {row[0] for row in artifacts(database)} == set(EXPECTED) - set(broken)
    assert len(files(store)) == 2 * (len(EXPECTED) - len(broken)), "an old report would say what is no longer so"


def test_reports_are_unchanged_if_every_report_fails(database: Database, store: FolderStore) -> None:
    write(database, store)
    before = artifacts(database)
    run_sql(database, "UPDATE weekly_kpi SET kpis = '{}'")
    with pytest.raises(
        PermanentFailure, match=f"no report for {len(EXPECTED)}: {EXPECTED[0]}.* and {len(EXPECTED) - 10} more"
    ):
        write(database, store)
    assert artifacts(database) == before


def test_reports_of_unusual_learners_describe_the_missing_parts(database: Database, store: FolderStore) -> None:
    """Learners without answers of the week, KPIs or ability, and with markup or very long words in their names."""
    quiet, no_kpis, unmeasured, marked, long = [
        user for user in EXPECTED if user in WORLD.learners and user not in KOREAN
    ][:5]
    run_sql(database, "DELETE FROM features_topic_daily WHERE user_id = %s AND date >= %s", (quiet, WEEK))
    run_sql(database, "DELETE FROM weekly_kpi WHERE user_id = %s", (no_kpis,))
    run_sql(database, "DELETE FROM mirt_ability WHERE user_id = %s", (unmeasured,))
    run_sql(database, "UPDATE response_log SET mode = 'sandbox' WHERE user_id = %s", (unmeasured,))
    for user, name in ((marked, "<b>Ann & Bob</b>"), (long, "Wolfeschlegelsteinhausenbergerdorff" * 9)):
        run_sql(database, "UPDATE learner SET attributes = %s WHERE user_id = %s", (json.dumps({"name": name}), user))
    assert not write(database, store, pool=processes).failed
    assert (
        "You didn’t answer any questions this week" in read(store, quiet),
        read(store, no_kpis).count("It wasn’t calculated for this week."),
    ) == (True, 6)
    assert "answered enough questions yet to measure" in read(store, unmeasured) or "No subject" in read(
        store, unmeasured
    )
    assert (
        "&lt;b&gt;Ann &amp; Bob&lt;/b&gt;" in read(store, marked),
        len(pypdfium2.PdfDocument(store.get(key(WEEK, long, "pdf")))),
    ) == (True, 1)


@pytest.mark.parametrize("moves", [False, True])
def test_levels_equal_the_stored_abilities_and_the_ability_at_the_end_of_the_week(
    database: Database, monkeypatch: pytest.MonkeyPatch, moves: bool
) -> None:
    """The night of the week's end is stored here, and equals a computation on the same answers. If ability moves, each
    level is as of its last answer, and a week has its last level."""
    if moves:
        still = scales._scale
        monkeypatch.setattr(scales, "_scale", lambda *of: replace(still(*of), movement=Movement(variance=0.1**2)))
        with database.connect() as connection:
            for days, kind in ((40, "monthly"), (7, "nightly"), (0, "nightly")):
                measure_at(connection, END - timedelta(days=days), kind, f"{days} days before")  # type: ignore[arg-type]
    found = {facts.user_id: facts for facts in call(database, load_facts, WEEK, "UTC")}
    stored = rows(database, "SELECT user_id, scale_id, window_end, as_of, theta, se FROM mirt_ability ORDER BY 3")
    for user, facts in found.items():
        days = {
            (as_of if moves else end - timedelta(microseconds=1)).date(): (theta, se)
            for of, scale, end, as_of, theta, se in stored
            if (of, scale) == (user, facts.scale_id)
        }
        expected = {day.isocalendar()[:2]: (day, pytest.approx(of, abs=1e-9)) for day, of in days.items()}
        assert [(level.day, (level.theta, level.se)) for level in facts.levels] == [*expected.values()]
    assert max(len(facts.levels) for facts in found.values()) == 3
    assert moves == (len({level.day for facts in found.values() for level in facts.levels}) > 3)


def test_facts_of_a_single_learner_equal_the_facts_in_the_weeks_run(database: Database) -> None:
    """Item times come from all learners, although only a single learner's answers are read."""
    with database.connect() as connection:
        everybody = load_facts(connection, WEEK, "UTC")
        assert len(everybody) > 10
        for facts in everybody[::6]:
            assert load_facts(connection, WEEK, "UTC", [facts.user_id]) == [facts]


def test_levels_are_computed_if_no_abilities_are_stored(database: Database) -> None:
    run_sql(database, "DELETE FROM mirt_ability")
    found = call(database, load_facts, WEEK, "UTC")
    measured = [facts for facts in found if facts.levels]
    assert (len(measured) > 10, {level.day for facts in measured for level in facts.levels}) == (
        True,
        {(END - timedelta(days=1)).date()},
    )


def test_counts_of_topics_equal_the_counts_of_the_features(database: Database) -> None:
    found = call(database, load_facts, WEEK, "UTC")
    for facts in found:
        counted = rows(
            database,
            """SELECT topic_id, sum(attempts)::int, sum(correct)::int FROM features_topic_daily
               WHERE user_id = %s AND date >= %s AND date < %s AND topic_id <> 'unknown' GROUP BY 1 ORDER BY 1""",
            (facts.user_id, END - EIGHT_WEEKS, END),
        )
        assert [(t.topic_id, t.answers, t.correct) for t in facts.topics] == counted


def test_topic_is_named_in_the_learners_language(database: Database) -> None:
    (topic,) = next(iter(rows(database, "SELECT topic_id FROM question WHERE topic_id IS NOT NULL ORDER BY 1 LIMIT 1")))
    names, nonsense = {"ko": "대수", "en": ""}, {"topic_names": ["대수"]}
    run_sql(database, "UPDATE question SET meta = %s WHERE topic_id <> %s", (json.dumps(nonsense), topic))
    run_sql(database, "UPDATE question SET meta = %s WHERE topic_id = %s", (json.dumps({"topic_names": names}), topic))
    found = {
        (facts.lang, t.topic_id, t.label) for facts in call(database, load_facts, WEEK, "UTC") for t in facts.topics
    }
    assert (("ko", topic, "대수") in found, {shown for lang, of, shown in found if lang != "ko" or of != topic}) == (
        True,
        {of for _, of, _ in found},
    )


def test_topics_are_compared_by_eligible_answers_at_the_learners_level(database: Database) -> None:
    """The reference loops over the answers; results are equal up to the order of sums."""
    found = call(database, load_facts, WEEK, "UTC")
    eligible = {scale: kpi_reference.eligible(WORLD, scale, END) for scale in WORLD.scales()}
    checked = 0
    for facts in found:
        if not facts.levels or facts.scale_id is None:
            assert not any(topic.judged for topic in facts.topics)
            continue
        answered: dict[str, list[tuple[float, float]]] = {}
        for at, item, score in eligible[facts.scale_id].get(facts.user_id, []):
            topic = WORLD.items[item][1]
            if at >= END - EIGHT_WEEKS and topic and item in WORLD.published[facts.scale_id]:
                a, b, c = WORLD.published[facts.scale_id][item]
                logistic = 1 / (1 + math.exp(-a * (facts.levels[-1].theta - b)))
                p, slope = c + (1 - c) * logistic, a * (1 - c) * logistic * (1 - logistic)
                answered.setdefault(topic, []).append(((score - p) * slope / (p * (1 - p)), slope**2 / (p * (1 - p))))
        for topic in facts.topics:
            gradients, informations = zip(*answered.get(topic.topic_id, [(0.0, 0.0)]), strict=True)
            assert topic.judged == len(answered.get(topic.topic_id, ()))
            if topic.judged:
                checked += 1
                total = sum(informations) + 4
                assert (topic.difference, topic.error) == pytest.approx((sum(gradients) / total, total**-0.5), abs=1e-9)
    assert checked > 10


def test_week_without_learners_has_no_reports_and_a_running_week_is_refused(
    database: Database, store: FolderStore
) -> None:
    written = write(database, store, "2020-01-06")
    assert (written.learners, written.made, written.samples) == (0, 0, [])
    with pytest.raises(PermanentFailure, match="runs until 2026-11-02 00:00 UTC"):
        write(database, store, now=END - timedelta(seconds=1))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            "DELETE FROM features_topic_daily WHERE date = '2026-10-28'",
            "features_topic_daily has no rows of 2026-10-28",
        ),
        ("DELETE FROM weekly_kpi", "were not computed: materialise weekly_kpi"),
        (
            """UPDATE weekly_kpi SET kpis = '{"A_t": null, "why": {"A_t": "the week''s KPIs were not computed"}}'""",
            "were not computed: materialise weekly_kpi",
        ),
        (
            "UPDATE weekly_kpi SET updated_at = '2026-10-30 12:00+00'",
            "are of 2026-10-30 12:00 UTC, before its end",
        ),
    ],
)
def test_week_that_is_not_ready_is_refused_with_the_remedy(
    database: Database, store: FolderStore, damage: str, message: str
) -> None:
    run_sql(database, damage)
    with pytest.raises(PermanentFailure, match=message):
        write(database, store)
    assert artifacts(database) == []


def test_html_is_written_and_the_old_pdf_is_deleted_if_the_pdf_fails(database: Database, store: FolderStore) -> None:
    write(database, store)
    for user in EXPECTED[:2]:
        forget(database, user)
    written = write(database, store, pool=WithoutPdf)
    assert (written.made, written.failed, written.without_pdf, "no PDF for 2: " in written.summary) == (
        2,
        {},
        dict.fromkeys(EXPECTED[:2], "PDFs cannot be made: pip install typst"),
        True,
    )
    assert not {key(WEEK, user, "pdf") for user in EXPECTED[:2]} & files(store).keys()
    assert all(store.exists(key(WEEK, user, "html")) for user in EXPECTED)
    assert ([row[:2] for row in artifacts(database)][:3], write(database, store).made) == (
        [(user, "html") for user in EXPECTED[:3]],
        2,  # the next run writes missing reports
    )


class LostStore(FolderStore):
    """A store that stops answering after `n` files."""

    def __init__(self, root: Path, n: int, error: Exception) -> None:
        super().__init__(root)
        self.n, self.error, self.asked = n, error, 0

    def put(self, name: str, data: bytes | Path) -> str:
        self.asked += 1
        if self.asked > self.n:
            raise self.error
        return super().put(name, data)


@pytest.mark.parametrize("error", [TransientFailure("no answer"), PermanentFailure("access denied")])
def test_failing_store_ends_the_run_immediately_and_the_next_run_resumes(
    database: Database, store: FolderStore, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(learner_week, "RECORDED_TOGETHER", 1)
    monkeypatch.setattr(learner_week, "MAX_CONCURRENT", 2)
    failing_store = LostStore(store.root, 6, error)
    with pytest.raises(type(error), match=str(error)):
        write(database, failing_store)
    assert failing_store.asked <= 12, "those that were under way alone"
    recorded = len(artifacts(database))
    assert (
        all(store.exists(key(WEEK, user, kind)) for user, kind, _, _ in artifacts(database)),
        write(database, store).kept,
    ) == (True, recorded / 2)
    assert len(artifacts(database)) == len(files(store)) == 2 * len(EXPECTED)


@pytest.mark.xdist_group("s3")
def test_reports_in_a_bucket_are_private_and_readable_by_signed_links(database: Database, s3: SeaweedFS) -> None:
    bucket = BucketStore(BUCKET)
    write(database, bucket)
    assert {f"s3://{BUCKET}/{name}" for name, _ in bucket.list(FOLDER)} == {url for _, _, url, _ in artifacts(database)}
    links = learner_copies.links(database, bucket, WEEK, EXPECTED[0])
    assert len(links) == 2
    for link, kind in zip(links, ("text/html; charset=utf-8", "application/pdf"), strict=True):
        signed, unsigned = requests.get(link, timeout=30), requests.get(link.partition("?")[0], timeout=30)
        assert (signed.status_code, signed.headers["content-type"], unsigned.status_code) == (200, kind, 403)
    assert write(database, bucket).made == 0
    with pytest.raises(PermanentFailure, match="no-such-bucket"):
        write(database, BucketStore("no-such-bucket"))


def test_copies_of_a_report_are_written_to_a_folder_and_not_recorded(
    database: Database, store: FolderStore, tmp_path: Path
) -> None:
    user, folder = EXPECTED[0], tmp_path / "a" / "b"
    copies = learner_copies.write_copies(database, WEEK, folder, users=[user], zone="UTC", n_processes=1)
    assert sorted(path.name for path in copies.files if path.stat().st_size) == [f"{user}.html", f"{user}.pdf"]
    assert artifacts(database) == []
    with pytest.raises(PermanentFailure, match=f"{user} has no report of the week {WEEK}: run `irt report learner"):
        learner_copies.links(database, store, WEEK, user)
    with pytest.raises(PermanentFailure, match="no learner has the id 'nobody': ids are case-sensitive"):
        learner_copies.write_copies(database, WEEK, folder, users=["nobody"], zone="UTC", n_processes=1)


KILLED = '''
def main():
    import logging, sys, time
    from datetime import timedelta
    from pathlib import Path
    from irt_assets.reports import learner_week
    from resources.postgres.database import Database
    from resources.files.object_store import FolderStore
    from resources.settings import Settings
    from tests.helpers.kpi_worlds import END, WEEK

    let_through, go_on = set(), Path(sys.argv[3])

    class Store(FolderStore):
        """It takes five learners' files, and those of others when it may go on."""

        def put(self, key, data):
            learner = Path(key).stem
            if len(let_through) < 5:
                let_through.add(learner)
            while learner not in let_through and not go_on.exists():
                time.sleep(0.01)
            return super().put(key, data)

    learner_week.RECORDED_TOGETHER = 1
    database = Database(Settings(database_url=sys.argv[1], _env_file=None))
    now = END + timedelta(hours=4)
    learner_week.write_week(
        database, Store(Path(sys.argv[2])), WEEK, zone="UTC", now=now, n_processes=2, say=logging.info
    )

if __name__ == "__main__":
    main()
'''


@pytest.mark.parametrize(
    "signal_number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.on_change("irt_assets/reports/**"))]
)
def test_killed_run_resumes_at_the_first_missing_learner(
    database: Database, settings: Settings, store: FolderStore, tmp_path: Path, signal_number: signal.Signals
) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED, "utf-8")
    url = settings.database_url.get_secret_value()
    output, go_on = tmp_path / "said", tmp_path / "go on"
    with output.open("wb") as printed:
        process = subprocess.Popen(
            ["env", "--default-signal=INT,TERM", sys.executable, str(script), url, str(store.root), str(go_on)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=printed,
        )
    try:
        while len(artifacts(database)) < 6:
            assert process.poll() is None, output.read_text("utf-8")
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.send_signal(signal_number)
        go_on.touch()  # reports in progress may end
        process.wait(patient(60))
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(children, timeout=patient(30))
    assert alive == [], "processes that make pages outlived the run"
    n_written = len(artifacts(database))
    assert 6 <= n_written < 2 * len(EXPECTED), "it was killed too late for this test to say anything"
    written = write(database, store, pool=processes)
    assert written.kept >= n_written / 2 - 1
    assert written.made == len(EXPECTED) - written.kept
    assert len(artifacts(database)) == len(files(store)) == 2 * len(EXPECTED)


def test_documents_job_writes_a_week_and_its_check_names_a_missing_report(
    settings: Settings, database: Database, instance: dg.DagsterInstance
) -> None:
    graph = Graph(settings.model_copy(update={"irt_first_month": "2026-09"}), instance)

    def run() -> tuple[dict[str, Any], dict[str, dg.AssetCheckEvaluation]]:
        result = graph.run(WEEK, "generate_weekly_report")
        return metadata(result, "weekly_learner_report"), checks(result)

    reported, evaluations = run()
    assert reported["dagster/row_count"] == 2 * len(EXPECTED)
    assert (reported["learners"], reported["made"], reported["learners without a report"]) == (
        len(EXPECTED),
        len(EXPECTED),
        0,
    )
    linked = [int(reported[f"sample {n}"].removeprefix("/reports/")) for n in (1, 2)]
    firsts = [next(user for user in EXPECTED if (user in KOREAN) is korean) for korean in (False, True)]
    having = "SELECT user_id, format FROM report_file WHERE artifact_id = ANY(%s) ORDER BY 1"
    assert rows(database, having, [linked]) == sorted((user, "pdf") for user in firsts)
    assert {name: check.passed for name, check in evaluations.items()} == {"every_learner_has_both_reports": True}
    broken = EXPECTED[0]
    run_sql(database, "UPDATE weekly_kpi SET kpis = '{}' WHERE user_id = %s", (broken,))
    reported, evaluations = run()
    assert [row["learner"] for row in rows_of(reported, "without a report")] == [broken]
    check = evaluations["every_learner_has_both_reports"]
    assert (check.passed, f"{broken} has no report" in (check.description or "")) == (False, True)
    with database.connect() as connection:
        alert = check_alert(connection, check)
    assert alert is not None
    assert (alert.kind, alert.subjects, broken in alert.what) == ("learners", (broken,), False)


def test_reports_have_no_partition_for_the_running_week(settings: Settings, now: datetime) -> None:
    defs = build_defs(settings)
    keys = {
        name: definition.get_partition_keys()
        for name in ("weekly_kpi", "weekly_learner_report")
        if (definition := defs.get_assets_def(name).partitions_def)
    }
    assert (keys["weekly_kpi"][:-1], (date.fromisoformat(keys["weekly_kpi"][-1]) + timedelta(days=7)) > now.date()) == (
        keys["weekly_learner_report"],
        True,
    )
