"""The reports that have been written: drift reports of each month and scale to open or download, and the number of
learners' reports of each week."""

from collections import defaultdict
from collections.abc import Iterator, Mapping

from irt_assets.blocks import Block, Cell, Moment, Paragraph, Section, prose, table
from irt_assets.common.dashboard_pages import page_link
from irt_assets.common.wording import is_or_are, quantity, sentence
from irt_assets.gates.month_classification import State
from irt_assets.reports.artifacts import ReportRow, WeekOfReports, drift_reports, weeks
from services.dashboard.address_fields import bounds_of_month
from services.dashboard.elements import markup
from services.dashboard.figures import render_blocks
from services.dashboard.page import NotFound, Page, ViewRequest
from services.dashboard.report_files import no_learner_reports, report_files

WEEKS_SHOWN = 12
STATES_WITHOUT_REPORT = (State.EMPTY, State.ORIGIN)
Window = tuple[str, str]
"""Month and scale."""


def page(request: ViewRequest) -> Page:
    month = request.field("month")
    if month:
        bounds_of_month(month)
    with request.reader.connect() as connection:
        recorded = drift_reports(connection, month)
        of_weeks = [] if month else weeks(connection, WEEKS_SHOWN)
    reports: dict[Window, list[ReportRow]] = defaultdict(list)
    for report in recorded:
        name, _, scale = (report.window or "").partition("/")
        reports[name, scale].append(report)
    states = {
        (state.month, state.scale_id): state.state
        for state in request.reader.month_states()
        if state.month == month or not (month or state.state in STATES_WITHOUT_REPORT)
    }
    windows = sorted(reports.keys() | states.keys(), key=lambda window: window[1])
    windows.sort(key=lambda window: window[0], reverse=True)
    if month and not windows:
        raise NotFound(f"There is no month {month} here, and no report of it: see all reports, or the months.")
    zone = request.reader.settings.irt_time_zone
    return Page(
        f"Reports of {month}" if month else "Reports",
        render_blocks(
            Paragraph(_answer(windows, reports, month), "lead"),
            Paragraph(page_link("Reports of all months", "reports")) if month else None,
            Section("Drift of months", tuple(_drift(windows, reports, states, zone))) if windows else None,
            Section("Learners' weeks", tuple(_learners(of_weeks, request, zone))) if of_weeks else None,
        ),
    )


def _answer(windows: list[Window], reports: dict[Window, list[ReportRow]], month: str) -> str:
    """The number of drift reports, in a sentence."""
    if not reports:
        return (
            f"No report {f'of {month} ' if month else ''}has been written yet: it follows the calibration of a month."
        )
    newest = max(name for name, _ in reports)
    missing = sum(window not in reports for window in windows)
    count = f"{quantity(len(reports), 'drift report')} {is_or_are(len(reports))} available"
    summary = count if month else f"{count}, the newest of {newest}"
    lacking = (
        f"; {quantity(missing, 'report')} {'has' if missing == 1 else 'have'} not been written yet" if missing else ""
    )
    return sentence(f"{summary}{lacking}")


def _drift(
    windows: list[Window], reports: dict[Window, list[ReportRow]], states: Mapping[Window, State], zone: str
) -> Iterator[Block]:
    yield Paragraph(
        "Whether a month is safe to release, which items moved, and what to do with each. A report opens without "
        "scripts and loads nothing from other machines, so it may be saved and sent."
    )
    rows: list[tuple[Cell, ...]] = []
    for month, scale in windows:
        files_of_month, state = reports.get((month, scale), []), states.get((month, scale))
        files: Cell = "not written yet"
        if files_of_month:
            files = markup(report_files(f"the drift report of {month}, scale {scale}", files_of_month))
        at = Moment(max(report.generated_at for report in files_of_month), zone) if files_of_month else None
        rows.append((page_link(month, "month", month=month, scale=scale), scale, state and state.badge, at, files))
    headers = ("month", "scale", "state of the month", "made", "files")
    yield table(headers, rows, caption="Drift reports by month and scale")
    yield Paragraph(prose("For a month without a report: `irt report drift --month MONTH`."), "quiet")


def _learners(of_weeks: list[WeekOfReports], request: ViewRequest, zone: str) -> Iterator[Block]:
    hint = "Each learner's reports are on the learner's page: ", page_link("find a learner", "learners"), "."
    yield Paragraph(no_learner_reports(request) or hint)
    yield table(
        ("week from", "as a page", "as PDF", "last made"),
        [(f"{week.week_start}", week.pages, week.pdfs, Moment(week.generated_at, zone)) for week in of_weeks],
        numbers={"as a page": ",", "as PDF": ","},
        caption=f"Learners with a report, by week; the last {WEEKS_SHOWN} weeks with a report",
    )
