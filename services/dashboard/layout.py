"""The page around every view: head, menu, banner and footer."""

from collections.abc import Sequence

from htmltools import Tag, head_content, tags
from shiny import ui

from irt_assets.common.dashboard_pages import address
from resources.version import code_version
from services.dashboard.login import DEMO
from services.dashboard.page import Page, View, ViewRequest


def document(page: Page, request: ViewRequest, views: Sequence[View]) -> Tag:
    """The whole page as HTML."""
    return ui.page_fluid(
        head_content(
            tags.meta(name="viewport", content="width=device-width, initial-scale=1"),
            tags.script(src="dashboard.js"),
            tags.link(rel="stylesheet", href="dashboard.css"),
            tags.link(rel="icon", href="data:,"),
        ),
        tags.a("To the content", href="#content", class_="visually-hidden-focusable"),
        _head(request, views),
        tags.main(
            tags.h1(page.title, class_="h3 my-3"),
            page.body,
            id="content",
            tabindex="-1",
            class_="container-fluid" if page.wide else "container-xl",
        ),
        tags.footer(
            tags.small(f"irt-assets {code_version()}", class_="text-body-secondary"), class_="container-xl my-4"
        ),
        title=f"{page.title} – irt",
        lang="en",
    )


def _head(request: ViewRequest, views: Sequence[View]) -> Tag:
    menu = [
        tags.li(
            tags.a(
                view.menu,
                href=address(view.name),
                class_="nav-link active" if view.name == request.view else "nav-link",
                aria_current="page" if view.name == request.view else None,
            ),
            class_="nav-item",
        )
        for view in views
        if view.menu
    ]
    user = f"{request.identity.sub} ({', '.join(request.identity.roles)})"
    return tags.header(
        tags.nav(tags.ul(*menu, class_="nav nav-pills"), aria_label="Views"),
        tags.div(
            tags.span(user, class_="me-3"),
            tags.button("Dark", id="theme", type="button", class_="btn btn-sm border text-body"),
            class_="ms-auto small",
        ),
        tags.p(
            "This is a demo: anyone who opens this page on this machine acts as its psychometrician and may decide.",
            class_="banner",
        )
        if request.identity is DEMO
        else None,
        class_="head",
    )
