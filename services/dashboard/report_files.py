"""Reports as files: `report?id=…` opens a report, and `save=1` downloads it."""

from collections.abc import Mapping
from urllib.parse import urlencode

from htmltools import Tag, TagChild, TagList, tags
from starlette.responses import Response

from irt_assets.reports.artifacts import Format, ReportRow
from services.dashboard.elements import DASH
from services.dashboard.page import ViewRequest
from services.report_files import report_response

SAVE: Mapping[Format, str] = {"pdf": "Download PDF", "docx": "Download for Word", "html": "Download HTML"}
"""Names of the links, in their order on all pages."""


def report(request: ViewRequest) -> Response:
    """The report file with the id in the address, or a sentence that says why it does not exist."""
    saved, no_learners = request.field("save") not in ("", "0"), no_learner_reports(request)
    return report_response(
        request.reader.connect, request.reader.store, request.field("id"), no_learners=no_learners, saved=saved
    )


def no_learner_reports(request: ViewRequest) -> str:
    """Why learners' reports are not shown. Empty if they are shown."""
    if not request.identity.has_role("analyst"):
        return "Learners' reports are personal data: only analysts and higher roles may read them."
    if not request.reader.settings.ui_hands_out_learner_reports:
        return (
            "This installation does not hand out learners' reports. If only people who may read them can reach it, set "
            "IRT_UI_LEARNER_REPORTS=true and start the dashboard again."
        )
    return ""


def report_files(name: str, reports: list[ReportRow]) -> TagChild:
    """Links to the files of one report. `name` is its name, for screen readers."""
    ordered = sorted(reports, key=lambda report: [*SAVE].index(report.format))
    links = [_link("Open", name, id=f"{report.artifact_id}") for report in ordered if report.format == "html"]
    links += [_link(SAVE[report.format], name, id=f"{report.artifact_id}", save="1") for report in ordered]
    return TagList(*links) if links else DASH


def _link(text: str, name: str, **fields: str) -> Tag:
    return tags.a(text, aria_label=f"{text}: {name}", href=f"report?{urlencode(fields)}", class_="me-3 text-nowrap")
