"""The page around every view: head with banner, menu and footer."""

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
    names = [view.name for view in views]
    until = names.index(current) + 1 if current in names else 0
    marked = next((view.name for view in reversed(views[:until]) if view.menu), "")
    groups: dict[str, list[Tag]] = {}
    for view in views:
        if view.menu:
            link = tags.a(
                view.menu,
                href=address(view.name),
                class_="active" if view.name == marked else None,
                aria_current="page" if view.name == current else None,
            )
            groups.setdefault(view.group, []).append(tags.li(link))
    lists = (tags.div(tags.h2(name), tags.ul(*links)) for name, links in groups.items())
    return tags.nav(*lists, aria_label="Views", id="menu", popover="")


def _head(request: ViewRequest) -> Tag:
    user = f"{request.identity.sub} ({', '.join(request.identity.roles)})"
    return tags.header(
        tags.button("Menu", popovertarget="menu", type="button", class_="btn btn-sm border text-body"),
        tags.a("irt", href="?", class_="brand"),
        tags.span("Demo: everyone on this machine may decide", class_="banner") if request.identity is DEMO else None,
        tags.span(user, class_="user"),
        tags.button("Dark", id="theme", type="button", class_="btn btn-sm border text-body"),
        class_="head",
    )
