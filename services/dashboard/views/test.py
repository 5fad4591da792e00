"""An adaptive test: its policy, its simulated properties, and its versions (`reports.adaptive_blocks`)."""

from irt_assets.adaptive.versions import versions_in_force
from irt_assets.blocks import Document, Paragraph
from irt_assets.common.dashboard_pages import page_link
from irt_assets.reports import adaptive_blocks
from services.dashboard.address_fields import require_known
from services.dashboard.elements import choice, document_links, query_form
from services.dashboard.figures import render_blocks
from services.dashboard.page import Page, ViewRequest


def page(request: ViewRequest) -> Page:
    facts, tests = _read(request)
    own = facts.version
    return Page(
        f"Adaptive test {own.test_id}",
        render_blocks(
            query_form("test", choice("Test", "test", tests, own.test_id)) if len(tests) > 1 else None,
            *adaptive_blocks.adaptive_blocks(facts, request.reader.settings.irt_time_zone),
            document_links("test", test=own.test_id),
            Paragraph(page_link(f"Scale {own.scale_id}", "scale", scale=own.scale_id)),
        ),
    )


def document(request: ViewRequest) -> Document:
    """The page of the test as a document."""
    return adaptive_blocks.document(_read(request)[0], request.reader.now(), request.reader.settings.irt_time_zone)


def _read(request: ViewRequest) -> tuple[adaptive_blocks.AdaptiveFacts, list[str]]:
    """The test of the address (default: the first one), and all tests. Raises NotFound for an unknown test."""
    now = request.reader.now()
    with request.reader.connect() as connection:
        tests = versions_in_force(connection, now)
        name = request.field("test", next(iter(tests), ""))
        require_known("adaptive test", name, tests)
        return adaptive_blocks.adaptive_facts(connection, tests[name], now), [*tests]
