"""The tag that names who launched a run in the Dagster UI.

`irt_assets.webserver.identity` verifies the name, checks the right to launch runs, and passes the name on in a header.
"""

import json
from collections.abc import Mapping

from dagster import DagsterRun, QueuedRunCoordinator, SubmitRunContext

from resources.dagster_compat import PARENT_BACKFILL_ID_TAG

LAUNCHED_BY = "irt/launched_by"
"""Run tag: the verified name; empty if a name was typed but not verified."""
CALLER_HEADER = "irt-caller"
"""Header with the caller's name for Dagster, as JSON. `irt_assets.webserver.identity` removes it from incoming
requests."""


def tags_of_backfill(headers: Mapping[str, str]) -> dict[str, str]:
    """The tags of a backfill requested with these headers. Its runs get the same tags."""
    header = headers.get(CALLER_HEADER)
    return {} if header is None else {LAUNCHED_BY: json.loads(header)}


class NamingRunCoordinator(QueuedRunCoordinator):
    """Dagster's queue of runs, which also tags each run with the name of the person who launched it in the UI.

    Runs of a backfill have the backfill's tags. A repeated backfill has the tags of the first one, even if a different
    person repeats it, so the name of its runs is cleared.
    """

    def submit_run(self, context: SubmitRunContext) -> DagsterRun:
        run, header = context.dagster_run, context.get_request_header(CALLER_HEADER)
        if header is not None:
            self._instance.add_run_tags(run.run_id, {LAUNCHED_BY: json.loads(header)})
        elif LAUNCHED_BY in run.tags and (
            PARENT_BACKFILL_ID_TAG in run.tags or getattr(context.workspace, "source", None) is not None
        ):
            self._instance.add_run_tags(run.run_id, {LAUNCHED_BY: ""})
        return super().submit_run(context)
