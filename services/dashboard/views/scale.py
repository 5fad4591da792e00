"""A scale: its bank and learners, linking, movement, model, rules and decisions (`reports.scale_blocks`)."""

from collections.abc import Iterator

import psycopg
from htmltools import TagChild, tags
from shiny import Inputs, Outputs, Session

from irt_assets.adaptive.versions import versions_in_force
from irt_assets.blocks import Block, Document, Paragraph
from irt_assets.reports import scale_blocks
from irt_assets.reports.adaptive_blocks import tests_table
from irt_assets.reports.artifacts import drift_reports
from irt_assets.reports.scale_facts import ScaleFacts, scale_facts
from irt_assets.scales.scale import read_scales
from services.dashboard import decision_form
from services.dashboard.address_fields import scales_of
from services.dashboard.decisions import DecisionKind
from services.dashboard.elements import choice, document_links, download_links, query_form, section, shorten
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest
from services.dashboard.report_files import report_files
from services.dashboard.views.bank import choose_scale
from services.dashboard.views.glance import strip

MOVEMENT_KINDS: tuple[DecisionKind, ...] = ("adopt",)
REPORTS_SHOWN = 6
ANOTHER_SCALE = "How to add another scale: docs/tutorial/second-scale.md."


def page(request: ViewRequest) -> Page:
    with request.reader.connect() as connection:
        scale, scales = choose_scale(request, read_scales(connection))
        facts = scale_facts(connection, scale, request.reader.now())
        files = list(_files(connection, request, scale.scale_id))
        tests = [
            x for x in versions_in_force(connection, request.reader.now()).values() if x.scale_id == scale.scale_id
        ]
    states = request.reader.month_states()
    return Page(
        f"Scale {shorten(scale.scale_id)}",
        render_blocks(
            Paragraph(scale_blocks.scale_in_short(facts), "lead"),
            query_form("scale", choice("Scale", "scale", scales, scale.scale_id)) if len(scales) > 1 else None,
            strip(states, {scale.scale_id}.intersection(scales_of(states))),
            *_sections(request, facts, request.reader.settings.irt_time_zone),
            section("Adaptive tests", tests_table(tests)) if tests else None,
            section("Files", document_links("scale", scale=scale.scale_id), *files),
            Paragraph(ANOTHER_SCALE, "quiet"),
        ),
    )


def document(request: ViewRequest) -> Document:
    """The page of the scale as a document."""
    with request.reader.connect() as connection:
        scale = choose_scale(request, read_scales(connection))[0]
        facts = scale_facts(connection, scale, request.reader.now())
    return scale_blocks.document(facts, request.reader.now(), request.reader.settings.irt_time_zone)


def server(request: ViewRequest, inputs: Inputs, _output: Outputs, _session: Session) -> None:
    with request.reader.connect() as connection:
        scale_id = choose_scale(request, read_scales(connection))[0].scale_id
    decision_form.handle_events(request, inputs, MOVEMENT_KINDS, tuple, scale_id)


def _sections(request: ViewRequest, facts: ScaleFacts, zone: str) -> Iterator[Block | TagChild]:
    """The sections, with a form below the movement if its proposal waits."""
    for part in scale_blocks.sections(facts, zone=zone, dashboard=""):
        if part.title == scale_blocks.MOVEMENT_TITLE and facts.is_waiting:
            yield section(part.title, *part.blocks, decision_form.form(request, MOVEMENT_KINDS))
        else:
            yield part


def _files(connection: psycopg.Connection, request: ViewRequest, scale_id: str) -> Iterator[Block | TagChild]:
    yield download_links("Items of the scale:", "bank", scale=scale_id)
    yield download_links("Published parameters:", "parameters", scale=scale_id)
    yield download_links("Flagged items:", "flags", scale=scale_id)
    if request.identity.has_role("analyst"):
        yield download_links("Abilities of learners:", "abilities", scale=scale_id)
    reports = [report for report in drift_reports(connection) if (report.window or "").endswith(f"/{scale_id}")]
    for window in list(dict.fromkeys(report.window for report in reports))[:REPORTS_SHOWN]:
        name = f"Drift report of {(window or '').partition('/')[0]}"
        found = [report for report in reports if report.window == window]
        yield tags.p(f"{name}: ", report_files(name, found))
