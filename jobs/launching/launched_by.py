"""Who launched a run: the name that was verified before the Dagster UI becomes a tag of the run.

What belongs here: how that layer passes the name to Dagster's run coordinator, and the tag. What does not: how a name
is verified, and who may launch what (see `irt_assets.webserver.identity`).
"""

import json
from collections.abc import Mapping

from dagster import DagsterRun, QueuedRunCoordinator, SubmitRunContext

from resources.dagster_compat import PARENT_BACKFILL_ID_TAG

LAUNCHED_BY = "irt/launched_by"
"""Run tag: the verified name; empty if a name was typed but not verified."""
CALLER_HEADER = "irt-caller"
"""Header that names the caller to Dagster, as JSON. The layer before it removes it from requests from outside."""


def tags_of_backfill(headers: Mapping[str, str]) -> dict[str, str]:
    """The tags of a backfill requested with these headers: its runs have them too."""
    header = headers.get(CALLER_HEADER)
    return {} if header is None else {LAUNCHED_BY: json.loads(header)}


class NamingRunCoordinator(QueuedRunCoordinator):
    """Queues runs as Dagster's own does, each with the name of the person who launched it in the UI.

    Runs of a backfill come with the name that the backfill has. One that is repeated has the tags of the first,
    even if another person repeats it, so its runs get no name.
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
