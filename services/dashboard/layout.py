"""The page around every view: head with banner, menu and footer."""

from collections.abc import Sequence
from itertools import groupby

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
        tags.div(
            _head(request),
            _menu(request.view, views),
            tags.main(tags.h1(page.title, class_="h3 mb-3"), page.body, id="content", tabindex="-1"),
            tags.footer(tags.small(f"irt-assets {code_version()}", class_="text-body-secondary")),
            class_="frame",
        ),
        title=f"{page.title} – irt",
        lang="en",
    )


def _menu(current: str, views: Sequence[View]) -> Tag:
    """The menu in its groups. A page that is not in it marks the view in the menu before it."""
    until = next((k for k, view in enumerate(views, 1) if view.name == current), 0)
    marked = next((view.name for view in reversed(views[:until]) if view.menu), "")

    def entry(view: View) -> Tag:
        active, here = view.name == marked, "page" if view.name == current else None
        return tags.li(tags.a(view.menu, href=address(view.name), class_=active and "active", aria_current=here))

    groups = groupby((view for view in views if view.menu), lambda view: view.group)
    lists = (tags.div(tags.h2(name), tags.ul(*map(entry, group))) for name, group in groups)
    return tags.nav(*lists, aria_label="Views", id="menu", popover="")


def _head(request: ViewRequest) -> Tag:
    user = f"{request.identity.sub} ({', '.join(request.identity.roles)})"
    return tags.header(
        tags.button("Menu", popovertarget="menu", type="button", class_="btn btn-sm border text-body"),
        tags.a("irt", href="?", class_="brand"),
        tags.span("This is a demo: everyone on this machine may decide", class_="banner")
        if request.identity is DEMO
        else None,
        tags.span(user, class_="user"),
        tags.button("Dark", id="theme", type="button", class_="btn btn-sm border text-body"),
        class_="head",
    )
