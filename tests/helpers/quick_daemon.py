"""Dagster's daemon for test stacks, which checks more often so that tests wait less."""

from __future__ import annotations

from irt_assets.servers import daemon
from tests.helpers.dagster_private import look_more_often

if __name__ == "__main__":
    look_more_often()
    daemon.main()
