"""The dashboard's learner, KPI, report, check and arrivals pages show stored numbers to users with the right role."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import urlencode

import dagster as dg
import numpy as np
import pytest

from irt_assets.abilities.batch import judge_until, measure_at
from irt_assets.abilities.online import find_learner, find_learners, latest_by_scale, read_latest_thetas, read_thetas
from irt_assets.features.daily import write_features
from irt_assets.features.stored import active_days
from irt_assets.invariants.history import evaluate_all, store_results
from irt_assets.invariants.registry import INVARIANTS
from irt_assets.kpis.kpi_definitions import RANGES
from irt_assets.kpis.stored import last_weeks, quartiles, weeks_of
from irt_assets.kpis.weekly import write_week
from irt_assets.reports.artifacts import store_report
from irt_assets.servers.instance import dagster_instance
from resources.alerts.outbox import (
    Alert,
    due,
    open_alert,
    queue,
    recent_alerts,
    record as record_delivery,
    resolve_alert,
)
from resources.postgres.database import Database
from resources.postgres.embedded_postgres import EmbeddedPostgres
from resources.settings import Settings
from services.dashboard.data_access import Reader
from services.dashboard.downloads import download
from services.dashboard.login import DEMO
from services.dashboard.page import ViewRequest
from services.dashboard.report_files import report
from services.dashboard.server import build_app, make_page
from services.dashboard.views.arrivals import refused_table
from services.jwt_verifier.tokens import Identity, Role
from tests.helpers.asgi import Answer, ask
from tests.helpers.kpi_reference import verdicts
from tests.helpers.kpi_worlds import END, WEEK, load, random_world
from tests.helpers.rooms import add_attempts, add_learners, attempt, call, copied, folder_store, rows, run_sql
from tests.helpers.sentences import missing_sentences

WORLD = random_world(11)
STRANGE = 'a/b "c" <d>&=é🎓%_\\' + "x" * 2_000
"""A learner id of the maximum length of an index entry."""
SOMEBODY = max(
    (user for user, values in WORLD.learners.items() if not values["is_test"]),
    key=lambda user: sum(a["user_id"] == user for a in WORLD.attempts),
)
Page = Callable[..., str]


class ReaderAtTime(Reader):
    """A reader with a fixed current time."""

    def now(self) -> datetime:
        return END


def person(role: Role) -> Identity:
    return Identity("somebody", "org", (role,), frozenset(), math.inf)


@pytest.fixture(scope="module")
def settings(
    postgres: EmbeddedPostgres, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    """The random world with features, KPIs, abilities and some odd ids. It has no reports, alerts or results yet."""
    home = tmp_path_factory.mktemp("dashboard")
    with copied(postgres.start(), migrated_template, "dashboard_learners", home) as settings:
        database = Database(settings)
        load(database, WORLD)
        add_learners(database, [STRANGE, "100%", "100x"])
        judge_until(database, END)
        with database.connect() as connection:
            write_features(connection, END - timedelta(days=63), END)
            write_week(connection, WEEK, END)
            for days, kind in ((40, "monthly"), (7, "nightly"), (0, "nightly")):
                measure_at(connection, END - timedelta(days=days), kind, f"{days} days before")  # type: ignore[arg-type]
        yield settings


@pytest.fixture(scope="module")
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    with dagster_instance(settings, Database(settings)) as instance:
        yield instance


@pytest.fixture(scope="module")
def reader(settings: Settings, instance: dg.DagsterInstance) -> Reader:
    return ReaderAtTime(settings, instance)


@pytest.fixture
def page(reader: Reader) -> Page:
    """Returns the text of a page with this status."""

    def text(view: str, identity: Identity = DEMO, status: int = 200, **fields: str) -> str:
        found, shown = make_page(ViewRequest(view, fields, identity, reader))
        assert found == status
        return unescape(f"{shown.title}\n{shown.body}")

    return text


def format_number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


# -- learners ----------------------------------------------------------------------------------------


def test_learners_are_found_by_the_beginning_of_their_id_or_the_whole_id(settings: Settings, page: Page) -> None:
    text = page("learners", search="100%")
    assert not missing_sentences(text, "1 learner whose id begins with 100%", "?view=learner&user=100%25")
    assert "100x" not in text, "a percent sign is not a pattern"
    with Database(settings).connect() as connection:
        known = sorted({STRANGE, "100%", "100x", *WORLD.learners, *(a["user_id"] for a in WORLD.attempts)})
        assert [one.user_id for one in find_learners(connection, "", 5)] == known[:5]
        assert [one.user_id for one in find_learners(connection, STRANGE[:30], 9)] == [STRANGE]
        several = read_latest_thetas(connection, [*WORLD.learners])
        one_by_one = {user: latest_by_scale(read_thetas(connection, user)) for user in WORLD.learners}
        assert {user: several.get(user, {}) for user in WORLD.learners} == one_by_one
    for odd in ("A'; DROP TABLE learner", "\x00", "🎓" * 2_500):
        assert "No learner whose" in page("learners", search=odd)


def test_learners_who_have_only_answers_are_found_by_their_whole_id(settings: Settings, page: Page) -> None:
    add_attempts(Database(settings), [attempt("only answers", "math-00", END - timedelta(days=300))])
    assert "?view=learner&user=only+answers" in page("learners", search="only answers")
    assert "there is no θ" in page("learner", user="only answers")


def test_every_learner_is_on_one_page_of_the_list(settings: Settings, page: Page) -> None:
    add_learners(Database(settings), [f"many-{n:03d}" for n in range(101)])
    pages = [page("learners", search="many-", page=k) for k in ("1", "2", "3")]
    assert "101 learners whose id begins with many-." in pages[1]
    assert [re.findall(r"user=many-(\d+)", text) for text in pages] == [
        [f"{n:03d}" for n in range(at, min(at + 50, 101))] for at in (0, 50, 100)
    ]
    assert re.findall(r"\?view=learners&search=many-&page=(\d+)", pages[1]) == ["1", "2", "3"]
    for odd in ("0", "4", "-1", "x"):
        page("learners", status=404, search="many-", page=odd)


def test_raw_score_has_the_points_of_the_last_month_that_counts(settings: Settings, page: Page) -> None:
    """The reference of the KPIs scores the answers."""
    scale = WORLD.learners[SOMEBODY]["target_scale_id"]
    points: dict[str, list[int]] = {}
    for one, score in verdicts(WORLD):
        if one["user_id"] == SOMEBODY and WORLD.scale_of(one["item_id"]) == scale and one["completed_at"] < END:
            points.setdefault(f"{one['completed_at']:%Y-%m}", []).append(score)
    month = max(points)
    row = page("learners", search=SOMEBODY).partition(f"user={SOMEBODY}")[2].partition("</tr>")[0]
    assert f">{sum(points[month])} of {len(points[month])} in {month}</td>" in row


def test_learner_page_shows_the_stored_thetas_kpis_and_weekly_answers(settings: Settings, page: Page) -> None:
    text = page("learner", user=SOMEBODY)
    with Database(settings).connect() as connection:
        thetas = read_thetas(connection, SOMEBODY)
        assert find_learner(connection, SOMEBODY)
        (week,) = weeks_of(connection, SOMEBODY, 9)
        days = active_days(connection, SOMEBODY, (END - timedelta(days=365)).date())
    assert thetas
    for one in thetas:
        low, high = one.theta - 1.96 * one.se, one.theta + 1.96 * one.se
        numbers = (
            format_number(one.theta),
            format_number(one.se),
            f"{format_number(low)} … {format_number(high)}",
            f"{one.n_items:,}",
        )
        assert not missing_sentences(text, f"<td>{one.scale_id}</td>", *(f">{number}</td>" for number in numbers))
    assert week.kpis["why"], "the world has somebody without all KPIs"
    assert not missing_sentences(
        text, *(f">{format_number(week.kpis[name])}</td>" for name in RANGES), *week.kpis["why"].values()
    )
    answered = [
        a
        for a in WORLD.attempts
        if a["user_id"] == SOMEBODY
        and a["mode"] == "live"
        and a["correct"] is not None
        and END - timedelta(days=63) <= a["completed_at"] < END
    ]
    of_days = (sum(day.attempts for day in days), sum(day.correct for day in days))
    assert of_days == (len(answered), sum(a["correct"] for a in answered))
    assert f"Live answers by week: {len(answered):,} in" in text


def test_accounts_have_a_page_and_unknown_learners_return_404(page: Page) -> None:
    (test_account, *_) = (user for user, values in WORLD.learners.items() if values["is_test"])
    assert "never scored" in page("learner", user=test_account)
    for user in ("nobody", "", "\x00", "x" * 10_000, "🎓" * 2_500, " "):
        assert len(page("learner", status=404, user=user)) < 1_000


def test_learner_ids_with_markup_are_escaped_on_every_page(reader: Reader, page: Page) -> None:
    assert STRANGE in page("learner", user=STRANGE)
    assert urlencode({"user": STRANGE}) in page("learners", search="a/b")
    for view in ("learner", "learners"):
        body = str(make_page(ViewRequest(view, {"user": STRANGE, "search": STRANGE[:20]}, DEMO, reader))[1].body)
        assert ("&lt;d&gt;" in body, "<d>" in body) == (True, False)


@pytest.mark.parametrize("view", ["learners", "learner"])
def test_viewers_are_refused_learner_pages_with_the_reason(page: Page, view: str) -> None:
    text = page(view, person("viewer"), 403, user=SOMEBODY, search=SOMEBODY)
    assert ("is personal" in text, SOMEBODY in text) == (True, False)
    page(view, person("analyst"), user=SOMEBODY)


# -- KPIs of all -------------------------------------------------------------------------------------


def test_kpi_page_shows_the_quartiles_of_the_learners_records(settings: Settings, page: Page) -> None:
    with Database(settings).connect() as connection:
        weeks = last_weeks(connection, 9)
        found = {one.name: one for one in quartiles(connection, weeks[0])}
        records = [kpis for (kpis,) in connection.execute("SELECT kpis FROM weekly_kpi")]
    assert weeks == [date.fromisoformat(WEEK)]
    text = page("kpis")
    for name, one in found.items():
        values = [record[name] for record in records if record[name] is not None]
        assert (one.of, one.n) == (len(records), len(values))
        assert (one.low, one.median, one.high) == pytest.approx(tuple(np.quantile(values, [0.25, 0.5, 0.75])))
        assert f">{format_number(one.low)} … {format_number(one.high)}</td>" in text
    run_sql(Database(settings), "UPDATE weekly_kpi SET kpis = kpis || '{\"P\": 1}', updated_at = now()")
    assert ">1.00 … 1.00</td>" in page("kpis"), "what was written anew is read anew"


def test_quartiles_are_empty_if_no_learner_has_the_kpi(settings: Settings) -> None:
    with Database(settings).connect() as connection:
        nothing = quartiles(connection, date(2020, 1, 6))
        assert [(one.of, one.n, one.median) for one in nothing] == [(0, 0, None)] * len(RANGES)
        connection.execute("DELETE FROM weekly_kpi")
        assert last_weeks(connection, 3) == []
        connection.rollback()


# -- reports -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reported(settings: Settings) -> dict[str, int]:
    """Ids of the stored reports by kind."""
    database, store = Database(settings), folder_store(settings)
    window, week = "2026-09/a/b", date.fromisoformat(WEEK)
    pages = {
        "drift": store_report(database, store, "d.html", b"<p>drift</p>", format="html", window=window),
        "pdf": store_report(database, store, "d.pdf", b"%PDF", format="pdf", window=window),
        "learner": store_report(
            database, store, "l.html", b"<p>yours</p>", format="html", user_id=SOMEBODY, week_start=week
        ),
        "gone": store_report(database, store, "g.html", b"", format="html", window="2026-08/math"),
    }
    store.delete("g.html")
    return {name: one.artifact_id or 0 for name, one in pages.items()}


def fetch(reader: Reader, settings: Settings, **fields: str | int) -> Answer:
    """Request a report as the demo's psychometrician."""
    app = build_app(reader, None, settings)
    return ask(app, "GET", "/report", {"host": "localhost:3000"}, query=urlencode(fields))


def test_reports_are_offered_by_month_and_scale_and_counted_by_week(page: Page, reported: dict[str, int]) -> None:
    text = page("reports")
    links = [f"report?id={reported[name]}&save=1" for name in ("drift", "pdf", "gone")]
    assert not missing_sentences(text, "Two drift reports are available", f">{WEEK}</td>", *links)
    assert f'report?id={reported["pdf"]}"' not in text, "a PDF is downloaded"
    assert f"report?id={reported['learner']}" not in text
    of_month = page("reports", month="2026-09")
    assert not missing_sentences(of_month, f'report?id={reported["drift"]}"', ">a/b</td>")
    assert re.findall(r"report\?[^>]*>(\w+ ?\w*)<", of_month) == ["Open", "Download PDF", "Download HTML"]
    assert f"report?id={reported['gone']}" not in of_month
    for month in ("2026-9", "x", "2031-01", "%", "٢٠٢٦-٠٩"):
        page("reports", status=404, month=month)


def test_a_report_is_shown_without_scripts_and_downloaded_under_its_name(
    reader: Reader, settings: Settings, reported: dict[str, int]
) -> None:
    page = fetch(reader, settings, id=reported["drift"])
    assert (page.status, page.text) == (200, "<p>drift</p>")
    assert [page.headers[name] for name in ("content-type", "content-disposition")] == [
        "text/html; charset=utf-8",
        "inline; filename*=utf-8''drift_2026-09_a_b.html",
    ]
    assert page.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    saved = fetch(reader, settings, id=reported["drift"], save=1)
    assert saved.headers["content-disposition"].startswith("attachment")
    pdf = fetch(reader, settings, id=reported["pdf"])
    assert (pdf.headers["content-type"], pdf.text) == ("application/pdf", "%PDF")
    missing = fetch(reader, settings, id=reported["gone"])
    assert (missing.status, "no longer in the object store" in missing.text) == (404, True)
    assert {fetch(reader, settings, id=name).status for name in ("", "0", "x", "1;2", "../../irt.env")} == {404}


def test_learner_reports_are_for_analysts_if_the_settings_allow_them(
    settings: Settings, instance: dg.DagsterInstance, reported: dict[str, int]
) -> None:
    def asked(role: Role, view: str, **changes: Any) -> ViewRequest:
        fields = {"user": SOMEBODY, "id": str(reported["learner"])}
        return ViewRequest(view, fields, person(role), ReaderAtTime(settings.model_copy(update=changes), instance))

    assert f'report?id={reported["learner"]}"' in unescape(str(make_page(asked("analyst", "learner"))[1].body))
    hidden = {"irt_ui_learner_reports": False}
    answers = [
        report(asked(role, "", **changes)) for role, changes in (("analyst", {}), ("viewer", {}), ("analyst", hidden))
    ]
    assert [answer.status_code for answer in answers] == [200, 403, 403]
    refused, link = unescape(str(make_page(asked("analyst", "learner", **hidden))[1].body)), f"id={reported['learner']}"
    assert missing_sentences(refused, "IRT_UI_LEARNER_REPORTS", f"report?{link}") == [f"report?{link}"]


# -- checks and alerts -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looked(settings: Settings, reported: dict[str, int]) -> str:
    """Evaluate all invariants and queue alerts. Returns the learner who violates an invariant."""
    database, store = Database(settings), folder_store(settings)
    run_sql(
        database,
        """UPDATE weekly_kpi SET kpis = kpis || '{"S": 7}' WHERE user_id = %s""",
        (SOMEBODY,),
    )
    found = evaluate_all(database, store, (), datetime.now(UTC), {})
    with database.connect() as connection:
        store_results(connection, "a look", found)
        open_alert(
            connection, Alert("run x|1", "warning", "the run of x failed", "Look at x.", "2026-10", link="/runs/1")
        )
        open_alert(connection, Alert("over", "error", "it was over soon", "Nothing."))
        queue(connection, ["slack"])
        messages = due(connection, ["slack"], 99)["slack"]
        record_delivery(connection, messages[0], None)
        record_delivery(connection, messages[1], "Slack is away")
        resolve_alert(connection, "over")
    return SOMEBODY


def test_health_page_shows_violations_and_the_next_step(settings: Settings, page: Page, looked: str) -> None:
    text = page("health")
    verdicts = rows(Database(settings), "SELECT invariant, passed, not_tested FROM invariant_result WHERE subject = ''")
    held = sum(passed and untested is None for _, passed, untested in verdicts)
    links = [f'?view=health&invariant={one.name}"' for one in INVARIANTS]
    held_of_all = f"{held} of {len(INVARIANTS)} invariants hold as of"
    assert not missing_sentences(text, held_of_all, "Next: start the daemon", f"{WEEK} {looked}", *links)
    violated = {
        name
        for (name,) in rows(
            Database(settings), "SELECT invariant FROM invariant_result WHERE resolved_at IS NULL AND subject <> ''"
        )
    }
    section = text[text.index(">Invariants</h") :]
    open_table, _, folded = section.partition("<details>")
    assert (open_table.count(">violated</span>"), text.count(">violated</span>")) == (len(violated), len(violated))
    assert (">holds</span>" in open_table, ">holds</span>" in folded) == (False, True)
    n_held = sum(passed for _, passed, _ in verdicts)
    assert f"{n_held} invariants without a violation</summary>" in folded


def test_button_that_evaluates_the_invariants_is_shown_by_role(page: Page, looked: str) -> None:
    place, refusal = 'id="making"', "Evaluating the invariants needs the role psychometrician."
    for role, may in (("viewer", False), ("analyst", False), ("psychometrician", True)):
        text = page("health", person(role))
        assert (place in text, refusal in text) == (may, not may)


def test_checks_are_out_of_date_after_a_decision(settings: Settings, page: Page, looked: str) -> None:
    clause = "one decision was made"
    texts = [page("health"), page("health", invariant="kpis_are_whole"), page("months")]
    assert not [text for text in texts if clause in text]
    run_sql(
        Database(settings),
        """INSERT INTO scale_decision (scale_id, subject, value, effective_from, decided_by, reason)
             SELECT scale_id, 'model', '2pl', now(), 'ann', 'a test' FROM calibration_scale LIMIT 1""",
    )
    step, verdict, line = (
        f"Next: evaluate the invariants again: since they were evaluated, {clause}.",
        f", before {clause}.",
        f", before {clause} (",
    )
    assert step in page("health")
    assert verdict in page("health", invariant="kpis_are_whole")
    assert line in page("months")


def test_alerts_show_the_channels_that_were_notified(settings: Settings, page: Page, looked: str) -> None:
    text = page("health")
    found = call(Database(settings), recent_alerts, 99)
    assert [one.alert_id for one in call(Database(settings), recent_alerts, 1)] == [found[0].alert_id]
    assert [one.resolved_at is None for one in found] == [True] * (len(found) - 1) + [False]
    severities = [one.severity for one in found[:-1]]
    assert severities == sorted(severities)
    assert not missing_sentences(
        text, "slack of its beginning", "not yet (Slack is away)", "Look at x.", '"?view=month&month=2026-10"'
    )
    assert text.index("the run of x failed") < text.index("it was over soon")


def test_invariant_page_shows_its_history(page: Page, looked: str) -> None:
    assert not missing_sentences(
        page("health", invariant="kpis_are_whole"), "It does not hold: one violation open", looked, "S = 7"
    )
    page("health", status=404, invariant="everything_is_fine")


def test_viewers_see_checks_without_learner_ids(page: Page, looked: str) -> None:
    for fields in ({}, {"invariant": "kpis_are_whole"}):
        text = page("health", person("viewer"), **fields)
        assert (looked in text, "analysts and higher roles" in text) == (False, True)


def test_arrivals_page_shows_silent_sources_and_refusals_and_only_analysts_download_rows(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    def asked(role: Role, view: str = "arrivals", **fields: str) -> ViewRequest:
        return ViewRequest(view, fields, person(role), Reader(settings, instance))

    def text(role: Role) -> str:
        return unescape(str(make_page(asked(role))[1].body))

    assert "No answers arrived in the last 28 days" in text("viewer")
    run_sql(
        Database(settings),
        """INSERT INTO intake SELECT source, kind, now() - n * interval '1 hour', 1, 5, 2, 1, 1, 0, '{}', now()
             FROM generate_series(20, 400) n, (VALUES ('exam <b>', 'http'), ('/data/a.csv', 'file')) s (source, kind);
           INSERT INTO intake_reject (source, kind, line, reason, value, "row")
             VALUES ('exam <b>', 'http', 1, 'bad_time', 'noon', '{"user_id": "u-secret"}')""",
    )
    seen = text("viewer")
    assert not missing_sentences(
        seen,
        "Two sources brought 40 rows in the last 24 hours, of which eight were refused; exam <b> is silent.",
        "exam <b> has brought no answers since",
        ">not expected<",
        "Write times as 2026-11-20T08:00:31.250Z",
        "analysts and higher roles can download them",
    )
    assert "u-secret" not in seen
    days = dict(rows(Database(settings), "SELECT arrived_at::date, sum(read)::int FROM intake GROUP BY 1 ORDER BY 1"))
    assert all(f">{n // 2}<" in seen for day, n in days.items() if day > max(days) - timedelta(days=6))
    assert "download?what=refused" in text("analyst")
    assert download(asked("viewer", what="refused")).status_code == 403
    assert refused_table(asked("analyst")).row.tolist() == ['{"user_id": "u-secret"}']
