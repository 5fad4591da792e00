"""Dagster's daemon for stacks of tests that wait for what it does: it looks every few seconds."""

from __future__ import annotations

from irt_assets import daemon
from tests.helpers.dagster_private import look_every

SECONDS = 3
"""Each look costs processor time, too."""

if __name__ == "__main__":
    look_every(SECONDS)
    daemon.main()
