"""One learner: θ on each scale and over time, weekly KPIs, activity, scores, reports.

`reports.learner_blocks`, `reports.transcript_blocks` and `reports.letter_blocks` lay out everything except the reports.
"""

from datetime import timedelta

from htmltools import TagChild, tags

from irt_assets.abilities.online import find_learner, read_thetas
from irt_assets.blocks import Document, Moment, Paragraph, prose, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.features.stored import active_days
from irt_assets.kpis.stored import weeks_of
from irt_assets.reports import learner_blocks, letter_blocks, transcript_blocks
from irt_assets.reports.artifacts import ReportRow, reports_of_learner
from irt_assets.reports.letter_facts import read_letters, scores_that_count
from irt_assets.responses.learner_answers import last_live_answer
from irt_assets.scales.scale import read_scales
from irt_assets.scores.issued import counting_scores, issued_scores
from services.dashboard.elements import document_links, markup, section, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest
from services.dashboard.report_files import no_learner_reports, report_files
from services.dashboard.views.learners import cannot_be_an_id, refuse_below_analyst

MAX_THETAS = 1000
WEEKS_SHOWN = 104
DAYS_SHOWN = timedelta(days=365)
REPORTS_HINT = (
    "`irt report learner` writes the reports of a week for every learner who answered in the eight weeks that end with "
    "it."
)


def page(request: ViewRequest) -> Page:
    user = _user(request)
    now, zone = request.reader.now(), request.reader.settings.irt_time_zone
    with request.reader.connect() as connection:
        learner = find_learner(connection, user)
        if learner is None:
            raise NotFound(
                f"No learner has the id {shorten(user)!r}, and no answer in the log: ids are case-sensitive; search "
                "on the page Learners."
            )
        thetas = read_thetas(connection, user, MAX_THETAS)
        weeks = weeks_of(connection, user, WEEKS_SHOWN)
        days = active_days(connection, user, (now - DAYS_SHOWN).date())
        last = last_live_answer(connection, user)
        reports = reports_of_learner(connection, user)
        rows, scales = issued_scores(connection, user_id=user), read_scales(connection)
    standing = learner_blocks.page_blocks(learner, thetas=thetas, weeks=weeks, days=days, last=last, now=now, zone=zone)
    return Page(
        f"Where does {shorten(user)} stand?",
        render_blocks(
            *standing,
            tags.p(f"θ older than the latest {MAX_THETAS:,} are not shown.") if len(thetas) == MAX_THETAS else None,
            section(
                "Scores",
                render_blocks(*transcript_blocks.transcript_blocks(rows, scales, zone)),
                document_links("learner", "The letter about the score that counts:", user=user)
                if counting_scores(rows, scales)
                else None,
            )
            if rows
            else None,
            _reports(request, reports, user),
            Paragraph((page_link("Other learners", "learners"), " · ", page_link("the KPIs of all", "kpis"))),
        ),
    )


def document(request: ViewRequest) -> Document:
    """Return the letter about the learner's score that counts, with a page for each scale."""
    user, settings = _user(request), request.reader.settings
    with request.reader.connect() as connection:
        scores = scores_that_count(connection, user_id=user)
        if not scores:
            raise NotFound(f"No score of a learner {shorten(user)!r} is handed out: ids are case-sensitive.")
        letters = read_letters(connection, scores, zone=settings.irt_time_zone)
    return letter_blocks.document(letters, letter_blocks.read_letterhead(settings.irt_letterhead), request.reader.now())


def _user(request: ViewRequest) -> str:
    """The learner of the address, which may be unknown."""
    refuse_below_analyst(request)
    user = request.field("user")
    if not user or cannot_be_an_id(user):
        raise NotFound("The address names no learner: search for one on the page Learners.")
    return user


def _reports(request: ViewRequest, reports: list[ReportRow], user: str) -> TagChild:
    refused = no_learner_reports(request)
    if refused:
        return section("Reports", Paragraph(refused))
    zone = request.reader.settings.irt_time_zone
    by_week: dict[str, list[ReportRow]] = {}
    for report in reports:
        by_week.setdefault(f"{report.week_start}", []).append(report)
    rows = [
        (
            f"week from {week}",
            Moment(max(report.generated_at for report in files), zone),
            markup(report_files(f"the report of {shorten(user)}, week from {week}", files)),
        )
        for week, files in by_week.items()
    ]
    return section(
        "Reports",
        table(("week", "made", "files"), rows, caption="The learner's reports by week")
        if rows
        else Paragraph(prose(REPORTS_HINT)),
    )
