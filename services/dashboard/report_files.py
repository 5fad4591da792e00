"""Reports as files: `report?id=…` opens a report, and `save=1` downloads it."""

from urllib.parse import urlencode

from htmltools import Tag, TagChild, TagList, tags
from starlette.responses import Response

from irt_assets.reports.artifacts import ReportRow
from services.dashboard.elements import DASH
from services.dashboard.page import ViewRequest
from services.report_files import answer


def report(asked: ViewRequest) -> Response:
    """The report file with the id in the address, or a sentence that says why it does not exist."""
    saved, no_learners = asked.field("save") not in ("", "0"), no_learner_reports(asked)
    return answer(asked.reader.connect, asked.reader.store, asked.field("id"), no_learners=no_learners, saved=saved)


def no_learner_reports(asked: ViewRequest) -> str:
    """Why learners' reports are not shown. Empty if they are shown."""
    if not asked.identity.has_role("analyst"):
        return "Learners' reports are personal data: only analysts and higher roles may read them."
    if not asked.reader.settings.ui_hands_out_learner_reports:
        return (
            "This installation does not hand out learners' reports. If only people who may read them can reach it, set "
            "IRT_UI_LEARNER_REPORTS=true and start the dashboard again."
        )
    return ""


def report_files(of: str, found: list[ReportRow]) -> TagChild:
    """Links to the files of one report. `of` is its name, for screen readers."""
    links = [link for one in sorted(found, key=lambda one: one.format) for link in _links(of, one)]
    return TagList(*links) if links else DASH


def _links(of: str, one: ReportRow) -> list[Tag]:
    number = str(one.artifact_id)
    save = _link("Download PDF" if one.format == "pdf" else "Download HTML", of, id=number, save="1")
    return [save] if one.format == "pdf" else [_link("Open", of, id=number), save]


def _link(text: str, of: str, **fields: str) -> Tag:
    return tags.a(text, aria_label=f"{text}: {of}", href=f"report?{urlencode(fields)}", class_="me-3 text-nowrap")
