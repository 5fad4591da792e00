"""Dagster's daemon for stacks of tests that wait for what it does: it looks more often."""

from __future__ import annotations

from irt_assets.servers import daemon
from tests.helpers.dagster_private import look_more_often

if __name__ == "__main__":
    look_more_often()
    daemon.main()
