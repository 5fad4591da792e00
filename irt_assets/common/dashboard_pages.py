"""Addresses of the dashboard's pages, for links in the pages themselves, and in assets, alerts and reports."""

from urllib.parse import urlencode

from irt_assets.blocks import Span
from irt_assets.common.wording import shorten


def address(view: str, **fields: str | None) -> str:
    """The relative address of a page, which works under any prefix of a proxy."""
    named = {"view": view} | {name: value for name, value in fields.items() if value}
    return f"?{urlencode(named)}"


def month_page(dashboard_url: str, month: str) -> str:
    """The address of a month's page. `dashboard_url`: without a slash at the end."""
    return f"{dashboard_url}/{address('month', month=month)}"


def page_link(text: str, view: str, *, dashboard: str | None = "", **fields: str | None) -> Span:
    """A text, cut to 60 characters, that links to a page.

    `dashboard`: the dashboard's address, "" on its own pages, or None if it is unknown; the text then has no link.
    """
    where = "" if dashboard is None else "/".join(filter(None, (dashboard, address(view, **fields))))
    return Span(shorten(text), link=where)
