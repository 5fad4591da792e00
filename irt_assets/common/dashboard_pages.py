"""Addresses of the dashboard's pages, for the pages themselves and for what links to them: assets, runs and reports."""

from urllib.parse import urlencode

from irt_assets.blocks import Span
from irt_assets.common.wording import shortened


def address(view: str, **fields: str | None) -> str:
    """A page's address: relative, so that it holds under any prefix of a proxy."""
    named = {"view": view} | {name: value for name, value in fields.items() if value}
    return f"?{urlencode(named)}"


def month_page(dashboard_url: str, month: str) -> str:
    """The page of a month. `dashboard_url`: without a slash at the end."""
    return f"{dashboard_url}/{address('month', month=month)}"


def page_link(text: str, view: str, *, dashboard: str | None = "", **fields: str | None) -> Span:
    """Words that lead to a page, at most 60 characters of them. `dashboard`: its address, "" on its own pages; None
    where it is not known, so that they lead nowhere."""
    where = "" if dashboard is None else "/".join(filter(None, (dashboard, address(view, **fields))))
    return Span(shortened(text), link=where)
