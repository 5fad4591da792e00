"""Scores of a learner: in the responses of the θ API, in the transcript, by `irt learner scores`, and once erased."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zipfile import ZipFile

import dagster as dg
import numpy as np
import pypdfium2
import pytest
from scipy.stats import norm, percentileofscore

from irt_assets.abilities.batch import judge_until, measure, newest_thetas
from irt_assets.blocks import Letterhead, html
from irt_assets.common.intervals import Z95
from irt_assets.common.partitions import Month
from irt_assets.features.daily import write_features
from irt_assets.kpis.weekly import write_week as write_kpis
from irt_assets.reports.learner_facts import load_facts
from irt_assets.reports.letter_blocks import document
from irt_assets.reports.letter_facts import AGAIN, Letter, read_letters, scores_that_count
from irt_assets.reports.transcript_blocks import transcript_blocks
from irt_assets.scales.scale import change_rules, read_scales, write_pass_mark
from irt_assets.scores.issued import counting_scores, current_scores, issued_scores
from irt_assets.scores.issuing import change_status, issue_scores
from irt_assets.scores.releases import release_table
from irt_assets.servers.instance import dagster_instance
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.downloads import document as write_document
from services.dashboard.page import ViewRequest
from services.dashboard.server import build_app, make_page
from services.jwt_verifier.tokens import Identity, Role
from tests.helpers import rooms
from tests.helpers.asgi import ask
from tests.helpers.asking import kind
from tests.helpers.databases import made_once, template_copy
from tests.helpers.learner_facts import page as learner_page
from tests.helpers.rooms import call
from tests.helpers.score_world import FORMS, MONTH, NOW, SIGNED, build_exam, item_values, make_tables, sit
from tests.helpers.sentences import missing_sentences
from tests.helpers.typed import IrtOf
from tests.integration.test_theta_api import Api, running

pytestmark = pytest.mark.ci
USER = "F1-u1"
REFUSED: tuple[tuple[Role, str], ...] = (("viewer", USER), ("analyst", "nobody"), ("analyst", ""))


def fill(settings: Settings) -> None:
    """Issue the scores of F1 and F2. One learner sat both; the sitting on F2 was later, and went worse."""
    database = Database(settings)
    build_exam(database, settings.irt_home / "exam", learners=40)
    sit(database, "F2", FORMS["F2"], [USER], day=9, shift=-2.0, seed=5)
    make_tables(database)
    for form in FORMS:
        release_table(database, rooms.SCALE, form, **SIGNED)
        issue_scores(database, rooms.SCALE, form, MONTH, **SIGNED, now=NOW)


@pytest.fixture
def issued(postgres: EmbeddedPostgres, migrated_template: str, tmp_path: Path) -> Iterator[Database]:
    made_once(postgres, "learner_scores", migrated_template, fill)
    with template_copy(postgres, "learner_scores", tmp_path / "irt") as settings:
        yield Database(settings)


@pytest.fixture
def instance(issued: Database) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(issued.settings, issued) as instance:
        yield instance


class ReaderThen(Reader):
    """A reader with a fixed current time."""

    def now(self) -> datetime:
        return NOW


def person(role: Role) -> Identity:
    return Identity("somebody", "org", (role,), frozenset(), math.inf)


@pytest.fixture
def api(issued: Database) -> Iterator[Api]:
    with running(issued.settings) as made:
        yield made


def score_of(api: Api, user: str = USER) -> Any:
    updated = api.update(user).json()
    assert updated["score"] == updated["by_scale"][rooms.SCALE]["score"] == api.theta(user).json()["score"]
    return updated["score"]


def test_api_returns_the_score_that_counts_and_no_held_score(api: Api) -> None:
    database = api.database
    first, last = call(database, current_scores, user_id=USER)
    assert first.form_id == "F1"
    assert first.scaled > last.scaled
    found = score_of(api)
    assert found["form_id"] == "F2"
    for name in ("session_id", "raw", "scaled", "scaled_se", "percentile", "passes", "pass_probability", "table_id"):
        assert found[name] == getattr(last, name)
    assert found["sat_at"] == f"{last.sat_at:%Y-%m-%dT%H:%M:%SZ}"
    change_rules(database, rooms.SCALE, {"retest": "best"})
    api.ledger.refresh()
    assert score_of(api)["scaled"] == first.scaled
    change_status(database, rooms.SCALE, "F1", [USER], "held", **SIGNED)
    assert score_of(api)["form_id"] == "F2"
    change_status(database, rooms.SCALE, "F2", [USER], "invalid", **SIGNED)
    assert score_of(api) is None
    change_rules(database, rooms.SCALE, {"score_by": "theta"})
    api.ledger.refresh()
    assert score_of(api) is None, "the score of θ would give a held score away"


def test_api_returns_the_score_of_theta_before_a_score_is_issued(api: Api) -> None:
    sit(api.database, "adaptive", FORMS["F1"], ["new"], day=10)
    assert score_of(api, "new") is None
    change_rules(api.database, rooms.SCALE, {"score_by": "theta"})
    api.ledger.refresh()
    updated = api.update("new").json()
    found, se = updated["score"], updated["se_total"]
    assert found["scaled"] == np.floor(500 + 100 * updated["theta"] + 0.5)
    assert found["scaled_se"] == pytest.approx(100 * se)
    assert found["passes"] == (updated["theta"] >= 0)
    assert found["pass_probability"] == pytest.approx(norm.cdf(updated["theta"] / se))
    assert (found["issued_at"], found["form_id"], found["sat_at"]) == (None, None, updated["as_of"])


def test_scales_without_reported_scores_cost_no_query(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    change_rules(api.database, rooms.SCALE, {"score_slope": 0.0})
    api.ledger.refresh()
    rooms.run_sql(api.database, "ALTER TABLE issued_score RENAME TO out_of_reach")
    assert score_of(api) is None


def letters_of(database: Database, user: str = USER, **named: Any) -> list[Letter]:
    with database.connect() as connection:
        return read_letters(connection, scores_that_count(connection, user_id=user), zone="UTC", **named)


def letter_page(database: Database, user: str = USER) -> str:
    return html.page(document(letters_of(database, user), Letterhead(), NOW))


def test_transcript_has_every_sitting_and_the_letter_has_no_held_score(issued: Database) -> None:
    change_status(issued, rooms.SCALE, "F2", [USER], "held", by="Ann", reason="same answers as a neighbour")
    rooms.run_sql(
        issued,
        "UPDATE response_log SET correct = NOT correct WHERE user_id = 'F1-u1' AND item_id IN ('i3', 'i4', 'i5')",
    )
    [(_, again)] = issue_scores(
        issued, rooms.SCALE, "F1", MONTH, again=True, by="Bob", reason="key of i3 corrected", now=NOW
    ).changed
    rows, scales = call(issued, issued_scores, user_id=USER), call(issued, read_scales)
    first, held, _, _ = rows
    assert first.scaled != again.scaled
    assert [score.scaled for score in counting_scores(rows, scales).values()] == [again.scaled]
    page = html.part(*transcript_blocks(rows, scales, "UTC"))
    letter = letter_page(issued)
    shared = ("The score of F1-u1 on scale default is", f"{again.scaled:.0f}", ">1<", "key of i3 corrected")
    assert not missing_sentences(page, *shared, "Bob", f"{held.scaled:.0f}", "same answers as a neighbour")
    new, old = (f"{scaled:.0f} (not passed)" for scaled in (again.scaled, first.scaled))
    assert f"{new}, handed out, replaces {old}, handed out, since" in page
    assert f"You scored {again.scaled:.0f}." in letter
    assert f"your score was given as {old}" in letter
    hidden = ("Bob", "Ann", f"{held.scaled:.0f}", "same answers", "key of i3", "F2", "handed out", "SE", "table")
    assert [*missing_sentences(re.sub("(?s)<style.*?</style>", "", letter), *hidden)] == [*hidden]
    change_status(issued, rooms.SCALE, "F2", [USER], "issued", **SIGNED)
    again_issued = letter_page(issued)
    assert f"You scored {held.scaled:.0f}." in again_issued
    assert "2 results from tests like this one. The latest one counts. It is the one in this letter" in again_issued
    assert "replaces" not in again_issued, "the learner was given this score before"


def test_letter_has_the_limits_of_the_score_table(issued: Database) -> None:
    """The mark θ = 0 is 500 on the scale 500 + 100 θ, and the band is clipped to 200 … 800."""
    with issued.connect() as connection:
        letters = read_letters(connection, scores_that_count(connection, form_id="F1"), zone="UTC")
    assert len(letters) == 40
    for letter in letters:
        half = AGAIN * letter.score.scaled_se
        low, high = (np.floor(letter.score.scaled + k * half + 0.5) for k in (-1, 1))
        assert letter.limits.band == (max(low, 200.0), min(high, 800.0))
        assert (letter.limits.lowest, letter.limits.highest, letter.limits.mark) == (200.0, 800.0, 500.0)
        assert letter.score.passes == (letter.score.scaled >= 500.0)
        assert (letter.sections, letter.replaced) == ((), None)
    change_rules(issued, rooms.SCALE, {"score_lowest": 300.0, "score_step": 10.0})
    assert letters_of(issued)[0].limits.lowest == 200.0, "the table's rules count"


def test_letter_lists_topics_whose_subscore_has_value(issued: Database) -> None:
    """The points are counted from the log, and are left out if they no longer sum to the raw score."""
    rooms.run_sql(
        issued, "UPDATE question SET topic_id = CASE WHEN substr(item_id, 2)::int %% 2 = 0 THEN 'even' ELSE 'odd' END"
    )
    values = [
        {"topic": topic, "n_items": 10, "by_subscore": 0.7, "by_total": by_total}
        for topic, by_total in (("even", 0.6), ("odd", 0.8))
    ]
    rooms.run_sql(
        issued,
        "UPDATE item_analysis SET statistics = jsonb_set(statistics, '{subscores}', %s::jsonb) WHERE item_id = ''",
        (json.dumps(values),),
    )
    rooms.run_sql(issued, """UPDATE question SET meta = meta || '{"topic_names": {"de": "Gerade"}}'""")
    [letter] = letters_of(issued, language="de")
    [(right,)] = rooms.rows(
        issued,
        """SELECT count(*) FILTER (WHERE correct) FROM response_log
           WHERE user_id = %s AND form_id = 'F2' AND substr(item_id, 2)::int %% 2 = 0""",
        (USER,),
    )
    assert letter.sections == (("Gerade", right, 10),)
    rooms.run_sql(
        issued, "UPDATE response_log SET correct = NOT correct WHERE user_id = %s AND item_id = 'i12'", (USER,)
    )
    judge_until(issued, NOW)
    assert letters_of(issued)[0].sections == ()


def test_letters_of_a_form_are_one_file_or_an_archive(issued: Database, irt: IrtOf, tmp_path: Path) -> None:
    typed, users = irt(issued.settings), sorted(f"F1-u{k}" for k in range(40))
    change_status(issued, rooms.SCALE, "F1", ["F1-u3"], "held", **SIGNED)
    (tmp_path / "names.csv").write_text('user_id,name\nF1-u1,"Kim <b>김</b>"\nF1-u3,Lee\nnobody,Ann\n')
    done = typed("scores", "letters", "F1", "--names", tmp_path / "names.csv", "--to", tmp_path / "l.pdf")
    assert done.code == 0
    assert not missing_sentences(done.out, "without a letter (2): F1-u3, nobody", "letters without a name (38): F1-u0")
    texts = [page.get_textpage().get_text_range() for page in pypdfium2.PdfDocument(tmp_path / "l.pdf")]
    assert [re.findall(r"(?:Your ID|Name)\s+(.+?)\s+Test\s", text) for text in texts] == [
        ["Kim <b>김</b>" if user == "F1-u1" else user] for user in users if user != "F1-u3"
    ]
    german = typed("scores", "letters", "F1", "--language", "de", "--month", MONTH, "--to", tmp_path / "l.zip")
    assert german.code == 0
    with ZipFile(tmp_path / "l.zip") as archive:
        names = archive.namelist()
        [page] = pypdfium2.PdfDocument(archive.read(names[0]))
    assert len(set(names)) == 39
    assert not [name for name in names if "Kim" in name]
    assert "Ihr Testergebnis" in page.get_textpage().get_text_range()
    stored = rooms.rows(issued, "SELECT count(*) FROM learner WHERE attributes::text LIKE '%%Kim%%'")
    assert stored == [(0,)]


def test_letters_without_an_issued_score_are_refused(issued: Database, irt: IrtOf, tmp_path: Path) -> None:
    typed, to = irt(issued.settings), tmp_path / "l.pdf"
    change_status(issued, rooms.SCALE, "F2", [f"F2-u{k}" for k in range(40)] + [USER], "held", **SIGNED)
    for words in (("F1", "--month", "2026-07"), ("F2",), ("none",)):
        refused = typed("scores", "letters", *words, "--to", to)
        assert (refused.code, to.exists()) == (2, False)
        assert "a letter needs an issued score, got none" in " ".join(refused.err.split())
    change_status(issued, rooms.SCALE, "F1", [USER], "invalid", **SIGNED)
    refused = typed("learner", "scores", USER, "--to", to)
    assert (refused.code, "a letter needs an issued score" in " ".join(refused.err.split())) == (2, True)


def test_command_prints_the_scores_and_writes_the_letter(issued: Database, irt: IrtOf, tmp_path: Path) -> None:
    typed = irt(issued.settings)
    shown = typed("learner", "scores", USER)
    assert shown.code == 0
    assert "The score of F1-u1 on scale default is" in shown.out
    rows = json.loads(typed("learner", "scores", USER, "--json").out)
    assert [(row["form_id"], row["counts"]) for row in rows] == [("F1", False), ("F2", True)]
    assert typed("learner", "scores", USER, "--to", tmp_path / "letter.pdf").code == 0
    [page] = pypdfium2.PdfDocument(tmp_path / "letter.pdf")
    assert not missing_sentences(page.get_textpage().get_text_range(), "Your test result", "F1-u1", "What your score")
    assert not missing_sentences(typed("learner", "scores", USER, "--to", tmp_path / "x.odt").err, ".pdf, .docx")
    assert not missing_sentences(typed("learner", "scores", "nobody").err, "no score of a learner 'nobody'")


def test_page_and_letter_of_a_learner_are_for_analysts(issued: Database, instance: dg.DagsterInstance) -> None:
    reader = ReaderThen(issued.settings, instance)

    def request(role: Role, user: str = USER) -> ViewRequest:
        return ViewRequest("learner", {"user": user, "to": "html"}, person(role), reader)

    page = unescape(str(make_page(request("analyst"))[1].body))
    assert not missing_sentences(page, "The score of F1-u1 on scale default is", "document?view=learner&user=F1-u1")
    assert "Replaced scores" not in page
    assert [write_document(request(role, user)).status_code for role, user in REFUSED] == [403, 404, 404]
    fields = urlencode({"view": "learner", "user": USER, "to": "html"})
    letter = ask(build_app(reader, None, issued.settings), "GET", "/document", {"host": "localhost:3000"}, fields)
    assert not missing_sentences(letter.text, "Your test result", "F1-u1", "your score would probably be between")
    for form in FORMS:
        change_status(reader.database, rooms.SCALE, form, [USER], "held", **SIGNED)
    assert write_document(request("analyst")).status_code == 404
    assert "document?view=learner" not in str(make_page(request("analyst"))[1].body)


def test_scores_of_an_erased_learner_leave_no_trace(api: Api, irt: IrtOf, instance: dg.DagsterInstance) -> None:
    database = api.database
    issued_before = len(call(database, current_scores))
    assert score_of(api) is not None
    typed = irt(database.settings)
    erased = typed("learner", "erase", USER, "--by", "Kim", "--reason", "asked to", "--yes")
    assert erased.code == 0
    assert "issued_score" in erased.out
    assert kind(api.theta(USER)) == kind(api.update(USER)) == (404, "unknown_learner")
    assert typed("learner", "scores", USER).code == 2
    with database.connect() as connection:
        assert USER not in {score.user_id for score in scores_that_count(connection, form_id="F1")}
    request = ViewRequest("learner", {"user": USER}, person("analyst"), ReaderThen(database.settings, instance))
    assert make_page(request)[0] == write_document(request).status_code == 404
    assert len(call(database, current_scores)) == issued_before - 2


def test_weekly_report_has_the_score_that_counted_at_its_end(issued: Database) -> None:
    _first, last = call(issued, current_scores, user_id=USER)
    rooms.run_sql(issued, "UPDATE issued_score SET issued_at = %s", (NOW,))
    change_status(issued, rooms.SCALE, "F2", [USER], "invalid", **SIGNED)
    with issued.connect() as connection:
        write_features(connection, *Month(MONTH).bounds)
        write_kpis(connection, "2026-06-08", NOW)
        write_kpis(connection, "2026-07-13", NOW + timedelta(days=7))
        [before], [after] = (load_facts(connection, week, "UTC", [USER]) for week in ("2026-06-08", "2026-07-13"))
    assert before.scores == ()
    [shown] = after.scores
    assert (shown["scaled"], shown["form"]) == (f"{last.scaled:.0f}", "F2")
    assert (shown["passes"], shown["rank"]) == (last.passes, max(1, round(last.percentile)))
    assert float(shown["low"]) == max(200.0, np.floor(last.scaled - Z95 * last.scaled_se + 0.5))
    assert float(shown["high"]) == np.floor(last.scaled + Z95 * last.scaled_se + 0.5)
    text = learner_page(after)
    assert not missing_sentences(text, "Your score", f"you got a score of {last.scaled:.0f}", "not yet enough to pass")


def test_form_without_fixed_items_is_scored_by_theta_of_the_sitting(issued: Database) -> None:
    """EAP of the sitting's answers by the library, and rank among the month's θ."""
    database = issued
    users = [f"new-{k}" for k in range(6)]
    for number, user in enumerate(users):
        sit(database, "adaptive", range(1 + number, 16 + number), [user], day=12, seed=50 + number)
    measure(database, MONTH, "run")
    done = issue_scores(database, rooms.SCALE, "adaptive", MONTH, **SIGNED, now=NOW)
    assert len(done.new) == len(users)
    values = item_values()
    month = np.array(call(database, newest_thetas, rooms.SCALE))
    assert month.size
    for score in done.new:
        answers = dict(
            rooms.rows(database, "SELECT item_id, correct::int FROM response_log WHERE user_id = %s", (score.user_id,))
        )
        a, b = (np.array([values[item][name] for item in answers]) for name in ("a", "b"))
        nodes = np.linspace(-8, 8, 4001)
        p = 1 / (1 + np.exp(-a * (nodes[:, None] - b)))
        likelihood = np.where(np.array([*answers.values()]) == 1, p, 1 - p).prod(axis=1) * norm.pdf(nodes)
        theta = np.average(nodes, weights=likelihood)
        se = np.sqrt(np.average((nodes - theta) ** 2, weights=likelihood))
        assert score.theta == pytest.approx(theta, abs=2e-4)
        assert se < score.theta_se < 1.1 * se, "the total error contains the errors of the items"
        assert score.scaled == np.floor(500 + 100 * score.theta + 0.5)
        assert score.scaled_se == pytest.approx(100 * score.theta_se)
        assert score.percentile == pytest.approx(percentileofscore(month, score.theta, "mean"))
        assert score.passes == (score.theta >= 0)
        assert score.pass_probability == pytest.approx(norm.cdf(score.theta / score.theta_se))
    [letter] = letters_of(database, "new-0")
    assert (letter.score.raw, letter.limits.lowest, letter.limits.mark) == (None, 200.0, 500.0)
    call(database, write_pass_mark, rooms.SCALE, 2.9 if letter.score.passes else -2.9)
    assert letters_of(database, "new-0")[0].limits.mark is None, "the score was issued by another mark"
