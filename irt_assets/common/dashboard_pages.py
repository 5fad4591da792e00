"""Addresses of the dashboard's pages, for assets, runs and reports that link to it."""

from __future__ import annotations

from urllib.parse import urlencode


def month_page(dashboard_url: str, month: str) -> str:
    """The page of a month. `dashboard_url`: without a slash at the end."""
    return f"{dashboard_url}/?{urlencode({'view': 'month', 'month': month})}"
